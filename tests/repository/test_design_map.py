"""The design map tells the truth about what is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATES = ("done", "part", "planned", "replaced")
COMING = {
    f"flowbuilder/{name}"
    for name in ("ai", "cluster", "kernels", "memory", "native", "server", "telemetry")
}
TOP = ("flowbuilder", "extension", "notebooks", "tests", "benchmarks", "binder", "docs", ".ci")
FILES = r"Makefile|pyproject\.toml|README\.md|CHANGELOG\.md"
PATH = re.compile(rf"`((?:{'|'.join(map(re.escape, TOP))})(?:/[\w.*-]+)*/?|{FILES})`")


def rows() -> list[tuple[str, str, str]]:
    text = (ROOT / "docs" / "design-map.md").read_text(encoding="utf-8")
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if (
            line.startswith("| ")
            and cells[0] != "Original element"
            and not cells[0].startswith("---")
        ):
            assert len(cells) == 3, line
            found.append((cells[0], cells[1], cells[2]))
    return found


def test_every_row_has_a_state_and_a_reason_where_one_is_due():
    for element, place, state in rows():
        word, _, reason = state.partition(":")
        assert word in STATES, f"{element}: unknown state {state!r}"
        assert place, f"{element} has no place"
        if word in ("part", "replaced"):
            assert reason.strip(), f"{element}: {word} needs a reason"


def test_paths_of_what_works_exist():
    missing = [
        f"{element}: {path}"
        for element, place, state in rows()
        for path in PATH.findall(place)
        if not (ROOT / path).exists() and is_claimed(path, state.partition(":")[0])
    ]

    assert not missing, "\n".join(missing)


def is_claimed(path: str, state: str) -> bool:
    # What is done in part may name the package its rest will live in.
    return state == "done" or (state == "part" and path not in COMING)


def test_what_works_names_where_it_lives():
    vague = [
        element
        for element, place, state in rows()
        if state.partition(":")[0] == "done" and "`" not in place and "above" not in place
    ]

    # Phrases such as "retry policy, join rules" are welcome, but few.
    assert len(vague) <= 8, "\n".join(vague)
