"""Keys in the user's folder: made once, complete before they have their name, readable by nobody
else. No cloned or unzipped project carries them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from flowbuilder.config import flowbuilder_home, prepare_home
from flowbuilder.errors import StorageError

__all__ = ["KEY_BYTES", "user_key"]

KEY_BYTES: Final = 32
_HEX_CHARS: Final = 2 * KEY_BYTES


def user_key(name: str, purpose: str, *, create: bool) -> bytes:
    """Read one of the user's keys.

    Parameters
    ----------
    name : str
        File name in the user folder.
    purpose : str
        What the key is called in messages: ``signing key``.
    create : bool
        Whether to make one if there is none.

    Raises
    ------
    StorageError
        If there is none and none was made, or others can read or replace it.
    ConfigurationError
        If the user folder cannot be created.
    """
    path = (prepare_home() if create else flowbuilder_home()) / name
    try:
        return _read_key(path, purpose)
    except FileNotFoundError:
        if not create:
            raise StorageError(f"there is no {purpose} in {path}") from None
    except OSError as error:
        raise StorageError(f"cannot read the {purpose} {path}: {error.strerror}") from error
    try:
        _write_key(path)
        return _read_key(path, purpose)
    except OSError as error:
        raise StorageError(f"cannot write the {purpose} {path}: {error.strerror}") from error


def _read_key(path: Path, purpose: str) -> bytes:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        content = file.read(_HEX_CHARS + 2).strip()
    if os.name == "posix":
        if status.st_mode & 0o077:
            raise StorageError(
                f"the {purpose} {path} is open to other users", hint=f"run: chmod 600 {path}"
            )
        if status.st_uid not in {os.geteuid(), 0}:
            raise StorageError(f"the {purpose} {path} belongs to another user", hint="remove it")
    try:
        key = bytes.fromhex(content.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise StorageError(
            f"the {purpose} {path} is damaged",
            hint="restore it from a backup; without it, outputs that need it are lost",
        )
    return key


def _write_key(path: Path) -> None:
    # Complete before it has its name, and never over another process's key, which may have been
    # used already.
    temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES).hex().encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            if not path.exists():
                temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
