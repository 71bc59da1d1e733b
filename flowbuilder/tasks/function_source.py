"""Finds a function by ``module:qualname`` in source text, without importing anything.

``importlib.util.find_spec("a.b")`` imports ``a``; so modules are found by walking ``sys.path``, and
their text is read with ``ast``.
"""

from __future__ import annotations

import ast
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = ["FunctionSource", "ModuleSource", "find_module", "split_target"]

_MAX_FILE_BYTES = 8 * 1024 * 1024
_REMEMBER_S = 2.0
_TRANSPARENT_DECORATORS = frozenset({"task", "task_type", "staticmethod"})
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """What the text of a function says.

    Parameters
    ----------
    name : str
        Qualified name.
    line : int
        1-based.
    is_async : bool
        Whether it is an ``async def``.
    positional_only : tuple of str
        Parameters that cannot be given by name.
    parameters : mapping of str to str
        Parameters that can be given by name -> their annotation as text, or empty.
    required : frozenset of str
        Those without a default.
    is_open : bool
        Whether it takes ``**kwargs``.
    """

    name: str
    line: int
    is_async: bool
    positional_only: tuple[str, ...]
    parameters: Mapping[str, str]
    required: frozenset[str]
    is_open: bool


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """The top level of a module's text.

    Parameters
    ----------
    file : Path
        Where it lies.
    functions : mapping of str to FunctionSource or None
        Qualified name -> what the text says; None for callables whose parameters the text does not
        tell (classes, decorated functions, assignments, imports).
    is_open : bool
        Whether more names may exist (``from x import *``, ``__getattr__``), or the text cannot be
        read.
    error : str
        Why the text cannot be parsed; empty if it can.
    """

    file: Path
    functions: Mapping[str, FunctionSource | None]
    is_open: bool = False
    error: str = ""


def split_target(target: str) -> tuple[str, str] | None:
    """Split ``package.module:name.inner``; None if it does not look like that."""
    module, colon, name = target.partition(":")
    parts = [*module.split("."), *name.split(".")]
    return (module, name) if colon and all(part.isidentifier() for part in parts) else None


_found: dict[tuple[str, str], tuple[float, Path | None]] = {}


def find_module(module: str, directory: Path) -> ModuleSource | None:
    """Find a module and read what it defines.

    Parameters
    ----------
    module : str
        Dotted name.
    directory : Path
        The workflow's folder, searched first.

    Returns
    -------
    ModuleSource or None
        None if no file is found, also for built-in and zipped modules.
    """
    key = (module, str(directory))
    known = _found.get(key)
    now = time.monotonic()
    if known is None or known[0] < now:
        if len(_found) > 4096:
            _found.clear()
        known = _found[key] = (now + _REMEMBER_S, _locate(module, directory))
    path = known[1]
    if path is None:
        return None
    if path.suffix != ".py":
        return ModuleSource(path, {}, is_open=True)
    try:
        status = path.stat()
    except OSError:
        return None
    return _read(path, status.st_mtime_ns, status.st_size)


def _locate(module: str, directory: Path) -> Path | None:
    folders = [str(directory), *(entry or "." for entry in sys.path)]
    *packages, last = module.split(".")
    for package in packages:
        folders = _enter_package(package, folders)
    for folder in folders:
        for candidate in (
            os.path.join(folder, last, "__init__.py"),  # noqa: PTH118 - a hot search
            os.path.join(folder, last + ".py"),  # noqa: PTH118
        ):
            if os.path.isfile(candidate):  # noqa: PTH113
                return Path(candidate)
        extension = _extension_module(folder, last)
        if extension is not None:
            return extension
    return None


def _enter_package(name: str, folders: list[str]) -> list[str]:
    """Give the folders a package spans: one, or every match for a namespace package."""
    matches = []
    for folder in folders:
        path = os.path.join(folder, name)  # noqa: PTH118
        if os.path.isfile(os.path.join(path, "__init__.py")):  # noqa: PTH113, PTH118
            return [path]
        if os.path.isdir(path):  # noqa: PTH112
            matches.append(path)
    return matches


def _extension_module(folder: str, name: str) -> Path | None:
    from importlib.machinery import EXTENSION_SUFFIXES

    for suffix in EXTENSION_SUFFIXES:
        path = os.path.join(folder, name + suffix)  # noqa: PTH118
        if os.path.isfile(path):  # noqa: PTH113
            return Path(path)
    return None


@lru_cache(maxsize=512)
def _read(path: Path, modified_ns: int, size_bytes: int) -> ModuleSource:
    del modified_ns
    if size_bytes > _MAX_FILE_BYTES:
        return ModuleSource(path, {}, is_open=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        return ModuleSource(path, {}, is_open=True, error=f"line {error.lineno}: {error.msg}")
    except (OSError, ValueError, RecursionError, MemoryError):
        return ModuleSource(path, {}, is_open=True)
    functions: dict[str, FunctionSource | None] = {}
    is_open = False
    for name, found in _definitions(tree.body, ""):
        if name in ("*", "__getattr__"):
            is_open = True
        # The last definition wins, except that one of two branches may be either.
        functions[name] = None if name in functions and functions[name] != found else found
    return ModuleSource(path, functions, is_open=is_open)


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, FunctionSource | None]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, _function(node, prefix)
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name, None
            yield from _definitions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield prefix + (alias.asname or alias.name.partition(".")[0]), None
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for name in _assigned(node):
                yield prefix + name, None
        else:
            for inner in _blocks(node):
                yield from _definitions(inner, prefix)


def _assigned(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        for part in ast.walk(target):
            if isinstance(part, ast.Name):
                yield part.id


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    if isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
        for field in ("body", "orelse", "finalbody"):
            yield getattr(node, field, [])
        for handler in getattr(node, "handlers", []):
            yield handler.body


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, prefix: str) -> FunctionSource | None:
    is_static = bool(prefix) and any(map(_is_static, node.decorator_list))
    if not all(map(_is_transparent, node.decorator_list)) or (prefix and not is_static):
        return None
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args]
    first_default = len(named) - len(arguments.defaults)
    required = {argument.arg for argument in named[:first_default]}
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is None:
            required.add(argument.arg)
    return FunctionSource(
        name=prefix + node.name,
        line=node.lineno,
        is_async=isinstance(node, ast.AsyncFunctionDef),
        positional_only=tuple(argument.arg for argument in arguments.posonlyargs),
        parameters={
            argument.arg: ast.unparse(argument.annotation) if argument.annotation else ""
            for argument in [*arguments.args, *arguments.kwonlyargs]
        },
        required=frozenset(required),
        is_open=arguments.kwarg is not None,
    )


def _is_transparent(decorator: ast.expr) -> bool:
    return _last_name(decorator) in _TRANSPARENT_DECORATORS


def _is_static(decorator: ast.expr) -> bool:
    return _last_name(decorator) == "staticmethod"


def _last_name(decorator: ast.expr) -> str:
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
