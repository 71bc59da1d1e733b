"""Kill a run in the middle, then resume it: what is settled is not executed again.

    python notebooks/kill_and_resume.py notebooks/flows/nycflights.flow.yaml by_weather

starts the flow in a process of its own, waits until the named task has succeeded, and kills that
process with SIGKILL. `make demo` resumes the run afterwards.
"""

from __future__ import annotations

import subprocess
import sys
import time

import flowbuilder as fb

_LONGEST_S = 120.0
_INTO_THE_NEXT_S = 0.4


def main(flow: str, task: str) -> int:
    """Run a flow until one of its tasks has succeeded, then kill it; 1 if that never came."""
    before = {run.id for run in fb.runs(limit=5)}
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "flowbuilder", "run", flow, "--quiet"], stdin=subprocess.DEVNULL
    )
    give_up = time.monotonic() + _LONGEST_S
    while process.poll() is None and time.monotonic() < give_up:
        if has_succeeded(task, before):
            time.sleep(_INTO_THE_NEXT_S)
            process.kill()
            process.wait()
            sys.stdout.write(
                f"killed process {process.pid} while it worked on what follows {task!r}\n"
            )
            return 0
        time.sleep(0.01)
    process.kill()
    process.wait()
    sys.stdout.write(f"the run ended before it could be killed after {task!r}\n")
    return 1


def has_succeeded(task: str, before: set[str]) -> bool:
    """Look the task up in the journal, which another process is writing."""
    new = [run for run in fb.runs(limit=1) if run.id not in before]
    return any(
        item.name == task and item.state == "succeeded" for run in new for item in run.task_runs
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
