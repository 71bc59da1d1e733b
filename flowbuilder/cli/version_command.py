"""``flowbuilder version``."""

from __future__ import annotations

import argparse

from flowbuilder._version import __version__
from flowbuilder.cli.exit_codes import OK

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.set_defaults(handler=execute)


def execute(_arguments: argparse.Namespace) -> int:
    """Run the command."""
    print(__version__)
    return OK
