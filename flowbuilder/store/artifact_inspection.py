"""Looking at stored outputs as files, whatever they hold and wherever they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flowbuilder.errors import StorageError
from flowbuilder.records import ArtifactStored
from flowbuilder.store.artifact_files import digest_of
from flowbuilder.store.cold_files import find_packed, packed_problem, unpacked_name
from flowbuilder.store.janitor import PARTIAL_FOLDER
from flowbuilder.store.local_artifacts import LocalArtifactStore
from flowbuilder.store.object_artifacts import ObjectArtifactStore
from flowbuilder.store.ports import ArtifactInspector, ArtifactStore, StoredFile

__all__ = ["inspector_of", "is_inside"]


def inspector_of(store: ArtifactStore) -> ArtifactInspector:
    """Give what sees the files of an artifact store.

    Raises
    ------
    StorageError
        If nothing here knows how.
    """
    if isinstance(store, ObjectArtifactStore):
        return store
    if isinstance(store, LocalArtifactStore):
        return _LocalInspector(store.data_dir)
    raise StorageError(f"a {type(store).__name__} cannot be inspected")


def is_inside(path: str) -> bool:
    """Tell whether a path is one an artifact store gives, and leads nowhere else."""
    parts = path.split("/")
    is_plain = all(part not in {"", ".", ".."} for part in parts) and not set("\\:\0") & set(path)
    return is_plain and len(parts) > 2 and parts[0] == "artifacts"


class _LocalInspector:
    """Sees the files of a store directory."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def inspect(self, artifact: ArtifactStored, *, with_content: bool = True) -> str:
        if not is_inside(artifact.path):
            return "it lies outside the store"
        path = self._data_dir / artifact.path
        try:
            size = path.stat().st_size
            if size != artifact.size_bytes:
                return f"it has {size} bytes instead of {artifact.size_bytes}"
            if with_content and digest_of(path) != artifact.digest:
                return "its content does not match its digest"
        except FileNotFoundError:
            packed = find_packed(path)
            if packed is None:
                return "it is missing"
            return packed_problem(packed, artifact.digest, with_content=with_content)
        except OSError as error:
            return f"it cannot be read: {error.strerror or error}"
        return ""

    def stored(self) -> Iterator[StoredFile]:
        for folder, folders, names in os.walk(self._data_dir / "artifacts"):
            if PARTIAL_FOLDER in folders:
                folders.remove(PARTIAL_FOLDER)
            for name in names:
                path = Path(folder, name)
                with suppress(OSError):
                    status = path.stat()
                    known = path.with_name(unpacked_name(name))
                    place = known.relative_to(self._data_dir).as_posix()
                    yield StoredFile(place, status.st_size, status.st_mtime)

    def copy_to(self, path: str, target: Path, *, may_link: bool) -> None:
        source = self._data_dir / path
        if not source.exists() and (packed := find_packed(source)) is not None:
            source, target = packed, target.with_name(packed.name)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            if may_link:
                try:
                    # The files are immutable: a new one takes the name, the old one stays linked.
                    target.hardlink_to(source)
                except OSError as error:
                    if isinstance(error, FileNotFoundError):
                        raise
                else:
                    return
            with source.open("rb") as reader, target.open("xb") as writer:
                target.chmod(0o600)
                shutil.copyfileobj(reader, writer, 2**20)
                writer.flush()
                os.fsync(writer.fileno())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(
                f"could not copy {path} to {target}: {error.strerror or error}",
                hint="free some space or choose another target",
            ) from error
