"""``flowbuilder sql``: ask everything that was recorded."""

from __future__ import annotations

import argparse

from flowbuilder.cli.exit_codes import OK
from flowbuilder.cli.recorded import open_recorded

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "query",
        help="one SELECT over runs, tasks, events, artifacts, metrics and the ready views"
        " ('show tables' lists them)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document: the rows")
    parser.add_argument("--data-dir", metavar="DIR", help="where runs are recorded")
    parser.set_defaults(handler=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    result = open_recorded(arguments).history.sql(arguments.query)
    if arguments.json:
        from flowbuilder.cli.documents import print_json

        names = result.columns
        print_json([dict(zip(names, map(_plain, row), strict=True)) for row in result.rows])
    else:
        print(result.to_text())
    return OK


def _plain(value: object) -> object:
    """Give what JSON can hold: sums of integers as integers, times and other values as text."""
    from decimal import Decimal

    from flowbuilder.cli.documents import output_document

    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)

    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return output_document(value)
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if isoformat is not None else str(value)
