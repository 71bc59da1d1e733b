"""Content hashes of any Python value, types included.

The order of a dict counts, because a function can see it; that of a set does not. Objects count as
what pickling would store of them, so what cannot be pickled cannot be compared.
"""

from __future__ import annotations

import copyreg
import struct
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import msgspec

from flowbuilder.cache.parts import UncacheableError
from flowbuilder.cache.tables import find_table_hash
from flowbuilder.store.small_outputs import is_exact

__all__ = ["ValueHash", "shown_value"]

_MAX_DEPTH = 100
_FEW_NODES = 10_000
_SHOWN_CHARS = 60
_CODE: Final = (type, FunctionType, MethodType, BuiltinFunctionType, ModuleType)
_SCALARS: Final = (bool, int, float, str, bytes, type(None))
_OPAQUE: Final = frozenset({("_thread", "lock"), ("_thread", "RLock")})
"""Objects whose content decides no output."""
_encode = msgspec.msgpack.Encoder().encode


class ValueHash:
    """Hashes values; one per fingerprint.

    Parameters
    ----------
    visit_code : callable
        Takes a function, class or module, and gives bytes that name it; what it does is hashed
        elsewhere.
    """

    def __init__(self, visit_code: Callable[[object], bytes]) -> None:
        self._visit_code = visit_code
        self._path: set[int] = set()

    def digest(self, value: object) -> bytes:
        """Hash a value.

        Raises
        ------
        UncacheableError
            If it has no content that can be compared; the reason says why.
        """
        import xxhash

        total = xxhash.xxh3_128()
        try:
            self._feed(value, total.update)
        except RecursionError:
            raise UncacheableError("is nested too deeply to be compared") from None
        return total.digest()

    def _feed(self, value: object, update: Callable[[Any], None]) -> None:
        kind = type(value)
        if kind in _SCALARS:
            _feed_scalar(value, update)
            return
        if kind in {dict, list} and is_exact(value, max_nodes=_FEW_NODES):
            _feed_bytes(b"plain", _encode(value), update)
            return
        if isinstance(value, _CODE) or callable(getattr(value, "__wrapped__", None)):
            _feed_bytes(b"code", self._visit_code(value), update)
            return
        if (kind.__module__, kind.__name__) in _OPAQUE:
            update(b"opaque")
            return
        if id(value) in self._path:
            raise UncacheableError("contains itself")
        if len(self._path) > _MAX_DEPTH:
            raise UncacheableError("is nested too deeply to be compared")
        self._path.add(id(value))
        try:
            self._feed_structure(value, kind, update)
        finally:
            self._path.discard(id(value))

    def _feed_structure(self, value: Any, kind: type, update: Callable[[Any], None]) -> None:
        if kind in {list, tuple}:
            update(kind.__name__.encode() + struct.pack("<q", len(value)))
            for item in value:
                self._feed(item, update)
        elif kind is dict:
            update(b"dict" + struct.pack("<q", len(value)))
            for key, item in value.items():
                self._feed(key, update)
                self._feed(item, update)
        elif kind in {set, frozenset}:
            update(kind.__name__.encode() + struct.pack("<q", len(value)))
            for digest in sorted(map(self._nested, value)):
                update(digest)
        elif kind in {bytearray, memoryview}:
            _feed_bytes(kind.__name__.encode(), bytes(value), update)
        elif (table_hash := find_table_hash(kind)) is not None:
            _feed_bytes(b"table", _type_text(kind), update)
            table_hash(value, update, self._feed)
        else:
            self._feed_object(value, kind, update)

    def _nested(self, value: object) -> bytes:
        import xxhash

        part = xxhash.xxh3_128()
        self._feed(value, part.update)
        return part.digest()

    def _feed_object(self, value: Any, kind: type, update: Callable[[Any], None]) -> None:
        if isinstance(value, Iterator):
            raise UncacheableError(f"is a {_name(kind)}, which can be read only once")
        reduced = _reduce(value, kind)
        _feed_bytes(b"object", self._visit_code(kind), update)
        if isinstance(reduced, str):
            _feed_bytes(b"global", reduced.encode(), update)
            return
        function, arguments, state, items, pairs = (*reduced, *(None,) * 5)[:5]
        self._feed(function, update)
        self._feed(tuple(arguments), update)
        if isinstance(state, dict) and all(type(key) is str for key in state):
            state = {key: state[key] for key in sorted(state)}
        self._feed(state, update)
        self._feed(None if items is None else list(items), update)
        self._feed(None if pairs is None else dict(pairs), update)


def _reduce(value: Any, kind: type) -> Any:
    try:
        reducer = copyreg.dispatch_table.get(kind)
        return value.__reduce_ex__(4) if reducer is None else reducer(value)
    except Exception as error:  # any class may raise anything when asked for its state
        raise UncacheableError(
            f"is a {_name(kind)}, whose content cannot be compared ({_short(str(error))})"
        ) from error


def _feed_scalar(value: Any, update: Callable[[Any], None]) -> None:
    match value:
        case None:
            update(b"none")
        case bool():
            update(b"true" if value else b"false")
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            _feed_bytes(b"int", data, update)
        case float():
            update(b"float" + struct.pack("<d", value))  # -0.0 and every NaN as they are
        case str():
            _feed_bytes(b"str", value.encode("utf-8", "surrogatepass"), update)
        case _:
            _feed_bytes(b"bytes", value, update)


def _feed_bytes(tag: bytes, data: bytes, update: Callable[[Any], None]) -> None:
    update(tag + struct.pack("<q", len(data)))
    update(data)


def _type_text(kind: type) -> bytes:
    return f"{kind.__module__}.{kind.__qualname__}".encode()


def _name(kind: type) -> str:
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return module + kind.__qualname__


def _short(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= 100 else line[:97] + "..."


def shown_value(value: object) -> str:
    """Give a short text of a plain value, for comparisons in words; empty for anything else."""
    if type(value) in _SCALARS:
        if isinstance(value, str | bytes) and len(value) > _SHOWN_CHARS:
            return ""
        text = repr(value)
        return text if len(text) <= _SHOWN_CHARS else ""
    if type(value) in {list, tuple, dict, set} and is_exact(value, max_nodes=16):
        text = repr(value)
        return text if len(text) <= _SHOWN_CHARS else ""
    return ""
