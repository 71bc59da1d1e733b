"""The store a command reads; a folder without one stays without one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from flowbuilder.errors import StorageError

if TYPE_CHECKING:
    from flowbuilder.api.container import ServiceContainer

__all__ = ["find_store", "has_store", "open_recorded"]


def find_store(arguments: argparse.Namespace) -> Path:
    """Find where runs would be recorded. Creates nothing."""
    from flowbuilder.config import find_data_dir, load_settings

    given = {} if arguments.data_dir is None else {"data_dir": arguments.data_dir}
    settings = load_settings(Path.cwd(), **given)
    return find_data_dir(None, settings.data_dir)


def has_store(arguments: argparse.Namespace) -> bool:
    """Tell whether anything may be recorded: the folder exists, or a server keeps the journal."""
    from flowbuilder.config import load_settings

    return find_store(arguments).exists() or load_settings(Path.cwd()).journal is not None


def open_recorded(arguments: argparse.Namespace) -> ServiceContainer:
    """Open the store that a command reads or controls.

    Raises
    ------
    StorageError
        If nothing was ever recorded there.
    """
    if not has_store(arguments):
        raise StorageError(
            f"no runs are recorded in {find_store(arguments)}",
            hint="--data-dir names another place",
        )
    from flowbuilder.api.container import container_for

    return container_for(None, None if arguments.data_dir is None else Path(arguments.data_dir))
