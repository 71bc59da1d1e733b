"""Which engine processes live: each holds a lock on a file of its own until it ends.

The lock is the truth; the content (host, boot, process) is for people, and decides only on file
systems without locks.
"""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from flowbuilder.errors import StorageError
from flowbuilder.store.disk import current_disk
from flowbuilder.store.disk_space import is_out_of_space, space_error
from flowbuilder.store.file_locks import LocksUnsupportedError, try_lock
from flowbuilder.store.forks import watch_forks
from flowbuilder.store.processes import boot_id, is_process_alive, process_start

__all__ = ["EngineLock", "Owner", "Owners"]

_STALE_AFTER_S: Final = 60.0
_FILE_BYTES: Final = 4096
_MAX_BYTES: Final = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """An engine process; ``process_start`` is the kernel's clock then, 0 where it is not known."""

    engine_id: str
    host: str
    boot_id: str
    pid: int
    process_start: int = 0
    is_locked: bool = True
    started_wall_ns: int = 0


class EngineLock:
    """The hold of this process on its owner file; it ends with the process, however that ends."""

    def __init__(self, owner: Owner, path: Path | None, descriptor: int) -> None:
        self.owner = owner
        self._path = path
        self._descriptor = descriptor
        watch_forks(self)

    @property
    def engine_id(self) -> str:
        """The name of this engine in ``runs.owner``."""
        return self.owner.engine_id

    def release(self) -> None:
        """End the hold and remove the file. May be repeated."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        if self._path is not None:
            with suppress(OSError):  # Windows removes no open file: the next engine cleans up
                current_disk().unlink(self._path)
        os.close(descriptor)

    def abandon(self) -> None:
        """Close the copy a forked child inherited, which would outlive the parent with the lock."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Owners:
    """The owner files of a store.

    Parameters
    ----------
    data_dir : Path or None
        The store directory; None for a journal in memory, whose only owner is this process.
    """

    def __init__(self, data_dir: Path | None) -> None:
        self._folder = None if data_dir is None else data_dir / "owners"

    def acquire(self) -> EngineLock:
        """Register this process as a new engine, and clean up after ended ones.

        Raises
        ------
        StorageError
            If the file cannot be written.
        """
        owner = _this_process()
        if self._folder is None:
            return EngineLock(owner, None, -1)
        path = self._folder / owner.engine_id
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = current_disk().create(path)
        except OSError as error:
            raise self._refusal(error) from error
        try:
            owner = msgspec.structs.replace(owner, is_locked=_lock_new(descriptor))
            current_disk().write(descriptor, msgspec.json.encode(owner))
        except OSError as error:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise self._refusal(error) from error
        self.remove_stale()
        return EngineLock(owner, path, descriptor)

    def _refusal(self, error: OSError) -> StorageError:
        assert self._folder is not None
        if is_out_of_space(error):
            return space_error("register this process", self._folder, _FILE_BYTES)
        return StorageError(
            f"cannot register this process in {self._folder}: {error.strerror or error}",
            hint="check the permissions of the folder, or choose another with --data-dir",
        )

    def is_alive(self, engine_id: str) -> bool:
        """Tell whether an engine lives, by trying its lock. Takes about 10 us."""
        path = self._path_of(engine_id)
        if self._folder is None:
            return True
        if path is None:
            return False
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        except OSError:
            return True  # not ours to look at: better refuse than run a task twice
        try:
            is_free = try_lock(descriptor, is_shared=True)
            content = os.read(descriptor, _MAX_BYTES) if is_free else b""
        except OSError:
            return _seems_alive(self.read(engine_id))
        finally:
            os.close(descriptor)
        if not is_free:
            return True
        owner = _decode(content)
        return owner is not None and not owner.is_locked and _seems_alive(owner)

    def read(self, engine_id: str) -> Owner | None:
        """Read who an engine is; None if its file is gone or unreadable."""
        path = self._path_of(engine_id)
        if path is None:
            return None
        try:
            return _decode(path.read_bytes()[:_MAX_BYTES])
        except OSError:
            return None

    def remove_stale(self) -> int:
        """Delete the files of engines that are gone; return how many."""
        if self._folder is None or not self._folder.is_dir():
            return 0
        removed = 0
        for path in self._folder.iterdir():
            # A file that was made a moment ago may not be locked yet.
            with suppress(OSError):
                is_old = time.time() - path.stat().st_mtime > _STALE_AFTER_S
                if is_old and not self.is_alive(path.name):
                    current_disk().unlink(path)
                    removed += 1
        return removed

    def _path_of(self, engine_id: str) -> Path | None:
        # The id comes from a journal somebody may have edited: it must stay a name in our folder.
        if self._folder is None or not _NAME.fullmatch(engine_id):
            return None
        return self._folder / engine_id


def _this_process() -> Owner:
    return Owner(
        engine_id=os.urandom(16).hex(),
        host=socket.gethostname(),
        boot_id=boot_id(),
        pid=os.getpid(),
        process_start=process_start(os.getpid()),
        started_wall_ns=time.time_ns(),
    )


def _lock_new(descriptor: int) -> bool:
    try:
        return try_lock(descriptor)
    except LocksUnsupportedError:
        return False


def _decode(content: bytes) -> Owner | None:
    try:
        return msgspec.json.decode(content, type=Owner)
    except (msgspec.MsgspecError, ValueError):
        return None


def _seems_alive(owner: Owner | None) -> bool:
    """Judge by the content alone, where there are no locks; in doubt a process lives."""
    if owner is None:
        return False
    if owner.host != socket.gethostname():
        return True
    if owner.boot_id and boot_id() and owner.boot_id != boot_id():
        return False
    if not is_process_alive(owner.pid):
        return False
    start = process_start(owner.pid)
    return not (owner.process_start and start) or owner.process_start == start
