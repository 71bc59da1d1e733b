"""Configuration values as canonical plain data: the same meaning gives the same JSON bytes."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import PurePath
from typing import cast

import msgspec

from flowbuilder.errors import WorkflowError

__all__ = ["encode_canonical", "to_plain"]

_EXACT_FLOAT = 2.0**53
_AS_IS = frozenset({str, int, bool, type(None)})


def to_plain(value: object) -> object:
    """Reduce a configuration value to what JSON can say, without losing a difference.

    Whole floats become integers (``1.0`` and ``1`` mean the same in YAML and JSON); floats JSON
    cannot write, bytes and sets are tagged; a function is named ``module:qualname`` and never
    called.

    Parameters
    ----------
    value : object
        Scalars, sequences, mappings with text keys, paths, bytes, sets, functions and classes.

    Returns
    -------
    object
        Scalars, lists and dicts; scalars are returned as they are.

    Raises
    ------
    WorkflowError
        If the value is of another kind, so that its text would differ from run to run.

    Notes
    -----
    Recursion is safe: the nesting of a workflow is limited when it is read.
    """
    kind = type(value)
    if kind in _AS_IS:
        return value
    if kind is list:
        items = cast("list[object]", value)
        return [item if type(item) in _AS_IS else to_plain(item) for item in items]
    if isinstance(value, float):
        return _plain_float(value)
    if kind is dict or isinstance(value, Mapping):
        mapping = cast("Mapping[object, object]", value)
        # Most values need no call: this runs for every field of every task.
        return {
            key if type(key) is str else _plain_key(key): item
            if type(item) in _AS_IS
            else to_plain(item)
            for key, item in mapping.items()
        }
    if isinstance(value, str | int):  # enumerations and other subclasses: by value
        return str(value) if isinstance(value, str) else int(value)
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, Sequence):
        return [item if type(item) in _AS_IS else to_plain(item) for item in value]
    return _plain_object(value)


def _plain_object(value: object) -> object:
    if isinstance(value, AbstractSet):
        return {"$set": sorted((to_plain(item) for item in value), key=encode_canonical)}
    if isinstance(value, PurePath):
        return value.as_posix()
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(module, str) and isinstance(name, str):
        return f"{module}:{name}"
    raise WorkflowError(
        "a configuration value must be plain data (text, numbers, lists, mappings) or a function, "
        f"found {type(value).__name__}",
        hint="pass objects between tasks as outputs, or name a function that makes them",
    )


def _plain_float(value: float) -> object:
    if not math.isfinite(value):
        return {"$float": "nan" if math.isnan(value) else f"{value:+}"}
    if value.is_integer() and abs(value) <= _EXACT_FLOAT:
        return int(value)
    return float(value)


def _plain_key(key: object) -> str:
    if isinstance(key, str):
        return str(key)
    raise WorkflowError(f"keys of a configuration mapping must be text, found {key!r}")


def encode_canonical(plain: object) -> bytes:
    """Write plain data as JSON with sorted keys and no spaces."""
    return msgspec.json.encode(plain, order="sorted")
