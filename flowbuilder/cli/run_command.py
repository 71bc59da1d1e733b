"""``flowbuilder run``: execute a workflow file, or resume a run."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from typing import TYPE_CHECKING

from flowbuilder.cli.exit_codes import FAILED, INTERRUPTED, OK
from flowbuilder.cli.parameters import read_parameters
from flowbuilder.cli.screen import whole_pipe
from flowbuilder.cli.start_up import end_start_up
from flowbuilder.errors import ConfigurationError
from flowbuilder.vocabulary import RunState

if TYPE_CHECKING:
    from flowbuilder.api.container import ServiceContainer
    from flowbuilder.api.run import Run

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", nargs="?", help="a *.flow.yaml file; may be left out with --resume")
    parser.add_argument(
        "-p",
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter; @FILE reads a file",
    )
    parser.add_argument(
        "--to", action="append", metavar="TASK", help="only this task and what it needs"
    )
    parser.add_argument(
        "--from",
        dest="from_",
        action="append",
        metavar="TASK",
        help="only this task and what needs it",
    )
    parser.add_argument("--only", action="append", metavar="TASK", help="only this task")
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="continue a run: id, unique suffix or 'latest'; with --from or --only: take outputs"
        " from it",
    )
    parser.add_argument(
        "--assume",
        choices=["done", "rerun"],
        help="what to assume of outside effects whose outcome is unknown",
    )
    parser.add_argument("--executor", choices=["auto", "inline", "thread", "async", "process"])
    parser.add_argument(
        "--workers", type=int, metavar="N", help="tasks that use the CPU at the same time"
    )
    parser.add_argument("--durability", choices=["run", "task", "none"])
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="run cached tasks too; their new outputs replace the kept ones",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="where runs are recorded")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(handler=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    is_selection = bool(arguments.from_ or arguments.only)
    if arguments.resume and not is_selection:
        run, container = _open_resume(arguments)
    elif arguments.file:
        run, container = _open_run(arguments)
    else:
        raise ConfigurationError(
            "expected a workflow file or --resume RUN", hint="flowbuilder run pipeline.flow.yaml"
        )
    container.open_endpoint()
    return _drive(run, arguments)


def _open_run(arguments: argparse.Namespace) -> tuple[Run, ServiceContainer]:
    from flowbuilder.api.loading import load
    from flowbuilder.api.run_request import RunRequest

    _apply_settings(arguments)
    workflow = load(arguments.file, data_dir=arguments.data_dir)
    params = read_parameters(arguments.param, workflow.spec)
    request = RunRequest(
        to=arguments.to,
        from_=arguments.from_,
        only=arguments.only,
        executor=arguments.executor,
        durability=arguments.durability,
        base_run=arguments.resume,
        cache=not arguments.no_cache,
        echo=False,
        keeps_all=False,
    )
    return workflow.open_run(request, params), workflow.container()


def _open_resume(arguments: argparse.Namespace) -> tuple[Run, ServiceContainer]:
    from pathlib import Path

    from flowbuilder.api.container import container_for
    from flowbuilder.api.resuming import prepare_resume

    _apply_settings(arguments)
    flow_file = Path(arguments.file) if arguments.file else None
    container = container_for(flow_file, arguments.data_dir)
    saved_spec = _recorded_spec(container, arguments.resume)
    prepared = prepare_resume(
        container,
        arguments.resume,
        assume=arguments.assume,
        params=read_parameters(arguments.param, saved_spec),
    )
    if not arguments.json and not arguments.quiet:
        from flowbuilder.api.display_text import visible_text

        print(visible_text("\n".join(prepared.lines)), file=sys.stderr)
    return prepared.open(echo=False, cache=not arguments.no_cache), container


def _recorded_spec(container: ServiceContainer, ref: str) -> object:
    from flowbuilder.definition import read_workflow

    version = container.journal.version(container.journal.find_run(ref).plan_id)
    return read_workflow(version.text, file=version.path or "<recorded>").spec


def _apply_settings(arguments: argparse.Namespace) -> None:
    if arguments.workers is not None:
        from flowbuilder.api.settings import configure

        configure(workers=arguments.workers)


def _drive(run: Run, arguments: argparse.Namespace) -> int:
    from flowbuilder.cli.progress import Progress

    _treat_as_interrupt("SIGTERM", "SIGHUP")
    end_start_up()
    with Progress(run, is_silent=arguments.json or arguments.quiet):
        run.drive()
    try:
        run.raise_for_state()
    except KeyboardInterrupt:
        code, error = INTERRUPTED, None
    except Exception as raised:
        code, error = FAILED, raised
    else:
        code, error = OK, None
    with whole_pipe():
        _report(run, error, arguments)
    return code


def _report(run: Run, error: Exception | None, arguments: argparse.Namespace) -> None:
    if arguments.json:
        from flowbuilder.cli.documents import print_json, run_document

        print_json(run_document(run))
        return
    from flowbuilder.cli.summary import print_failure, print_interrupt, print_summary

    if not arguments.quiet:
        print_summary(run)
    if error is not None:
        print_failure(run, error)
    elif run.state is not RunState.SUCCEEDED and not arguments.quiet:
        print_interrupt(run)


def _treat_as_interrupt(*names: str) -> None:
    """Let a request to end (`kill`, a closed terminal) cancel the run as Ctrl-C does, so that no
    child process is left behind.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for name in names:
        number = getattr(signal, name, None)
        # Ignored signals stay ignored: that is what nohup asks for.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
