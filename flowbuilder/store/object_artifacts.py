"""Outputs in an object store: written here, moved there, read back through local copies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from flowbuilder.errors import StorageError
from flowbuilder.records import ArtifactStored
from flowbuilder.store.object_client import ObjectClient
from flowbuilder.store.ports import ArtifactStore, StoredFile
from flowbuilder.store.staged_files import StagedFiles

__all__ = ["ObjectArtifactStore"]

_FOLDER: Final = "artifacts"
_log = logging.getLogger(__name__)


class ObjectArtifactStore:
    """An `ArtifactStore` behind a URL. Thread-safe; many machines may share it.

    Formats, digests, limits and signatures are those of the local store, which writes each file
    before it is moved and reads each copy after it was fetched: what is stored there is the same
    file under the same name.

    Parameters
    ----------
    client : ObjectClient
        Where the files go.
    open_local : callable
        Makes the local store in a folder.
    folder : Path
        Where copies are kept.
    cache_bytes : int
        What the copies may take.
    """

    def __init__(
        self,
        client: ObjectClient,
        open_local: Callable[[Path], ArtifactStore],
        folder: Path,
        *,
        cache_bytes: int = 4 * 2**30,
    ) -> None:
        self._client = client
        self._local = open_local(folder)
        self._staged = StagedFiles(folder, cache_bytes)

    @property
    def url(self) -> str:
        """Where the files are."""
        return self._client.url

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
        ``encrypt``, and return once the store has it.

        Returns
        -------
        ArtifactStored or None
            None if the value is volatile: it cannot be stored and read back equal, or it is too
            large.

        Raises
        ------
        StorageError
            If this disk or the store refuses; nothing is visible there then.
        """
        artifact = self._local.save(run_id, instance, attempt, name, value, encrypt=encrypt)
        if artifact is None:
            return None
        path = self._path_of(artifact)
        try:
            self._client.put_file(artifact.path, path)
        except FileNotFoundError as error:
            raise StorageError(
                f"the file {path} was removed while it was stored in {self.url}",
                hint="leave the folder of copies alone while runs go on",
            ) from error
        except BaseException:
            self._staged.discard(path)
            raise
        self._staged.note(path)
        return artifact

    def load(self, artifact: ArtifactStored) -> object:
        """Read a value back, tables memory-mapped from a local copy whose digest was checked.

        Raises
        ------
        StorageError
            If it is missing, damaged, or a pickle without a valid HMAC: the output counts as
            absent. Also if the store does not answer.
        """
        path = self._path_of(artifact)
        if path.exists():
            try:
                value = self._local.load(artifact)
            except StorageError as error:  # a damaged copy is worth one more look at the original
                _log.info("the copy of %s is fetched again: %s", artifact.path, error)
                self._staged.discard(path)
            else:
                self._staged.touch(path)
                return value
        self._fetch(artifact, path)
        return self._local.load(artifact)

    def remove_run(self, run_id: str) -> None:
        """Delete all objects of a run, and their copies.

        Raises
        ------
        StorageError
            If the store does not answer; what is left there belongs to no run.
        """
        self._local.remove_run(run_id)
        self._client.delete([found.path for found in self._client.objects(f"{_FOLDER}/{run_id}/")])

    def stored(self) -> Iterator[StoredFile]:
        """Iterate over everything stored, whichever run it belongs to."""
        return self._client.objects(f"{_FOLDER}/")

    def copy_to(self, path: str, target: Path, *, may_link: bool) -> None:
        """Download an object.

        Raises
        ------
        FileNotFoundError
            If it is missing.
        StorageError
            If it cannot be read or written.
        """
        del may_link
        key = _checked_key(path)
        size = self._client.size_of(key)
        try:
            self._staged.write(target, self._client.parts(key, size))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(
                f"could not copy {path} to {target}: {error.strerror or error}",
                hint="free some space or choose another target",
            ) from error

    def inspect(self, artifact: ArtifactStored, *, with_content: bool = True) -> str:
        """Compare an object with its record.

        Parameters
        ----------
        artifact : ArtifactStored
            The record.
        with_content : bool
            Whether to read it all and compare its digest, or its size only.

        Returns
        -------
        str
            What is wrong; empty if nothing is.
        """
        from hashlib import blake2b

        from flowbuilder.store.artifact_files import DIGEST_BYTES

        key = _checked_key(artifact.path)
        try:
            size = self._client.size_of(key)
            if size != artifact.size_bytes:
                return f"it has {size} bytes instead of {artifact.size_bytes}"
            if with_content:
                found = blake2b(digest_size=DIGEST_BYTES)
                for part in self._client.parts(key, size):
                    found.update(part)
                if found.hexdigest() != artifact.digest:
                    return "its content does not match its digest"
        except FileNotFoundError:
            return "it is missing"
        return ""

    def _fetch(self, artifact: ArtifactStored, path: Path) -> None:
        key = _checked_key(artifact.path)
        try:
            size = self._client.size_of(key)
            if size != artifact.size_bytes:
                raise StorageError(
                    f"the stored output {artifact.path} in {self.url} is damaged: expected"
                    f" {artifact.size_bytes} bytes, found {size}",
                    hint="run it again",
                )
            self._staged.write(path, self._client.parts(key, size))
        except FileNotFoundError:
            raise StorageError(
                f"the stored output {artifact.path} is missing in {self.url}", hint="run it again"
            ) from None
        except OSError as error:
            raise StorageError(
                f"could not keep a copy of {artifact.path} in {path.parent}:"
                f" {error.strerror or error}",
                hint="free some space or choose another place with --data-dir",
            ) from error

    def _path_of(self, artifact: ArtifactStored) -> Path:
        return self._staged.folder / _checked_key(artifact.path)


def _checked_key(path: str) -> str:
    # The path comes from a journal somebody may have edited: it must stay below our prefix, there
    # and in the folder of copies.
    parts = path.split("/")
    is_plain = all(part not in {"", ".", ".."} for part in parts) and not set("\\:\0") & set(path)
    if len(parts) < 3 or parts[0] != _FOLDER or not is_plain:
        raise StorageError(f"the stored output {path!r} lies outside the store")
    return str(PurePosixPath(path))
