"""``flowbuilder store check``: whether everything that was recorded is still there, and right."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flowbuilder.cli.exit_codes import FAILED, OK
from flowbuilder.cli.recorded import open_recorded

if TYPE_CHECKING:
    from flowbuilder.store.findings import CheckReport

__all__ = ["add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--quick", action="store_true", help="compare the sizes of outputs instead of reading them"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--data-dir", metavar="DIR", help="where runs are recorded")
    parser.set_defaults(handler=_check)


def _check(arguments: argparse.Namespace) -> int:
    from flowbuilder.api.maintenance import check_store

    data_dir = open_recorded(arguments).data_dir
    report = check_store(quick=arguments.quick, data_dir=data_dir)
    if arguments.json:
        import msgspec

        from flowbuilder.cli.documents import print_json

        print_json({"is_sound": report.is_sound, **msgspec.to_builtins(report)})
    else:
        _print(report)
    return OK if report.is_sound else FAILED


def _print(report: CheckReport) -> None:
    from flowbuilder.api.display_text import visible_text

    for found in report.findings:
        hint = f" ({found.hint})" if found.hint else ""
        print(visible_text(f"{found.severity}: {found.message}{hint}"))
    counts = report.counts
    print(
        f"{'nothing is wrong' if report.is_sound else f'{len(report.errors)} things are wrong'}:"
        f" {counts.runs:,} runs, {counts.records:,} records, {counts.outputs:,} outputs"
        f" ({counts.output_bytes / 2**20:,.1f} MiB) read in {report.duration_s:.1f} s"
    )
