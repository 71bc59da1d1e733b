"""The compiled module of the CEL package, without the command line that comes with it.

``import cel`` also imports typer, prompt_toolkit, pygments and rich, for a command line of its own:
0.2 s and 18 MB for nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Final

__all__ = ["cel_library"]

_NAME: Final = "cel.cel"
_lock = RLock()


def cel_library() -> ModuleType:
    """Give the module that compiles expressions; import it at the first call.

    Returns
    -------
    module
        The same one ``import cel`` uses, before or after: it can be initialised only once in a
        process.
    """
    loaded = sys.modules.get(_NAME)
    if loaded is not None:
        return loaded
    with _lock:
        return sys.modules.get(_NAME) or _load()


def _load() -> ModuleType:
    package = find_spec("cel")
    folders = package.submodule_search_locations if package is not None else None
    spec = PathFinder.find_spec(_NAME, folders) if folders else None
    if spec is None or spec.loader is None:
        # Another layout of the package, or none: its own import knows what to do or to say.
        return import_module("cel")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[_NAME] = module
    return module
