"""``flowbuilder logs``: what tasks printed, also while they run."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from flowbuilder.cli.exit_codes import OK
from flowbuilder.errors import FlowBuilderError
from flowbuilder.records import LogChunk
from flowbuilder.vocabulary import RunState

__all__ = ["add_arguments", "execute"]

_EVERY_S = 0.1
_LIVE = frozenset({RunState.PENDING, RunState.RUNNING, RunState.PAUSED})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", help="run id, unique suffix or 'latest'")
    parser.add_argument("task", nargs="?", help="only this task")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run is over")
    parser.add_argument("--data-dir", metavar="DIR", help="where runs are recorded")
    parser.set_defaults(handler=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from flowbuilder.api.container import container_for

    container = container_for(
        None, None if arguments.data_dir is None else Path(arguments.data_dir)
    )
    journal = container.journal
    summary = journal.find_run(arguments.run)
    keys = journal.version(summary.plan_id).keys
    if arguments.task is not None and arguments.task not in keys:
        raise FlowBuilderError(
            f"expected a task of the run, found {arguments.task!r}",
            hint=f"its tasks: {', '.join(keys[:20])}",
        )
    printer = _Printer(keys, arguments.task)
    seq = -1
    while True:
        # The state is read before the events: what is recorded before the end is then never missed.
        is_live = arguments.follow and journal.find_run(summary.run_id).state in _LIVE
        for event in journal.events(summary.run_id, after_seq=seq):
            seq = event.seq
            if isinstance(event, LogChunk):
                printer.show(event)
        sys.stdout.flush()
        if not is_live:
            return OK
        time.sleep(_EVERY_S)


class _Printer:
    """Prints log chunks; with several tasks, each line says whose it is."""

    def __init__(self, keys: tuple[str, ...], task: str | None) -> None:
        self._keys = keys
        self._task = task

    def show(self, chunk: LogChunk) -> None:
        key = self._keys[chunk.instance] if chunk.instance >= 0 else "run"
        if self._task is not None:
            if key == self._task:
                sys.stdout.write(chunk.text)
            return
        for line in chunk.text.splitlines():
            sys.stdout.write(f"{key} | {line}\n")
