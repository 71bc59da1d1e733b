"""The folders a process hands tables over in, and the removal of those whose process is dead.

One folder in memory (``/dev/shm``, where there is one) and one on disk, each named after its owner
and holding a subfolder per worker: what a killed worker left goes with its subfolder, what a killed
owner left goes when the next one starts.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from flowbuilder.runtime.machine import boot_id, process_start_time
from flowbuilder.store.janitor import Swept, folder_bytes

__all__ = ["MEMORY_ROOT", "TransportFolder", "sweep_transport"]

MEMORY_ROOT = Path("/dev/shm")  # noqa: S108 - files go into a 0700 folder of our own
_PREFIX = "flowbuilder-transport-"

_numbers = itertools.count(1)


class TransportFolder:
    """Folders of one owner, made on construction, removed by `close`.

    Parameters
    ----------
    scratch : Path
        Folder on disk; made if missing.
    memory_root : Path
        Root of a memory file system; ignored where it does not exist.

    Notes
    -----
    Construction first removes the folders of dead owners under both roots.
    """

    def __init__(self, scratch: Path, *, memory_root: Path = MEMORY_ROOT) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        roots = [root for root in (memory_root, scratch) if os.access(root, os.W_OK)]
        sweep_transport(*roots)
        self._pid = os.getpid()
        name = f"{_PREFIX}{_machine_tag()}-{self._pid}-{_start_tag()}-{next(_numbers)}"
        self._places = tuple(root / name for root in roots)
        for place in self._places:
            place.mkdir(mode=0o700)

    def open_worker(self, number: int) -> tuple[Path, ...]:
        """Make the folders of one worker, best first."""
        folders = tuple(place / f"w{number}" for place in self._places)
        for folder in folders:
            folder.mkdir(mode=0o700, exist_ok=True)
        return folders

    def close_worker(self, folders: Iterable[Path]) -> None:
        """Remove the folders of a worker that ended, with everything it left."""
        if os.getpid() == self._pid:
            for folder in folders:
                remove_folder(folder)

    def close(self) -> None:
        """Remove what is left; tables already mapped stay readable."""
        if os.getpid() == self._pid:
            for place in self._places:
                remove_folder(place)


def remove_folder(folder: Path) -> None:
    """Remove a folder and its subfolders' files as far as the system lets us."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                remove_folder(Path(entry.path))
            else:
                with contextlib.suppress(OSError):
                    Path(entry.path).unlink()
        folder.rmdir()


def sweep_transport(*roots: Path) -> Swept:
    """Remove folders of owners that are certainly dead: same host and boot, no such process.

    Parameters
    ----------
    *roots : Path
        Where they are, beside shared memory.
    """
    found = Swept()
    mine = _machine_tag()
    for root in {MEMORY_ROOT, *roots}:
        with contextlib.suppress(OSError):
            for entry in os.scandir(root):
                if entry.name.startswith(_PREFIX) and _is_mine(entry):
                    machine, _, owner = entry.name.removeprefix(_PREFIX).partition("-")
                    if _is_dead(machine, owner, mine):
                        found += Swept(1, folder_bytes(Path(entry.path)))
                        remove_folder(Path(entry.path))
    return found


def _is_mine(entry: os.DirEntry[str]) -> bool:
    if not entry.is_dir(follow_symlinks=False):
        return False
    return not hasattr(os, "getuid") or entry.stat(follow_symlinks=False).st_uid == os.getuid()


def _is_dead(machine: str, owner: str, mine: str) -> bool:
    pid, _, rest = owner.partition("-")
    if not pid.isdigit():
        return False
    host, _, boot = machine.partition(".")
    my_host, _, my_boot = mine.partition(".")
    if host != my_host:
        return False
    return boot != my_boot or _start_tag(int(pid)) != rest.partition("-")[0]


def _start_tag(pid: int | None = None) -> str:
    start = process_start_time(os.getpid() if pid is None else pid)
    return _short_hash(start) if start else ""


def _machine_tag() -> str:
    """Name host and boot; containers share a boot but not a host name nor our pids."""
    return f"{_short_hash(socket.gethostname())}.{_short_hash(boot_id())}"


def _short_hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
