"""What every part of a store shares: places, catalogue, pins, checks, and who is asking."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from flowbuilder.datasets.catalogue import Catalogue, DatasetRow
from flowbuilder.datasets.data_files import FileChecks
from flowbuilder.datasets.database import Database
from flowbuilder.datasets.manifest import Manifest
from flowbuilder.datasets.pins import Pin, Pins
from flowbuilder.datasets.snapshot import Snapshot
from flowbuilder.datasets.uses import note_use_in
from flowbuilder.errors import StorageError

__all__ = ["CATALOGUE_NAME", "FOLDER_NAME", "RunPlace", "StoreParts"]

FOLDER_NAME: Final = "datasets"
CATALOGUE_NAME: Final = "catalogue.db"
_REMEMBERED: Final = 32
_ATTEMPTS: Final = 20


class RunPlace(msgspec.Struct, frozen=True):
    """Which run and task is asking; both empty outside of runs."""

    run_id: str = ""
    task: str = ""


class StoreParts:
    """Shared by a store, its datasets and its index.

    Parameters
    ----------
    folder : Path
        The store's folder of datasets; made if it is not there.
    is_thorough : bool
        Whether files are read against their checksum once per process.
    asking : callable
        Gives the run and task of the calling thread.
    """

    def __init__(self, folder: Path, *, is_thorough: bool, asking: Callable[[], RunPlace]) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot make the folder of datasets {folder}: {error.strerror or error}",
                hint="check the permissions, or choose another place with data_dir",
            ) from error
        self.database = Database(folder / CATALOGUE_NAME)
        self.catalogue = Catalogue(self.database)
        self.pins = Pins(folder)
        self.checks = FileChecks(folder, is_thorough=is_thorough)
        self.asking = asking
        self.writers = 0
        """How many writes this process has under way; background work waits for them."""
        self._lock = threading.Lock()
        self._manifests: OrderedDict[tuple[int, int], Manifest] = OrderedDict()
        self._noted: set[tuple[str, str, int, int]] = set()

    def snapshot(self, row: DatasetRow, version: int | None = None) -> Snapshot:
        """Pin and read a version, by default the newest.

        Raises
        ------
        StorageError
            If it is not kept (any more).
        """
        for _ in range(_ATTEMPTS):
            manifest = self._manifest(row, version)
            number = manifest.version.version
            pin = self._pin(row.dataset_id, number)
            if self.catalogue.has_version(row.dataset_id, number):
                self.note(row.dataset_id, number)
                return Snapshot(manifest, self.checks, pin)
            # A vacuum took the version between the look and the pin: look again.
            if pin is not None:
                pin.release()
            self._forget(row.dataset_id, number)
        raise StorageError(
            f"dataset {row.name!r} changed faster than it could be read",
            hint="vacuum with a larger keep=",
        )

    def _pin(self, dataset_id: int, version: int) -> Pin | None:
        try:
            return self.pins.pin(dataset_id, version)
        except (OSError, StorageError):
            return None  # a place that cannot be written: nobody vacuums it from here

    def _manifest(self, row: DatasetRow, version: int | None) -> Manifest:
        number = version
        if number is None:
            found = self.catalogue.find(row.name)
            if found is None or found.dataset_id != row.dataset_id:
                raise StorageError(f"dataset {row.name!r} was dropped meanwhile")
            row, number = found, found.head
        key = (row.dataset_id, number)
        known = self._manifests.get(key)
        if known is not None:
            return known
        manifest = self.catalogue.manifest(row, number)
        with self._lock:
            self._manifests[key] = manifest
            while len(self._manifests) > _REMEMBERED:
                self._manifests.popitem(last=False)
        return manifest

    def _forget(self, dataset_id: int, version: int) -> None:
        with self._lock:
            self._manifests.pop((dataset_id, version), None)

    def note(self, dataset_id: int, version: int) -> None:
        """Remember that the run that is asking, if any, used this version."""
        place = self.asking()
        if not place.run_id:
            return
        key = (place.run_id, place.task, dataset_id, version)
        if key not in self._noted:
            note_use_in(self.catalogue, *key)
            self._noted.add(key)

    def close(self) -> None:
        """Close the catalogue and end this process's registration."""
        self.database.close()
        self.pins.close()
