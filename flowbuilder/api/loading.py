"""From a file or text to a workflow."""

from __future__ import annotations

from pathlib import Path

from flowbuilder.api.workflow import Workflow
from flowbuilder.definition import Reading, read_file, read_workflow
from flowbuilder.errors import WorkflowValidationError

__all__ = ["from_yaml", "load", "loads"]


def load(path: str | Path, *, data_dir: str | Path | None = None) -> Workflow:
    """Load a workflow file. Runs and imports nothing.

    Parameters
    ----------
    path : str or Path
        A ``*.flow.yaml`` file.
    data_dir : path, optional
        Where its runs are recorded; by default found from the file's folder upwards.

    Raises
    ------
    WorkflowSyntaxError
        If the text is not the YAML we accept.
    WorkflowValidationError
        With every problem of its shape. What only planning can see is reported by
        `Workflow.validate`.
    """
    return _finish(read_file(Path(path)), data_dir)


def loads(text: str, *, file: str = "<string>", data_dir: str | Path | None = None) -> Workflow:
    """Load a workflow from text; ``file`` is how messages call it, and relative paths start at its
    folder.
    """
    directory = "" if file.startswith("<") else str(Path(file).absolute().parent)
    return _finish(read_workflow(text, file=file, directory=directory), data_dir)


from_yaml = loads


def _finish(reading: Reading, data_dir: str | Path | None) -> Workflow:
    if reading.spec is None or any(problem.severity == "error" for problem in reading.problems):
        raise WorkflowValidationError(reading.problems)
    return Workflow.from_spec(reading.spec, data_dir=data_dir)
