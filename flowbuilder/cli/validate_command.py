"""``flowbuilder validate``: every problem of every file, at once, without running anything."""

from __future__ import annotations

import argparse
from pathlib import Path

from flowbuilder.api.display_text import visible_text
from flowbuilder.cli.documents import print_json, problem_document
from flowbuilder.cli.exit_codes import INVALID, OK
from flowbuilder.errors import FlowBuilderError, Problem

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="a *.flow.yaml file")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(handler=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    found = {file: problems_of(Path(file)) for file in arguments.files}
    is_valid = not any(
        problem.severity == "error" for problems in found.values() for problem in problems
    )
    if arguments.json:
        documents = [
            {
                "file": file,
                "valid": not any(problem.severity == "error" for problem in problems),
                "problems": [problem_document(problem) for problem in problems],
            }
            for file, problems in found.items()
        ]
        print_json({"valid": is_valid, "files": documents})
        return OK if is_valid else INVALID
    for file, problems in found.items():
        for problem in problems:
            print(visible_text(str(problem) if problem.location else f"{file}: {problem}"))
        if not any(problem.severity == "error" for problem in problems):
            print(f"{file}: valid")
    return OK if is_valid else INVALID


def problems_of(path: Path) -> list[Problem]:
    """Find everything wrong with a file: its shape first, then, as far as it could be read, its
    meaning.
    """
    from flowbuilder.api.checking import check_file

    try:
        return check_file(path)
    except FlowBuilderError as error:
        return [
            Problem(
                error.message,
                location=error.location,
                task=error.task,
                hint=error.hint,
                code="unreadable",
            )
        ]
