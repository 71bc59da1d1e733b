"""Hashes of columns that cannot change: those in memory the cache itself mapped from its files.

Tables a task made are hashed whenever they are needed: an Arrow buffer may be a view of a numpy
array that somebody still writes to.
"""

from __future__ import annotations

import bisect
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

__all__ = ["OwnedMemory", "owned_memory"]

ColumnKey = tuple[object, ...]


class OwnedMemory:
    """Memory regions of live, immutable values. Thread-safe.

    A region belongs to the generation of its owner: when the owner is gone, its regions and what
    was remembered of them go too, so an address that is used again means nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # finalisers may run inside it
        self._starts: list[int] = []
        self._regions: dict[int, tuple[int, int]] = {}
        """Start -> (end, generation)."""
        self._held: dict[int, list[Any]] = {}
        self._digests: dict[int, dict[ColumnKey, bytes]] = {}
        self._generation = 0

    def adopt(self, owner: object, table: Any) -> None:
        """Take the buffers of a table for immutable as long as ``owner`` lives.

        Parameters
        ----------
        owner : object
            What consumers hold: the table itself, or a frame over its memory.
        table : pyarrow.Table
            Mapped from a file nobody writes.
        """
        buffers = [
            buffer
            for column in table.columns
            for chunk in column.chunks
            for buffer in chunk.buffers()
            if buffer is not None and buffer.size
        ]
        with self._lock:
            self._generation += 1
            generation = self._generation
            try:
                weakref.finalize(owner, self._drop, generation).atexit = False
            except TypeError:  # nothing would tell that it is gone
                return
            # The buffers keep the mapping: its addresses stay its own until the owner is gone.
            self._held[generation] = buffers
            self._digests[generation] = {}
            for buffer in buffers:
                if buffer.address not in self._regions:
                    bisect.insort(self._starts, buffer.address)
                self._regions[buffer.address] = (buffer.address + buffer.size, generation)

    def column_digest(self, column: Any, compute: Callable[[], bytes]) -> bytes:
        """Give a column's digest, remembered if all its memory is owned.

        Parameters
        ----------
        column : pyarrow.ChunkedArray
            The column.
        compute : callable
            Hashes it.
        """
        key, generation = self._key_of(column)
        if generation == 0:
            return compute()
        with self._lock:
            known = self._digests.get(generation, {}).get(key)
        if known is None:
            known = compute()
            with self._lock:
                # Only if the owner lived all the while: then the addresses were its own.
                if generation in self._digests:
                    self._digests[generation][key] = known
        return known

    def _key_of(self, column: Any) -> tuple[ColumnKey, int]:
        if not self._regions:
            return (), 0
        parts: list[object] = [str(column.type)]
        generations: set[int] = set()
        for chunk in column.chunks:
            parts.append((chunk.offset, len(chunk)))
            for buffer in chunk.buffers():
                if buffer is None or not buffer.size:
                    parts.append(None)
                    continue
                generation = self._generation_at(buffer.address, buffer.size)
                if not generation:
                    return (), 0
                generations.add(generation)
                parts.append((buffer.address, buffer.size))
        return tuple(parts), generations.pop() if len(generations) == 1 else 0

    def _generation_at(self, address: int, size: int) -> int:
        with self._lock:
            place = bisect.bisect_right(self._starts, address) - 1
            if place < 0:
                return 0
            end, generation = self._regions[self._starts[place]]
            return generation if address + size <= end else 0

    def _drop(self, generation: int) -> None:
        with self._lock:
            for buffer in self._held.pop(generation, ()):
                found = self._regions.get(buffer.address)
                if found is not None and found[1] == generation:
                    del self._regions[buffer.address]
                    place = bisect.bisect_left(self._starts, buffer.address)
                    del self._starts[place]
            self._digests.pop(generation, None)


owned_memory: Final = OwnedMemory()
"""That of this process."""
