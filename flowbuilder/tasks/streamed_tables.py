"""Results and lazy frames written to files batch by batch, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from flowbuilder.store.table_scan import TableScan
from flowbuilder.tasks.tables import require

__all__ = ["new_file", "sink_lazy", "write_batches"]

_LEVEL = 1
"""zstd's fastest: larger levels cost more time than reading the bytes they save."""


def new_file(folder: Path) -> Path:
    """Name a file nobody else uses, in a folder that is made if missing."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"{os.urandom(8).hex()}.parquet"


def write_batches(schema: Any, batches: Iterable[Any], folder: Path) -> TableScan:
    """Write record batches to a Parquet file of their own, a row group each.

    Raises
    ------
    OSError
        If the disk refuses; what the iterable raises passes through. No file is left then.
    """
    parquet = require("pyarrow.parquet", "a table on disk")
    path = new_file(folder)
    try:
        with parquet.ParquetWriter(
            str(path), schema, compression="zstd", compression_level=_LEVEL
        ) as writer:
            for batch in batches:
                if batch.num_rows:
                    writer.write_batch(batch)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    path.chmod(0o600)
    return TableScan.owning(path, "parquet")


def sink_lazy(frame: Any, folder: Path) -> TableScan:
    """Compute a polars LazyFrame into a Parquet file of its own, streaming.

    Raises
    ------
    Exception
        Whatever polars raises while computing it; no file is left then.
    """
    path = new_file(folder)
    try:
        frame.sink_parquet(path, compression="zstd", compression_level=_LEVEL)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    path.chmod(0o600)
    return TableScan.owning(path, "parquet")
