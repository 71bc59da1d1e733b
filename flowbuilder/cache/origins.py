"""Whose code a module is: the project's own (its text counts), or a library's (its version)."""

from __future__ import annotations

import importlib.machinery
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Final

__all__ = ["find_module_file", "is_own", "library_of", "library_version"]

_SHARED_FOLDERS: Final = frozenset({"site-packages", "dist-packages"})
_MAINS: Final = frozenset({"__main__", "__mp_main__", "__flow__"})


def is_own(module: str) -> bool:
    """Whether a loaded module belongs to the project rather than to a library.

    Own is what lies outside the interpreter's and the installed packages' folders, and what has no
    file at all (a notebook).
    """
    if module in _MAINS:
        return True
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in {"builtins", "flowbuilder", ""}:
        return False
    loaded = sys.modules.get(module) or sys.modules.get(top)
    return is_own_file(_file_of(loaded), has_spec=getattr(loaded, "__spec__", None) is not None)


def _file_of(module: ModuleType | None) -> str:
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return file
    folders = getattr(module, "__path__", None)
    try:
        return str(next(iter(folders))) if folders is not None else ""
    except (StopIteration, TypeError):
        return ""


@lru_cache(maxsize=4096)
def is_own_file(file: str, *, has_spec: bool) -> bool:
    """Whether a module's file is the project's; one without file but with a spec is built in."""
    if not file:
        return not has_spec
    path = Path(file)
    if path.suffix not in {".py", ""}:
        return False  # an extension module has no text to compare
    return not _SHARED_FOLDERS.intersection(path.parts)


def library_of(module: str) -> str:
    """Name the library a module belongs to; empty for the standard library."""
    top = module.partition(".")[0]
    return "" if top in sys.stdlib_module_names or top in {"builtins", ""} else top


@lru_cache(maxsize=1024)
def library_version(name: str) -> str:
    """Give the version of an installed library without importing it; empty if nobody knows."""
    from importlib import metadata

    if name == "flowbuilder":
        from flowbuilder._version import __version__

        return __version__
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):
        pass
    declared = getattr(sys.modules.get(name), "__version__", None)
    if isinstance(declared, str):
        return declared
    # Slow: reads every installed package's list of modules.
    for distribution in metadata.packages_distributions().get(name, ()):
        return metadata.version(distribution)
    file = find_module_file(name)
    if file is None:
        return ""
    status = file.stat()
    return f"{status.st_mtime_ns}-{status.st_size}"


def find_module_file(module: str) -> Path | None:
    """Find the file a module would be loaded from, importing nothing; None if there is none."""
    search: list[str] | None = None
    spec = None
    for part in module.split("."):
        try:
            spec = importlib.machinery.PathFinder.find_spec(part, search)
        except (ImportError, ValueError, OSError):
            return None
        if spec is None:
            return None
        search = list(spec.submodule_search_locations or ())
    if spec is None:
        return None
    if spec.origin and spec.origin not in {"built-in", "frozen", "namespace"}:
        return Path(spec.origin)
    return Path(search[0]) if search else None
