"""Named datasets as versioned Parquet files, queries over them, and indexes that build themselves.

See the README beside this file for what is true and what is derived.
"""

from __future__ import annotations

from flowbuilder.datasets.column_facts import ColumnStatistics
from flowbuilder.datasets.dataset import Dataset
from flowbuilder.datasets.janitor import Vacuumed
from flowbuilder.datasets.manifest import Version
from flowbuilder.datasets.parts import RunPlace
from flowbuilder.datasets.query_result import QueryResult
from flowbuilder.datasets.snapshot import Snapshot
from flowbuilder.datasets.store import Store, StoreOptions
from flowbuilder.datasets.uses import DatasetUse

__all__ = [
    "ColumnStatistics",
    "Dataset",
    "DatasetUse",
    "QueryResult",
    "RunPlace",
    "Snapshot",
    "Store",
    "StoreOptions",
    "Vacuumed",
    "Version",
]
