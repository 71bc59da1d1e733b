"""Outputs on the local disk, each in the format that gives it back exactly."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from flowbuilder.errors import FlowBuilderError, StorageError
from flowbuilder.records import ArtifactStored
from flowbuilder.store.artifact_files import (
    ByteSink,
    TooLargeError,
    UnpicklableError,
    digest_of,
    write_file,
)
from flowbuilder.store.cold_files import coldest, find_packed, open_packed, pack
from flowbuilder.store.disk import current_disk
from flowbuilder.store.disk_space import is_out_of_space, space_error
from flowbuilder.store.janitor import PARTIAL_FOLDER
from flowbuilder.store.sealing import CIPHER, encryption_key, seal, unseal
from flowbuilder.store.tables import table_as
from flowbuilder.store.value_forms import ValueForm, find_form, read_value

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

    @property
    def data_dir(self) -> Path:
        """The folder that paths of artifacts are relative to."""
        return self._data_dir

    def save(
        self,
        run_id: str,
        instance: int,
        attempt: int,
        name: str,
        value: object,
        *,
        encrypt: bool = False,
    ) -> ArtifactStored | None:
        """Write a value in the exact format that fits it, sealed under the user's key if
        ``encrypt`` (`flowbuilder.store.sealing`).

        Returns
        -------
        ArtifactStored or None
            None if the value is volatile: it cannot be stored and read back equal, or it is too
            large.

        Raises
        ------
        StorageError
            If the disk refuses, or the key cannot be used.
        """
        stem = self._folder_of(run_id) / _file_name(instance, attempt, name)
        if self._is_full():
            _log.info("output of instance %d stays in memory: the store is full", instance)
            return None
        form = None
        try:
            form = find_form(value)
            if form is None or form.size_bytes > self._max_bytes:
                return None
            artifact = ArtifactStored(
                instance=instance,
                attempt=attempt,
                name=name,
                format=form.format,
                path=stem.with_suffix(f".{form.suffix}").relative_to(self._data_dir).as_posix(),
                size_bytes=0,
                digest="",
                type_name=form.type_name,
                num_rows=-1 if encrypt else form.num_rows,
                cipher=CIPHER if encrypt else "",
            )
            return self._write(artifact, form)
        except (TooLargeError, UnpicklableError) as error:
            _log.info("output of instance %d stays in memory: %s", instance, error or "too large")
            return None
        except OSError as error:
            if is_out_of_space(error):
                size_bytes = max(form.size_bytes if form else 0, 4096)
                raise space_error("store an output", stem.parent, size_bytes) from error
            raise StorageError(
                f"could not store an output in {stem.parent}: {error.strerror or error}",
                hint="free some space or choose another place with --data-dir",
            ) from error

    def _write(self, artifact: ArtifactStored, form: ValueForm) -> ArtifactStored:
        def write_sealed(sink: ByteSink) -> None:
            seal(sink, encryption_key(create=True), _binding(artifact), form.write)

        fill = write_sealed if artifact.cipher else form.write
        written = write_file(
            self._data_dir / artifact.path,
            self._max_bytes,
            fill,
            partial=self.folder / PARTIAL_FOLDER,
        )
        if self._stored_bytes >= 0:
            self._stored_bytes += written.size_bytes
        artifact.size_bytes, artifact.digest = written.size_bytes, written.digest
        return artifact

    def load(self, artifact: ArtifactStored) -> object:
        """Read a value back, tables memory-mapped, after checking the file at about 1 GB/s.

        Raises
        ------
        StorageError
            If the file is missing, damaged, a pickle without a valid HMAC, or encrypted with
            another key: the output counts as absent.
        """
        path = self._path_of(artifact)
        try:
            return _load(path, artifact)
        except StorageError:
            # Another process may have packed it since we looked, or long ago.
            packed = None if path.exists() else find_packed(path)
            if packed is None:
                raise
        return _load_packed(packed, artifact)

    def remove_run(self, run_id: str) -> None:
        """Delete all files of a run. Values that are mapped from them stay valid."""
        current_disk().remove_tree(self._folder_of(run_id))
        self._stored_bytes = -1

    @property
    def folder(self) -> Path:
        """Where the files are, a folder for each run."""
        return self._data_dir / _FOLDER

    def size_bytes(self) -> int:
        """Add up the sizes of all stored files."""
        return sum(self._sizes())

    def _is_full(self) -> bool:
        if self._max_store_bytes is None:
            return False
        if self._stored_bytes < 0:
            self._stored_bytes = self.size_bytes()
        if self._stored_bytes >= self._max_store_bytes:
            self._pack_some(self._stored_bytes - self._max_store_bytes + 1)
        return self._stored_bytes >= self._max_store_bytes

    def _pack_some(self, wanted_bytes: int) -> None:
        """Pack tables nobody read for long, until enough is freed or nothing is left to pack."""
        for path in coldest(self.folder):
            if wanted_bytes <= 0:
                return
            freed = pack(path, self.folder / PARTIAL_FOLDER)
            wanted_bytes -= freed
            self._stored_bytes -= freed

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


def _load(path: Path, artifact: ArtifactStored) -> object:
    _check_digest(path, artifact)
    source = _unsealed(path, artifact) if artifact.cipher else path
    try:
        return read_value(source, artifact.format, artifact.type_name, artifact.path)
    except FlowBuilderError:
        raise
    except Exception as error:  # unpickling may run any code, and a library refuse in any way
        raise StorageError(f"the stored output {artifact.path} is unreadable: {error}") from error


def _load_packed(packed: Path, artifact: ArtifactStored) -> object:
    try:
        return table_as(open_packed(packed, artifact.digest), artifact.type_name)
    except StorageError:
        raise
    except Exception as error:
        raise StorageError(f"the packed output {packed.name} is unreadable: {error}") from error


def _check_digest(path: Path, artifact: ArtifactStored) -> None:
    try:
        digest = digest_of(path)
    except FileNotFoundError:
        raise StorageError(f"the stored output {artifact.path} is missing") from None
    except OSError as error:
        raise StorageError(f"cannot read {artifact.path}: {error.strerror}") from error
    if digest != artifact.digest:
        raise StorageError(f"the stored output {artifact.path} is damaged", hint="run it again")


def _unsealed(path: Path, artifact: ArtifactStored) -> memoryview:
    if artifact.cipher != CIPHER:
        raise StorageError(
            f"the stored output {artifact.path} is encrypted with {artifact.cipher!r},"
            " which this version does not know",
            hint="update FlowBuilder",
        )
    key = encryption_key(create=False)
    return unseal(path.read_bytes(), key, _binding(artifact), artifact.path)


def _binding(artifact: ArtifactStored) -> bytes:
    """Tie a sealed file to its place (run, instance and attempt are in the path), task and form."""
    parts = (artifact.path, artifact.name, artifact.format, artifact.type_name)
    return msgspec.msgpack.encode(parts)


def _file_name(instance: int, attempt: int, name: str) -> str:
    # A name may hold anything and be of any length: its digest is what a file can be called
    # everywhere.
    from hashlib import blake2b

    suffix = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{instance}-{attempt}-{suffix}"
