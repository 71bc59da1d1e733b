"""Speaking to a live engine from another process: the CLI, a server, another kernel."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self, cast

import msgspec

from flowbuilder._version import __version__
from flowbuilder.endpoint.frames import (
    MAX_FRAME_BYTES,
    PROTOCOL,
    Answer,
    FrameError,
    Request,
    encode,
    receive_frame,
    send_frame,
)
from flowbuilder.endpoint.listener import peer_uid
from flowbuilder.endpoint.registry import EngineEntry, find_owner
from flowbuilder.errors import EndpointError

__all__ = ["EndpointClient", "connect"]

DEFAULT_TIMEOUT_S = 10.0


def connect(
    engine: str | EngineEntry,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    folders: Sequence[Path] | None = None,
) -> EndpointClient:
    """Reach a live engine.

    Parameters
    ----------
    engine : str or EngineEntry
        Its id, or its entry as `find_engines` gave it.
    timeout_s : float
        Time for connecting and for each request, in seconds.
    folders : sequence of Path, optional
        Where to look an id up; by default everywhere this user's engines register.

    Returns
    -------
    EndpointClient
        Connected, versions agreed. Close it, or use it as a context manager.

    Raises
    ------
    EndpointError
        If there is no such engine, it does not answer, or it speaks another version.
    """
    entry = find_owner(None, engine, folders=folders) if isinstance(engine, str) else engine
    if entry is None:
        raise EndpointError(
            f"expected a live engine {engine!r}, found none on this machine",
            hint="its process ended; 'flowbuilder runs list' shows what it left",
        )
    return EndpointClient(entry, timeout_s=timeout_s)


class EndpointClient:
    """A connection to one engine. Thread-safe: one request at a time.

    Parameters
    ----------
    entry : EngineEntry
        Where it listens.
    timeout_s : float
        Time for connecting and for each request, in seconds.

    Raises
    ------
    EndpointError
        If it does not answer or does not accept us. Every method raises it when the engine says no,
        and when the connection breaks or time is up; after the latter two, connect again.
    """

    def __init__(self, entry: EngineEntry, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.entry = entry
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._last_id = 0
        self._connection: socket.socket | None = None
        try:
            self._connection = _open(entry, timeout_s)
            token = Path(entry.token_file).read_text("ascii").strip() if entry.token_file else ""
        except (OSError, ValueError) as error:
            self.close()
            raise self._unreachable(error) from error
        greeting = {"protocol": PROTOCOL, "version": __version__, "token": token}
        try:
            self.info = _as_map(self._ask("hello", greeting))
        except EndpointError:
            self.close()
            raise

    def hello(self) -> dict[str, object]:
        """Ask what the engine is and does now."""
        return _as_map(self._ask("hello", {}))

    def start(self, request: Mapping[str, object]) -> dict[str, object]:
        """Start a run; the answer holds ``run_id``."""
        return _as_map(self._ask("start", {"request": dict(request)}))

    def cancel(self, run: str, task: str | None = None) -> dict[str, object]:
        """Cancel a run, or one task of it by its key."""
        return _as_map(self._ask("cancel", {"run": run, "task": task}))

    def pause(self, run: str) -> dict[str, object]:
        """Let a run start no more tasks."""
        return _as_map(self._ask("pause", {"run": run}))

    def resume(self, run: str) -> dict[str, object]:
        """Let a paused run go on."""
        return _as_map(self._ask("resume", {"run": run}))

    def variables(self) -> list[dict[str, object]]:
        """List what `page` can show."""
        result = self._ask("variables", {})
        if not isinstance(result, list):
            raise EndpointError(f"expected a list of variables, found {type(result).__name__}")
        return [_as_map(item) for item in result]

    def page(self, request: Mapping[str, object]) -> bytes:
        """Get rows of a table as an Arrow IPC stream."""
        result = self._ask("page", {"request": dict(request)})
        if not isinstance(result, bytes):
            raise EndpointError(f"expected a page of bytes, found {type(result).__name__}")
        return result

    def inspect(self, run: str) -> dict[str, object]:
        """Describe a live run."""
        return _as_map(self._ask("inspect", {"run": run}))

    def close(self) -> None:
        """Hang up; nothing if that has happened."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _ask(self, method: str, params: dict[str, object]) -> object:
        with self._lock:
            connection = self._connection
            if connection is None:
                raise EndpointError(
                    f"expected a connection to engine {self.entry.engine_id!r}, found it closed",
                    hint="connect again",
                )
            try:
                answer, binary = self._exchange(connection, method, params)
            except (OSError, FrameError, msgspec.MsgspecError) as error:
                # What is under way cannot be told from the answer to the next request.
                self.close()
                raise self._unreachable(error) from error
        if answer.error:
            raise EndpointError(answer.error)
        return binary if answer.is_binary else answer.result

    def _exchange(
        self, connection: socket.socket, method: str, params: dict[str, object]
    ) -> tuple[Answer, bytes]:
        self._last_id += 1
        connection.settimeout(self._timeout_s)
        send_frame(connection, encode(Request(method=method, id=self._last_id, params=params)))
        answer = msgspec.msgpack.decode(self._receive(connection), type=Answer)
        return answer, self._receive(connection) if answer.is_binary else b""

    def _receive(self, connection: socket.socket) -> bytes:
        time_s = self._timeout_s
        data = receive_frame(connection, MAX_FRAME_BYTES, patience_s=time_s, idle_s=time_s)
        if data is None:
            raise FrameError("the engine closed the connection")
        return data

    def _unreachable(self, error: Exception) -> EndpointError:
        what = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        entry = self.entry
        return EndpointError(
            f"expected engine {entry.engine_id!r} (pid {entry.pid} on {entry.host}) to answer"
            f" within {self._timeout_s:g} s, found: {what}",
            hint="its process may have ended; try again, or see 'flowbuilder doctor'",
        )


def _open(entry: EngineEntry, timeout_s: float) -> socket.socket:
    if entry.host != socket.gethostname():
        raise ConnectionError(f"it lives on another machine, {entry.host!r}")
    if not entry.socket:
        connection = socket.create_connection(("127.0.0.1", entry.port), timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect(entry.socket)
        uid = peer_uid(connection)
        if uid is not None and uid != os.geteuid():
            raise ConnectionError(f"the socket belongs to user {uid}")  # noqa: TRY301
    except BaseException:
        connection.close()
        raise
    return connection


def _as_map(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise EndpointError(f"expected an answer with names, found {type(value).__name__}")
    return cast("dict[str, object]", value)
