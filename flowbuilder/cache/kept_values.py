"""The outputs behind the entries: small ones inside them, others as files that are checked before
they are used.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from flowbuilder.cache.entry import Entry
from flowbuilder.cache.owned_memory import owned_memory
from flowbuilder.errors import StorageError
from flowbuilder.records import ABSENT, ArtifactStored
from flowbuilder.store.janitor import PARTIAL_FOLDER, sweep_partial
from flowbuilder.store.local_artifacts import LocalArtifactStore
from flowbuilder.store.small_outputs import small_output

__all__ = ["KeptValue", "KeptValues"]

_FOLDER: Final = "artifacts"
_ORPHAN_AGE_S: Final = 3600.0


class KeptValue(msgspec.Struct, frozen=True):
    """Where an output was put."""

    inline: bytes | None
    artifact: ArtifactStored | None
    size_bytes: int


class KeptValues:
    """Writes and reads outputs in the formats of the artifact store.

    Parameters
    ----------
    folder : Path
        The cache's folder.
    max_bytes : int
        Largest single output.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._files = LocalArtifactStore(folder, max_bytes=max_bytes)

    def save(self, key: str, value: object, *, encrypt: bool = False) -> KeptValue | None:
        """Write an output; None if it cannot be stored and read back equal, or is too large.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        small = ABSENT if encrypt else small_output(value)
        if small is not ABSENT:
            data = msgspec.msgpack.encode(small)
            return KeptValue(data, None, len(data))
        # A name of its own each time: who has the entry it replaces reads the file it names.
        unique = f"{key}-{os.urandom(4).hex()}"
        artifact = self._files.save(unique, 0, 1, "output", value, encrypt=encrypt)
        return None if artifact is None else KeptValue(None, artifact, artifact.size_bytes)

    def load(self, entry: Entry) -> object:
        """Read an output back, tables memory-mapped.

        Raises
        ------
        StorageError
            If it is missing, damaged, or a pickle this user did not sign.
        """
        if entry.inline is not None:
            try:
                return msgspec.msgpack.decode(entry.inline)
            except msgspec.DecodeError as error:
                raise StorageError(f"a kept output is unreadable: {error}") from error
        if entry.artifact is None:
            raise StorageError("a kept output has neither value nor file")
        value = self._files.load(entry.artifact)
        _adopt(value)
        return value

    def remove(self, entry: Entry) -> None:
        """Delete an entry's file; values mapped from it stay valid."""
        if entry.artifact is not None:
            parts = Path(entry.artifact.path).parts
            if len(parts) == 3:
                self._files.remove_run(parts[1])

    def clear(self) -> None:
        """Delete all files."""
        shutil.rmtree(self._folder / _FOLDER, ignore_errors=True)

    def sweep(self, used: set[str]) -> int:
        """Delete what a crash left behind: old folders no entry names; give their number.

        Parameters
        ----------
        used : set of str
            Paths of the files of all entries.
        """
        names = {Path(path).parts[1] for path in used if len(Path(path).parts) == 3}
        removed = sweep_partial(self._folder / _FOLDER).count
        with contextlib.suppress(OSError):
            for folder in (self._folder / _FOLDER).iterdir():
                if folder.name in names or folder.name == PARTIAL_FOLDER:
                    continue
                if time.time() - folder.stat().st_mtime > _ORPHAN_AGE_S:
                    shutil.rmtree(folder, ignore_errors=True)
                    removed += 1
        return removed


def _adopt(value: Any) -> None:
    """Let hashes of a table be remembered: its memory is a file nobody writes."""
    kind = type(value)
    if (kind.__module__.partition(".")[0], kind.__name__) == ("pyarrow", "Table"):
        owned_memory.adopt(value, value)
    elif kind.__name__ == "DataFrame" and kind.__module__.startswith("polars"):
        if "pyarrow" not in sys.modules:
            return
        import polars as pl

        with contextlib.suppress(Exception):  # a type Arrow does not know: hashed when needed
            owned_memory.adopt(value, value.to_arrow(compat_level=pl.CompatLevel.newest()))
