"""What a worker process does: wait for a call, make it, answer, until its engine is gone.

The body runs on the main thread, as in any script. Descriptors 1 and 2 belong to the task; the
protocol has descriptors of its own, which children of the task never see.
"""
# ruff: noqa: S301 - both ends belong to one user, and one started the other

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import logging
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TextIO, cast

from flowbuilder.runtime.payload import Payload, dump_payload, load_payload
from flowbuilder.runtime.table_links import forget_file
from flowbuilder.runtime.worker_channel import Channel
from flowbuilder.runtime.worker_messages import Reply, Request, WorkerStart

__all__ = ["main"]

_KEPT_FUNCTIONS = 128


def main(start: WorkerStart) -> None:
    """Serve calls until the engine closes the channel or dies.

    Parameters
    ----------
    start : WorkerStart
        Descriptors and folders, as the engine passed them on the command line.
    """
    request_fd = _receive_descriptor(start.request_fd, os.O_RDONLY)
    reply_fd = _receive_descriptor(start.reply_fd, os.O_WRONLY)
    lifeline_fd = _receive_descriptor(start.lifeline_fd, os.O_RDONLY)
    channel = Channel(request_fd, reply_fd)
    _die_with_engine(start, lifeline_fd)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=channel.close)
    worker = _Worker(channel, tuple(Path(folder) for folder in start.folders))
    # A crash in native code prints where in Python it happened, into the task's stderr.
    faulthandler.enable(all_threads=False)
    pid = os.getpid()
    channel.send([b"ready"])
    with contextlib.suppress(EOFError, OSError):
        while True:
            worker.serve(channel.receive())
    # A child the task forked and let return ends up here; it owns nothing.
    if os.getpid() == pid:
        _leave(start)
    os._exit(1)


class _Worker:
    """The state that outlives a call: loaded functions, standard streams, environment."""

    def __init__(self, channel: Channel, folders: tuple[Path, ...]) -> None:
        self._channel = channel
        self._folders = folders
        self._functions: OrderedDict[str, Callable[..., object]] = OrderedDict()
        self._streams = tuple(_prepare_stream(stream) for stream in (sys.stdout, sys.stderr))
        self._flush_c_streams = _line_buffer_c_streams()
        _log_to_stderr()
        self._environment = dict(os.environ)

    def serve(self, parts: list[bytearray]) -> None:
        """Make one call and answer it."""
        request: Request = pickle.loads(parts[0])
        reply, payload = self._answer(request, parts[1:])
        self._settle_output(request.marker)
        self._channel.send([pickle.dumps(reply, protocol=5), *payload.parts])
        # From here on the engine owns the files.
        for path in payload.paths:
            forget_file(path)
        self._restore_environment()

    def _answer(self, request: Request, parts: list[bytearray]) -> tuple[Reply, Payload]:
        if self._lacks_code(request):
            return Reply(is_ok=False, needs_code=True), Payload([])
        try:
            self._prepare(request)
            function = self._load_function(request)
            args, kwargs = _load_arguments(parts)
        except BaseException as error:
            return _failure(error, f"{request.label} could not be loaded in the worker"), Payload(
                []
            )
        parts.clear()
        try:
            value = function(*args, **kwargs)
        except BaseException as error:
            return _failure(error), Payload([])
        del args, kwargs
        return self._pack(request, value)

    def _pack(self, request: Request, value: object) -> tuple[Reply, Payload]:
        try:
            payload = dump_payload(value, () if request.is_confidential else self._folders)
        except BaseException as error:
            close = getattr(value, "close", None)
            if type(value).__name__ == "coroutine" and close is not None:
                close()
            context = (
                f"expected {request.label} to return something that can be pickled,"
                f" found {type(value).__name__}"
            )
            # Where pickling failed says nothing about the task.
            return _failure(error.with_traceback(None), context), Payload([])
        return Reply(is_ok=True, file_bytes=payload.file_bytes), payload

    def _prepare(self, request: Request) -> None:
        if request.sys_path is not None:
            sys.path[:] = request.sys_path
            importlib.invalidate_caches()
        if request.environment is not None:
            self._environment = request.environment
            self._restore_environment()
        os.chdir(request.directory)

    def _lacks_code(self, request: Request) -> bool:
        return not (request.module or request.code or request.version in self._functions)

    def _load_function(self, request: Request) -> Callable[..., object]:
        key = request.version if not request.module else f"{request.module}:{request.qualname}"
        function = self._functions.get(key)
        if function is not None:
            self._functions.move_to_end(key)
            return function
        if request.module:
            value: object = importlib.import_module(request.module)
            for name in request.qualname.split("."):
                value = getattr(value, name)
        else:
            value = pickle.loads(request.code)
        assert callable(value)
        self._functions[key] = value
        if len(self._functions) > _KEPT_FUNCTIONS:
            self._functions.popitem(last=False)
        return value

    def _settle_output(self, marker: bytes) -> None:
        """Get everything printed so far out of this process before the answer."""
        for stream in (sys.stdout, sys.stderr, *self._streams):
            with contextlib.suppress(Exception):
                stream.flush()
        sys.stdout, sys.stderr = self._streams
        self._flush_c_streams()
        if marker:
            for fd in (1, 2):
                with contextlib.suppress(OSError):
                    os.write(fd, marker)

    def _restore_environment(self) -> None:
        """Undo what the task did to the environment, so that the next one starts like the first."""
        current = dict(os.environ)
        if current == self._environment:
            return
        for name in current.keys() - self._environment.keys():
            del os.environ[name]
        os.environ.update(self._environment)


