"""Local copies of outputs that live elsewhere, bounded by size; losing one costs a download."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["StagedFiles"]

_KEPT: Final = 0.8
"""Share of the bound that remains after trimming, so that not every file trims anew."""


class _Copy(NamedTuple):
    used_ns: int
    size_bytes: int
    path: Path


class StagedFiles:
    """The copies below a folder, the least recently used of which go first. Thread-safe.

    Several processes may share the folder. A copy that is mapped when it is deleted stays valid.

    Parameters
    ----------
    folder : Path
        Where they are, created when needed.
    max_bytes : int
        What they may take together, apart from the newest.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._added_bytes = -1
        """Bytes there as far as this process knows; -1 until it is needed."""

    def write(self, path: Path, parts: Iterable[bytes]) -> None:
        """Make a copy appear whole or not at all. It need not survive a crash.

        Raises
        ------
        OSError
            If the disk refuses. What the iterable raises passes through.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
        try:
            with temporary.open("xb") as file:
                temporary.chmod(0o600)
                for part in parts:
                    file.write(part)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        self.note(path)

    def note(self, path: Path) -> None:
        """Count a new copy, and delete old ones if there are too many."""
        if self._added_bytes < 0:
            self._added_bytes = sum(copy.size_bytes for copy in self._copies())
        else:
            with suppress(OSError):
                self._added_bytes += path.stat().st_size
        if self._added_bytes > self._max_bytes:
            self._trim(keep=path)

    def touch(self, path: Path) -> None:
        """Say that a copy was used."""
        with suppress(OSError):
            os.utime(path)

    def discard(self, path: Path) -> None:
        """Delete a copy, if it is there."""
        with suppress(OSError):
            path.unlink()

    def _trim(self, keep: Path) -> None:
        copies = sorted(self._copies())
        left = sum(copy.size_bytes for copy in copies)
        for copy in copies:
            if left <= self._max_bytes * _KEPT:
                break
            if copy.path != keep:
                self.discard(copy.path)
                left -= copy.size_bytes
        self._added_bytes = left

    def _copies(self) -> Iterator[_Copy]:
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                with suppress(OSError):
                    status = path.stat()
                    yield _Copy(status.st_mtime_ns, status.st_size, path)
