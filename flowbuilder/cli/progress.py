"""What a person sees while a run executes: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from flowbuilder.durations import format_duration
from flowbuilder.vocabulary import TaskState

if TYPE_CHECKING:
    from flowbuilder.api.run import Run

__all__ = ["Progress"]

_FIRST_S = 0.2
_EVERY_S = 0.1
_MOST_LINES = 200
_MOST_ROWS = 14

_STYLES = {
    TaskState.SUCCEEDED: ("green", "✔"),
    TaskState.CACHED: ("cyan", "✔"),
    TaskState.FAILED: ("bold red", "✘"),
    TaskState.RUNNING: ("yellow", "▶"),
    TaskState.WAITING: ("magenta", "◷"),
    TaskState.SKIPPED: ("dim", "↷"),
    TaskState.CANCELLED: ("dim", "■"),
}


class Progress:
    """Shows a run while it is driven on another thread; a context manager. Starts only if the run
    outlasts 0.2 s.
    """

    def __init__(self, run: Run, *, is_silent: bool) -> None:
        self._run = run
        self._is_silent = is_silent
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._printed: set[str] = set()

    def __enter__(self) -> Progress:
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
        if sys.stderr.isatty():
            self._show_live()
        else:
            self._show_lines()

    def _show_lines(self) -> None:
        while not self._done.wait(_EVERY_S):
            self._print_new()
        self._print_new()

    def _print_new(self) -> None:
        tasks = self._run.task_runs
        if len(tasks) > _MOST_LINES:
            return
        for task in tasks:
            is_over = task.state in {"succeeded", "failed", "skipped", "cancelled", "cached"}
            if is_over and task.name not in self._printed:
                self._printed.add(task.name)
                took = format_duration(task.duration_s) if task.duration_s is not None else ""
                print(f"{task.state:<9} {took:>7}  {task.name}", file=sys.stderr)

    def _show_live(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        with Live(self._render(), console=console, refresh_per_second=10, transient=True) as live:
            while not self._done.wait(_EVERY_S):
                live.update(self._render())

    def _render(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        run = self._run
        counts = run.counts
        total = sum(counts.values())
        final = {
            TaskState.SUCCEEDED,
            TaskState.CACHED,
            TaskState.FAILED,
            TaskState.SKIPPED,
            TaskState.CANCELLED,
        }
        done = sum(number for state, number in counts.items() if state in final)
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(run.workflow, style="bold"),
            Text(run.short_id, style="dim"),
            ProgressBar(total=max(total, 1), completed=done, width=32),
            Text(f"{done}/{total}"),
            Text(format_duration(run.duration_s), style="dim"),
        )
        rows = Table.grid(padding=(0, 1))
        for state, name, took, note in self._rows():
            style, mark = _STYLES.get(state, ("dim", "·"))
            rows.add_row(
                Text(mark, style=style),
                Text(name),
                Text(took, style="dim"),
                Text(note, style="dim"),
            )
        return Group(head, rows)

    def _rows(self) -> list[tuple[TaskState, str, str, str]]:
        tasks = (
            self._run.task_runs
            if sum(self._run.counts.values()) <= 2_000
            else self._run.running_tasks()
        )
        order = {"running": 0, "waiting": 1, "failed": 2}
        chosen = sorted(tasks, key=lambda task: (order.get(task.state, 3), -task.offset_s))[
            :_MOST_ROWS
        ]
        return [
            (
                TaskState(task.state),
                task.name,
                format_duration(task.duration_s) if task.duration_s is not None else "",
                task.error[:80] or (f"attempt {task.attempt}" if task.attempt > 1 else ""),
            )
            for task in chosen
            if task.state not in {"pending", "ready"}
        ]
