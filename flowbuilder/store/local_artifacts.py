"""Outputs on the local disk, each in the format that gives it back exactly."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from flowbuilder.errors import ConfigurationError, StorageError
from flowbuilder.records import ArtifactStored
from flowbuilder.store.artifact_files import (
    DigestWriter,
    TooLargeError,
    UnpicklableError,
    Written,
    digest_of,
    write_file,
)
from flowbuilder.store.small_outputs import is_exact
from flowbuilder.store.tables import load_table, table_writer

__all__ = ["LocalArtifactStore"]

_FOLDER: Final = "artifacts"
_RUN_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_log = logging.getLogger(__name__)


class LocalArtifactStore:
    """An `ArtifactStore` in a folder of the store directory. Thread-safe.

    Parameters
    ----------
    data_dir : Path
        The store directory; paths of artifacts are relative to it.
    max_bytes : int
        Largest single output; larger ones are volatile.
    max_store_bytes : int or None
        Size of all stored outputs from which on new ones are volatile; None for no limit.
    """

    def __init__(
        self, data_dir: Path, *, max_bytes: int = 4 * 2**30, max_store_bytes: int | None = None
    ) -> None:
        self._data_dir = data_dir
        self._max_bytes = max_bytes
        self._max_store_bytes = max_store_bytes
        self._stored_bytes = -1
        """Size of the store as far as this process knows; -1 until it is needed."""

    def save(
        self, run_id: str, instance: int, attempt: int, name: str, value: object
    ) -> ArtifactStored | None:
        """Write a value in the exact format that fits it.

        Returns
        -------
        ArtifactStored or None
            None if the value is volatile: it cannot be stored and read back equal, or it is too
            large.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        stem = self._folder_of(run_id) / _file_name(instance, attempt, name)
        if self._is_full():
            _log.info("output of instance %d stays in memory: the store is full", instance)
            return None
        try:
            found = self._write(stem, value)
        except (TooLargeError, UnpicklableError) as error:
            _log.info("output of instance %d stays in memory: %s", instance, error or "too large")
            return None
        except OSError as error:
            raise StorageError(
                f"could not store an output in {stem.parent}: {error.strerror or error}",
                hint="free some space or choose another place with --data-dir",
            ) from error
        if found is None:
            return None
        path, file_format, type_name, num_rows, written = found
        if self._stored_bytes >= 0:
            self._stored_bytes += written.size_bytes
        return ArtifactStored(
            instance=instance,
            attempt=attempt,
            name=name,
            format=file_format,
            path=path.relative_to(self._data_dir).as_posix(),
            size_bytes=written.size_bytes,
            digest=written.digest,
            type_name=type_name,
            num_rows=num_rows,
        )

    def load(self, artifact: ArtifactStored) -> object:
        """Read a value back, tables memory-mapped, after checking the file at about 1 GB/s.

        Raises
        ------
        StorageError
            If the file is missing, damaged, or a pickle without a valid HMAC: the output counts as
            absent.
        """
        path = self._path_of(artifact)
        _check_digest(path, artifact)
        try:
            return _read(path, artifact)
        except StorageError:
            raise
        except Exception as error:  # unpickling may run any code, and a library refuse in any way
            raise StorageError(
                f"the stored output {artifact.path} is unreadable: {error}"
            ) from error

    def remove_run(self, run_id: str) -> None:
        """Delete all files of a run. Values that are mapped from them stay valid."""
        shutil.rmtree(self._folder_of(run_id), ignore_errors=True)
        self._stored_bytes = -1

    def size_bytes(self) -> int:
        """Add up the sizes of all stored files."""
        return sum(self._sizes())

    def _is_full(self) -> bool:
        if self._max_store_bytes is None:
            return False
        if self._stored_bytes < 0:
            self._stored_bytes = self.size_bytes()
        return self._stored_bytes >= self._max_store_bytes

    def _sizes(self) -> Iterator[int]:
        for folder, _, files in os.walk(self._data_dir / _FOLDER):
            for file in files:
                try:
                    yield Path(folder, file).stat().st_size
                except OSError:
                    continue

    def _folder_of(self, run_id: str) -> Path:
        if not _RUN_ID.fullmatch(run_id):
            raise StorageError(f"expected a run id, found {run_id[:64]!r}")
        return self._data_dir / _FOLDER / run_id

    def _path_of(self, artifact: ArtifactStored) -> Path:
        # The path comes from a journal somebody may have edited: it must stay below our folder.
        root = (self._data_dir / _FOLDER).resolve()
        path = (self._data_dir / artifact.path).resolve()
        if not path.is_relative_to(root):
            raise StorageError(f"the stored output {artifact.path!r} lies outside the store")
        return path

    def _write(self, stem: Path, value: object) -> tuple[Path, str, str, int, Written] | None:
        table = table_writer(value)
        type_name = _type_name(value)
        if table is not None:
            if table.size_bytes > self._max_bytes:
                raise TooLargeError
            path = stem.with_suffix(f".{table.format}")
            written = write_file(path, self._max_bytes, table.write)
            return path, table.format, table.type_name, table.num_rows, written
        if type(value) is bytes:
            path = stem.with_suffix(".bin")
            return path, "bytes", type_name, -1, self._write_bytes(path, value)
        if is_exact(value):
            path = stem.with_suffix(".msgpack")
            written = self._write_bytes(path, msgspec.msgpack.encode(value))
            return path, "msgpack", type_name, -1, written
        return self._write_pickle(stem.with_suffix(".pickle"), type_name, value)

    def _write_bytes(self, path: Path, data: bytes) -> Written:
        def fill(sink: DigestWriter) -> None:
            sink.write(data)

        return write_file(path, self._max_bytes, fill)

    def _write_pickle(
        self, path: Path, type_name: str, value: object
    ) -> tuple[Path, str, str, int, Written] | None:
        from flowbuilder.store.pickles import is_consumable, write_pickle
        from flowbuilder.store.signing import signing_key

        if is_consumable(value):
            return None
        try:
            key = signing_key(create=True)
        except (StorageError, ConfigurationError) as error:
            _log.warning("outputs that need pickling stay in memory: %s", error)
            return None
        written = write_file(path, self._max_bytes, lambda sink: write_pickle(sink, key, value))
        return path, "pickle", type_name, -1, written


def _check_digest(path: Path, artifact: ArtifactStored) -> None:
    try:
        digest = digest_of(path)
    except FileNotFoundError:
        raise StorageError(f"the stored output {artifact.path} is missing") from None
    except OSError as error:
        raise StorageError(f"cannot read {artifact.path}: {error.strerror}") from error
    if digest != artifact.digest:
        raise StorageError(f"the stored output {artifact.path} is damaged", hint="run it again")


def _read(path: Path, artifact: ArtifactStored) -> object:
    if artifact.format == "bytes":
        return path.read_bytes()
    if artifact.format == "msgpack":
        return msgspec.msgpack.decode(path.read_bytes())
    if artifact.format == "pickle":
        from flowbuilder.store.pickles import load_pickle
        from flowbuilder.store.signing import signing_key

        return load_pickle(path, signing_key(create=False))
    return load_table(path, artifact.format, artifact.type_name)


def _file_name(instance: int, attempt: int, name: str) -> str:
    # A name may hold anything and be of any length: its digest is what a file can be called
    # everywhere.
    from hashlib import blake2b

    suffix = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{instance}-{attempt}-{suffix}"


def _type_name(value: object) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return module + kind.__qualname__
