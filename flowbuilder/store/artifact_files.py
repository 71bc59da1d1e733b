"""Immutable files: written under a temporary name with a digest and a limit, fsynced, renamed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from flowbuilder.store.disk import current_disk
from flowbuilder.store.file_locks import LocksUnsupportedError, try_lock

__all__ = [
    "DIGEST_BYTES",
    "ByteSink",
    "DigestWriter",
    "TooLargeError",
    "UnpicklableError",
    "Written",
    "digest_of",
    "write_file",
]

DIGEST_BYTES: Final = 32


class TooLargeError(Exception):
    """More was written than the store takes."""


class UnpicklableError(Exception):
    """A value cannot be pickled, or would not come back equal."""


class Written(NamedTuple):
    """A finished file."""

    size_bytes: int
    digest: str


class ByteSink:
    """A binary sink as pyarrow, numpy and pickle want it; it counts what it is given."""

    closed = False

    def __init__(self) -> None:
        self.size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes."""
        raise NotImplementedError

    def tell(self) -> int:
        """Give the number of bytes written."""
        return self.size_bytes

    def flush(self) -> None:
        """Do nothing: nothing is buffered here."""

    def close(self) -> None:
        """Do nothing: whoever opened the file closes it."""

    def writable(self) -> bool:
        """Say yes."""
        return True

    def readable(self) -> bool:
        """Say no."""
        return False

    def seekable(self) -> bool:
        """Say no."""
        return False


class DigestWriter(ByteSink):
    """Writes to an open file, hashes, and stops at a limit.

    Parameters
    ----------
    descriptor : int
        An open file, written with write(2).
    max_bytes : int
        Where `TooLargeError` is raised.
    """

    def __init__(self, descriptor: int, max_bytes: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._max_bytes = max_bytes
        self._disk = current_disk()
        from hashlib import blake2b

        self._hash = blake2b(digest_size=DIGEST_BYTES)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes."""
        view = memoryview(data).cast("B")
        count = view.nbytes
        self.size_bytes += count
        if self.size_bytes > self._max_bytes:
            raise TooLargeError
        self._hash.update(view)
        while view:
            view = view[self._disk.write(self._descriptor, view) :]
        return count

    @property
    def digest(self) -> str:
        """Digest of everything written, as hexadecimal text."""
        return self._hash.hexdigest()


def write_file(
    path: Path,
    max_bytes: int,
    fill: Callable[[DigestWriter], None],
    *,
    partial: Path | None = None,
) -> Written:
    """Make a file appear complete and on disk, or not at all.

    Parameters
    ----------
    path : Path
        Its name; an existing file is replaced, readers of the old one keep it.
    max_bytes : int
        Largest size.
    fill : callable
        Writes the content.
    partial : Path, optional
        Folder on the same file system where it is until it is complete, locked, so that it can be
        told from what a killed process left (`flowbuilder.store.janitor`).

    Raises
    ------
    TooLargeError
        If the content is larger.
    OSError
        If it cannot be written. What ``fill`` raises passes through.
    """
    folder = path.parent if partial is None else partial
    _make_folder(path.parent)
    _make_folder(folder)
    temporary = folder / f".{path.name}.{os.urandom(6).hex()}"
    disk = current_disk()
    descriptor = disk.create(temporary)
    try:
        writer = DigestWriter(descriptor, max_bytes)
        with suppress(LocksUnsupportedError):
            try_lock(descriptor)
        fill(writer)
        disk.sync(descriptor)
        if os.name == "nt":  # which renames no open file
            descriptor = _closed(descriptor)
        disk.rename(temporary, path)
    except BaseException:
        descriptor = _closed(descriptor)
        with suppress(OSError):
            disk.unlink(temporary)
        raise
    finally:
        _closed(descriptor)
    disk.sync_folder(path.parent)
    return Written(writer.size_bytes, writer.digest)


def _closed(descriptor: int) -> int:
    if descriptor >= 0:
        os.close(descriptor)
    return -1


def digest_of(path: Path) -> str:
    """Compute the digest of a file, at about 1 GB/s."""
    from hashlib import blake2b, file_digest

    with path.open("rb") as file:
        found = file_digest(file, lambda: blake2b(digest_size=DIGEST_BYTES))
    return found.hexdigest()


def _make_folder(folder: Path) -> None:
    # Not `parents=True`, which makes all but the last with the default permissions.
    if not folder.is_dir():
        _make_folder(folder.parent)
        current_disk().make_folder(folder)
        current_disk().sync_folder(folder.parent)
