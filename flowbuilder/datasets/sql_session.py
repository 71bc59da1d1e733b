"""The DuckDB of a store: in memory, opened at the first query, one cursor per query."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from flowbuilder.datasets.libraries import library

__all__ = ["SqlSession"]

_REMEMBERED: Final = 512


class SqlSession:
    """A database without tables of its own.

    Parameters
    ----------
    folder : Path
        The store's folder of datasets; DuckDB spills below it.
    threads : int or None
        Threads a query may use; None leaves it to DuckDB.
    is_restricted : bool
        Whether queries may reach nothing but datasets and what is handed to them.
    """

    def __init__(self, folder: Path, *, threads: int | None, is_restricted: bool) -> None:
        self._folder, self._threads, self._is_restricted = folder, threads, is_restricted
        self._database: Any = None
        self._pid = 0
        self._lock = threading.Lock()
        self._remembered: OrderedDict[object, Any] = OrderedDict()

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """Lend a connection no other query uses.

        Yields
        ------
        duckdb.DuckDBPyConnection
            What is registered on it vanishes with it.
        """
        cursor = self._opened().cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def recall(self, key: object) -> Any:
        """Give what `remember` was told; None if nothing, or too long ago."""
        return self._remembered.get(key)

    def remember(self, key: object, value: Any) -> Any:
        """Keep an answer that will not change, and give it back."""
        self._remembered[key] = value
        while len(self._remembered) > _REMEMBERED:
            try:
                self._remembered.popitem(last=False)
            except KeyError:  # another thread was faster
                break
        return value

    def _opened(self) -> Any:
        # A forked child must neither use nor destroy what it inherited.
        if self._database is None or self._pid != os.getpid():
            with self._lock:
                if self._database is None or self._pid != os.getpid():
                    self._database, self._pid = self._open(), os.getpid()
        return self._database

    def _open(self) -> Any:
        config: dict[str, object] = {
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "parquet_metadata_cache": True,
            "temp_directory": str(self._folder / f"spill-{os.getpid()}"),
        }
        if self._threads:
            config["threads"] = self._threads
        database = library("duckdb").connect(":memory:", config=config)
        # Results must not depend on where the machine stands; constants are compared in UTC.
        database.execute("SET GLOBAL TimeZone = 'UTC'").fetchall()
        # Text as views, which polars takes without a copy.
        database.execute("SET GLOBAL arrow_output_version = '1.4'").fetchall()
        database.execute("SET GLOBAL produce_arrow_string_view = true").fetchall()
        if self._is_restricted:
            place = str(self._folder).replace("'", "''")
            database.execute(f"SET GLOBAL allowed_directories = ['{place}/']").fetchall()
            database.execute("SET GLOBAL enable_external_access = false").fetchall()
            database.execute("SET GLOBAL lock_configuration = true").fetchall()
        return database

    def close(self) -> None:
        """Close the database. May be repeated; the next query opens another."""
        with self._lock:
            database, self._database = self._database, None
            if database is not None and self._pid == os.getpid():
                database.close()
