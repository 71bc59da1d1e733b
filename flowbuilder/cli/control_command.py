"""``flowbuilder cancel | pause | resume``: ask the process that executes a run, through its
endpoint.
"""

from __future__ import annotations

import argparse

from flowbuilder.cli.exit_codes import OK
from flowbuilder.cli.recorded import open_recorded
from flowbuilder.errors import FlowBuilderError
from flowbuilder.ids import short_id
from flowbuilder.vocabulary import RunState

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "run", nargs="?", default="latest", help="run id, unique suffix or 'latest' (the default)"
    )
    parser.add_argument("--task", metavar="TASK", help="with cancel: only this task")
    parser.add_argument("--data-dir", metavar="DIR", help="where runs are recorded")
    parser.set_defaults(handler=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from flowbuilder.api.remote_control import control_run

    if arguments.task and arguments.command != "cancel":
        raise FlowBuilderError(
            f"expected --task only with cancel, found it with {arguments.command}"
        )
    container = open_recorded(arguments)
    summary = container.journal.find_run(arguments.run)
    ref = short_id(summary.run_id)
    if summary.state is RunState.INTERRUPTED:
        raise FlowBuilderError(
            f"run {ref} is interrupted: the process that executed it (pid {summary.owner_pid} on"
            f" {summary.owner_host}) is gone",
            hint=f"continue it with: flowbuilder run --resume {ref}",
        )
    if summary.state not in {RunState.RUNNING, RunState.PAUSED, RunState.PENDING}:
        hint = (
            f"continue it with: flowbuilder run --resume {ref}"
            if arguments.command == "resume"
            else ""
        )
        raise FlowBuilderError(
            f"expected a run that is alive, found run {ref}, which {summary.state.value}", hint=hint
        )
    control_run(container, summary, arguments.command, arguments.task)
    done = {"cancel": "cancelled", "pause": "paused", "resume": "resumed"}[arguments.command]
    print(f"{done} {'task ' + arguments.task + ' of ' if arguments.task else ''}run {ref}")
    return OK
