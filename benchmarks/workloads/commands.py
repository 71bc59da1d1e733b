"""A whole process that runs one shell command as a workflow: wall time, CPU time and peak anonymous
memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

from benchmarks.memory import anonymous_bytes

__all__ = ["measure_command"]


def measure_command(subject: object, params: Mapping[str, object]) -> dict[str, float]:
    """Run the command once to warm the disk cache, then ``repeat`` times for time, then once more
    to watch its memory.

    Memory is watched in a run of its own, because reading it slows the process down.
    """
    with tempfile.TemporaryDirectory(dir=os.environ["BENCH_SCRATCH"]) as folder:
        arguments, extra = subject.command(folder)
        command = [sys.executable if part == "{python}" else part for part in arguments]
        environment = {**os.environ, **extra}
        _run(command, folder, environment)
        walls = []
        cpu = _children_cpu_s()
        for _ in range(int(params.get("repeat", 5))):
            begin = time.perf_counter()
            _run(command, folder, environment)
            walls.append((time.perf_counter() - begin) * 1e3)
        cpu = (_children_cpu_s() - cpu) / len(walls) * 1e3
        peak = _watch(command, folder, environment)
    metrics = {"wall_ms": sorted(walls)[len(walls) // 2], "cpu_ms": cpu}
    return {**metrics, "anonymous_mb": peak / 1e6} if peak else metrics


def _run(command: list[str], folder: str, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise RuntimeError(f"the command ended with {done.returncode} and said: {said[-1]}")


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _watch(command: list[str], folder: str, environment: Mapping[str, str]) -> int:
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            time.sleep(0.001)
    return peak
