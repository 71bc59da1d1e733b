"""The code in README and docs runs.

What a block is for stands in a comment on the line above its fence:

- ``<!-- file: NAME -->`` writes the block to a file of the document's own folder,
- ``<!-- run -->`` runs a bash or python block there; ``<!-- run: exit=2 -->`` expects that exit code,
- ``<!-- output -->`` compares a text block with what the last run printed; ``...`` stands for anything,
- ``<!-- not run: WHY -->`` leaves a block out on purpose.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n\n?)?^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUNNABLE = ("bash", "python", "yaml")


@dataclass(frozen=True)
class Block:
    mark: str
    value: str
    language: str
    code: str


def blocks(text: str) -> list[Block]:
    found = []
    for match in BLOCK.finditer(text):
        mark, _, value = (match["mark"] or "").partition(":")
        found.append(Block(mark.strip(), value.strip(), match["language"], match["code"]))
    return found


def follow(text: str, folder: Path) -> None:
    """Do what the marks of a document say, in order."""
    printed = ""
    for block in blocks(text):
        if block.mark == "file":
            target = folder / block.value
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.code, encoding="utf-8")
        elif block.mark == "run":
            printed = execute(block, folder)
        elif block.mark == "output":
            compare(block.code, printed)


def execute(block: Block, folder: Path) -> str:
    expected = int(block.value.removeprefix("exit=") or 0)
    command = (
        ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*command, block.code],
        cwd=folder,
        env={**os.environ, "PATH": path, "FLOWBUILDER_HOME": str(folder / "home"), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == expected, (
        f"{block.code}\nended with {done.returncode}:\n{done.stdout}"
    )
    return done.stdout


def compare(expected: str, printed: str) -> None:
    for line in filter(str.strip, expected.splitlines()):
        pattern = ".*".join(re.escape(part.strip()) for part in line.strip().split("..."))
        assert re.search(pattern, printed), f"expected a line like\n  {line}\nin\n{printed}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_of_a_document_runs(path: Path, tmp_path: Path):
    follow(path.read_text(encoding="utf-8"), tmp_path)


def test_every_block_of_the_readme_is_run_or_left_out_on_purpose():
    unmarked = [
        block.code
        for block in blocks((ROOT / "README.md").read_text(encoding="utf-8"))
        if block.language in RUNNABLE and block.mark not in ("run", "file", "not run")
    ]

    assert not unmarked, "\n".join(unmarked)


def test_marks_are_followed_in_order(tmp_path: Path):
    text = """
<!-- file: name.txt -->
```text
world
```
<!-- run -->

```bash
echo "hello $(cat name.txt)"
```
<!-- output -->
```text
hello w...d
```
<!-- run: exit=3 -->
```python
raise SystemExit(3)
```
```bash
exit 1
```
"""
    follow(text, tmp_path)

    assert (tmp_path / "name.txt").read_text() == "world\n"


@pytest.mark.parametrize(
    "text",
    [
        "<!-- run -->\n```bash\nfalse | true\n```\n",
        "<!-- run -->\n```bash\necho a\n```\n<!-- output -->\n```text\nb\n```\n",
        "<!-- run: exit=1 -->\n```python\npass\n```\n",
    ],
)
def test_a_document_that_does_not_hold_fails(text: str, tmp_path: Path):
    with pytest.raises(AssertionError):
        follow(text, tmp_path)
