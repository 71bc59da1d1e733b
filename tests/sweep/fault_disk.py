"""A disk that fails at a chosen call: a `Disk` for files and a SQLite VFS, which count together."""

from __future__ import annotations

import errno
import os
import random
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import apsw
from shadow_disk import ShadowDisk

from flowbuilder.store.disk import Disk

VFS = "flowbuilder-faults"
SQLITE_ERRORS = {
    "write": apsw.SQLITE_IOERR_WRITE,
    "sync": apsw.SQLITE_IOERR_FSYNC,
    "truncate": apsw.SQLITE_IOERR_TRUNCATE,
    "unlink": apsw.SQLITE_IOERR_DELETE,
    "create": apsw.SQLITE_CANTOPEN,
}
KINDS = {
    "error": None,
    "short": {"write"},
    "enospc": {"write", "create"},
    "eio": {"sync", "sync_folder"},
    "kill": None,
    "torn": {"write"},
    "power": None,
    "tatters": None,
    "flip": {"write"},
    "flip_kill": {"write"},
}
"""Fault -> the calls it can strike; None is all of them."""


@dataclass
class Fault:
    """What happens at which call of those it can strike; -1 never."""

    kind: str
    at: int
    seed: int = 0


class Faults:
    """Counts the calls of one process and strikes at the chosen one."""

    def __init__(self, fault, root, image):
        self.fault = fault
        self.rng = random.Random(f"{fault.kind}-{fault.at}-{fault.seed}")
        self.shadow = ShadowDisk(root)
        self.image = image
        self.lock = threading.RLock()
        self.counts = dict.fromkeys(KINDS, 0)
        self.fired = ""
        self.is_full = False
        self.struck = 0

    def look(self, call, path):
        """Count a call; tell what must happen to it: nothing (empty), or the kind of fault."""
        fault = self.fault
        name = f"{call} {Path(path).name}"
        if self.is_full and call in KINDS["enospc"]:
            return "enospc"
        for kind, calls in KINDS.items():
            if calls is None or call in calls:
                number = self.counts[kind]
                self.counts[kind] += 1
                if kind == fault.kind and number == fault.at:
                    self.fired = name
        if not self.fired or self.struck:
            return ""
        self.struck = 1
        if fault.kind == "kill":
            self.die()
        if fault.kind in {"power", "tatters"}:
            self.lose_power(self.rng if fault.kind == "tatters" else None)
            self.die()
        self.is_full = fault.kind == "enospc"
        return fault.kind

    def lose_power(self, rng=None):
        self.image.mkdir(mode=0o700)
        self.shadow.fail(self.image, rng)

    def die(self):
        self.note()
        os.kill(os.getpid(), signal.SIGKILL)

    def note(self):
        Path(f"{self.image}.fired").write_text(self.fired)

    def flipped(self, data):
        """One bit of what is written, turned."""
        changed = bytearray(data)
        bit = self.rng.randrange(8 * len(changed))
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)


