"""Named datasets as versioned Parquet files, queries over them, and indexes that build themselves.

See the README beside this file for what is true and what is derived.
"""

from __future__ import annotations

from flowbuilder.datasets.adaptive_index import IndexInfo, IndexingHandle
from flowbuilder.datasets.advice import Recommendation
from flowbuilder.datasets.column_facts import ColumnStatistics
from flowbuilder.datasets.dataset import Dataset
from flowbuilder.datasets.index_builder import Budget, BuildReport
from flowbuilder.datasets.janitor import Vacuumed
from flowbuilder.datasets.manifest import Version
from flowbuilder.datasets.parts import RunPlace
from flowbuilder.datasets.query_result import QueryResult
from flowbuilder.datasets.snapshot import Snapshot
from flowbuilder.datasets.store import Store, StoreOptions
from flowbuilder.datasets.uses import DatasetUse

__all__ = [
    "Budget",
    "BuildReport",
    "ColumnStatistics",
    "Dataset",
    "DatasetUse",
    "IndexInfo",
    "IndexingHandle",
    "QueryResult",
    "Recommendation",
    "RunPlace",
    "Snapshot",
    "Store",
    "StoreOptions",
    "Vacuumed",
    "Version",
]
