"""All problems of a workflow file at once, shape and meaning, in the order of the text. Nothing is
run or imported.
"""

from __future__ import annotations

from pathlib import Path

from flowbuilder.compile.compiler import validate_workflow
from flowbuilder.definition import read_file
from flowbuilder.errors import Problem
from flowbuilder.plugins.catalogue import TaskTypes
from flowbuilder.tasks import default_registry

__all__ = ["check_file"]


def check_file(path: Path, registry: TaskTypes | None = None) -> list[Problem]:
    """Find everything wrong with a workflow file and the files it includes.

    Parameters
    ----------
    path : Path
        The file.
    registry : TaskTypes, optional
        The task types to check against; by default those of the file's project.

    Raises
    ------
    FlowBuilderError
        If the file cannot be read at all.
    """
    reading = read_file(path)
    problems = list(reading.problems)
    spec = reading.spec or reading.draft
    types = registry or default_registry(_project_of(path))
    if spec is not None:
        problems += [
            problem for problem in validate_workflow(spec, types) if problem not in problems
        ]
    return sorted(problems, key=lambda problem: problem.location.line if problem.location else 0)


def _project_of(path: Path) -> Path:
    from flowbuilder.config import find_data_dir

    return find_data_dir(path).parent
