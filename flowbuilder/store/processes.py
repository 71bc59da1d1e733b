"""What tells one process from another that got its number: the boot and the moment it started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["boot_id", "is_process_alive", "process_start"]

_PROC = Path("/proc")


def boot_id(proc: Path = _PROC) -> str:
    """Name this boot of the machine; empty where the system does not say."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def process_start(pid: int, proc: Path = _PROC) -> int:
    """Give the kernel's clock at the start of a process, in ticks; 0 if it is not known."""
    try:
        text = (proc / str(pid) / "stat").read_bytes()
        # The second field is the program's name in parentheses and may hold anything.
        return int(text.rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def is_process_alive(pid: int) -> bool:
    """Tell whether a process has this number now; True where that cannot be asked without harm."""
    if sys.platform == "win32" or pid <= 0:  # os.kill would end the process there
        return pid > 0
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
