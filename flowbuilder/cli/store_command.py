"""``flowbuilder store``: look after what is recorded. One module per action."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Final

__all__ = ["add_arguments"]

_ACTIONS: Final = {
    "backup": "copy the store, while runs go on, into a new folder",
    "check": "read everything that is recorded and say what is wrong",
    "prune": "move runs of months that are over from the journal to Parquet files",
}
"""Each is a module ``store_NAME_command`` with ``add_arguments(parser)``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, summary in _ACTIONS.items():
        sub = actions.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
        )
        import_module(f"flowbuilder.cli.store_{name}_command").add_arguments(sub)
