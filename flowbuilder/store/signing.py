"""The key that tells our pickles from anybody else's: no cloned or unzipped project carries it."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from flowbuilder.store.key_files import user_key

__all__ = ["MAC_BYTES", "new_mac", "signing_key"]

KEY_NAME: Final = "signing.key"
MAC_BYTES: Final = 32


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
    return user_key(KEY_NAME, "signing key", create=create)


def new_mac(key: bytes) -> hmac.HMAC:
    """Begin an HMAC-SHA256."""
    return hmac.new(key, digestmod=hashlib.sha256)
