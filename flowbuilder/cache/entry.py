"""One kept output, and what the cache tells of itself."""

from __future__ import annotations

import msgspec

from flowbuilder.records import ArtifactStored

__all__ = ["CacheStats", "Entry"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An output that is kept.

    Parameters
    ----------
    key : str
        Fingerprint it belongs to.
    task : str
        ``workflow/task`` that computed it.
    created_ns, used_ns : int
        Unix nanoseconds.
    ttl_s : float or None
        How long the author wanted it kept, when it was stored.
    cost_ns : int
        What computing it took.
    size_bytes : int
        What it occupies.
    hits : int
        How often it was used.
    inline : bytes or None
        The output as msgpack, if it is small.
    artifact : ArtifactStored or None
        Its file, if it is not.
    """

    key: str
    task: str
    created_ns: int
    used_ns: int
    ttl_s: float | None
    cost_ns: int
    size_bytes: int
    hits: int
    inline: bytes | None = None
    artifact: ArtifactStored | None = None


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of a cache, over all processes since it was made or cleared.

    Parameters
    ----------
    entries, size_bytes, max_bytes : int
        What is kept, and how much may be.
    hits, misses : int
        Look-ups that gave an output, and that did not.
    stored, expired, evicted, damaged : int
        Outputs kept; found too old; dropped for room; found missing or not intact.
    saved_s : float
        Time the hits spared.
    path : str
        The folder.
    """

    entries: int = 0
    size_bytes: int = 0
    max_bytes: int = 0
    hits: int = 0
    misses: int = 0
    stored: int = 0
    expired: int = 0
    evicted: int = 0
    damaged: int = 0
    saved_s: float = 0.0
    path: str = ""

    @property
    def hit_rate(self) -> float:
        """Share of look-ups that gave an output; 0 before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0
