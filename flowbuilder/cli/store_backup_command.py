"""``flowbuilder store backup``: a copy of the store that is a store."""

from __future__ import annotations

import argparse

from flowbuilder.cli.exit_codes import FAILED, OK
from flowbuilder.cli.recorded import open_recorded

__all__ = ["add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="TARGET", help="the new folder")
    parser.add_argument(
        "--copy", action="store_true", help="copy outputs even where hard links are possible"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--data-dir", metavar="DIR", help="where runs are recorded")
    parser.set_defaults(handler=_back_up)


def _back_up(arguments: argparse.Namespace) -> int:
    from flowbuilder.api.maintenance import backup_store

    data_dir = open_recorded(arguments).data_dir
    report = backup_store(arguments.target, links=not arguments.copy, data_dir=data_dir)
    if arguments.json:
        import msgspec

        from flowbuilder.cli.documents import print_json

        print_json(msgspec.to_builtins(report))
    else:
        from flowbuilder.api.display_text import visible_text

        for found in report.missing:
            print(visible_text(f"not in the backup, for it was lost before: {found.message}"))
        counts = report.counts
        print(
            visible_text(
                f"{report.path}: {counts.runs:,} runs, {counts.outputs:,} outputs"
                f" ({counts.output_bytes / 2**20:,.1f} MiB), checked, in {report.duration_s:.1f} s"
            )
        )
    return FAILED if report.missing else OK
