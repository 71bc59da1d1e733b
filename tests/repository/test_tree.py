"""What may stand in the repository: its top level, and nothing of the machine it was written on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "benchmarks",
    "binder",
    "docs",
    "extension",
    "flowbuilder",
    "notebooks",
    "pyproject.toml",
    "tests",
}
# Written in pieces, so that this file does not contain what it looks for.
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:home/\w|Users/\w|root/|work/(?!\*))"),
    "a package registry's host": re.compile(
        "|".join(
            [
                r"pypi\." + "org",
                r"files\.python" + "hosted",
                r"registry\.npm" + "js",
                r"pypi-" + "more",
            ]
        )
    ),
    "a word about how the work was organised": re.compile(
        "|".join(
            [
                "issue" + r"s? #?\d",
                "TO" + "DO",
                "TB" + r"D\b",
                "FIX" + "ME",
                "XX" + "X",
                "as an " + "AI",
            ]
        ),
        re.IGNORECASE,
    ),
}
TEXT_SUFFIXES = {"", ".cfg", ".css", ".csv", ".html", ".ipynb", ".js", ".json", ".md", ".py", ".sh", ".sql",
                 ".toml", ".ts", ".tsx", ".txt", ".yaml", ".yml"}  # fmt: skip


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git working tree")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


def test_top_level_holds_only_what_is_allowed():
    present = {name.partition("/")[0] for name in tracked()}

    assert present <= ALLOWED


@pytest.mark.parametrize("what", FORBIDDEN)
def test_tracked_text_holds_nothing_private(what: str):
    found = []
    for name in tracked():
        path = ROOT / name
        if path.suffix not in TEXT_SUFFIXES or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if FORBIDDEN[what].search(line):
                found.append(f"{name}:{number}: {line.strip()[:100]}")

    assert not found, f"{what}:\n" + "\n".join(found)


def test_no_module_is_named_after_nothing():
    vague = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}

    assert not [name for name in tracked() if name.endswith(".py") and Path(name).stem in vague]


def test_test_directories_are_not_packages():
    assert not [name for name in tracked() if re.fullmatch(r"tests/.*__init__\.py", name)]
