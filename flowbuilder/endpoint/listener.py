"""The socket an endpoint listens on, and who may speak on it.

A Unix socket in a private folder where there are any: the kernel says who connects. Elsewhere a
port on the loopback interface, where a client has to know a token that is in a private file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import struct
import sys
from pathlib import Path

import msgspec

from flowbuilder.endpoint.registry import EngineEntry, write_private
from flowbuilder.endpoint.runtime_folder import private_folder

__all__ = ["Listener", "peer_uid"]

# The shortest limit of the systems we know is 104 bytes with the final zero.
_MAX_SOCKET_PATH_BYTES = 100
_BACKLOG = 64


class Listener:
    """A listening socket that belongs to one engine.

    Parameters
    ----------
    folder : Path
        The runtime folder; made private.
    entry : EngineEntry
        The engine; `entry` of the listener says in addition where it listens.
    is_tcp : bool
        Whether to listen on a port although there are Unix sockets.

    Raises
    ------
    OSError
        If the system gives no socket.
    """

    def __init__(self, folder: Path, entry: EngineEntry, *, is_tcp: bool) -> None:
        private_folder(folder)
        # A hash, because the path of a socket is short.
        name = hashlib.blake2b(entry.engine_id.encode(), digest_size=6).hexdigest()
        path = folder / f"{name}.sock"
        self.token = ""
        if is_tcp or not hasattr(socket, "AF_UNIX") or _is_too_long(path):
            self.token = secrets.token_hex(32)
            token_file = folder / f"{name}.token"
            write_private(token_file, self.token.encode())
            self.socket = _listen_on_port()
            port = self.socket.getsockname()[1]
            self.entry = msgspec.structs.replace(entry, port=port, token_file=str(token_file))
        else:
            self.socket = _listen_at(path)
            self.entry = msgspec.structs.replace(entry, socket=str(path))
        self.socket.setblocking(False)

    def admits(self, connection: socket.socket) -> bool:
        """Say whether the user at the other end is ours; a port relies on its token instead."""
        if self.token:
            return True
        uid = peer_uid(connection)
        return uid is None or uid == os.geteuid()

    def prepare(self, connection: socket.socket) -> None:
        """Let small answers leave at once."""
        if self.token:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError):
            self.socket.close()


def peer_uid(connection: socket.socket) -> int | None:
    """Ask the kernel which user is at the other end of a Unix socket.

    Returns
    -------
    int or None
        None if this system does not say; then the folder's permissions are the only guard.
    """
    try:
        if hasattr(socket, "SO_PEERCRED"):
            data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return int(struct.unpack("3i", data)[1])
        if sys.platform == "darwin" or "bsd" in sys.platform:
            # LOCAL_PEERCRED of SOL_LOCAL: a struct xucred, which begins with version and user.
            data = connection.getsockopt(0, 1, 76)
            return int(struct.unpack_from("II", data)[1])
    except (OSError, struct.error):
        return None
    return None


def _is_too_long(path: Path) -> bool:
    return len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES


def _listen_at(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Left by a dead process with our engine's id; a live one cannot have it.
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _listen_on_port() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Windows lets another program take over a port that is in use, unless told not to.
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
