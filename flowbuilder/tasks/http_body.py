"""Reads a response's body with a limit on what it decodes to: no small body becomes a large one."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from flowbuilder.errors import TaskFailedError

__all__ = ["ACCEPTED_ENCODINGS", "read_body"]

ACCEPTED_ENCODINGS = "gzip, deflate"
"""What requests ask for: the encodings `read_body` decodes within bounds."""

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_DEFLATE = -15


async def read_body(chunks: AsyncIterator[bytes], encoding: str, max_bytes: int) -> bytes:
    """Read and decode.

    Parameters
    ----------
    chunks : async iterator of bytes
        The body as it comes over the wire.
    encoding : str
        The Content-Encoding header, or empty.
    max_bytes : int
        Largest decoded size.

    Returns
    -------
    bytes
        The decoded body.

    Raises
    ------
    TaskFailedError
        If it is larger, damaged, or encoded in another way than was asked for.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return await _read_plain(chunks, max_bytes)
    if encoding not in _WINDOW_BITS:
        raise TaskFailedError(
            f"expected a body encoded as {ACCEPTED_ENCODINGS}, found {encoding[:40]!r}"
        )
    return await _read_compressed(chunks, encoding, max_bytes)


async def _read_plain(chunks: AsyncIterator[bytes], max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


async def _read_compressed(chunks: AsyncIterator[bytes], encoding: str, max_bytes: int) -> bytes:
    body = bytearray()
    decoder = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        async for chunk in chunks:
            if not body and encoding == "deflate" and not _is_zlib(chunk):
                decoder = zlib.decompressobj(_RAW_DEFLATE)
            pending = chunk
            while pending:
                body += decoder.decompress(pending, max_bytes + 1 - len(body))
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
                if decoder.eof and decoder.unused_data and encoding != "deflate":
                    pending = decoder.unused_data  # the next member of a multi-member file
                    decoder = zlib.decompressobj(_WINDOW_BITS[encoding])
                else:
                    pending = decoder.unconsumed_tail
    except zlib.error as error:
        raise TaskFailedError(f"the {encoding} body is damaged: {error}") from error
    return bytes(body)


def _is_zlib(chunk: bytes) -> bool:
    return len(chunk) < 2 or (chunk[0] & 0x0F == 8 and (chunk[0] << 8 | chunk[1]) % 31 == 0)


def _too_large(max_bytes: int) -> TaskFailedError:
    return TaskFailedError(
        f"expected a body of at most {max_bytes} bytes, found more",
        hint="raise 'max_bytes', or fetch less",
    )
