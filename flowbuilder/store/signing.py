"""The key that tells our pickles from anybody else's: no cloned or unzipped project carries it."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path
from typing import Final

from flowbuilder.config import flowbuilder_home, prepare_home
from flowbuilder.errors import StorageError

__all__ = ["MAC_BYTES", "new_mac", "signing_key"]

KEY_NAME: Final = "signing.key"
MAC_BYTES: Final = 32
_KEY_BYTES: Final = 32
_HEX_CHARS: Final = 2 * _KEY_BYTES


def signing_key(*, create: bool) -> bytes:
    """Read the user's key.

    Parameters
    ----------
    create : bool
        Whether to make one if there is none.

    Raises
    ------
    StorageError
        If there is none and none was made, or others can read or replace it.
    ConfigurationError
        If the user folder cannot be created.
    """
    path = (prepare_home() if create else flowbuilder_home()) / KEY_NAME
    try:
        return _read_key(path)
    except FileNotFoundError:
        if not create:
            raise StorageError(f"there is no signing key in {path}") from None
    except OSError as error:
        raise StorageError(f"cannot read the signing key {path}: {error.strerror}") from error
    try:
        _write_key(path)
        return _read_key(path)
    except OSError as error:
        raise StorageError(f"cannot write the signing key {path}: {error.strerror}") from error


def new_mac(key: bytes) -> hmac.HMAC:
    """Begin an HMAC-SHA256."""
    return hmac.new(key, digestmod=hashlib.sha256)


def _read_key(path: Path) -> bytes:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        content = file.read(_HEX_CHARS + 2).strip()
    if os.name == "posix":
        if status.st_mode & 0o077:
            raise StorageError(
                f"the signing key {path} is open to other users", hint=f"run: chmod 600 {path}"
            )
        if status.st_uid not in {os.geteuid(), 0}:
            raise StorageError(f"the signing key {path} belongs to another user", hint="remove it")
    try:
        key = bytes.fromhex(content.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise StorageError(
            f"the signing key {path} is damaged", hint="remove it: outputs signed with it are lost"
        )
    return key


def _write_key(path: Path) -> None:
    # Complete before it has its name, and never over another process's key, which may have signed
    # something already.
    temporary = path.with_name(f"{KEY_NAME}.{os.urandom(8).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(_KEY_BYTES).hex().encode())
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
