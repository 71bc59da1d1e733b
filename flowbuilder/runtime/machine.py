"""The machine below: processors and memory that are ours, this boot, the process a pid names.

Linux answers through procfs and cgroups; every other system through the closest call it has, or
"unknown".
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "boot_id",
    "cpu_budget",
    "is_process_alive",
    "memory_available_bytes",
    "memory_limit_bytes",
    "process_start_time",
]

_ROOT = Path("/")
# cgroup v1 writes "no limit" as the largest page-aligned 63-bit number.
_V1_UNLIMITED = 1 << 62


def cpu_budget(*, root: Path = _ROOT) -> int:
    """Count the processors this process may keep busy.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are found; another folder in tests.

    Returns
    -------
    int
        The least of affinity mask and cgroup quota (a quota of 1.5 counts as 2), at least 1.
    """
    available = _affinity_count() or os.cpu_count() or 1
    quota = min(_cpu_quotas(root), default=math.inf)
    return max(1, min(available, math.ceil(quota) if math.isfinite(quota) else available))


def memory_limit_bytes(*, root: Path = _ROOT) -> int | None:
    """Find the memory this process may use, in bytes.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are found; another folder in tests.

    Returns
    -------
    int or None
        The least of physical memory and cgroup limits; None if the system does not say.
    """
    limits = [limit for limit in _memory_limits(root) if limit < _V1_UNLIMITED]
    physical = _physical_memory_bytes()
    return min([*limits, physical] if physical else limits, default=None)


def memory_available_bytes(*, root: Path = _ROOT) -> int | None:
    """Estimate the memory that can be taken now without swapping or being killed, in bytes.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are found; another folder in tests.

    Returns
    -------
    int or None
        The least of what the machine and each cgroup have left; None if the system does not say.
    """
    rooms = list(_memory_rooms(root))
    lines = (_read(root / "proc/meminfo") or "").splitlines()
    rooms.extend(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return min(rooms, default=None)


def boot_id(*, root: Path = _ROOT) -> str:
    """Name the current boot of this machine, so that pids of an earlier one are not taken for live.

    Returns
    -------
    str
        An opaque text that changes with each boot; empty where the system offers none.
    """
    text = _read(root / "proc/sys/kernel/random/boot_id")
    return text.strip() if text else _boot_session_uuid()


def process_start_time(pid: int, *, root: Path = _ROOT) -> str | None:
    """Say when a process started, as a text to be compared for equality only.

    Parameters
    ----------
    pid : int
        Process id on this machine.
    root : Path
        Where ``proc`` is found; another folder in tests.

    Returns
    -------
    str or None
        Clock ticks since boot on Linux, a date elsewhere; None if no such process runs (a zombie
        does not).
    """
    if pid <= 0:
        return None
    if (root / "proc/self/stat").exists():
        return _start_time_from_procfs(_read(root / f"proc/{pid}/stat"))
    if sys.platform == "win32":
        return _start_time_from_windows(pid)
    return _start_time_from_ps(pid)


def is_process_alive(pid: int, start_time: str | None) -> bool:
    """Decide whether the process that had ``pid`` and ``start_time`` still runs.

    Parameters
    ----------
    pid : int
        Process id on this machine.
    start_time : str or None
        What `process_start_time` gave for it; None matches any process with that pid.
    """
    found = process_start_time(pid)
    return found is not None and (not start_time or found == start_time)


def _affinity_count() -> int:
    """Size of the affinity mask; 0 where there is none (macOS, Windows)."""
    if not hasattr(os, "sched_getaffinity"):
        return 0
    with contextlib.suppress(OSError):
        return len(os.sched_getaffinity(0))
    return 0


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Every quota that applies, in processors: the group's own and those of its ancestors."""
    for folder in _cgroup_folders(root, ""):
        fields = (_read(folder / "cpu.max") or "").split()
        if len(fields) == 2 and fields[0].isdigit() and fields[1].isdigit() and int(fields[1]):
            yield int(fields[0]) / int(fields[1])
    for folder in _cgroup_folders(root, "cpu"):
        quota = _read_int(folder / "cpu.cfs_quota_us")
        period = _read_int(folder / "cpu.cfs_period_us")
        if quota and period and quota > 0 and period > 0:
            yield quota / period


