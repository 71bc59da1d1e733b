"""Where the store's bytes go: every create, write, fsync, rename and removal of the journal, of
outputs and of owner files passes one `Disk`.

The real one does what its methods say and nothing else. A test puts another in its place, which
fails, forgets or dies at a chosen call; SQLite's own calls it sees through a VFS of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Disk", "current_disk", "using_disk"]


class Disk:
    """The file systems of this machine. Paths and errors are the operating system's."""

    vfs: str | None = None
    """Name of the SQLite VFS for the journal; None is SQLite's own."""

    def create(self, path: Path) -> int:
        """Make a file that is not there yet, mode 0600, and open it for reading and writing."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Append bytes; return how many were taken, which may be fewer."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Return once the content of a file is on disk."""
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name in one step, in place of a file that has it."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def make_folder(self, folder: Path) -> None:
        """Make one folder, mode 0700, unless it exists."""
        folder.mkdir(mode=0o700, exist_ok=True)

    def sync_folder(self, folder: Path) -> None:
        """Return once the names in a folder are on disk.

        Without this a crash may forget the name of a file whose content is on disk. Windows has no
        such call.
        """
        if os.name != "posix":
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove_tree(self, folder: Path) -> None:
        """Remove a folder with all that is in it, as far as that is possible."""
        shutil.rmtree(folder, ignore_errors=True)


_current = Disk()


def current_disk() -> Disk:
    """Give the disk of this process."""
    return _current


@contextmanager
def using_disk(disk: Disk) -> Iterator[None]:
    """Put another disk in place for what is opened inside the block, on all threads."""
    global _current  # noqa: PLW0603 - a disk belongs to the process, like its descriptors
    before, _current = _current, disk
    try:
        yield
    finally:
        _current = before
