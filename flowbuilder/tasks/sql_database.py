"""Where queries run: a shared in-memory DuckDB for those that only read, a private one for others.

Opening a database costs about 17 ms, a cursor on an open one about 1 ms, and tables registered on a
cursor are invisible to the others. So statements that only read share a database per policy;
anything that could change settings or create tables gets its own, which vanishes with it.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from flowbuilder.runtime.machine import cpu_budget
from flowbuilder.tasks.tables import require

__all__ = ["SqlPlace", "open_cursor"]


class SqlPlace(msgspec.Struct, frozen=True):
    """What a database may do; queries of one kind share one.

    Parameters
    ----------
    policy : str
        ``restricted`` forbids files, network, extensions and changed settings.
    temporary : str
        Folder for what does not fit into memory; empty forbids such files.
    memory_bytes : int
        Memory it may take before it uses ``temporary``; 0 leaves it to DuckDB.
    has_views : bool
        Whether text and lists come out as polars can share them; pyarrow cannot compute with such
        text.
    """

    policy: str
    temporary: str = ""
    memory_bytes: int = 0
    has_views: bool = False


_shared: dict[tuple[int, SqlPlace], Any] = {}
_lock = threading.Lock()


@contextmanager
def open_cursor(place: SqlPlace, *, is_private: bool) -> Iterator[Any]:
    """Lend a connection no other task uses.

    Parameters
    ----------
    place : SqlPlace
        What it may do.
    is_private : bool
        Whether the text may do more than read.

    Yields
    ------
    duckdb.DuckDBPyConnection
        Closed, with everything registered on it, when the block ends.
    """
    if is_private:
        database = _open(place)
        try:
            yield database
        finally:
            database.close()
        return
    cursor = _shared_database(place).cursor()
    try:
        yield cursor
    finally:
        cursor.close()


def _shared_database(place: SqlPlace) -> Any:
    # Keyed by process: a forked child must neither use nor destroy what it inherited.
    key = (os.getpid(), place)
    database = _shared.get(key)
    if database is None:
        with _lock:
            database = _shared.get(key)
            if database is None:
                database = _shared[key] = _open(place)
    return database


@atexit.register
def _close_shared() -> None:
    # Left to the interpreter's end, the extension module complains about what it finds alive.
    for (pid, _), database in list(_shared.items()):
        if pid == os.getpid():
            database.close()
    _shared.clear()


def _open(place: SqlPlace) -> Any:
    duckdb = require("duckdb", "a sql task")
    config: dict[str, object] = {
        "threads": cpu_budget(),
        "python_enable_replacements": False,
        "autoinstall_known_extensions": False,
        "temp_directory": place.temporary,
    }
    if place.temporary:
        # DuckDB makes the last folder of the path when it needs it, and no other.
        Path(place.temporary).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if place.memory_bytes:
        config["memory_limit"] = f"{place.memory_bytes}B"
    database = duckdb.connect(":memory:", config=config)
    # Results must not depend on where the machine stands.
    database.execute("SET GLOBAL TimeZone = 'UTC'")
    if place.has_views:
        database.execute("SET GLOBAL arrow_output_version = '1.4'")
        database.execute("SET GLOBAL produce_arrow_string_view = true")
        # Offsets of lists as polars wants them.
        database.execute("SET GLOBAL arrow_large_buffer_size = true")
    if place.policy == "restricted":
        database.execute("SET GLOBAL enable_external_access = false")
        database.execute("SET GLOBAL lock_configuration = true")
    return database


def _forget_lock() -> None:
    global _lock  # noqa: PLW0603 - a lock held by another thread at fork stays locked in the child
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)
