"""Opening the place of outputs: the store directory, another folder, or an object store."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flowbuilder.errors import ConfigurationError
from flowbuilder.store.local_artifacts import LocalArtifactStore
from flowbuilder.store.ports import ArtifactStore

__all__ = ["OBJECT_SCHEMES", "open_artifacts"]

OBJECT_SCHEMES: Final = frozenset({"s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss"})
_COPIES_FOLDER: Final = "copies"


def open_artifacts(
    url: str,
    data_dir: Path,
    *,
    max_bytes: int = 4 * 2**30,
    max_store_bytes: int | None = None,
    cache_bytes: int = 4 * 2**30,
) -> ArtifactStore:
    """Open the artifact store a setting names.

    Parameters
    ----------
    url : str
        ``file:///folder`` or an object store such as ``s3://bucket/prefix``; empty for the store
        directory itself.
    data_dir : Path
        The store directory; of an object store, it holds local copies.
    max_bytes : int
        Largest single output.
    max_store_bytes : int or None
        Size from which on new outputs are volatile. An object store is not counted: its owner
        limits it.
    cache_bytes : int
        What the local copies of an object store may take.

    Raises
    ------
    ConfigurationError
        If the URL names no such store.
    StorageError
        If it cannot be opened.
    """
    if not url:
        return LocalArtifactStore(data_dir, max_bytes=max_bytes, max_store_bytes=max_store_bytes)
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(url)
    if parts.scheme == "file":
        # A folder needs no object store's interface: the local store syncs it and maps its files.
        if parts.netloc not in {"", "localhost"} or not parts.path:
            raise ConfigurationError(
                f"expected a folder such as file:///srv/outputs, found {url!r} for 'artifacts'"
            )
        folder = Path(unquote(parts.path))
        return LocalArtifactStore(folder, max_bytes=max_bytes, max_store_bytes=max_store_bytes)
    if parts.scheme not in OBJECT_SCHEMES:
        raise ConfigurationError(
            f"expected file://, s3://, gs:// or az:// for 'artifacts', found {parts.scheme!r}"
        )
    from flowbuilder.store.object_artifacts import ObjectArtifactStore
    from flowbuilder.store.object_client import ObjectClient

    return ObjectArtifactStore(
        ObjectClient(url),
        lambda folder: LocalArtifactStore(folder, max_bytes=max_bytes),
        data_dir / _COPIES_FOLDER,
        cache_bytes=cache_bytes,
    )
