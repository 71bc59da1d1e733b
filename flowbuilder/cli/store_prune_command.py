"""``flowbuilder store prune``: move old runs out of the journal."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flowbuilder.cli.exit_codes import OK
from flowbuilder.cli.recorded import open_recorded

if TYPE_CHECKING:
    from flowbuilder.history.pruning import MonthReport

__all__ = ["add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--grace",
        default="7d",
        metavar="DURATION",
        help="how long a month and its runs must have been over (default: 7d)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--data-dir", metavar="DIR", help="where runs are recorded")
    parser.set_defaults(handler=_prune)


def _prune(arguments: argparse.Namespace) -> int:
    from flowbuilder.api.querying import prune_runs

    data_dir = open_recorded(arguments).data_dir
    reports = prune_runs(grace=arguments.grace, dry_run=arguments.dry_run, data_dir=data_dir)
    if arguments.json:
        import msgspec

        from flowbuilder.cli.documents import print_json

        print_json([msgspec.structs.asdict(report) for report in reports])
        return OK
    for report in reports:
        print(_line(report, is_dry=arguments.dry_run))
    if not reports:
        print("the journal holds no runs")
    return OK


def _line(report: MonthReport, *, is_dry: bool) -> str:
    runs = f"{report.runs} run{'s' * (report.runs != 1)}"
    if report.waits:
        return f"{report.month}: {runs} stay in the journal: {report.waits}"
    if is_dry:
        return f"{report.month}: {runs} would move"
    stays = f", {report.runs - report.pruned} changed meanwhile" * (report.pruned < report.runs)
    return f"{report.month}: {report.pruned} of {runs} moved to {report.size_bytes:,} bytes{stays}"
