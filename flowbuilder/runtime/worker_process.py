"""One worker process as its engine sees it: started, asked, killed alone, buried."""
# ruff: noqa: S301 - both ends belong to one user, and one started the other

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowbuilder.errors import WorkerLostError
from flowbuilder.runtime.remote_function import FunctionRef
from flowbuilder.runtime.worker_channel import Channel, Part
from flowbuilder.runtime.worker_messages import Reply, Request
from flowbuilder.runtime.worker_output import OutputTap, PolledTap, ThreadedTap, Write

__all__ = ["WorkerProcess"]

# A worker is one slot of the engine's thread budget; its libraries must not start pools.
_ONE_THREAD = dict.fromkeys(
    (
        "ARROW_IO_THREADS",
        "BLIS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "POLARS_MAX_THREADS",
        "RAYON_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
)
_EXIT_WAIT_S = 1.0
_EXIT_STEP_S = 0.002
_SIGNAL_HINTS = {
    "SIGABRT": "a native library gave up; its last words are in the task's stderr",
    "SIGBUS": "a mapped file was cut short, or memory for it ran out",
    "SIGFPE": "a native library divided by zero",
    "SIGILL": "a native library was built for another processor",
    "SIGKILL": "killed from outside, most often because memory ran out",
    "SIGSEGV": "a native library read or wrote memory that is not its own",
    "SIGTERM": "killed from outside",
}
_BOOT = (
    "import sys; sys.path[:] = {path!r}\n"
    "from flowbuilder.runtime.worker_main import main\n"
    "from flowbuilder.runtime.worker_messages import WorkerStart\n"
    "main(WorkerStart(*{names!r}, {pid}, {folders!r}))"
)


class WorkerProcess:
    """A fresh interpreter with a channel, made by the thread that will use it.

    Parameters
    ----------
    folders : sequence of Path
        Where the worker puts tables, best first.
    is_threaded : bool
        Whether its output is read by threads; the only way where pipes cannot be polled.

    Raises
    ------
    OSError
        If the system starts no more processes.

    Notes
    -----
    Linux kills a worker when the *thread* that started it ends, so that thread must live on.
    Everything but `kill` belongs to that thread.
    """

    def __init__(
        self, folders: Sequence[Path], *, is_threaded: bool = not hasattr(select, "poll")
    ) -> None:
        self.folders = tuple(folders)
        self._known_code: set[str] = set()
        self._known_files: dict[str, str] = {}
        self._sys_path = _engine_path()
        self._environment = _worker_environment()
        self._process, self._channel, self._lifeline = _start(
            self.folders, self._sys_path, self._environment
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        fds = (self._process.stdout.fileno(), self._process.stderr.fileno())
        self._tap: OutputTap = (
            ThreadedTap(fds)
            if is_threaded
            else PolledTap(self._channel.read_fd, fds, self._process.pid, self.is_alive)
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit status once dead, negative for a signal; None before."""
        return self._process.returncode

    def wait_until_ready(self) -> None:
        """Wait until the interpreter has started.

        Raises
        ------
        WorkerLostError
            If it ends before; the message holds what it printed.
        """
        printed: list[str] = []
        self._tap.begin(lambda _stream, text: printed.append(text))
        if not self._receive():
            lost = self._lost("starting")
            said = "".join(printed).strip()
            lost.hint = f"it said: {said}" if said else lost.hint
            raise lost

    def is_alive(self) -> bool:
        """Ask whether the process runs, without reaping it: until `close` its pid stays ours."""
        if not hasattr(os, "waitid"):
            return self._process.poll() is None
        with contextlib.suppress(ChildProcessError):
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self._process.pid, options) is None
        return False

    def has_stale(self, function: FunctionRef) -> bool:
        """Say whether the worker imported the function from a file that has changed since."""
        known = self._known_files.get(function.module)
        return known is not None and known != function.version

    def call(
        self,
        function: FunctionRef,
        directory: str,
        arguments: Sequence[Part],
        write: Write,
        *,
        is_confidential: bool = False,
    ) -> tuple[Reply, list[bytearray]]:
        """Make one call and wait for its answer.

        Parameters
        ----------
        function : FunctionRef
            What to call.
        directory : str
            Working directory of the call.
        arguments : sequence of bytes-like
            Payload of the pair (args, kwargs).
        write : callable
            Gets (stream, text) of what the call prints, all of it before this returns.
        is_confidential : bool
            Whether the result must come through the pipe, not in files.

        Returns
        -------
        tuple of (Reply, list of bytearray)
            The answer and the payload of its value.

        Raises
        ------
        WorkerLostError
            If the process ends first.
        """
        while True:
            request = self._request(function, directory, is_confidential=is_confidential)
            self._tap.begin(write)
            with contextlib.suppress(OSError):
                self._channel.send([pickle.dumps(request, protocol=5), *arguments])
            parts = self._receive()
            if not parts:
                raise self._lost(f"running {function.qualname}")
            reply: Reply = pickle.loads(parts[0])
            if not reply.needs_code:
                return reply, parts[1:]
            self._known_code.discard(function.version)

    def kill(self) -> None:
        """Kill the process and the children it started; any thread may, until `close`."""
        if os.name == "posix" and self._process.returncode is None:
            # It leads its own process group since it was started, so nobody else is hit.
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """End the process and free everything held for it; an idle one has nothing to lose."""
        self.kill()
        self._process.wait()
        self._tap.close()
        self._channel.close()
        with contextlib.suppress(OSError):
            os.close(self._lifeline)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def abandon(self) -> None:
        """Close the descriptors in a forked child, where the process is not ours."""
        self._channel.close()
        with contextlib.suppress(OSError):
            os.close(self._lifeline)
        self._process.returncode = 0

    def _receive(self) -> list[bytearray]:
        """Wait for a message, delivering output; empty if the process is dead."""
        parts: list[bytearray] = []
        with contextlib.suppress(EOFError, OSError):
            parts = self._channel.receive() if self._tap.wait() else []
        if parts and parts[0] == b"ready":
            return parts
        self._tap.finish()
        return parts

    def _lost(self, doing: str) -> WorkerLostError:
        """Find out how the process died."""
        deadline = time.monotonic() + _EXIT_WAIT_S
        pause = threading.Event()
        while self.is_alive() and time.monotonic() < deadline:
            pause.wait(_EXIT_STEP_S)
        self.kill()
        return _describe_death(self._process.wait(), doing)

    def _request(self, function: FunctionRef, directory: str, *, is_confidential: bool) -> Request:
        path, environment = _engine_path(), _worker_environment()
        is_new = function.version not in self._known_code
        request = Request(
            label=function.qualname,
            module=function.module,
            qualname=function.qualname,
            version=function.version,
            code=function.code if is_new else b"",
            directory=directory,
            sys_path=path if path != self._sys_path else None,
            environment=environment if environment != self._environment else None,
            marker=self._tap.marker,
            is_confidential=is_confidential,
        )
        self._sys_path, self._environment = path, environment
        if function.module:
            self._known_files[function.module] = function.version
        else:
            self._known_code.add(function.version)
        return request


def _start(
    folders: Sequence[Path], path: Sequence[str], environment: dict[str, str]
) -> tuple[subprocess.Popen[bytes], Channel, int]:
    """Start an interpreter; return it, our ends of the channel, and of the lifeline."""
    request_read, request_write = os.pipe()
    reply_read, reply_write = os.pipe()
    life_read, life_write = os.pipe()
    theirs = (request_read, reply_write, life_read)
    try:
        options, names = _hand_over(theirs)
        boot = _BOOT.format(
            path=list(path),
            names=names,
            pid=os.getpid(),
            folders=tuple(str(folder) for folder in folders),
        )
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-P", "-c", boot],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            bufsize=0,
            **options,
        )
    except BaseException:
        for fd in (request_write, reply_read, life_write):
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    return process, Channel(reply_read, request_write), life_write


def _hand_over(fds: tuple[int, int, int]) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Give descriptors to a child: options for `Popen`, and what it will know them as."""
    if sys.platform == "win32":
        import msvcrt

        handles = tuple(msvcrt.get_osfhandle(fd) for fd in fds)
        for handle in handles:
            os.set_handle_inheritable(handle, True)
        startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": list(handles)})
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
        return {"startupinfo": startup, "creationflags": flags}, handles
    # A session of its own: Ctrl-C in the terminal is the engine's to handle.
    return {"pass_fds": fds, "start_new_session": True}, fds


def _engine_path() -> tuple[str, ...]:
    return tuple(entry for entry in sys.path if isinstance(entry, str))


def _worker_environment() -> dict[str, str]:
    return {**os.environ, **_ONE_THREAD}


def _describe_death(code: int, doing: str) -> WorkerLostError:
    """Put an exit status into words."""
    if code >= 0:
        how, hint = f"exited with status {code}", "the task or a library called os._exit"
    else:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        how, hint = f"died with {name}", _SIGNAL_HINTS.get(name, "")
    return WorkerLostError(f"the worker {how} while {doing}", hint=hint)
