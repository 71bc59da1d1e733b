"""One closed month on disk: Parquet files and the manifest that makes them count.

The manifest is the commit point: it names every file with its size and digest, and is replaced in
one step. Files no manifest names are leftovers of a writer that died.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from flowbuilder.errors import StorageError

__all__ = [
    "FORMAT",
    "Manifest",
    "MonthFile",
    "describe_file",
    "manifest_stamp",
    "read_manifest",
    "remove_leftovers",
    "sync_folder",
    "verify",
    "write_manifest",
]

FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"
_BLOCK: Final = 1 << 20


class MonthFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a month."""

    name: str
    size_bytes: int
    digest: str
    """blake2b, 32 bytes, in hex."""
    rows: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a closed month consists of."""

    month: str
    """As in ``2026-05``, UTC: runs that began in it."""
    generation: int
    """Grows each time the month is written anew."""
    record_version: int
    """Version of the record bodies in ``facts``."""
    runs: int
    files: Mapping[str, MonthFile]
    """Table -> file."""
    format: int = FORMAT


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a month's folder; None if it was never closed.

    Raises
    ------
    StorageError
        If it is damaged, or was made by a newer version.
    """
    try:
        content = (folder / _MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"cannot read {folder / _MANIFEST}: {error.strerror}") from error
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, ValueError) as error:
        raise StorageError(
            f"the manifest {folder / _MANIFEST} is damaged: {error}",
            hint="restore the folder from a copy",
        ) from error
    if manifest.format > FORMAT or manifest.month != folder.name:
        raise StorageError(
            f"expected a manifest of month {folder.name!r} in format {FORMAT} or older, found"
            f" {manifest.month!r} in format {manifest.format} in {folder}"
        )
    return manifest


def manifest_stamp(folder: Path) -> object:
    """Give what changes with a month's manifest; None if there is none."""
    try:
        found = (folder / _MANIFEST).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make a set of files count, and delete all others.

    Raises
    ------
    OSError
        If the disk refuses; the month is then as it was.
    """
    path = folder / _MANIFEST
    partial = path.with_name(f"{_MANIFEST}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)  # the files' names, before anything counts on them
    partial.replace(path)
    sync_folder(folder)
    sync_folder(folder.parent)
    remove_leftovers(folder, manifest)


def remove_leftovers(folder: Path, manifest: Manifest | None) -> None:
    """Delete what no manifest names."""
    named = {file.name for file in manifest.files.values()} if manifest is not None else set()
    for path in folder.iterdir():
        if path.name not in named | {_MANIFEST}:
            with suppress(OSError):
                path.unlink()


def describe_file(path: Path, rows: int) -> MonthFile:
    """Bring a file to the disk and describe it by what is there."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return MonthFile(
        name=path.name, size_bytes=path.stat().st_size, digest=_digest(path), rows=rows
    )


def verify(folder: Path, manifest: Manifest) -> None:
    """Make sure that every file is as it was written, about 1 GB/s.

    Raises
    ------
    StorageError
        If one is missing or differs.
    """
    for file in manifest.files.values():
        path = folder / file.name
        try:
            is_whole = path.stat().st_size == file.size_bytes and _digest(path) == file.digest
        except OSError as error:
            raise StorageError(
                f"cannot read {path} of closed month {manifest.month}: {error.strerror}",
                hint="restore it from a copy",
            ) from error
        if not is_whole:
            raise StorageError(
                f"the file {path} of closed month {manifest.month} is damaged",
                hint="restore it from a copy",
            )


def _digest(path: Path) -> str:
    state = blake2b(digest_size=32)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
