"""The table libraries, imported when a table is touched and never before."""

from __future__ import annotations

import importlib
from typing import Any

from flowbuilder.errors import PluginError

__all__ = ["arrow", "arrow_compute", "arrow_parquet", "library"]


def library(module: str) -> Any:
    """Import a library of the ``data`` extra.

    Raises
    ------
    PluginError
        If it is not installed; the hint is the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        root = module.partition(".")[0]
        hint = f"pip install {root}" if root == "pandas" else 'pip install "flowbuilder[data]"'
        raise PluginError(
            f"datasets need {root}, which is not installed in this environment", hint=hint
        ) from error


def arrow() -> Any:
    """Give pyarrow."""
    return library("pyarrow")


def arrow_compute() -> Any:
    """Give pyarrow's compute functions."""
    return library("pyarrow.compute")


def arrow_parquet() -> Any:
    """Give pyarrow's Parquet reader and writer."""
    return library("pyarrow.parquet")
