"""Knows task types by name: built-in, declared in this process, of the project, installed.

Looked up in that order, so a workflow of built-in types never reads the metadata of installed
packages.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from flowbuilder.errors import PluginError
from flowbuilder.plugins.decorator import declared_types
from flowbuilder.plugins.installed import InstalledType, as_task_type, find_installed
from flowbuilder.plugins.task_type import TaskType

if TYPE_CHECKING:  # only projects with plugins need these at run time
    from flowbuilder.plugins.project_files import PluginFile

__all__ = ["PLUGIN_FOLDER", "Registry", "TypeDescription"]

PLUGIN_FOLDER = "plugins"
"""Where a project keeps its plugin files, beside ``.flowbuilder``."""


class TypeDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What palettes and ``flowbuilder tasks`` show of a type.

    Parameters
    ----------
    origin : str
        ``built-in``, ``this process``, a distribution with its version, or a file.
    state : str
        ``ready``, ``untrusted`` (its project's code may not run yet) or ``broken``.
    error : str
        Why it is broken, or what to do about it.
    """

    name: str
    summary: str = ""
    schema: Mapping[str, object] = msgspec.field(default_factory=dict)
    executor: str = ""
    effects: str = ""
    is_async: bool = False
    origin: str = ""
    state: str = "ready"
    error: str = ""


class Registry:
    """Task types by name. Thread-safe; reading takes no lock.

    Parameters
    ----------
    builtins : mapping of str to str
        Name -> ``module:Class``, imported at first use.
    project : Path, optional
        Directory whose ``plugins/*.py`` may declare types; they are loaded only if the user trusts
        it.
    """

    def __init__(self, builtins: Mapping[str, str], *, project: Path | None = None) -> None:
        self._builtins = MappingProxyType(dict(builtins))
        self._project = project
        self._lock = threading.RLock()
        # Replaced as a whole, never changed in place.
        self._loaded: Mapping[str, TaskType] = {}
        self._files: tuple[PluginFile, ...] | None = None

    def find(self, name: str) -> TaskType | None:
        """Give a type, importing it if need be.

        Parameters
        ----------
        name : str
            What ``type:`` says.

        Returns
        -------
        TaskType or None
            None if nothing of that name exists, or only in a project that is not trusted (see
            `unloaded`).

        Raises
        ------
        PluginError
            If its provider is broken, or two provide it. Other types stay usable.
        """
        found = self._loaded.get(name)
        if found is not None:
            return found
        if name in self._builtins:
            return self._remember({name: self._import_builtin(name)})[name]
        declared = declared_types().get(name)
        if declared is not None:
            return declared
        return self._find_provided(name)

    def names(self) -> list[str]:
        """List every name that could stand after ``type:``, sorted; imports nothing."""
        names = {*self._builtins, *self._loaded, *declared_types(), *find_installed()}
        names.update(item.name for file in self._plugin_files() for item in file.declarations)
        return sorted(names)

    def unloaded(self, name: str) -> Mapping[str, object] | None:
        """Give the schema of a type that exists only in a project that is not trusted yet.

        Returns
        -------
        mapping or None
            Empty if unknown; None if there is no such type, or it can be loaded.
        """
        if name in self._builtins or name in self._loaded or name in declared_types():
            return None
        files = self._files_declaring(name)
        if not files or self._is_project_trusted():
            return None
        return files[0].schema(name)

    def add(self, task_type: TaskType) -> None:
        """Register a type for this registry only; it replaces one that is not built in.

        Raises
        ------
        PluginError
            If the name is that of a built-in type.
        """
        if task_type.name in self._builtins:
            raise PluginError(f"task type {task_type.name!r} is built in and cannot be replaced")
        self._remember({task_type.name: task_type}, replace=True)

    def describe(self, name: str) -> TypeDescription:
        """Tell what is known of a type; a broken one is described, not raised.

        Raises
        ------
        PluginError
            If nothing of that name exists.
        """
        origin = self._origin(name)
        if not origin:
            raise PluginError(f"task type {name!r} does not exist")
        untrusted = self.unloaded(name)
        if untrusted is not None:
            return TypeDescription(
                name=name,
                schema=untrusted,
                origin=origin,
                state="untrusted",
                error=f"run 'flowbuilder trust {self._project}' to load it",
            )
        try:
            found = self.find(name)
        except PluginError as error:
            return TypeDescription(name=name, origin=origin, state="broken", error=str(error))
        if found is None:
            message = f"{origin} does not define it when it is run"
            return TypeDescription(name=name, origin=origin, state="broken", error=message)
        return TypeDescription(
            name=name,
            summary=found.summary,
            schema=found.schema,
            executor=str(found.executor),
            effects=str(found.effects({})),
            is_async=found.is_async,
            origin=origin,
        )

    def problems(self) -> list[str]:
        """List plugin files whose text cannot be read, with the reason, for ``doctor``."""
        return [f"{file.path}: {file.error}" for file in self._plugin_files() if file.error]

    def _import_builtin(self, name: str) -> TaskType:
        module, _, attribute = self._builtins[name].partition(":")
        try:
            return as_task_type(getattr(importlib.import_module(module), attribute), name)
        except ImportError as error:
            raise PluginError(
                f"built-in task type {name!r} could not be loaded from {module!r}: {error}",
                hint='install the extra it needs: pip install "flowbuilder[data]"',
            ) from error

    def _find_provided(self, name: str) -> TaskType | None:
        files = self._files_declaring(name)
        installed = find_installed().get(name, ())
        if len(files) + len(installed) > 1:
            raise PluginError(
                f"task type {name!r} is provided twice: {_providers(files, installed)}",
                hint="remove or rename one of them",
            )
        if installed:
            return self._remember({name: installed[0].load()})[name]
        if not files or not self._is_project_trusted():
            return None
        from flowbuilder.plugins.project_files import load_plugin_file

        with self._lock:
            if name not in self._loaded:
                self._remember(self._own(load_plugin_file(files[0].path)))
        return self._loaded.get(name)

    def _own(self, types: dict[str, TaskType]) -> dict[str, TaskType]:
        return {name: found for name, found in types.items() if name not in self._builtins}

    def _remember(
        self, types: Mapping[str, TaskType], *, replace: bool = False
    ) -> Mapping[str, TaskType]:
        with self._lock:
            new, old = types, self._loaded
            self._loaded = {**old, **new} if replace else {**new, **old}
            return self._loaded

    def _plugin_files(self) -> tuple[PluginFile, ...]:
        if self._project is None:
            return ()
        if self._files is None:
            from flowbuilder.plugins.project_files import scan_plugin_files

            with self._lock:
                if self._files is None:
                    self._files = scan_plugin_files(self._project / PLUGIN_FOLDER)
        return self._files

    def _files_declaring(self, name: str) -> list[PluginFile]:
        return [
            file
            for file in self._plugin_files()
            if any(item.name == name for item in file.declarations)
        ]

    def _is_project_trusted(self) -> bool:
        from flowbuilder.plugins.trust import is_trusted

        return self._project is not None and is_trusted(self._project)

    def _origin(self, name: str) -> str:
        if name in self._builtins:
            return "built-in"
        files, installed = self._files_declaring(name), find_installed().get(name, ())
        if name in declared_types() or (name in self._loaded and not files and not installed):
            return "this process"
        return _providers(files, installed)


def _providers(files: list[PluginFile], installed: tuple[InstalledType, ...]) -> str:
    names = [str(file.path) for file in files]
    names.extend(f"{item.distribution} ({item.target})" for item in installed)
    return " and ".join(names)
