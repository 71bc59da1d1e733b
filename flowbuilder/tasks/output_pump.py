"""Reads both streams of a command until it has ended, waking at once when it is asked to stop.

Two ways: `pump_by_selector` on one thread (POSIX), `pump_by_threads` where pipes cannot be selected
(Windows).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO

from flowbuilder.runtime.cancel import CancelToken
from flowbuilder.tasks.process_group import ProcessGroup

__all__ = ["LINGER_S", "pump", "pump_by_selector", "pump_by_threads"]

LINGER_S = 1.0
"""How long a stream may stay open after the command ended: a child may still write to it."""

_CHUNK_BYTES = 65_536
_TICK_S = 0.05

Sink = Callable[[bytes], None]


def pump(group: ProcessGroup, sinks: Mapping[IO[bytes], Sink], cancel: CancelToken) -> None:
    """Feed every sink until the command has ended and its streams are drained.

    Parameters
    ----------
    group : ProcessGroup
        The command.
    sinks : mapping
        Stream of the command -> where its bytes go.
    cancel : CancelToken
        When it is set, the group is terminated.
    """
    (pump_by_selector if os.name == "posix" else pump_by_threads)(group, sinks, cancel)


def pump_by_selector(
    group: ProcessGroup, sinks: Mapping[IO[bytes], Sink], cancel: CancelToken
) -> None:
    """Read on the calling thread. See `pump`."""
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    exit_handle = _open_exit_handle(group.process.pid)

    def stop() -> None:
        """Terminate the group and wake the pump."""
        group.terminate()
        # The pump may be over by now and the pipe closed; the lock below keeps its number ours
        # until then.
        with lock:
            if not is_over:
                with contextlib.suppress(BlockingIOError):
                    os.write(wake_writer, b"x")

    lock, is_over = threading.Lock(), False
    selector = selectors.DefaultSelector()
    try:
        for stream, sink in sinks.items():
            selector.register(stream, selectors.EVENT_READ, sink)
        selector.register(wake_reader, selectors.EVENT_READ)
        if exit_handle is not None:
            selector.register(exit_handle, selectors.EVENT_READ)
        cancel.on_cancel(stop)
        _read_until_over(group, selector, len(sinks), wake_reader, exit_handle)
    finally:
        with lock:
            is_over = True
        selector.close()
        for descriptor in (wake_reader, wake_writer, exit_handle):
            if descriptor is not None:
                os.close(descriptor)


def _read_until_over(
    group: ProcessGroup,
    selector: selectors.BaseSelector,
    open_streams: int,
    wake_reader: int,
    exit_handle: int | None,
) -> None:
    has_exited = False
    linger_until = float("inf")
    while open_streams or not has_exited:
        timeout_s = _timeout_s(group, linger_until, must_poll=exit_handle is None)
        for key, _ in selector.select(timeout_s):
            if key.fileobj == exit_handle:
                selector.unregister(exit_handle)
                has_exited = True
            elif key.fileobj == wake_reader:
                os.read(wake_reader, 1)
            elif not _feed(key.fd, key.data):
                selector.unregister(key.fileobj)
                open_streams -= 1
        if exit_handle is None and not has_exited:
            has_exited = group.process.poll() is not None
        group.kill_if_due()
        if has_exited and linger_until == float("inf"):
            linger_until = time.monotonic() + LINGER_S
        if time.monotonic() >= linger_until:
            return


def _timeout_s(group: ProcessGroup, linger_until: float, *, must_poll: bool) -> float | None:
    due = min(linger_until, group.kill_at if group.kill_at is not None else float("inf"))
    if must_poll:
        return _TICK_S
    if due == float("inf"):
        return None
    # A KILL that was sent needs a moment to show; never spin on a time that has passed.
    return max(due - time.monotonic(), 0.005)


def _feed(descriptor: int, sink: Sink) -> bool:
    data = os.read(descriptor, _CHUNK_BYTES)
    if data:
        sink(data)
    return bool(data)


def _open_exit_handle(pid: int) -> int | None:
    """Open something that becomes readable when the process ends, if the system has it."""
    opener = getattr(os, "pidfd_open", None)
    if opener is None:
        return None
    try:
        return int(opener(pid))
    except OSError:
        return None


def pump_by_threads(
    group: ProcessGroup, sinks: Mapping[IO[bytes], Sink], cancel: CancelToken
) -> None:
    """Read each stream on a thread of its own. See `pump`."""
    failures: list[BaseException] = []

    def read(stream: IO[bytes], sink: Sink) -> None:
        """Feed one sink until its stream ends."""
        try:
            while _feed(stream.fileno(), sink):
                pass
        except BaseException as error:
            failures.append(error)
            group.kill()

    threads = [
        threading.Thread(target=read, args=item, name="flowbuilder-output", daemon=True)
        for item in sinks.items()
    ]
    cancel.on_cancel(group.terminate)
    for thread in threads:
        thread.start()
    while group.process.poll() is None:
        cancel.wait(_TICK_S) if not cancel.is_cancelled else time.sleep(_TICK_S)
        group.kill_if_due()
    linger_until = time.monotonic() + LINGER_S
    for thread in threads:
        thread.join(max(linger_until - time.monotonic(), 0.0))
    if failures:
        raise failures[0]
