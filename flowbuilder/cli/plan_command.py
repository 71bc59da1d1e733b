"""``flowbuilder plan``: what a run would do, in which order, where and why."""

from __future__ import annotations

import argparse

from flowbuilder.cli.exit_codes import OK

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", help="a *.flow.yaml file")
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
    parser.add_argument("--executor", choices=["auto", "inline", "thread", "async", "process"])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(handler=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from pathlib import Path

    from flowbuilder.api.caching import forecast_for
    from flowbuilder.api.loading import load
    from flowbuilder.compile import compile_workflow
    from flowbuilder.compile.explain import explain_plan
    from flowbuilder.config import find_data_dir
    from flowbuilder.tasks import default_registry
    from flowbuilder.vocabulary import ExecutorKind

    # No store is opened: planning leaves no trace.
    path = Path(arguments.file)
    workflow = load(path)
    store = find_data_dir(path)
    registry = default_registry(store.parent)
    compiled = compile_workflow(
        workflow.spec,
        registry,
        to=arguments.to,
        from_=arguments.from_,
        only=arguments.only,
        executor=None if arguments.executor is None else ExecutorKind(arguments.executor),
    )
    explanation = explain_plan(compiled, forecast_for(compiled, registry, store))
    print(explanation.to_json() if arguments.json else explanation.to_text())
    return OK
