"""What ``import`` of a library costs in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

__all__ = ["measure_import"]

_CODE = """
import sys, time
begin = time.perf_counter_ns()
__import__({module!r})
print(time.perf_counter_ns() - begin)
"""


def measure_import(subject: object, params: Mapping[str, object]) -> dict[str, float]:
    """Take the median of ``repeat`` fresh processes, after one that fills the disk cache."""
    times = [_once(subject.module) for _ in range(1 + int(params.get("repeat", 5)))][1:]
    return {"import_ms": sorted(times)[len(times) // 2] / 1e6}


def _once(module: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(module=module)],
        capture_output=True,
        check=True,
        text=True,
    )
    return int(done.stdout.split()[-1])
