"""A fingerprint and the parts it is made of, kept so that two can be compared in words."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from hashlib import blake2b
from typing import Final

import msgspec

__all__ = ["FORMAT_VERSION", "Fingerprint", "Part", "UncacheableError"]

FORMAT_VERSION: Final = 1
"""Raised whenever the same inputs would give another digest, or another meaning."""

_KEY_BYTES = 16


class UncacheableError(Exception):
    """Something that decides an output cannot be compared, so the output cannot be used again.

    Parameters
    ----------
    reason : str
        What, and why, in words.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Part(msgspec.Struct, frozen=True, array_like=True):
    """One thing that decides an output.

    Parameters
    ----------
    kind : str
        ``code``, ``global``, ``closure``, ``default``, ``attribute``, ``argument``, ``input``,
        ``param``, ``file``, ``env``, ``library``, ``type`` or ``version``.
    name : str
        Which; unique within the kind.
    digest : bytes
        Hash of its content.
    shown : str
        The value for people, if it is short and no secret.
    lines : tuple of (int, bytes)
        Of code: line and short digest of each statement, in order.
    """

    kind: str
    name: str
    digest: bytes
    shown: str = ""
    lines: tuple[tuple[int, bytes], ...] = ()


class Fingerprint(msgspec.Struct, frozen=True, dict=True):
    """Everything that decides an output.

    Parameters
    ----------
    parts : tuple of Part
        Sorted by kind and name.
    """

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Fingerprint:
        """Sort the parts."""
        return cls(tuple(sorted(parts, key=lambda part: (part.kind, part.name))))

    @cached_property
    def key(self) -> str:
        """Hash of all digests: 32 hexadecimal digits."""
        total = blake2b(digest_size=_KEY_BYTES)
        total.update(b"flowbuilder cache %d" % FORMAT_VERSION)
        for part in self.parts:
            for field in (part.kind.encode(), _bytes_of(part.name), part.digest):
                total.update(len(field).to_bytes(8, "little"))
                total.update(field)
        return total.hexdigest()

    def to_bytes(self) -> bytes:
        """Encode it for the index."""
        return msgspec.msgpack.encode(self.parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Fingerprint:
        """Decode what `to_bytes` wrote.

        Raises
        ------
        msgspec.DecodeError
            If it is something else.
        """
        return cls(msgspec.msgpack.decode(data, type=tuple[Part, ...]))


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
