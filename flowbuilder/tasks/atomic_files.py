"""Files and folders that appear whole or not at all: written aside, made durable, renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from flowbuilder.errors import FlowBuilderError

__all__ = ["replacing_file", "replacing_folder"]


@contextlib.contextmanager
def replacing_file(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Lend a temporary path that becomes ``target`` when the block ends well.

    Parameters
    ----------
    target : Path
        Where the file shall be; folders above it are made.
    overwrite : bool
        Whether a file already there is replaced.

    Yields
    ------
    Path
        Write here; gone if the block raises.

    Raises
    ------
    FlowBuilderError
        If ``target`` is a folder, or exists and must not be replaced.
    """
    _refuse_existing(target, overwrite=overwrite)
    if target.is_dir():
        raise FlowBuilderError(f"expected the path of a file, found a folder: {target.name!r}")
    temporary = _beside(target)
    try:
        yield temporary
        _sync(temporary)
        if overwrite:
            temporary.replace(target)
        else:
            _place_new(temporary, target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(target: Path, *, overwrite: bool, suffix: str) -> Iterator[Path]:
    """Lend a temporary folder that becomes ``target`` when the block ends well.

    Parameters
    ----------
    target : Path
        Where the folder shall be.
    overwrite : bool
        Whether a folder already there is replaced.
    suffix : str
        Only a folder in which every file has this suffix is replaced, so that a wrong path destroys
        nothing.

    Yields
    ------
    Path
        An empty folder to write in; gone if the block raises.

    Raises
    ------
    FlowBuilderError
        If ``target`` is a file, holds other files, or must not be replaced.

    Notes
    -----
    No system renames over a full folder, so for an instant (two renames) there is none.
    """
    _refuse_existing(target, overwrite=overwrite)
    if target.exists():
        _refuse_foreign(target, suffix)
    temporary, old = _beside(target), _beside(target)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        if target.exists():
            target.rename(old)
        temporary.rename(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _refuse_existing(target: Path, *, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(target):
        raise FlowBuilderError(
            f"{target.name!r} already exists",
            hint="use `mode: overwrite`, or another path",
        )


def _refuse_foreign(target: Path, suffix: str) -> None:
    if not target.is_dir():
        raise FlowBuilderError(f"expected a folder at {target.name!r}, found a file")
    for file in target.rglob("*"):
        if file.is_symlink() or (file.is_file() and file.suffix != suffix):
            raise FlowBuilderError(
                f"folder {target.name!r} holds other files ({file.name!r}) and is not replaced",
                hint="choose a folder of its own for the result",
            )


def _beside(target: Path) -> Path:
    """Name a place on the same file system, so that renaming is atomic."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp")


def _place_new(temporary: Path, target: Path) -> None:
    try:
        target.hardlink_to(temporary)  # fails if somebody made the file meanwhile; rename would not
    except FileExistsError:
        _refuse_existing(target, overwrite=False)
    except OSError:
        temporary.replace(target)


def _sync(path: Path) -> None:
    """Make content or folder entries durable; only a folder may refuse, as some systems do."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)
