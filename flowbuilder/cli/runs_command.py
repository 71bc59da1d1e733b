"""``flowbuilder runs``: list, show, follow and remove recorded runs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from flowbuilder.cli.exit_codes import FAILED, OK
from flowbuilder.cli.recorded import find_store, has_store, open_recorded

if TYPE_CHECKING:
    from flowbuilder.store.ports import RunSummary

__all__ = ["add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="newest runs first")
    listing.add_argument("--limit", type=_count, default=20, metavar="N", help="default: 20")
    listing.add_argument("--workflow", metavar="NAME", help="only runs of this workflow")
    listing.set_defaults(handler=_list)
    show = actions.add_parser("show", help="one run with its tasks")
    show.set_defaults(handler=_show)
    events = actions.add_parser(
        "events", help="everything recorded of a run, one JSON object a line"
    )
    events.set_defaults(handler=_events)
    for action in (show, events):
        action.add_argument("run", help="run id, unique suffix or 'latest'")
    comparing = actions.add_parser("compare", help="what tells two runs apart")
    comparing.add_argument("a", help="run id, unique suffix or 'latest'")
    comparing.add_argument("b", help="another one")
    comparing.add_argument("--no-outputs", action="store_true", help="do not read stored outputs")
    comparing.set_defaults(handler=_compare)
    remove = actions.add_parser("rm", help="remove runs that are over, with their outputs")
    remove.add_argument("runs", nargs="+", metavar="RUN", help="run id, unique suffix or 'latest'")
    remove.set_defaults(handler=_remove)
    for action in (listing, show, events, comparing, remove):
        action.add_argument("--json", action="store_true", help="print one JSON document")
        action.add_argument("--data-dir", metavar="DIR", help="where runs are recorded")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return number


def _list(arguments: argparse.Namespace) -> int:
    store, summaries = find_store(arguments), list["RunSummary"]()
    if has_store(arguments):
        journal = open_recorded(arguments).journal
        summaries = list(journal.list_runs(limit=arguments.limit, workflow=arguments.workflow))
    if arguments.json:
        from flowbuilder.cli.documents import print_json, summary_document

        print_json([summary_document(summary) for summary in summaries])
        return OK
    if not summaries:
        which = f"of workflow {arguments.workflow!r} " if arguments.workflow else ""
        print(f"no runs {which}are recorded in {store}")
        return OK
    from flowbuilder.cli.runs_table import print_runs

    print_runs(summaries)
    return OK


def _show(arguments: argparse.Namespace) -> int:
    from flowbuilder.api.history import read_task_runs

    container = open_recorded(arguments)
    summary = container.journal.find_run(arguments.run)
    tasks = read_task_runs(container.journal, summary)
    if arguments.json:
        from flowbuilder.cli.documents import print_json, summary_document, task_document

        print_json({**summary_document(summary), "tasks": [task_document(task) for task in tasks]})
        return OK
    from flowbuilder.cli.runs_table import print_run

    print_run(summary, tasks)
    return OK


def _events(arguments: argparse.Namespace) -> int:
    from flowbuilder.cli.documents import print_json
    from flowbuilder.cli.event_documents import event_document

    container = open_recorded(arguments)
    summary = container.journal.find_run(arguments.run)
    keys = container.journal.version(summary.plan_id).keys
    documents = (event_document(event, keys) for event in container.journal.events(summary.run_id))
    if arguments.json:
        print_json(list(documents))
        return OK
    for document in documents:
        print_json(document)
    return OK


def _compare(arguments: argparse.Namespace) -> int:
    from flowbuilder.api.querying import compare

    data_dir = open_recorded(arguments).data_dir
    outputs = not arguments.no_outputs
    found = compare(arguments.a, arguments.b, outputs=outputs, data_dir=data_dir)
    if arguments.json:
        import msgspec

        from flowbuilder.cli.documents import print_json

        print_json(msgspec.to_builtins(found))
        return OK
    from flowbuilder.api.display_text import visible_text

    print("\n".join(map(visible_text, repr(found).split("\n"))))
    return OK


def _remove(arguments: argparse.Namespace) -> int:
    container = open_recorded(arguments)
    found = {ref: container.journal.find_run(ref) for ref in arguments.runs}
    summaries = list({summary.run_id: summary for summary in found.values()}.values())
    ids = [summary.run_id for summary in summaries]
    removed = container.journal.remove_runs(ids)
    alive = [summary for summary in summaries if _is_alive(summary)]
    for summary in summaries:
        if summary not in alive:
            container.artifacts.remove_run(summary.run_id)
    if arguments.json:
        print(json.dumps({"removed": removed, "asked": len(ids)}))
    else:
        print(f"removed {removed} of {len(ids)} run{'s' * (len(ids) != 1)}")
        for summary in alive:
            from flowbuilder.ids import short_id

            ref = short_id(summary.run_id)
            print(
                f"run {ref} is alive and stays; end it first with: flowbuilder cancel {ref}",
                file=sys.stderr,
            )
    return OK if removed == len(ids) else FAILED


def _is_alive(summary: RunSummary) -> bool:
    return summary.state.value in {"running", "paused", "pending"}
