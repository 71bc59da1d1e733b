"""``flowbuilder trust``: allow the plugins of a project folder to be loaded, which runs their
code.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from flowbuilder.cli.exit_codes import OK

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "dir", nargs="?", default=".", metavar="DIR", help="the project folder; default: here"
    )
    parser.set_defaults(handler=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from flowbuilder.plugins.trust import trust

    folder = Path(arguments.dir).resolve()
    trust(folder)
    print(f"plugins in {folder} may now be loaded by your runs")
    return OK
