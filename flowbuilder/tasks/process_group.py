"""A child process with everything it starts: ended as one, by TERM, then KILL.

On POSIX the child leads a session of its own, so a signal to its group reaches all descendants that
did not leave it on purpose (``setsid``). On Windows the tree is ended through ``taskkill``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["GRACE_S", "ProcessGroup"]

GRACE_S = 5.0
"""Between TERM and KILL."""

_POLL_S = 0.02


class ProcessGroup:
    """A running command.

    Parameters
    ----------
    argv : sequence of str
        Program and arguments.
    cwd : Path
        Working directory.
    env : mapping of str to str
        The whole environment.
    grace_s : float
        Seconds between TERM and KILL.

    Raises
    ------
    OSError
        If it cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        grace_s: float = GRACE_S,
    ) -> None:
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._has_ended = False
        self.kill_at: float | None = None
        """Monotonic second at which KILL follows; None before `terminate`."""
        self.process = subprocess.Popen(  # noqa: S603 - the author's command
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=os.name == "posix",
            creationflags=_creation_flags(),
        )

    def terminate(self) -> None:
        """Ask the whole group to end, once. Quick, never raises, callable from any thread."""
        with self._lock:
            if self._has_ended or self.kill_at is not None:
                return
            self.kill_at = time.monotonic() + self._grace_s
            self._signal(is_final=False)

    def kill(self) -> None:
        """End the whole group at once."""
        with self._lock:
            self._signal(is_final=True)

    def kill_if_due(self) -> None:
        """Send KILL if the time after `terminate` is over."""
        if self.kill_at is not None and time.monotonic() >= self.kill_at:
            self.kill()

    def finish(self) -> int:
        """Reap the command, which has ended, and end whatever it left running in its group.

        Returns
        -------
        int
            Exit code; minus the signal's number if one ended it (POSIX).
        """
        code = self.process.wait()
        if os.name != "posix" or not self._has_members():
            self._mark_ended()
            return code
        self.terminate()
        while self._has_members():
            self.kill_if_due()
            time.sleep(_POLL_S)
        self._mark_ended()
        return code

    def abandon(self) -> None:
        """End everything without mercy: the caller was interrupted."""
        if self._has_ended:
            return
        self.kill()
        self.process.wait()
        self._mark_ended()

    def _mark_ended(self) -> None:
        # From here on the group's number may be another's.
        with self._lock:
            self._has_ended = True

    def _has_members(self) -> bool:
        """Whether a living process is left; the group's number stays ours as long as one is."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # macOS answers so for a group of zombies
            return sys.platform != "darwin"
        return not _are_all_zombies(self.process.pid)

    def _signal(self, *, is_final: bool) -> None:
        if self._has_ended:
            return
        if os.name == "posix":
            number = signal.SIGKILL if is_final else signal.SIGTERM
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
        else:
            _end_tree(self.process.pid, is_final=is_final)


def _are_all_zombies(group: int) -> bool:
    """Whether the members only wait to be reaped, which a container's PID 1 may never do."""
    try:
        entries = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return False
    found = False
    for entry in entries:
        try:
            text = (entry / "stat").read_text(errors="replace")
        except OSError:
            continue
        # state, ppid, pgrp follow the name, which may hold anything but ends at the last bracket.
        state, _, pgrp = text.rpartition(")")[2].split()[:3]
        if int(pgrp) == group:
            if state not in "ZX":
                return False
            found = True
    return found


def _creation_flags() -> int:
    return int(getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0))


def _end_tree(pid: int, *, is_final: bool) -> None:
    command = ["taskkill", "/T", "/PID", str(pid)]
    if is_final:
        command.append("/F")
    with contextlib.suppress(OSError):
        subprocess.run(command, check=False, capture_output=True)  # noqa: S603
