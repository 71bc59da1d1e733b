"""Content hashes of files, remembered while size and times of a file stay the same."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Final

import msgspec

from flowbuilder.cache.parts import UncacheableError

__all__ = ["FileHashes", "Stamp", "expand_files"]

_BLOCK_BYTES: Final = 1 << 20
_SETTLED_NS: Final = 2_000_000_000
"""A file changed this shortly before it was hashed could change again without showing it."""
_MOST_FILES: Final = 100_000


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    """What tells that a file is still the one that was hashed."""

    modified_ns: int
    changed_ns: int
    size_bytes: int
    inode: int


class FileHashes:
    """Hashes files. Thread-safe.

    Parameters
    ----------
    recall : callable
        Gives what was remembered of a path: stamp and digest, or None.
    remember : callable
        Remembers it for other processes and later.
    """

    def __init__(
        self,
        recall: Callable[[str], tuple[Stamp, bytes] | None],
        remember: Callable[[str, Stamp, bytes], None],
    ) -> None:
        self._recall = recall
        self._remember = remember
        self._known: dict[str, tuple[Stamp, bytes]] = {}

    def digest(self, path: Path) -> bytes:
        """Hash a file's content; an absent file has a digest of its own.

        Raises
        ------
        UncacheableError
            If it cannot be read.
        """
        name = str(path.absolute())
        try:
            stamp = _stamp(path)
            if stamp is None:
                return b"absent"
            known = self._known.get(name) or self._recall(name)
            if known is not None and known[0] == stamp:
                self._known[name] = known
                return known[1]
            digest = _hash_file(path)
            if _stamp(path) != stamp:
                raise UncacheableError(f"file {path.name!r} changed while it was read")
        except OSError as error:
            raise UncacheableError(
                f"file {path.name!r} cannot be read: {error.strerror or error}"
            ) from error
        if time.time_ns() - max(stamp.modified_ns, stamp.changed_ns) > _SETTLED_NS:
            self._known[name] = (stamp, digest)
            self._remember(name, stamp, digest)
        return digest


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        raise UncacheableError(f"{path.name!r} is not a regular file")
    return Stamp(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def _hash_file(path: Path) -> bytes:
    import xxhash

    total = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            total.update(buffer[:count])
    return total.digest()


def expand_files(places: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Give every file that paths mean: files, all files below folders, matches of patterns.

    Yields
    ------
    tuple of str and Path
        A name that does not depend on where the project lies, and the file, sorted within each
        path.

    Raises
    ------
    UncacheableError
        If there are more than 100,000.
    """
    count = 0
    for place in places:
        for name, file in _expand(place):
            count += 1
            if count > _MOST_FILES:
                raise UncacheableError(f"{place} means more than {_MOST_FILES:,} files")
            yield name, file


def _expand(place: Path) -> Iterator[tuple[str, Path]]:
    if place.is_dir():
        for folder, folders, files in os.walk(place):
            folders.sort()
            for file in sorted(files):
                path = Path(folder, file)
                yield f"{place.name}/{path.relative_to(place).as_posix()}", path
    elif has_magic(str(place)) and not place.exists():
        for match in sorted(glob(str(place), recursive=True)):  # noqa: PTH207 - absolute pattern
            if Path(match).is_file():
                yield os.path.relpath(match, _fixed_part(place)), Path(match)
    else:
        yield place.name, place


def _fixed_part(place: Path) -> Path:
    fixed = place
    while has_magic(str(fixed)):
        fixed = fixed.parent
    return fixed
