"""Encrypted outputs: AES-256-GCM under the user's key, bound to their run, task and attempt.

A sealed file is a header (magic, key id, nonce), the ciphertext, and the tag. The header and the
binding are authenticated with it, so a file that was moved to another name, changed or cut short
does not open. The plaintext is given out only after the tag was checked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

from flowbuilder.errors import ConfigurationError, PluginError, StorageError
from flowbuilder.store.artifact_files import ByteSink
from flowbuilder.store.key_files import KEY_BYTES, user_key

__all__ = ["CIPHER", "encryption_key", "require_sealing", "seal", "unseal"]

CIPHER: Final = "aes-256-gcm"
KEY_NAME: Final = "encryption.key"
KEY_VARIABLE: Final = "FLOWBUILDER_ENCRYPTION_KEY"
_MAGIC: Final = b"flowbuilder sealed 1\n"
_KEY_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEADER_BYTES: Final = len(_MAGIC) + _KEY_ID_BYTES + _NONCE_BYTES
_MAX_BYTES: Final = 2**36 - 64
"""Most that one nonce may encrypt."""


def require_sealing() -> None:
    """Make sure that outputs can be encrypted: the library is there, and a key, made if need be.

    Raises
    ------
    PluginError
        If ``cryptography`` is not installed.
    StorageError, ConfigurationError
        If the key cannot be used.
    """
    _ciphers()
    encryption_key(create=True)


def encryption_key(*, create: bool) -> bytes:
    """Give the key: ``FLOWBUILDER_ENCRYPTION_KEY`` (64 hexadecimal digits), else the user's file.

    Parameters
    ----------
    create : bool
        Whether to make the file if there is neither.

    Raises
    ------
    ConfigurationError
        If the variable holds something else, or the user folder cannot be made.
    StorageError
        If there is no key, or others can read the file.
    """
    given = os.environ.get(KEY_VARIABLE, "").strip()
    if not given:
        return user_key(KEY_NAME, "encryption key", create=create)
    try:
        key = bytes.fromhex(given)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigurationError(
            f"expected {2 * KEY_BYTES} hexadecimal digits in {KEY_VARIABLE},"
            f" found {len(given)} characters that are not a key",
            hint="make one: python -c 'import secrets; print(secrets.token_hex(32))'",
        )
    return key


class _SealingSink(ByteSink):
    """Encrypts what it is given on its way to another sink."""

    def __init__(self, sink: ByteSink, key: bytes, binding: bytes) -> None:
        super().__init__()
        algorithms, modes, cipher = _ciphers()
        nonce = os.urandom(_NONCE_BYTES)
        header = _MAGIC + _key_id(key) + nonce
        self._sink = sink
        self._encryptor = cipher(algorithms.AES(key), modes.GCM(nonce)).encryptor()
        self._encryptor.authenticate_additional_data(header + binding)
        sink.write(header)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data).cast("B")
        self.size_bytes += view.nbytes
        if self.size_bytes > _MAX_BYTES:
            raise StorageError(f"expected at most {_MAX_BYTES:,} bytes to encrypt, found more")
        self._sink.write(self._encryptor.update(view))
        return view.nbytes

    def finish(self) -> None:
        self._sink.write(self._encryptor.finalize())
        self._sink.write(self._encryptor.tag)


def seal(sink: ByteSink, key: bytes, binding: bytes, fill: Callable[[ByteSink], None]) -> None:
    """Write encrypted what ``fill`` writes; ``binding`` must be given again to open it."""
    sealing = _SealingSink(sink, key, binding)
    fill(sealing)
    sealing.finish()


def unseal(content: bytes | memoryview, key: bytes, binding: bytes, name: str) -> memoryview:
    """Decrypt a sealed file.

    Parameters
    ----------
    content : bytes
        The file.
    key : bytes
        The key.
    binding : bytes
        What `seal` was given.
    name : str
        What messages call it.

    Raises
    ------
    StorageError
        If it is not a sealed file, was sealed with another key, or was changed or moved.
    """
    from cryptography.exceptions import InvalidTag

    view = memoryview(content)
    if view.nbytes < _HEADER_BYTES + _TAG_BYTES or bytes(view[: len(_MAGIC)]) != _MAGIC:
        raise StorageError(f"the encrypted output {name} is damaged", hint="run it again")
    header, body = bytes(view[:_HEADER_BYTES]), view[_HEADER_BYTES:-_TAG_BYTES]
    found = header[len(_MAGIC) : len(_MAGIC) + _KEY_ID_BYTES]
    if found != _key_id(key):
        raise StorageError(
            f"the output {name} was encrypted with key {found.hex()},"
            f" but the key here is {_key_id(key).hex()}",
            hint=f"set {KEY_VARIABLE} to the key it was made with, or restore {KEY_NAME}",
        )
    algorithms, modes, cipher = _ciphers()
    mode = modes.GCM(header[-_NONCE_BYTES:], bytes(view[-_TAG_BYTES:]))
    decryptor = cipher(algorithms.AES(key), mode).decryptor()
    decryptor.authenticate_additional_data(header + binding)
    plain = bytearray(body.nbytes + 15)
    try:
        count = decryptor.update_into(body, plain)
        decryptor.finalize()
    except InvalidTag:
        raise StorageError(
            f"the encrypted output {name} was changed, or belongs to another task",
            hint="run it again",
        ) from None
    return memoryview(plain)[:count].toreadonly()


def _key_id(key: bytes) -> bytes:
    """Name a key without telling it."""
    return blake2b(key, digest_size=_KEY_ID_BYTES, person=b"flowbuilder key").digest()


def _ciphers() -> tuple[Any, Any, Any]:
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ModuleNotFoundError as error:
        raise PluginError(
            "encrypted outputs need cryptography, which is not installed in this environment",
            hint='pip install "flowbuilder[encrypt]"',
        ) from error
    return algorithms, modes, Cipher
