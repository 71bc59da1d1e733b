"""Runs many small tasks and kills itself in one of them: ``loss_driver.py FOLDER MODE LAST``.

``times`` in the folder holds when each task ended, and in its last place when the process died; it
is mapped memory, which outlives the process and costs no system call.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
import time
from pathlib import Path

import flowbuilder as fb

COUNT = 4096
folder, mode, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with (folder / "times").open("w+b") as file:
    file.truncate(8 * (COUNT + 1))
    times = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")


@fb.task(executor="thread" if mode == "threads" else "inline")
def tick(number):
    if number == last:
        times[COUNT] = time.monotonic_ns()
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "busy":
        for _ in range(20_000):
            pass
    else:
        threading.Event().wait(0.0005)
    times[number] = time.monotonic_ns()


@fb.workflow
def ticking():
    for number in range(COUNT):
        tick(number)


def hog():
    while True:
        pass


ticking.compile()
if mode == "hog":
    threading.Thread(target=hog, daemon=True).start()
ticking.run(echo=False)