class FaultDisk(Disk):
    """Files with faults."""

    vfs = VFS

    def __init__(self, faults):
        self.faults = faults
        self.open = {}

    def create(self, path):
        with self.faults.lock:
            self._strike("create", path)
            descriptor = super().create(path)
            self.open[descriptor] = [path, self.faults.shadow.create(path), 0]
            return descriptor

    def write(self, descriptor, data):
        with self.faults.lock:
            path, inode, place = self.open[descriptor]
            kind = self._strike("write", path)
            data = bytes(data)
            if kind in {"short", "torn"} and len(data) > 1:
                data = data[: len(data) // 2]
            if kind in {"flip", "flip_kill"} and data:
                data = self.faults.flipped(data)
            count = super().write(descriptor, data)
            inode.write(place, data[:count])
            self.open[descriptor][2] += count
            if kind == "torn":
                self.faults.die()
            return count

    def sync(self, descriptor):
        with self.faults.lock:
            path, inode, _ = self.open[descriptor]
            if self._strike("sync", path) == "eio":
                inode.forget_pending()
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            inode.sync()

    def rename(self, source, target):
        with self.faults.lock:
            self._strike("rename", target)
            super().rename(source, target)
            self.faults.shadow.rename(source, target)

    def unlink(self, path):
        with self.faults.lock:
            self._strike("unlink", path)
            super().unlink(path)
            self.faults.shadow.unlink(path)

    def make_folder(self, folder):
        with self.faults.lock:
            self._strike("create", folder)
            super().make_folder(folder)

    def sync_folder(self, folder):
        with self.faults.lock:
            if self._strike("sync_folder", folder) == "eio":
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))
            self.faults.shadow.sync_folder(folder)

    def remove_tree(self, folder):
        with self.faults.lock:
            try:
                self._strike("unlink", folder)
            except OSError:
                return  # what cannot be removed stays, as the contract says
            super().remove_tree(folder)
            self.faults.shadow.remove_tree(folder)

    def _strike(self, call, path):
        kind = self.faults.look(call, path)
        if kind == "error":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        if kind == "enospc":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return kind


class FaultVfs(apsw.VFS):
    """SQLite's files with faults."""

    def __init__(self, faults):
        self.faults = faults
        super().__init__(VFS, "")

    def xOpen(self, name, flags):
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:
            return super().xOpen(name, flags)
        with self.faults.lock:
            is_new = not Path(path).exists()
            if is_new:
                self._strike("create", path)
            file = FaultFile(self.faults, name, path, flags, is_new)
            if is_new:
                self.faults.shadow.create(path)
            return file

    def xDelete(self, name, syncdir):
        with self.faults.lock:
            self._strike("unlink", name)
            super().xDelete(name, syncdir)
            self.faults.shadow.unlink(name)
            if syncdir:
                self.faults.shadow.sync_folder(Path(name).parent)

    def _strike(self, call, path):
        strike(self.faults, call, path)


def strike(faults, call, path):
    kind = faults.look(call, path)
    if kind == "enospc":
        raise error_of(apsw.SQLITE_FULL)
    if kind == "error":
        raise error_of(SQLITE_ERRORS[call])
    return kind


def error_of(code):
    error = apsw.exception_for(code)
    error.extendedresult = code
    return error


class FaultFile(apsw.VFSFile):
    """A SQLite file with faults. Shared memory is not written through here, nor does it survive."""

    def __init__(self, faults, name, path, flags, is_new):
        self.faults, self.path = faults, path
        # SQLite syncs the folder with the first sync of a log or journal it made.
        is_log = flags[0] & (apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL)
        self.owes_folder = bool(is_new and is_log)
        super().__init__("", name, flags)

    def xWrite(self, data, offset):
        with self.faults.lock:
            kind = strike(self.faults, "write", self.path)
            data = bytes(data)
            if kind in {"short", "torn"}:
                data = data[: len(data) // 2]
            elif kind in {"flip", "flip_kill"}:
                data = self.faults.flipped(data)
            super().xWrite(data, offset)
            self._inode().write(offset, data)
            if kind == "torn":
                self.faults.die()
            if kind == "short":
                raise error_of(apsw.SQLITE_IOERR_WRITE)

    def xTruncate(self, size):
        with self.faults.lock:
            strike(self.faults, "truncate", self.path)
            super().xTruncate(size)
            self._inode().truncate(size)

    def xSync(self, flags):
        with self.faults.lock:
            if strike(self.faults, "sync", self.path) == "eio":
                self._inode().forget_pending()
                raise error_of(apsw.SQLITE_IOERR_FSYNC)
            self._inode().sync()
            if self.owes_folder:
                self.owes_folder = False
                self.faults.shadow.sync_folder(Path(self.path).parent)

    def _inode(self):
        return self.faults.shadow.inode(self.path)
