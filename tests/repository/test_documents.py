"""Documents that promise to be complete are complete."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def normalised(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def declared() -> dict[str, set[str]]:
    """Read the direct dependencies by section of the document, references to our own extras left out."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        data = tomllib.load(file)
    project = data["project"]
    sections = {
        "Always installed": project["dependencies"],
        "Built with": data["build-system"]["requires"],
    }
    sections |= {
        f"Extra `{name}`": needs for name, needs in project["optional-dependencies"].items()
    }
    named = {title: {normalised(need) for need in needs} for title, needs in sections.items()}
    return {
        title: needs - {"flowbuilder"} for title, needs in named.items() if needs - {"flowbuilder"}
    }


def documented() -> dict[str, set[str]]:
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    return {
        title: {normalised(name) for name in re.findall(r"^\| `([^`]+)` \|", body, re.MULTILINE)}
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


def test_every_dependency_has_its_line_and_every_line_its_dependency():
    assert documented() == declared()


def test_every_dependency_says_what_it_is_for():
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")

    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| `")]

    assert rows
    assert not [row[0] for row in rows if len(row) != 5 or not row[1].strip()]


def test_decisions_are_numbered_complete_and_listed():
    folder = ROOT / "docs" / "adr"
    pages = sorted(folder.glob("[0-9]*.md"))
    index = (folder / "README.md").read_text(encoding="utf-8")

    numbers = [int(page.name[:4]) for page in pages]
    assert numbers == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {page.name[:4]}: "), page.name
        for section in (
            "Context",
            "Options",
            "Decision",
            "Consequences",
            "The test that would fail",
        ):
            assert f"\n## {section}\n" in text, f"{page.name} has no section {section}"
        assert f"]({page.name})" in index, f"{page.name} is not in the index"


def test_architecture_and_readme_are_short_enough_to_be_read():
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) < 250
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_architecture_names_every_package():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    packages = [path.parent.name for path in (ROOT / "flowbuilder").glob("*/__init__.py")]

    assert not [
        name for name in packages if f"`{name}" not in text and f"`flowbuilder/{name}" not in text
    ]


def test_changelog_has_the_present_version():
    version = re.search(
        r'"([^"]+)"', (ROOT / "flowbuilder" / "_version.py").read_text(encoding="utf-8")
    )
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert version
    assert "## Unreleased" in text or f"## {version[1]}" in text


def test_every_make_command_of_the_documents_exists():
    targets = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    documents = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "benchmarks" / "README.md",
    ]

    named = {
        target
        for page in documents
        for target in re.findall(
            r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE
        )
    }

    assert named
    assert named <= targets
