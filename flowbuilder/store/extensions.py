"""How values msgpack has no type for travel in records: as extensions, never as tagged mappings.

So every mapping a user returns comes back as it was, whatever its keys.
"""

from __future__ import annotations

from typing import Final

import msgspec

from flowbuilder.records import ABSENT, Absent

__all__ = ["ENCODING_ERRORS", "UNSTORED_EXT", "from_extension", "to_extension"]

ENCODING_ERRORS: Final = (
    TypeError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RecursionError,
    msgspec.MsgspecError,
)
"""What msgspec raises for lone surrogates, huge integers and foreign objects."""

_ABSENT_EXT: Final = 1
UNSTORED_EXT: Final = 2
"""A parameter that lives in memory only (a table bound at launch): its type's name."""


def to_extension(value: object) -> object:
    """Encode `ABSENT`; refuse anything else msgspec does not know."""
    if isinstance(value, Absent):
        return msgspec.msgpack.Ext(_ABSENT_EXT, b"")
    raise NotImplementedError(f"cannot store a {type(value).__name__} in a record")


def from_extension(code: int, data: memoryview) -> object:
    """Decode an extension; ones this version does not know are kept as they are."""
    if code == _ABSENT_EXT:
        return ABSENT
    return msgspec.msgpack.Ext(code, bytes(data))