def _memory_limits(root: Path) -> Iterator[int]:
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for folder in _cgroup_folders(root, controller):
            limit = _read_int(folder / name)
            if limit and limit > 0:
                yield limit


def _memory_rooms(root: Path) -> Iterator[int]:
    """Count what each memory group has left; page cache counts as used, so this errs low."""
    v1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
    for controller, limit_name, usage_name in (("", "memory.max", "memory.current"), v1):
        for folder in _cgroup_folders(root, controller):
            limit, usage = _read_int(folder / limit_name), _read_int(folder / usage_name)
            if limit and usage is not None and limit < _V1_UNLIMITED:
                yield max(0, limit - usage)


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's group and its ancestors; ``controller`` is empty for cgroup v2.

    In a container the path in ``/proc/self/cgroup`` may name folders only the host sees; missing
    ones read as nothing, and the mount's top, the container's own group, is always among them.
    """
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers
        if controller and not top.exists():
            top = root / "sys/fs/cgroup" / controller
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        for depth in range(len(parts), -1, -1):
            yield top.joinpath(*parts[:depth])


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return None


def _read_int(path: Path) -> int | None:
    text = (_read(path) or "").strip()
    try:
        return int(text)
    except ValueError:
        return None


def _physical_memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return _physical_memory_of_windows()


def _start_time_from_procfs(stat: str | None) -> str | None:
    if not stat:
        return None
    # The command name may hold spaces and parentheses; the fields after the last one cannot.
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return fields[19]


def _start_time_from_ps(pid: int) -> str | None:
    import subprocess

    command = ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)]
    try:
        answer = subprocess.run(  # noqa: S603 - fixed program, numeric argument
            command, capture_output=True, text=True, check=False, timeout=5, env={"LC_ALL": "C"}
        )
    except (OSError, subprocess.SubprocessError):
        return None
    state, _, start = answer.stdout.strip().partition(" ")
    return None if not start or state.startswith("Z") else " ".join(start.split())


def _start_time_from_windows(pid: int) -> str | None:
    import ctypes

    windll = getattr(ctypes, "windll", None)
    if windll is None:
        return None
    kernel32 = windll.kernel32
    kernel32.OpenProcess.restype = ctypes.c_void_p
    query_limited_information = 0x1000
    handle = ctypes.c_void_p(kernel32.OpenProcess(query_limited_information, 0, pid))
    if not handle.value:
        return None
    try:
        created, ended, in_kernel, in_user = (ctypes.c_uint64() for _ in range(4))
        times = (ctypes.byref(time) for time in (created, ended, in_kernel, in_user))
        if not kernel32.GetProcessTimes(handle, *times) or ended.value:
            return None
        return str(created.value)
    finally:
        kernel32.CloseHandle(handle)


def _physical_memory_of_windows() -> int | None:
    import ctypes

    windll = getattr(ctypes, "windll", None)
    if windll is None:
        return None
    kilobytes = ctypes.c_uint64()
    if not windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes)):
        return None
    return kilobytes.value * 1024


def _boot_session_uuid() -> str:
    """Ask a BSD kernel (macOS) for the boot's UUID; empty elsewhere."""
    import ctypes

    try:
        sysctl = ctypes.CDLL(None).sysctlbyname
    except (AttributeError, OSError, TypeError):
        return ""
    value = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(value))
    failed = sysctl(b"kern.bootsessionuuid", value, ctypes.byref(size), None, ctypes.c_size_t(0))
    return "" if failed else value.value.decode("ascii", "replace")
