"""The DuckDB databases behind the history: a file many processes share, or one in memory.

Two instances per process, because a locked-down one can neither write nor checkpoint: the *writer*
attaches the file for the moment of a projection; the *reader* has no access to anything but that
file, and attaches it read-only for the moment of a question. Opening an instance costs about 13 ms,
attaching a file of 200 MB 0.5 ms.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

from flowbuilder.errors import PluginError
from flowbuilder.store.forks import leak, watch_forks

__all__ = ["BASE", "Database", "FileDatabase", "MemoryDatabase", "load_duckdb"]

BASE: Final = "base.main"
"""Database and schema of the projected tables, whichever kind of database they are in."""

_open: WeakSet[Database] = WeakSet()


def load_duckdb() -> Any:
    """Import DuckDB, and make sure that pyarrow is there too.

    Raises
    ------
    PluginError
        If one is not installed.
    """
    try:
        import duckdb
        import pyarrow as pa  # type: ignore[import-untyped]  # noqa: F401 - tables pass through it
    except ModuleNotFoundError as error:
        raise PluginError(
            f"questions to the history need {error.name}, which is not installed here",
            hint='pip install "flowbuilder[data]"',
        ) from error
    return duckdb


class Database:
    """What both kinds have in common: a locked-down instance that answers questions."""

    def __init__(self) -> None:
        self._reader: Any = None
        self.names: object = None
        """What the names of a question mean now; None if they are not defined."""
        watch_forks(self)
        _open.add(self)

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """Lend a cursor that reads the tables in `BASE`."""
        cursor = self.reader().cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def reader(self) -> Any:
        """Give the connection that answers questions."""
        if self._reader is None:
            self._reader = _connect(self._prepare)
            self.names = None
        return self._reader

    def _prepare(self, connection: Any) -> None:
        """Do what needs access to files, before it is given up."""

    def close(self) -> None:
        """Close what is open; it opens again when needed."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def abandon(self) -> None:
        """Forget everything in a forked child, which must not touch it."""
        leak([self._reader])
        self._reader = None


class MemoryDatabase(Database):
    """Tables that only this process has: for journals in memory, and places without locks."""

    def __init__(self) -> None:
        super().__init__()
        self.reader()

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """Lend a cursor that writes the tables in `BASE`."""
        with self.reading() as cursor:
            yield cursor

    def _prepare(self, connection: Any) -> None:
        connection.execute("ATTACH ':memory:' AS base").fetchall()


class FileDatabase(Database):
    """Tables in a file. The caller holds the lock: exclusive to write, shared to read.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._writer: Any = None

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """Attach the file for writing, made if missing; what is left in its log is put into place
        at the end.
        """
        if self._writer is None:
            self._writer = load_duckdb().connect(":memory:", config=_config())
        with _attached(self._writer, self.path, "") as cursor:
            yield cursor
        # Everything is in the file now. If not, position and rows are lost together.
        self._remove_logs()

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """Attach the file for reading."""
        with _attached(self.reader(), self.path, " (READ_ONLY)") as cursor:
            yield cursor

    def remove(self) -> None:
        """Delete the file and its log."""
        self.close()
        # The logs first: one that outlives its file would be replayed into the next.
        self._remove_logs()
        self.path.unlink(missing_ok=True)

    @property
    def is_clean(self) -> bool:
        """Whether it can be read: there, and left by nobody who died while writing."""
        return self.path.exists() and not any(self._logs())

    def _logs(self) -> Iterator[Path]:
        return self.path.parent.glob(f"{self.path.name}.wal*")

    def _remove_logs(self) -> None:
        for path in list(self._logs()):
            path.unlink(missing_ok=True)

    def _prepare(self, connection: Any) -> None:
        log = self.path.with_name(self.path.name + ".wal")
        allowed = ", ".join(_quoted(str(path)) for path in (self.path, log))
        connection.execute(f"SET GLOBAL allowed_paths = [{allowed}]").fetchall()

    def close(self) -> None:
        """Close what is open; it opens again when needed."""
        super().close()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def abandon(self) -> None:
        """Forget everything in a forked child, which must not touch it."""
        super().abandon()
        leak([self._writer])
        self._writer = None


@contextmanager
def _attached(connection: Any, path: Path, mode: str) -> Iterator[Any]:
    connection.execute(f"ATTACH {_quoted(str(path))} AS base{mode}").fetchall()
    try:
        cursor = connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()
    finally:
        connection.execute("DETACH base").fetchall()


def _config() -> dict[str, Any]:
    # Variables of this program must not turn into tables of a question.
    return {"python_enable_replacements": False, "autoinstall_known_extensions": False}


def _connect(prepare: Any) -> Any:
    import tempfile

    folder = Path(tempfile.gettempdir()) / f"flowbuilder-history-{os.getpid()}"
    connection = load_duckdb().connect(
        ":memory:", config={**_config(), "temp_directory": str(folder)}
    )
    connection.execute("SET GLOBAL TimeZone = 'UTC'").fetchall()
    prepare(connection)
    connection.execute("SET GLOBAL enable_external_access = false").fetchall()
    connection.execute("SET GLOBAL lock_configuration = true").fetchall()
    return connection


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@atexit.register
def _close_all() -> None:
    # Left to the interpreter's end, the extension module complains about what it finds alive.
    for database in list(_open):
        database.close()
