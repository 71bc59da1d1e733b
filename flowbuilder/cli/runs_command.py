"""``flowbuilder runs``: list, show, follow and remove recorded runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flowbuilder.cli.exit_codes import FAILED, OK
from flowbuilder.durations import format_duration
from flowbuilder.ids import short_id

if TYPE_CHECKING:
    from flowbuilder.api.container import ServiceContainer
    from flowbuilder.store.ports import RunSummary

__all__ = ["add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="newest runs first")
    listing.add_argument("--limit", type=int, default=20, metavar="N")
    listing.add_argument("--workflow", metavar="NAME")
    listing.set_defaults(handler=_list)
    show = actions.add_parser("show", help="one run with its tasks")
    show.add_argument("run", help="run id, unique suffix or 'latest'")
    show.set_defaults(handler=_show)
    events = actions.add_parser(
        "events", help="everything recorded of a run, one JSON object a line"
    )
    events.add_argument("run", help="run id, unique suffix or 'latest'")
    events.set_defaults(handler=_events)
    remove = actions.add_parser("rm", help="remove runs that are over, with their outputs")
    remove.add_argument("runs", nargs="+", metavar="RUN")
    remove.set_defaults(handler=_remove)
    for action in (listing, show, events, remove):
        action.add_argument("--json", action="store_true", help="print one JSON document")
        action.add_argument("--data-dir", metavar="DIR", help="where runs are recorded")


def _container(arguments: argparse.Namespace) -> ServiceContainer:
    from flowbuilder.api.container import container_for

    return container_for(None, None if arguments.data_dir is None else Path(arguments.data_dir))


def _list(arguments: argparse.Namespace) -> int:
    container = _container(arguments)
    summaries = container.journal.list_runs(limit=arguments.limit, workflow=arguments.workflow)
    if arguments.json:
        from flowbuilder.cli.documents import summary_document

        print(json.dumps([summary_document(summary) for summary in summaries], ensure_ascii=False))
        return OK
    if not summaries:
        print(f"no runs are recorded in {container.data_dir}")
        return OK
    rows = [
        ("RUN", "WORKFLOW", "STATE", "STARTED", "TOOK", "TASKS"),
        *(_row(summary) for summary in summaries),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return OK


def _row(summary: RunSummary) -> tuple[str, ...]:
    from datetime import datetime

    started = datetime.fromtimestamp(summary.started_wall_ns / 1e9).astimezone()
    counts = ", ".join(f"{number} {state}" for state, number in summary.counts.items() if number)
    return (
        short_id(summary.run_id),
        summary.workflow,
        summary.state.value,
        started.strftime("%Y-%m-%d %H:%M:%S"),
        format_duration(summary.duration_s),
        counts,
    )


def _show(arguments: argparse.Namespace) -> int:
    from flowbuilder.api.history import read_task_runs
    from flowbuilder.api.task_run import timeline_text

    container = _container(arguments)
    summary = container.journal.find_run(arguments.run)
    tasks = read_task_runs(container.journal, summary)
    if arguments.json:
        from flowbuilder.cli.documents import summary_document, task_document

        print(
            json.dumps(
                {**summary_document(summary), "tasks": [task_document(task) for task in tasks]},
                ensure_ascii=False,
            )
        )
        return OK
    print(f"run       {summary.run_id}")
    print(f"workflow  {summary.workflow}" + (f"  ({summary.path})" if summary.path else ""))
    print(f"state     {summary.state.value} after {format_duration(summary.duration_s)}")
    if summary.params:
        print(f"params    {json.dumps(summary.params, ensure_ascii=False, default=str)}")
    if summary.error:
        print(f"error     {summary.error}")
    print()
    print(timeline_text(tasks))
    for task in tasks:
        if task.reason or task.error:
            print(f"  {task.name}: {task.error or task.reason}")
    return OK


def _events(arguments: argparse.Namespace) -> int:
    from flowbuilder.cli.event_documents import event_document

    container = _container(arguments)
    summary = container.journal.find_run(arguments.run)
    keys = container.journal.version(summary.plan_id).keys
    documents = (event_document(event, keys) for event in container.journal.events(summary.run_id))
    if arguments.json:
        print(json.dumps(list(documents), ensure_ascii=False))
        return OK
    for document in documents:
        print(json.dumps(document, ensure_ascii=False))
    return OK


def _remove(arguments: argparse.Namespace) -> int:
    container = _container(arguments)
    summaries = [container.journal.find_run(ref) for ref in arguments.runs]
    ids = [summary.run_id for summary in summaries]
    removed = container.journal.remove_runs(ids)
    for summary in summaries:
        if summary.state.value not in {"running", "paused", "pending"}:
            container.artifacts.remove_run(summary.run_id)
    if arguments.json:
        print(json.dumps({"removed": removed, "asked": len(ids)}))
    else:
        print(f"removed {removed} of {len(ids)} run{'s' * (len(ids) != 1)}")
        if removed < len(ids):
            print("runs that are alive are not removed; cancel them first", file=sys.stderr)
    return OK if removed == len(ids) else FAILED
