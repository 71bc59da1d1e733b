"""What a worker prints, from Python or C, on its way to the task in flight.

Where pipes can be polled, the thread that waits for the answer reads them too, so output needs no
thread and is complete when the answer is delivered. Elsewhere (Windows) two threads read, and a
marker the worker prints after each call tells when everything before it has been seen.
"""

from __future__ import annotations

import codecs
import contextlib
import logging
import os
import select
import threading
from collections.abc import Callable
from typing import Protocol

__all__ = ["OutputTap", "PolledTap", "ThreadedTap"]

_CHUNK_BYTES = 64 * 1024
_MARKER_WAIT_S = 5.0
_POLL_WITHOUT_PIDFD_MS = 250
_STREAMS = ("stdout", "stderr")
_log = logging.getLogger(__name__)

Write = Callable[[str, str], None]


class OutputTap(Protocol):
    """Delivers what a worker prints while somebody waits for its answer."""

    marker: bytes
    """What the worker has to print after a call; empty if nothing."""

    def begin(self, write: Write) -> None:
        """Direct output to ``write``; before the call is sent."""
        ...

    def wait(self) -> bool:
        """Deliver output until an answer can be read (True) or the worker is dead (False)."""
        ...

    def finish(self) -> None:
        """Deliver what was printed before the answer, or before the death."""
        ...

    def close(self) -> None:
        """Let go of the pipes."""
        ...


class PolledTap:
    """One `poll` over the answer, both streams and, on Linux, the death of the process.

    Parameters
    ----------
    reply_fd : int
        Where the answer arrives.
    stream_fds : tuple of (int, int)
        Read ends of the worker's stdout and stderr; made non-blocking.
    pid : int
        Process id of the worker.
    is_alive : callable
        Asks whether the process runs; used where the system cannot signal its death.
    """

    marker = b""

    def __init__(
        self, reply_fd: int, stream_fds: tuple[int, int], pid: int, is_alive: Callable[[], bool]
    ) -> None:
        self._reply_fd = reply_fd
        self._is_alive = is_alive
        self._write: Write = _drop
        self._streams = dict(zip(stream_fds, map(_Stream, _STREAMS), strict=True))
        self._pidfd = _open_pidfd(pid)
        self._poll = select.poll()
        for fd in stream_fds:
            os.set_blocking(fd, False)
        for fd in (reply_fd, *stream_fds, self._pidfd):
            if fd >= 0:
                self._poll.register(fd, select.POLLIN)

    def begin(self, write: Write) -> None:
        """Direct output to ``write``; before the call is sent."""
        self._write = write

    def wait(self) -> bool:
        """Deliver output until an answer can be read (True) or the worker is dead (False)."""
        timeout = None if self._pidfd >= 0 else _POLL_WITHOUT_PIDFD_MS
        while True:
            ready = dict(self._poll.poll(timeout))
            # An answer sent just before the death counts.
            if ready.get(self._reply_fd, 0) & select.POLLIN:
                return True
            for fd in self._streams.keys() & ready.keys():
                self._read(fd)
            dead = self._pidfd in ready or self._reply_fd in ready
            if dead or (not ready and not self._is_alive()):
                return False

    def finish(self) -> None:
        """Deliver what was printed before the answer, or before the death."""
        for fd, stream in self._streams.items():
            while self._read(fd):
                pass
            stream.end(self._write)
        self._write = _drop

    def close(self) -> None:
        """Let go of the pipe that tells of the death."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _read(self, fd: int) -> bool:
        """Deliver one chunk; False if there is none."""
        try:
            data = os.read(fd, _CHUNK_BYTES)
        except OSError:
            return False
        if not data:
            # Closed by the task; it would be reported as ready for ever.
            with contextlib.suppress(KeyError):
                self._poll.unregister(fd)
            return False
        self._streams[fd].deliver(data, self._write)
        return True


class ThreadedTap:
    """A reading thread per stream, for systems whose pipes cannot be polled.

    Parameters
    ----------
    stream_fds : tuple of (int, int)
        Read ends of the worker's stdout and stderr.
    """

    def __init__(self, stream_fds: tuple[int, int]) -> None:
        self.marker = b"\x00" + os.urandom(12).hex().encode() + b"\x00"
        self._condition = threading.Condition()
        self._write: Write = _drop
        self._settled = [False, False]
        for index, fd in enumerate(stream_fds):
            name = f"worker-{_STREAMS[index]}"
            threading.Thread(target=self._pump, args=(index, fd), name=name, daemon=True).start()

    def begin(self, write: Write) -> None:
        """Direct output to ``write``; before the call is sent."""
        with self._condition:
            self._write = write

    def wait(self) -> bool:
        """Return at once: reading the answer itself tells of the worker's death."""
        return True

    def finish(self) -> None:
        """Wait for both markers, or for the ends of both pipes."""
        with self._condition:
            self._condition.wait_for(lambda: all(self._settled), _MARKER_WAIT_S)
            self._settled = [False, False]
            self._write = _drop

    def close(self) -> None:
        """Do nothing: the threads end with the pipes."""

    def _pump(self, index: int, fd: int) -> None:
        stream = _Stream(_STREAMS[index])
        pending = b""
        with contextlib.suppress(OSError):
            while data := os.read(fd, _CHUNK_BYTES):
                pending += data
                *finished, pending = pending.split(self.marker)
                for part in finished:
                    self._emit(index, stream, part, is_end=True)
                # A marker may be cut in two by the read.
                keep = _overlap(pending, self.marker)
                self._emit(index, stream, pending[: len(pending) - keep], is_end=False)
                pending = pending[len(pending) - keep :]
        self._emit(index, stream, pending, is_end=True)

    def _emit(self, index: int, stream: _Stream, data: bytes, *, is_end: bool) -> None:
        with self._condition:
            stream.deliver(data, self._write)
            if is_end:
                stream.end(self._write)
                self._settled[index] = True
                self._condition.notify_all()


class _Stream:
    """Turns bytes of one stream into text, character by character, never failing."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def deliver(self, data: bytes, write: Write) -> None:
        self._pass_on(self._decoder.decode(data), write)

    def end(self, write: Write) -> None:
        self._pass_on(self._decoder.decode(b"", final=True), write)

    def _pass_on(self, text: str, write: Write) -> None:
        if text:
            try:
                write(self._name, text)
            except Exception:
                _log.exception("what a worker printed could not be passed on")


def _overlap(data: bytes, marker: bytes) -> int:
    """Length of the longest end of ``data`` that begins ``marker``."""
    longest = min(len(data), len(marker) - 1)
    return next((size for size in range(longest, 0, -1) if data.endswith(marker[:size])), 0)


def _drop(_stream: str, _text: str) -> None:
    """Nobody's output."""


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1
