"""Which versions are being read, by whom: what keeps `vacuum` from deleting files under a reader.

A pin is a small file named after the reader's process, the dataset and the version. It counts as
long as that process lives, which its lock says (see `flowbuilder.store.ownership`). A reader pins
first and looks afterwards whether the version is still there; `vacuum` forgets versions first and
looks for pins afterwards: one of the two sees the other.
"""

from __future__ import annotations

import itertools
import os
import threading
from contextlib import suppress
from pathlib import Path

from flowbuilder.store.ownership import EngineLock, Owners

__all__ = ["Pin", "Pins"]


class Pin:
    """The hold on one version; ends with `release`, or with the process."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._pid = os.getpid()

    def release(self) -> None:
        """Let go. May be repeated; a forked child leaves its parent's pin alone."""
        path, self._path = self._path, None
        if path is not None and self._pid == os.getpid():
            with suppress(OSError):
                path.unlink()

    def __del__(self) -> None:
        self.release()


class Pins:
    """The pins of a store.

    Parameters
    ----------
    folder : Path
        The store's folder of datasets.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "pins"
        self._owners = Owners(folder)
        self._owner: EngineLock | None = None
        self._owner_pid = 0
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def owner_id(self) -> str:
        """Give the name of this process among the readers and writers of the store.

        Raises
        ------
        StorageError
            If it cannot be registered.
        """
        if self._owner is None or self._owner_pid != os.getpid():
            with self._lock:
                if self._owner is None or self._owner_pid != os.getpid():
                    self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._owner, self._owner_pid = self._owners.acquire(), os.getpid()
        return self._owner.engine_id

    def is_alive(self, owner_id: str) -> bool:
        """Whether the process of that name lives."""
        return self._owners.is_alive(owner_id)

    def pin(self, dataset_id: int, version: int) -> Pin:
        """Keep a version's files until the pin is released."""
        name = f"{self.owner_id()}.{dataset_id}.{version}.{next(self._numbers)}"
        path = self._folder / name
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return Pin(path)

    def pinned(self, dataset_id: int) -> set[int]:
        """List the versions of a dataset somebody reads, deleting the pins of ended processes."""
        found = set()
        alive: dict[str, bool] = {}
        for path in self._folder.glob("*.*.*.*"):
            owner, dataset, version, _ = path.name.split(".")
            if dataset != str(dataset_id):
                continue
            if owner not in alive:
                alive[owner] = self.is_alive(owner)
            if alive[owner]:
                found.add(int(version))
            else:
                with suppress(OSError):
                    path.unlink()
        return found

    def close(self) -> None:
        """End this process's registration."""
        with self._lock:
            owner, self._owner = self._owner, None
        if owner is not None and self._owner_pid == os.getpid():
            owner.release()
