"""The endpoint of one engine: accepts, checks, passes requests to the host, answers.

One daemon thread accepts; each connection has a daemon thread of its own, at most 32. So it works
while the main thread sleeps in a cell, and gets its turns while that computes. Whatever a client
sends, the worst that happens is that its own connection is closed.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import selectors
import socket
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from flowbuilder.endpoint.dispatch import Dispatcher
from flowbuilder.endpoint.frames import (
    MAX_REQUEST_BYTES,
    Answer,
    FrameError,
    decode_request,
    encode,
    receive_frame,
    send_frame,
)
from flowbuilder.endpoint.host import EngineHost
from flowbuilder.endpoint.listener import Listener
from flowbuilder.endpoint.registry import EngineEntry, describe_process, register, unregister
from flowbuilder.errors import EndpointError

__all__ = ["MAX_CONNECTIONS", "EndpointServer"]

MAX_CONNECTIONS = 32
_HELLO_WAIT_S = 10.0
_PATIENCE_S = 10.0
_IDLE_S = 900.0
_ACCEPT_PAUSE_S = 0.2
_log = logging.getLogger(__name__)
_servers: weakref.WeakSet[EndpointServer] = weakref.WeakSet()


class EndpointServer:
    """Lets other processes of this user control and read an engine.

    Parameters
    ----------
    host : EngineHost
        The engine.
    folder : Path
        The runtime folder, see `runtime_folder`.
    info : mapping
        ``engine_id``, and optionally ``project`` and ``data_dir``, all text.
    is_tcp : bool
        Whether to listen on a port although there are Unix sockets.

    Notes
    -----
    Listens and is registered between `start` and `close`; also a context manager. A forked child
    lets go of it by itself.
    """

    def __init__(
        self, host: EngineHost, *, folder: Path, info: Mapping[str, str], is_tcp: bool = False
    ) -> None:
        self._dispatcher = Dispatcher(host, info["engine_id"])
        self._folder = folder
        self._is_tcp = is_tcp
        self._pid = os.getpid()
        self._entry = describe_process(
            info["engine_id"], project=info.get("project", ""), data_dir=info.get("data_dir", "")
        )
        self._lock = threading.Lock()
        self._listener: Listener | None = None
        self._stop: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._connections: set[socket.socket] = set()

    @property
    def entry(self) -> EngineEntry:
        """How others find it; says where it listens once it does."""
        return self._entry

    def start(self) -> EngineEntry:
        """Listen and register.

        Returns
        -------
        EngineEntry
            As registered.

        Raises
        ------
        EndpointError
            If there is no private folder or no socket to be had.
        """
        with self._lock:
            if self._listener is not None:
                return self._entry
            listener = self._listener = self._listen()
            wake, self._stop = socket.socketpair()
            self._thread = threading.Thread(
                target=self._accept, args=(listener, wake), name="endpoint", daemon=True
            )
            self._thread.start()
            _servers.add(self)
            return self._entry

    def close(self) -> None:
        """Remove the registration, stop listening, and cut all connections."""
        if self._pid != os.getpid():
            return
        with self._lock:
            listener, self._listener = self._listener, None
            connections = tuple(self._connections)
        if listener is None:
            return
        unregister(self._entry, self._folder)
        if self._stop is not None:
            self._stop.close()
        for connection in connections:
            # Wakes its thread, which closes it.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _listen(self) -> Listener:
        listener = None
        try:
            listener = Listener(self._folder, self._entry, is_tcp=self._is_tcp)
            register(listener.entry, self._folder)
        except (OSError, EndpointError) as error:
            if listener is not None:
                listener.close()
                unregister(listener.entry, self._folder)
            if isinstance(error, EndpointError):
                raise
            raise EndpointError(
                f"expected to listen in {str(self._folder)!r}, found {error}",
                hint="set FLOWBUILDER_RUNTIME_DIR to a folder of your own",
            ) from error
        self._entry = listener.entry
        return listener

    def abandon(self) -> None:
        """Close the descriptors in a forked child, whose copies would keep the socket answering."""
        if self._listener is not None:
            self._listener.close()
        for connection in self._connections:
            connection.close()

    def _accept(self, listener: Listener, wake: socket.socket) -> None:
        pause = threading.Event()
        with selectors.DefaultSelector() as selector, wake:
            selector.register(listener.socket, selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            while all(key.fileobj is not wake for key, _ in selector.select()):
                try:
                    connection, _ = listener.socket.accept()
                    listener.prepare(connection)
                except BlockingIOError:
                    continue
                except OSError:
                    # Out of descriptors, most likely: let others finish.
                    pause.wait(_ACCEPT_PAUSE_S)
                    continue
                self._receive(listener, connection)
        listener.close()

    def _receive(self, listener: Listener, connection: socket.socket) -> None:
        """Give a connection its thread, if it may have one."""
        answer = self._admit(listener, connection)
        if answer is not None:
            _refuse(connection, answer)
            return
        thread = threading.Thread(
            target=self._serve,
            args=(listener.token, connection),
            name="endpoint-client",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            self._drop(connection)

    def _admit(self, listener: Listener, connection: socket.socket) -> Answer | None:
        """Count a connection in; the reason if it may not stay."""
        if not listener.admits(connection):
            return Answer(error="expected a client of the same user", code="refused")
        with self._lock:
            if self._listener is None:
                return Answer(error="the engine is shutting down", code="busy")
            if len(self._connections) >= MAX_CONNECTIONS:
                text = f"expected at most {MAX_CONNECTIONS} clients at a time; try again later"
                return Answer(error=text, code="busy")
            self._connections.add(connection)
        return None

    def _serve(self, token: str, connection: socket.socket) -> None:
        try:
            if self._greet(token, connection):
                while self._answer_next(connection):
                    pass
        except (OSError, FrameError) as error:
            _log.debug("a client was cut off: %s", error)
        except Exception:
            _log.exception("a client's connection failed")
        finally:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.discard(connection)
        connection.close()

    def _greet(self, token: str, connection: socket.socket) -> bool:
        """Agree on version and token; False if the client may not stay."""
        try:
            data = receive_frame(
                connection, MAX_REQUEST_BYTES, patience_s=_PATIENCE_S, idle_s=_HELLO_WAIT_S
            )
            if data is None:
                return False
            request = decode_request(data)
            answer = self._dispatcher.greet(request, token)
        except FrameError as error:
            _refuse(connection, Answer(error=str(error), code="malformed"))
            return False
        send_frame(connection, encode(answer))
        return not answer.error

    def _answer_next(self, connection: socket.socket) -> bool:
        try:
            data = receive_frame(
                connection, MAX_REQUEST_BYTES, patience_s=_PATIENCE_S, idle_s=_IDLE_S
            )
        except FrameError as error:
            _refuse(connection, Answer(error=str(error), code="malformed"))
            return False
        if data is None:
            return False
        try:
            answer, binary = self._dispatcher.answer(decode_request(data))
        except FrameError as error:
            answer, binary = Answer(error=str(error), code="malformed"), b""
        connection.settimeout(_PATIENCE_S)
        send_frame(connection, encode(answer))
        if answer.is_binary:
            send_frame(connection, binary)
        return True


def _refuse(connection: socket.socket, answer: Answer) -> None:
    """Say why, without waiting, and hang up."""
    with contextlib.suppress(OSError):
        connection.settimeout(1.0)
        send_frame(connection, encode(answer))
    connection.close()


def _close_all() -> None:
    for server in list(_servers):
        server.close()


def _abandon_all() -> None:
    for server in list(_servers):
        server.abandon()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
