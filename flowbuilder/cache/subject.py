"""What decides a task's output, as its task type tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

__all__ = ["Subject"]


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What decides the output of one attempt.

    Parameters
    ----------
    function : callable, optional
        What is called; its code and what that refers to count.
    script : str
        Python text that is run; comments and formatting do not count.
    first_line : int
        Line of the workflow file the script begins at.
    arguments : mapping
        Values by name, such as the fields of a config.
    inputs : mapping
        Outputs of other tasks: by port where ``ports`` says so, else by task.
    params : mapping
        Parameters of the run that are used.
    files : sequence of Path
        Files and folders whose content is read.
    libraries : sequence of str
        Libraries the task type itself uses.
    """

    function: Callable[..., object] | None = None
    script: str = ""
    first_line: int = 1
    arguments: Mapping[str, object] = {}
    inputs: Mapping[str, object] = {}
    params: Mapping[str, object] = {}
    files: tuple[Path, ...] = ()
    libraries: tuple[str, ...] = ()
