"""How a function reaches a worker: by name if the worker can import it, else as code, once."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LARGE_CODE_BYTES", "FunctionRef", "describe_function", "large_globals"]

LARGE_CODE_BYTES = 1_000_000
_SHOWN_GLOBALS = 5


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """A function as a worker is told about it.

    Parameters
    ----------
    module, qualname : str
        Where to import it from; ``module`` is empty for one that travels as code.
    version : str
        Hash of the code; for an importable one a mark of its module's file.
    code : bytes
        Pickled function; empty for an importable one.
    """

    module: str
    qualname: str
    version: str
    code: bytes = b""


def describe_function(function: Callable[..., object]) -> FunctionRef:
    """Choose how a function travels.

    Parameters
    ----------
    function : callable
        A function, method or callable object.

    Raises
    ------
    Exception
        Whatever pickling raises if it can travel neither way.
    """
    module = getattr(function, "__module__", None) or ""
    qualname = getattr(function, "__qualname__", "")
    if module != "__main__" and _lookup(module, qualname) is function:
        return FunctionRef(module, qualname, _file_mark(module))
    import cloudpickle  # type: ignore[import-untyped]

    code = cloudpickle.dumps(function, protocol=5)
    version = hashlib.blake2b(code, digest_size=16).hexdigest()
    return FunctionRef("", qualname or repr(type(function)), version, code)


def large_globals(function: Callable[..., object]) -> list[tuple[str, int]]:
    """Find what makes a pickled function large.

    Returns
    -------
    list of (str, int)
        Names of globals and closure variables with their pickled size in bytes, largest first.
    """
    import cloudpickle

    sizes = []
    for name, value in _captured(function).items():
        try:
            sizes.append((name, len(cloudpickle.dumps(value, protocol=5))))
        except Exception:  # noqa: S112 - what cannot be pickled is not what made it large
            continue
    return sorted(sizes, key=lambda item: -item[1])[:_SHOWN_GLOBALS]


def _captured(function: Callable[..., object]) -> Mapping[str, object]:
    try:
        variables = inspect.getclosurevars(function)
    except TypeError:
        return {}
    nested = {
        name: value
        for name in _names_of_nested_code(function)
        if (value := getattr(function, "__globals__", {}).get(name)) is not None
    }
    return {**nested, **variables.globals, **variables.nonlocals}


def _names_of_nested_code(function: Callable[..., object]) -> Iterator[str]:
    """Names used by functions defined inside; `getclosurevars` looks at the outermost only."""
    codes = [function.__code__] if hasattr(function, "__code__") else []
    while codes:
        code = codes.pop()
        yield from code.co_names
        codes.extend(const for const in code.co_consts if inspect.iscode(const))


def _lookup(module: str, qualname: str) -> object:
    value: object = sys.modules.get(module)
    for name in qualname.split("."):
        value = getattr(value, name, None)
    return value


def _file_mark(module: str) -> str:
    """Mark the version of a module's file, so that an edit is noticed by workers that have it."""
    try:
        status = Path(sys.modules[module].__file__ or "").stat()
    except (AttributeError, KeyError, OSError):
        return ""
    return f"{status.st_mtime_ns}-{status.st_size}"