def _load_arguments(parts: list[bytearray]) -> tuple[tuple[object, ...], dict[str, object]]:
    args, kwargs = cast("tuple[tuple[object, ...], dict[str, object]]", load_payload(parts))
    return args, kwargs


def _failure(error: BaseException, context: str = "") -> Reply:
    """Describe an exception so that the engine can rebuild it, or at least show it."""
    try:
        message = _message(error)
    except Exception:
        message = f"<{type(error).__name__} whose text cannot be made>"
    trimmed = _skip_own_frames(error.__traceback__)
    lines = traceback.format_exception(type(error), error, trimmed, chain=trimmed is not None)
    return Reply(
        is_ok=False,
        error_type=type(error).__qualname__,
        message=f"{context}: {type(error).__name__}: {message}" if context else message,
        traceback="".join(lines),
        is_described=bool(context) or isinstance(error, SystemExit),
        error=b"" if context else _pickle_error(error),
    )


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the task called sys.exit({error.code!r})"
    return str(error)


def _skip_own_frames(frames: TracebackType | None) -> TracebackType | None:
    """Drop the frames of this module, which say nothing about the task."""
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return frames


def _pickle_error(error: BaseException) -> bytes:
    """Pickle an exception if it survives that; nothing otherwise, nor for requests to exit."""
    if not isinstance(error, Exception):
        return b""
    try:
        data = b"".join(dump_payload(error, ()).parts[:1])
        restored = pickle.loads(data)
    except Exception:
        return b""
    return data if type(restored).__qualname__ == type(error).__qualname__ else b""


def _prepare_stream(stream: TextIO) -> TextIO:
    """Make a standard stream show each line at once and accept any text."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    return stream


def _log_to_stderr() -> None:
    """Show log records as the engine's own process records them: with the logger's name."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)


def _line_buffer_c_streams() -> Callable[[], object]:
    """Make C's stdout show each line at once, as on a terminal; return the call that flushes it."""
    try:
        import ctypes

        library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
        flush = library.fflush
        if sys.platform == "linux":
            line_buffered = 1
            stdout = ctypes.c_void_p.in_dll(library, "stdout")
            library.setvbuf(stdout, None, line_buffered, ctypes.c_size_t(0))
    except (ImportError, OSError, AttributeError, ValueError, TypeError):
        return lambda: None
    return lambda: flush(None)


def _receive_descriptor(name: int, flags: int) -> int:
    """Take over what the engine passed, out of reach of the task's own children."""
    if sys.platform == "win32":
        import msvcrt

        os.set_handle_inheritable(name, False)
        return msvcrt.open_osfhandle(name, flags)
    del flags
    os.set_inheritable(name, False)
    return name


def _die_with_engine(start: WorkerStart, lifeline_fd: int) -> None:
    """End this process when the engine ends, also in the middle of a task."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            set_parent_death_signal = 1
            ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
        # The engine may have died before the request above; nobody would send the signal then.
        if os.getppid() != start.engine_pid:
            os._exit(1)
    watch = threading.Thread(target=_watch, args=(start, lifeline_fd), name="lifeline", daemon=True)
    watch.start()


def _watch(start: WorkerStart, lifeline_fd: int) -> None:
    """Wait until the engine's end of the lifeline is closed, which its death does as well."""
    with contextlib.suppress(OSError):
        os.read(lifeline_fd, 1)
    _leave(start)


def _leave(start: WorkerStart) -> None:
    """Remove what nobody will fetch and end without waiting for the task's threads."""
    from flowbuilder.runtime.transport_folder import remove_folder

    for folder in start.folders:
        remove_folder(Path(folder))
    os._exit(0)
