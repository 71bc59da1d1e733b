"""``flowbuilder logs``: what tasks printed, also while they run."""

from __future__ import annotations

import argparse
import os
import sys
import time

from flowbuilder.cli.exit_codes import OK
from flowbuilder.cli.recorded import open_recorded
from flowbuilder.cli.screen import is_terminal
from flowbuilder.errors import FlowBuilderError

__all__ = ["add_arguments", "execute"]

_EVERY_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "run", nargs="?", default="latest", help="run id, unique suffix or 'latest' (the default)"
    )
    parser.add_argument("task", nargs="?", help="only this task")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run is over")
    parser.add_argument("--data-dir", metavar="DIR", help="where runs are recorded")
    parser.set_defaults(handler=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from flowbuilder.cli.log_text import LogPrinter
    from flowbuilder.records import LogChunk
    from flowbuilder.vocabulary import RunState

    journal = open_recorded(arguments).journal
    summary = journal.find_run(arguments.run)
    keys = journal.version(summary.plan_id).keys
    _check_task(arguments.task, keys)
    printer = LogPrinter(
        sys.stdout,
        keys,
        arguments.task,
        is_terminal=is_terminal(sys.stdout),
        has_colour=not os.environ.get("NO_COLOR"),
    )
    live = {RunState.PENDING, RunState.RUNNING, RunState.PAUSED}
    seq = -1
    while True:
        # The state is read before the events: what is recorded before the end is then never missed.
        goes_on = arguments.follow and journal.find_run(summary.run_id).state in live
        for event in journal.events(summary.run_id, after_seq=seq):
            seq = event.seq
            if isinstance(event, LogChunk):
                printer.show(event)
        if not goes_on:
            printer.end()
            return OK
        sys.stdout.flush()
        time.sleep(_EVERY_S)


def _check_task(task: str | None, keys: tuple[str, ...]) -> None:
    if task is None or task in keys:
        return
    import difflib

    near = difflib.get_close_matches(task, keys, 1)
    listed = ", ".join(keys[:20]) + (", ..." if len(keys) > 20 else "")
    hint = f"did you mean {near[0]!r}?" if near else f"its tasks: {listed}"
    raise FlowBuilderError(f"expected a task of the run, found {task!r}", hint=hint)
