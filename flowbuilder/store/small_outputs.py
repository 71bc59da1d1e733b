"""Outputs small and plain enough to ride in their completion record."""

from __future__ import annotations

from typing import Final

import msgspec

from flowbuilder.records import ABSENT

__all__ = ["MAX_SMALL_BYTES", "is_exact", "small_output"]

MAX_SMALL_BYTES: Final = 4096
_MAX_DEPTH = 64
_MAX_NODES = 5_000_000
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1

_ALWAYS_SMALL = frozenset({type(None), bool, float})
_TREES = frozenset({dict, list})
_encode = msgspec.msgpack.Encoder().encode


def small_output(value: object) -> object:
    """Give the form in which an output rides in its record.

    Returns
    -------
    object
        The value itself (None, bool, 64-bit int, float, and str or bytes up to 4 KiB); a
        `msgspec.Raw` with the encoding of a list or dict that takes up to 4 KiB and would come back
        equal, types included; else `ABSENT`.

    Notes
    -----
    About 0.1 us for scalars. A tree is encoded at once, so later changes to it do not matter.
    """
    kind = type(value)
    if kind in _ALWAYS_SMALL:
        return value
    if isinstance(value, int):
        return value if kind is int and _INT_MIN <= value <= _INT_MAX else ABSENT
    if kind is str or kind is bytes:
        return value if _is_small_text(value) else ABSENT
    if kind in _TREES:
        return _small_tree(value)
    return ABSENT


def _is_small_text(value: object) -> bool:
    if isinstance(value, bytes):
        return len(value) <= MAX_SMALL_BYTES
    assert isinstance(value, str)
    if len(value) > MAX_SMALL_BYTES:
        return False
    if value.isascii():
        return True
    try:
        return len(value.encode()) <= MAX_SMALL_BYTES
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8
        return False


def _small_tree(value: object) -> object:
    # Every node takes at least a byte, so more nodes than bytes cannot be small.
    if not is_exact(value, max_nodes=MAX_SMALL_BYTES):
        return ABSENT
    encoded = _encode(value)
    return msgspec.Raw(encoded) if len(encoded) <= MAX_SMALL_BYTES else ABSENT


def is_exact(value: object, *, max_nodes: int = _MAX_NODES) -> bool:
    """Tell whether msgpack gives a value back equal, with the same types throughout.

    True for None, bool, 64-bit int, float, bytes, str without lone surrogates, and lists and dicts
    (with such str keys) of them. False for subclasses, tuples, sets, other keys, cycles, trees
    deeper than 64 or larger than ``max_nodes``.
    """
    nodes = 0
    level: list[object] = [value]
    for _ in range(_MAX_DEPTH):
        nodes += len(level)
        if nodes > max_nodes:
            return False
        below: list[object] = []
        for node in level:
            kind = type(node)
            if kind in _TREES:
                if not _add_children(node, below) or len(below) > max_nodes:
                    return False
            elif not _is_exact_scalar(node):
                return False
        if not below:
            return True
        level = below
    return False


def _add_children(node: object, below: list[object]) -> bool:
    if isinstance(node, dict):
        if not all(type(key) is str and _is_encodable(key) for key in node):
            return False
        below.extend(node.values())
    elif isinstance(node, list):
        below.extend(node)
    return True


def _is_exact_scalar(node: object) -> bool:
    kind = type(node)
    if kind in _ALWAYS_SMALL or kind is bytes:
        return True
    if kind is int:
        return isinstance(node, int) and _INT_MIN <= node <= _INT_MAX
    return isinstance(node, str) and kind is str and _is_encodable(node)


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
