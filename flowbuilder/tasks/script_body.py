"""Runs Python text in a namespace of its own, in this process or in a worker."""

from __future__ import annotations

import ast
import io
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Final, TextIO

from flowbuilder.errors import Location, TaskFailedError
from flowbuilder.tasks.script_code import CodePlace, compile_script, show_source

__all__ = [
    "MODULE_NAME",
    "RESERVED_NAMES",
    "run_script",
    "run_script_remotely",
    "used_params",
    "uses_input_data",
]

MODULE_NAME: Final = "__flow__"
"""``__name__`` inside scripts."""

RESERVED_NAMES = frozenset({"inputs", "params", "input_data", "result"})
"""Ports of these names are reached through ``inputs`` only."""

_MISSING: Final = object()
_SEE_EVERYTHING = frozenset({"globals", "locals", "vars", "eval", "exec", "__import__"})
_USES_INPUT_DATA = re.compile(r"\binput_data\b")


def run_script(
    code: str,
    place: CodePlace,
    *,
    inputs: Mapping[str, object],
    params: Mapping[str, object],
    input_data: Callable[[], object],
    printed: Callable[[], str],
) -> object:
    """Run a script and give its output.

    Parameters
    ----------
    code : str
        The text.
    place : CodePlace
        Where it stands.
    inputs, params : mapping
        Bound under these names; ports are variables too, unless reserved.
    input_data : callable
        Gives ``input_data``; called only if the text mentions it.
    printed : callable
        Gives what was printed, for scripts that set no ``result``.

    Returns
    -------
    object
        ``result`` if the script sets it, else what it printed, without the last line break.
    """
    namespace = _namespace(code, place, inputs, params, input_data)
    try:
        exec(compile_script(code, place), namespace)  # noqa: S102 - the author's own code
    except SystemExit as leaving:
        if leaving.code not in (None, 0):
            show_source(code, place)
            message = f"the script called sys.exit({leaving.code!r})"
            raise TaskFailedError(
                message, location=_exit_location(leaving, place), error_type="SystemExit"
            ) from leaving
    except BaseException as error:
        show_source(code, place)
        if isinstance(error, NameError):
            _explain_name(error)
        raise
    result = namespace.get("result", _MISSING)
    if result is not _MISSING:
        return result
    return printed().removesuffix("\n")


def run_script_remotely(
    code: str,
    place: CodePlace,
    inputs: Mapping[str, object],
    params: Mapping[str, object],
    input_data: object,
) -> object:
    """Run a script in a worker process, where nobody routes what it prints. See `run_script`."""
    stream = _Tee(sys.stdout)
    sys.stdout, before = stream, sys.stdout
    try:
        return run_script(
            code,
            place,
            inputs=inputs,
            params=params,
            input_data=lambda: input_data,
            printed=stream.text,
        )
    finally:
        sys.stdout = before


def uses_input_data(code: str) -> bool:
    """Whether a script mentions ``input_data`` at all."""
    return _USES_INPUT_DATA.search(code) is not None


@lru_cache(maxsize=512)
def used_params(code: str) -> frozenset[str] | None:
    """Name the parameters a script mentions as ``params["name"]``; None if it may use any."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    named: dict[int, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            key = node.slice.value
            if isinstance(key, str) and isinstance(node.ctx, ast.Load):
                named[id(node.value)] = key
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in _SEE_EVERYTHING:
            return None
        if isinstance(node, ast.Name) and node.id == "params":
            if id(node) not in named:
                return None
            used.add(named[id(node)])
    return frozenset(used)


def _namespace(
    code: str,
    place: CodePlace,
    inputs: Mapping[str, object],
    params: Mapping[str, object],
    input_data: Callable[[], object],
) -> dict[str, object]:
    # dataclasses and pickle look a class's module up in sys.modules.
    sys.modules.setdefault(MODULE_NAME, ModuleType(MODULE_NAME))
    namespace: dict[str, object] = {
        port: inputs[port] for port in inputs if port not in RESERVED_NAMES
    }
    namespace.update(
        __name__=MODULE_NAME,
        __file__=place.file,
        __builtins__=__builtins__,
        inputs=inputs,
        params=params,
        input_data=input_data() if uses_input_data(code) else None,
    )
    return namespace


def _exit_location(leaving: SystemExit, place: CodePlace) -> Location | None:
    found: Location | None = None
    frame = leaving.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == place.file:
            found = Location(place.file, frame.tb_lineno)
        frame = frame.tb_next
    return found


def _explain_name(error: NameError) -> None:
    name = getattr(error, "name", None)
    if not isinstance(name, str) or name not in sys.stdlib_module_names:
        return
    line = {"datetime": "from datetime import datetime"}.get(name, f"import {name}")
    error.add_note(f"{name!r} is a module of the standard library: add {line!r} to the script")


class _Tee(io.TextIOBase):
    """Passes text on and remembers it."""

    def __init__(self, below: TextIO) -> None:
        super().__init__()
        self._below = below
        self._parts: list[str] = []

    def write(self, text: str) -> int:
        self._parts.append(text)
        return self._below.write(text)

    def flush(self) -> None:
        self._below.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._below.fileno()

    def text(self) -> str:
        return "".join(self._parts)
