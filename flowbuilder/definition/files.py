"""Workflow files on disk."""

from __future__ import annotations

import stat
from pathlib import Path

from flowbuilder.definition.limits import Limits
from flowbuilder.definition.reader import read_workflow
from flowbuilder.definition.reading import Reading
from flowbuilder.errors import WorkflowError

__all__ = ["read_file"]

_DEFAULT_LIMITS = Limits()


def read_file(path: str | Path, *, limits: Limits = _DEFAULT_LIMITS) -> Reading:
    """Read a workflow file.

    Parameters
    ----------
    path : str or Path
        A ``*.flow.yaml`` file. Messages show it as given; relative paths of the workflow start at
        its folder.
    limits : Limits
        Bounds of the text.

    Returns
    -------
    Reading
        As `read_workflow`.

    Raises
    ------
    WorkflowError
        If there is no such file, or it cannot be read.
    """
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise WorkflowError(
                f"expected a workflow file, found the folder {str(path)!r}", hint=_inside(path)
            )
        if not stat.S_ISREG(status.st_mode):
            raise WorkflowError(f"expected a workflow file, found a device or pipe: {str(path)!r}")
        with path.open("rb") as opened:
            data = opened.read(limits.max_bytes + 1)
    except FileNotFoundError:
        raise WorkflowError(f"there is no file {str(path)!r}", hint=_beside(path)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise WorkflowError(f"the file {str(path)!r} cannot be read: {reason}") from error
    return read_workflow(data, file=str(path), directory=str(path.absolute().parent), limits=limits)


def _inside(folder: Path) -> str:
    try:
        names = sorted(each.name for each in folder.glob("*.flow.y*ml"))[:3]
    except OSError:
        names = []
    return f"name a file in it, such as {names[0]}" if names else "name a file in it"


def _beside(path: Path) -> str:
    from difflib import get_close_matches

    try:
        names = [each.name for each in path.parent.iterdir()]
    except OSError:
        return f"there is no folder {str(path.parent)!r} either"
    near = get_close_matches(path.name, names, 1)
    return f"did you mean {str(path.parent / near[0])!r}?" if near else ""
