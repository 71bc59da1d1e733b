"""Tables asked by key: a dataset with and without its index, and DuckDB over the same files."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["DatasetStore"]


class DatasetStore:
    """A dataset in the sample's own folder. ``reader`` says who asks: ``store`` or ``duckdb`` (over
    the dataset's Parquet files, the database kept open, settings as they come); ``indexed``
    whether the key has an index, which new files are added to in the background.
    """

    module = "flowbuilder.datasets"

    def __init__(self, reader: str = "store", *, indexed: bool = False) -> None:
        import duckdb

        from flowbuilder.datasets import Budget, Store, StoreOptions

        folder = Path(os.environ.get("BENCH_SCRATCH", ".")) / "datasets-bench"
        self._is_indexed = indexed
        options = StoreOptions(indexing=Budget() if indexed else None)
        self._store = Store(folder, options)
        self._plain = duckdb.connect() if reader == "duckdb" else None
        self._files = f"read_parquet('{self._store.folder}/1/*.parquet')"

    def load(self, table: object) -> float:
        """Write the rows, make them ready for questions; return the seconds the index took."""
        self._store["t"].append(table)
        if not self._is_indexed:
            return 0.0
        return self._store.build(dataset="t", column="id").took_s

    def append(self, table: object) -> None:
        self._store["t"].append(table)

    def ask(self, condition: str) -> object:
        """Fetch all columns of the rows that meet a condition."""
        if self._plain is not None:
            text = f"SELECT * FROM {self._files} WHERE {condition}"
            return self._plain.sql(text).to_arrow_table()
        return self._store.query(f"SELECT * FROM t WHERE {condition}").arrow()

    def close(self) -> None:
        if self._plain is not None:
            self._plain.close()
        self._store.close()
