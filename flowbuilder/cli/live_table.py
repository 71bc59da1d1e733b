"""The live view of a run on a terminal: one line of totals, then the tasks worth looking at.

The only module that imports rich, and it is imported only when a run outlasts the first moments.
"""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flowbuilder.api.display_text import fit_cells, one_line
from flowbuilder.cli.screen import can_show
from flowbuilder.durations import format_duration
from flowbuilder.vocabulary import FINAL_TASK_STATES, RunState, TaskState

if TYPE_CHECKING:
    from flowbuilder.api.run import Run
    from flowbuilder.api.task_run import TaskRun

__all__ = ["LiveTable"]

_EVERY_S = 0.1
_NAME_CELLS = 32

_STYLES = {
    TaskState.SUCCEEDED: ("green", "✔", "+"),
    TaskState.CACHED: ("cyan", "✔", "="),
    TaskState.FAILED: ("bold red", "✘", "!"),
    TaskState.RUNNING: ("yellow", "▶", ">"),
    TaskState.WAITING: ("magenta", "◷", "~"),
    TaskState.SKIPPED: ("dim", "↷", "-"),
    TaskState.CANCELLED: ("dim", "■", "x"),
}
_ORDER = {"running": 0, "waiting": 1, "failed": 2}


class LiveTable:
    """Redraws a run ten times a second and leaves no trace.

    Parameters
    ----------
    run : Run
        Driven on another thread.
    stream : TextIO
        The terminal, as it was before output was captured.
    """

    def __init__(self, run: Run, stream: TextIO) -> None:
        self._run = run
        self._console = Console(file=stream)
        self._column = 1 if can_show("✔✘▶◷↷■·", stream) else 2

    def show_until(self, done: Event) -> None:
        """Draw until ``done`` is set, then erase."""
        # The streams stay as they are: the run's own routing stands there.
        live = Live(
            self.draw(),
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with live:
            while not done.wait(_EVERY_S):
                live.update(self.draw(), refresh=True)

    def draw(self) -> Group:
        """Build one picture."""
        room = max(3, min(14, self._console.height - 4))
        return Group(self._head(), self._rows(room))

    def _head(self) -> Table:
        run, counts = self._run, self._run.counts
        total = sum(counts.values())
        done = sum(number for state, number in counts.items() if state in FINAL_TASK_STATES)
        parts = [Text(one_line(run.workflow), style="bold", no_wrap=True, overflow="ellipsis")]
        if self._console.width >= 60:
            parts.append(Text(run.short_id, style="dim"))
        width = max(8, min(32, self._console.width - 50))
        parts.append(Text.from_markup("") if total == 0 else Text(f"{done}/{total}"))
        parts.append(Text(format_duration(run.duration_s), style="dim"))
        failed = counts.get(TaskState.FAILED, 0)
        if failed:
            parts.append(Text(f"{failed} failed", style="bold red"))
        if run.state is RunState.PAUSED:
            parts.append(Text("paused", style="magenta"))
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(total, 1), completed=done, width=width)
        head.add_row(parts[0], bar, *parts[1:])
        return head

    def _rows(self, room: int) -> Table:
        tasks = sorted(self._run.notable_tasks(room), key=_urgency)
        rows = Table.grid(padding=(0, 1))
        rows.add_column(no_wrap=True)
        rows.add_column(no_wrap=True)
        rows.add_column(no_wrap=True, justify="right")
        rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        names = max((len(task.name) for task in tasks), default=0)
        cells = min(names, _NAME_CELLS, max(10, self._console.width - 30))
        for task in tasks:
            state = TaskState(task.state)
            style = _STYLES.get(state, ("dim", "·", "."))
            took = "" if task.duration_s is None else format_duration(task.duration_s)
            name = task.name if len(task.name) <= cells else fit_cells(task.name, cells)
            rows.add_row(
                Text(style[self._column], style=style[0]),
                Text(name),
                Text(took, style="dim"),
                Text(_note(task), style="dim"),
            )
        return rows


def _urgency(task: TaskRun) -> tuple[int, float]:
    return _ORDER.get(task.state, 3), -task.offset_s


def _note(task: TaskRun) -> str:
    if task.error:
        return one_line(task.error)
    if task.state == "waiting":
        return f"attempt {task.attempt} failed, waits to try again" if task.attempt else "waits"
    return f"attempt {task.attempt}" if task.attempt > 1 else ""
