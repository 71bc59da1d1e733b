"""Frames and messages of the endpoint: a big-endian length of four bytes, then a msgpack map.

An answer that announces ``is_binary`` is followed by a second frame of raw bytes.
"""

from __future__ import annotations

import socket
import struct

import msgspec

__all__ = [
    "MAX_REQUEST_BYTES",
    "PROTOCOL",
    "Answer",
    "FrameError",
    "Request",
    "decode_request",
    "encode",
    "receive_frame",
    "send_frame",
]

PROTOCOL = 1
"""Version of messages and methods; both sides must have the same."""
MAX_REQUEST_BYTES = 16 * 1024 * 1024
MAX_FRAME_BYTES = 0xFFFF_FFFF
_LENGTH = struct.Struct(">I")
_CHUNK_BYTES = 1024 * 1024


class FrameError(Exception):
    """What arrived is not a frame or not a message of this protocol."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks.

    Parameters
    ----------
    method : str
        A method of `EngineHost`; ``hello`` first.
    id : int
        Comes back with the answer.
    params : dict
        Arguments by name.
    """

    method: str
    id: int = 0
    params: dict[str, object] = {}


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the engine answers.

    Parameters
    ----------
    id : int
        Of the request; 0 if it could not be read.
    result : object
        What the method returned.
    error : str
        Why there is no result; empty if there is one.
    code : str
        Kind of error: ``refused``, ``version``, ``busy``, ``malformed``, ``unknown-method``,
        ``failed`` (the engine said no) or ``internal``.
    is_binary : bool
        Whether the result is the next frame.
    """

    id: int = 0
    result: object = None
    error: str = ""
    code: str = ""
    is_binary: bool = False


_decoder = msgspec.msgpack.Decoder(Request)


def decode_request(data: bytes) -> Request:
    """Read a request.

    Raises
    ------
    FrameError
        If it is not one, says why.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise FrameError(f"expected a msgpack map with a method, found {error}") from error


def encode(message: object) -> bytes:
    """Write a message, or a value of one, as msgpack.

    Raises
    ------
    TypeError, ValueError
        If msgpack knows no such value.
    """
    return msgspec.msgpack.encode(message)


def send_frame(connection: socket.socket, data: bytes | memoryview) -> None:
    """Send one frame.

    Raises
    ------
    OSError
        If the other side is gone, or slower than the socket's timeout.
    """
    head = _LENGTH.pack(len(data))
    if len(data) < _CHUNK_BYTES:
        connection.sendall(head + bytes(data))
    else:
        connection.sendall(head)
        connection.sendall(data)


def receive_frame(
    connection: socket.socket, limit: int, *, patience_s: float, idle_s: float
) -> bytes | None:
    """Wait for one frame.

    Parameters
    ----------
    connection : socket
        A connected stream.
    limit : int
        Most bytes accepted.
    patience_s : float
        Time for each part of a frame that has begun.
    idle_s : float
        Time until a frame begins.

    Returns
    -------
    bytes or None
        None if the other side closed between frames.

    Raises
    ------
    FrameError
        If the frame is larger than ``limit`` or breaks off.
    OSError
        If the connection broke or time is up.
    """
    connection.settimeout(idle_s)
    first = connection.recv(1)
    if not first:
        return None
    connection.settimeout(patience_s)
    (length,) = _LENGTH.unpack(first + _receive_exactly(connection, _LENGTH.size - 1))
    if length > limit:
        raise FrameError(f"expected a frame of at most {limit:,} bytes, found {length:,}")
    return bytes(_receive_exactly(connection, length))


def _receive_exactly(connection: socket.socket, size: int) -> bytearray:
    # Grows with what arrives: a length alone must not make anyone allocate.
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(size - len(data), _CHUNK_BYTES))
        if not part:
            raise FrameError(f"expected {size:,} bytes, found the end after {len(data):,}")
        data += part
    return data
