"""What a person sees while a run executes: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Self

from flowbuilder.cli.screen import is_terminal
from flowbuilder.durations import format_duration
from flowbuilder.vocabulary import FINAL_TASK_STATES

if TYPE_CHECKING:
    from flowbuilder.api.run import Run

__all__ = ["Progress"]

_FIRST_S = 0.2
_EVERY_S = 0.1
_MOST_LINES = 200


class Progress:
    """Shows a run while it is driven on another thread; a context manager. Starts only if the run
    outlasts 0.2 s.
    """

    def __init__(self, run: Run, *, is_silent: bool) -> None:
        self._run = run
        # Taken now: while the run lives, what other threads print counts as output of its tasks.
        self._stream = sys.stderr
        self._is_silent = is_silent or self._stream is None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._printed: set[str] = set()

    def __enter__(self) -> Self:
        if not self._is_silent:
            self._thread = threading.Thread(
                target=self._show, name="flowbuilder-progress", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def _show(self) -> None:
        if self._done.wait(_FIRST_S):
            return
        try:
            if is_terminal(self._stream):
                from flowbuilder.cli.live_table import LiveTable

                LiveTable(self._run, self._stream).show_until(self._done)
            else:
                self._show_lines()
        except OSError:
            # The terminal or the reader of the pipe went away: the run goes on without a view.
            return

    def _show_lines(self) -> None:
        while not self._done.wait(_EVERY_S):
            self._print_new()
        self._print_new()

    def _print_new(self) -> None:
        if sum(self._run.counts.values()) > _MOST_LINES:
            return
        for task in self._run.task_runs:
            if task.state in FINAL_TASK_STATES and task.name not in self._printed:
                self._printed.add(task.name)
                took = format_duration(task.duration_s) if task.duration_s is not None else ""
                print(f"{task.state:<9} {took:>7}  {task.name}", file=self._stream, flush=True)
