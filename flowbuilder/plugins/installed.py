"""Task types of installed distributions: entry points of the group ``flowbuilder.task_types``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec

from flowbuilder.errors import PluginError
from flowbuilder.plugins.decorator import type_of
from flowbuilder.plugins.task_type import TaskType

__all__ = ["ENTRY_POINT_GROUP", "InstalledType", "as_task_type", "find_installed"]

ENTRY_POINT_GROUP = "flowbuilder.task_types"

_Stamp = tuple[tuple[str, float], ...]
_lock = threading.Lock()
_cached: tuple[_Stamp, Mapping[str, tuple[InstalledType, ...]]] | None = None


class InstalledType(msgspec.Struct, frozen=True):
    """An entry point.

    Parameters
    ----------
    name : str
        What ``type:`` says.
    target : str
        ``module:attribute``.
    distribution : str
        Name and version of the package that provides it.
    file : str
        Where its metadata lies.
    """

    name: str
    target: str
    distribution: str
    file: str

    def load(self) -> TaskType:
        """Import it.

        Raises
        ------
        PluginError
            If that fails for any reason, or the target is not a task type.
        """
        from importlib import metadata

        entry_point = metadata.EntryPoint(self.name, self.target, ENTRY_POINT_GROUP)
        try:
            return as_task_type(entry_point.load(), self.name)
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"task type {self.name!r} of {self.distribution} could not be loaded from "
                f"entry point {self.target!r} ({self.file}): {type(error).__name__}: {error}",
                hint="other task types still work; reinstall or remove the package",
            ) from error


def find_installed() -> Mapping[str, tuple[InstalledType, ...]]:
    """List what is installed, by name; several under one name are a conflict.

    Returns
    -------
    mapping of str to tuple of InstalledType
        Read once, and again when a folder of ``sys.path`` changes.
    """
    global _cached  # noqa: PLW0603
    stamp = _stamp()
    with _lock:
        if _cached is None or _cached[0] != stamp:
            _cached = (stamp, _scan())
        return _cached[1]


def as_task_type(value: object, name: str) -> TaskType:
    """Accept what a plugin offers: a `TaskType` class or instance, or a decorated function.

    Raises
    ------
    PluginError
        If it is none of these.
    """
    declared = type_of(value)
    if declared is not None:
        return declared
    if isinstance(value, TaskType):
        return value
    if isinstance(value, type) and issubclass(value, TaskType):
        return value()
    raise PluginError(
        f"expected {name!r} to be a TaskType or a function decorated with @task_type, "
        f"found {type(value).__name__}"
    )


def _stamp() -> _Stamp:
    return tuple((entry, _modified(entry)) for entry in sys.path)


def _modified(entry: str) -> float:
    try:
        return Path(entry or ".").stat().st_mtime
    except OSError:
        return -1.0


def _scan() -> Mapping[str, tuple[InstalledType, ...]]:
    # Importing it takes 10 ms, which a run of built-in types never needs.
    from importlib import metadata

    found: dict[str, dict[tuple[str, str], InstalledType]] = {}
    for distribution in metadata.distributions():
        for entry_point in distribution.entry_points:
            if entry_point.group == ENTRY_POINT_GROUP:
                installed = InstalledType(
                    name=entry_point.name,
                    target=entry_point.value,
                    distribution=f"{distribution.name} {distribution.version}",
                    file=str(distribution.locate_file("")),
                )
                # A distribution seen twice on sys.path is one: the first wins, as for imports.
                key = (distribution.name, entry_point.value)
                found.setdefault(entry_point.name, {}).setdefault(key, installed)
    return {name: tuple(types.values()) for name, types in found.items()}
