"""Imports the function a ``python`` task names, with the workflow's folder importable."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

from flowbuilder.errors import TaskFailedError
from flowbuilder.tasks.function_source import find_module, split_target

__all__ = ["find_imported", "import_function", "make_importable"]

_path_lock = threading.Lock()


def find_imported(target: str, directory: Path) -> Callable[..., object] | None:
    """Give a function whose module is imported already, from the right folder; else None."""
    names = split_target(target)
    if names is None:
        return None
    module = sys.modules.get(names[0])
    if module is None or _foreign_file(names[0], directory):
        return None
    found: object = module
    for part in names[1].split("."):
        found = getattr(found, part, None)
    return _unwrap(found) if callable(found) else None


def import_function(target: str, directory: Path) -> Callable[..., object]:
    """Import a module and find a function in it.

    Parameters
    ----------
    target : str
        ``module:qualname``.
    directory : Path
        The workflow's folder; it is put in front of ``sys.path`` and stays there, because code may
        import later.

    Returns
    -------
    callable
        The function; what ``@fb.task`` made of it is undone.

    Raises
    ------
    TaskFailedError
        If the name is malformed, absent, not callable, or another folder's module has the same
        name. What the module itself raises while it is imported passes through.
    """
    names = split_target(target)
    if names is None:
        raise TaskFailedError(
            f"expected 'module:function', found {target!r}",
            hint="for example 'cleaning:drop_empty'",
        )
    module_name, qualname = names
    make_importable(directory)
    foreign = _foreign_file(module_name, directory)
    if foreign:
        raise TaskFailedError(
            f"module {module_name!r} of folder {str(directory)!r} cannot be imported, because "
            f"this process already imported another one of that name from {foreign!r}",
            hint="rename one of them, or use executor: process",
        )
    found: object = _import(module_name, directory)
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise TaskFailedError(
                f"module {module_name!r} has no {qualname!r}", hint="check its spelling"
            ) from error
    if not callable(found):
        raise TaskFailedError(f"expected {target!r} to be a function, found {type(found).__name__}")
    return _unwrap(found)


def _import(module_name: str, directory: Path) -> object:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise TaskFailedError(
                f"module {module_name!r} was not found in {str(directory)!r} nor on sys.path",
                hint="put the file beside the workflow, or install the package",
            ) from error
        raise


def make_importable(directory: Path) -> None:
    """Put the workflow's folder in front of ``sys.path``, where it stays: code may import later."""
    entry = str(directory)
    if entry in sys.path:
        return
    with _path_lock:
        if entry not in sys.path:
            sys.path.insert(0, entry)
            importlib.invalidate_caches()


def _foreign_file(module_name: str, directory: Path) -> str:
    """Give the file of an imported module that hides the workflow's own; empty if none does."""
    top = module_name.partition(".")[0]
    imported = sys.modules.get(top)
    file = getattr(imported, "__file__", None)
    if imported is None or not isinstance(file, str):
        return ""
    source = find_module(top, directory)
    if source is None or not source.file.is_relative_to(directory):
        return ""
    return "" if os.path.realpath(source.file) == os.path.realpath(file) else file


def _unwrap(found: object) -> Callable[..., object]:
    """Undo a task decorator, so that calling the function runs it and nothing else."""
    inner = getattr(found, "__flowbuilder_function__", None)
    return cast("Callable[..., object]", inner if callable(inner) else found)
