"""Plugin files of a project: names read without importing, modules loaded only when trusted."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flowbuilder.errors import PluginError
from flowbuilder.plugins.decorator import PROJECT_MODULE_PREFIX, type_of
from flowbuilder.plugins.task_type import TaskType

__all__ = ["Declaration", "PluginFile", "load_plugin_file", "scan_plugin_files"]

_MAX_FILE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Declaration:
    """A task type a file declares, as its text says."""

    name: str
    line: int


@dataclass(frozen=True, slots=True)
class PluginFile:
    """One file of the plugin folder.

    Parameters
    ----------
    path : Path
        The file.
    declarations : tuple of Declaration
        Types found in the text; a name computed at run time is not found.
    error : str
        Why the text could not be read; empty if it could.
    """

    path: Path
    declarations: tuple[Declaration, ...] = ()
    error: str = ""

    def schema(self, name: str) -> Mapping[str, object]:
        """Read ``<name>.schema.json`` or ``<file>.schema.json`` beside the file, if any."""
        for stem in (name, self.path.stem):
            if "/" in stem or "\\" in stem:
                continue
            try:
                found = json.loads((self.path.parent / f"{stem}.schema.json").read_bytes())
            except (OSError, ValueError, RecursionError):
                continue
            if isinstance(found, dict):
                return found
        return {}


def scan_plugin_files(folder: Path) -> tuple[PluginFile, ...]:
    """Read what the ``*.py`` files of a folder declare, by parsing their text only.

    Parameters
    ----------
    folder : Path
        The ``plugins`` folder; it need not exist. Files whose name begins with ``_`` are helpers,
        not plugins.

    Returns
    -------
    tuple of PluginFile
        By file name.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".py")
    except OSError:
        return ()
    return tuple(_scan(path) for path in paths if not path.name.startswith("_"))


def _scan(path: Path) -> PluginFile:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            return PluginFile(path, error="the file is larger than 4 MiB")
        tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        return PluginFile(path, error=f"line {error.lineno}: {error.msg}")
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        return PluginFile(path, error=str(error) or type(error).__name__)
    return PluginFile(path, tuple(_declarations(tree)))


def _declarations(tree: ast.Module) -> Iterator[Declaration]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _decorated(node)
        elif isinstance(node, ast.ClassDef) and any(map(_is_task_type, node.bases)):
            yield from _named(node)


def _decorated(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Declaration]:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and _last_name(decorator.func) == "task_type":
            given = {keyword.arg: keyword.value for keyword in decorator.keywords}
            value = decorator.args[0] if decorator.args else given.get("name")
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield Declaration(value.value, node.lineno)


def _named(node: ast.ClassDef) -> Iterator[Declaration]:
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            targets: list[ast.expr] = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            continue
        value = statement.value
        is_name = any(isinstance(target, ast.Name) and target.id == "name" for target in targets)
        if is_name and isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield Declaration(value.value, node.lineno)


def _is_task_type(base: ast.expr) -> bool:
    return _last_name(base) == "TaskType"


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def load_plugin_file(path: Path) -> dict[str, TaskType]:
    """Run a plugin file and collect the types it declares.

    Parameters
    ----------
    path : Path
        A file of a trusted project.

    Returns
    -------
    dict
        Name -> type.

    Raises
    ------
    PluginError
        If the file raises, whatever it raises.
    """
    digest = hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()
    module_name = f"{PROJECT_MODULE_PREFIX}{digest}_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"plugin file {str(path)!r} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(module_name, None)
        raise PluginError(
            f"plugin file {str(path)!r} could not be loaded: {type(error).__name__}: {error}"
        ) from error
    return {found.name: found for found in _types_in(vars(module), module_name)}


def _types_in(namespace: Mapping[str, object], module_name: str) -> Iterator[TaskType]:
    for value in list(namespace.values()):
        declared = type_of(value)
        if declared is not None:
            yield declared
        elif (
            isinstance(value, type)
            and issubclass(value, TaskType)
            and value.__module__ == module_name
            and isinstance(getattr(value, "name", None), str)
        ):
            yield value()
