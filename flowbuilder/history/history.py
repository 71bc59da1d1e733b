"""Asking the history: brought up to date first, then read, never in anybody's way."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flowbuilder.errors import StorageError
from flowbuilder.history.access import Access
from flowbuilder.history.batch import BatchFold, write_batch
from flowbuilder.history.database import (
    BASE,
    Database,
    FileDatabase,
    MemoryDatabase,
    load_duckdb,
)
from flowbuilder.history.projector import Kept, OutdatedError, Projector, Standing, read_standing
from flowbuilder.history.query_result import QueryResult
from flowbuilder.history.source import JournalSource
from flowbuilder.history.statements import check_statement, is_about_question, query_error
from flowbuilder.history.views import FRESH, create_views, empty_fresh
from flowbuilder.store.ports import Journal
from flowbuilder.store.retention import JournalMark

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["History"]

_log = logging.getLogger(__name__)
_FILE: Final = "history.duckdb"
_LOCK: Final = "history.lock"
_PATIENCE_S: Final = 0.25
"""How long a question waits for others to let it project, before it reads beside them."""
_LONGEST_WAIT_S: Final = 30.0
_PAUSE_S: Final = 0.005
_NOTHING: Final = Standing({}, frozenset())
_Answer = TypeVar("_Answer")


class History:
    """Every run as tables. Thread-safe; one per process and store.

    Parameters
    ----------
    journal : Journal
        The truth.
    kept : Kept
        Runs that moved from the journal to the months.
    folder : Path or None
        Where the projection is; None keeps it in memory.
    is_owner_alive : callable
        Tells whether the engine with a given id lives.
    """

    def __init__(
        self,
        journal: Journal,
        kept: Kept,
        folder: Path | None,
        is_owner_alive: Callable[[str], bool],
    ) -> None:
        load_duckdb()
        self._source = JournalSource(journal)
        self._projector = Projector(self._source, kept)
        self._is_alive = is_owner_alive
        self._folder = folder
        self._lock = threading.Lock()
        self._memory: MemoryDatabase | None = None
        self._place: tuple[FileDatabase, Access] | None = None
        if folder is not None:
            self._place = FileDatabase(folder / _FILE), Access(folder / _LOCK)

    def sql(
        self, query: str, params: Sequence[object] | Mapping[str, object] | None = None
    ) -> QueryResult:
        """Answer one SELECT over everything recorded up to now.

        Parameters
        ----------
        query : str
            DuckDB SQL.
        params : sequence or mapping, optional
            Values of ``?``, ``$1`` or ``$name``.

        Raises
        ------
        QueryError
            If it is no question, wrong, or reaches outside the history.
        StorageError
            If the journal is damaged.
        """
        check_statement(query)
        return self.answer(lambda cursor: QueryResult(_ask(cursor, query, params)))

    def answer(self, question: Callable[[Any], _Answer]) -> _Answer:
        """Ask with a cursor on the current tables; other threads wait meanwhile.

        Raises
        ------
        QueryError
            If DuckDB cannot answer.
        StorageError
            If the journal is damaged.
        """
        duckdb = load_duckdb()
        with self._lock:
            for tables in (self._from_file, self._from_new_file):
                try:
                    with tables() as cursor:
                        return _answer(question, cursor)
                except (OutdatedError, _UnavailableError) as error:
                    _log.info("the history's file cannot be used: %r", error)
                except duckdb.Error as error:
                    _log.warning("the history's file is damaged: %s", error)
            try:
                with self._from_memory() as cursor:
                    return _answer(question, cursor)
            except duckdb.Error as error:
                raise query_error(error) from error

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            if self._place is not None:
                self._place[0].close()
            if self._memory is not None:
                self._memory.close()
                self._memory = None

    @contextmanager
    def _from_memory(self) -> Iterator[Any]:
        """Build everything here: the place has no file, or no locks, or others hold it."""
        mark = self._source.mark()
        database = self._memory = self._memory or MemoryDatabase()
        with database.writing() as cursor:
            try:
                while not self._projector.advance(cursor, mark):
                    pass
            except OutdatedError:
                self._memory = None
                raise StorageError(
                    "the journal was replaced by another while it was read", hint="ask again"
                ) from None
            self._prepare(database, cursor, read_standing(cursor).owners, has_fresh=False)
            yield cursor

    @contextmanager
    def _from_new_file(self) -> Iterator[Any]:
        """Delete the file and begin again."""
        file, access = self._parts()
        with _locked(access.exclusive(_LONGEST_WAIT_S)) as is_held:
            if not is_held:
                raise _UnavailableError
            file.remove()
        with self._from_file() as cursor:
            yield cursor

    @contextmanager
    def _from_file(self) -> Iterator[Any]:
        file, access = self._parts()
        mark = self._source.mark()
        begin = time.monotonic()
        while True:
            with _shared(file, access) as cursor:
                found = _NOTHING if cursor is None else read_standing(cursor)
                if self._projector.is_current(found, mark):
                    self._prepare(file, cursor, found.owners, has_fresh=False)
                    yield cursor
                    return
                waited = time.monotonic() - begin
                if waited > _PATIENCE_S and self._projector.can_continue(found, mark):
                    self._read_tail(file, cursor, found)
                    yield cursor
                    return
                if waited > _LONGEST_WAIT_S:
                    raise _UnavailableError
            if self._project(file, access, mark):
                begin = time.monotonic()

    def _parts(self) -> tuple[FileDatabase, Access]:
        if self._place is None:
            raise _UnavailableError
        return self._place

    def _project(self, file: FileDatabase, access: Access, mark: JournalMark) -> bool:
        """Apply a chunk, unless others read or project; tell whether it was done."""
        with _locked(access.exclusive()) as is_held:
            if is_held:
                with file.writing() as cursor:
                    self._projector.advance(cursor, mark)
        if not is_held:
            time.sleep(_PAUSE_S)
        return is_held

    def _read_tail(self, database: Database, cursor: Any, found: Standing) -> None:
        """Fold what is newer than the file beside it, because others keep it from being written."""
        connection = database.reader()
        empty_fresh(connection)
        fold = BatchFold(self._source, cursor, BASE)
        for page in self._source.pages(int(found.meta["pos"])):
            fold.take(page.events)
        write_batch(cursor, FRESH, fold.batch(), seen=BASE)
        newer = cursor.execute(f"SELECT owner FROM {FRESH}.open_runs").fetchall()
        owners = found.owners | {str(owner) for (owner,) in newer}
        self._prepare(database, cursor, owners, has_fresh=True)

    def _prepare(
        self, database: Database, cursor: Any, owners: Iterable[str], *, has_fresh: bool
    ) -> None:
        """Define the names of a question, unless they are what they should be."""
        dead = tuple(sorted(owner for owner in owners if not self._is_alive(owner)))
        if database.names != (has_fresh, dead):
            create_views(cursor, has_fresh=has_fresh, dead_owners=dead)
            database.names = (has_fresh, dead)


def _answer(question: Callable[[Any], _Answer], cursor: Any) -> _Answer:
    try:
        return question(cursor)
    except load_duckdb().Error as error:
        if is_about_question(error):
            raise query_error(error) from error
        raise


class _UnavailableError(Exception):
    """The file cannot be used now."""


@contextmanager
def _locked(lock: AbstractContextManager[bool]) -> Iterator[bool]:
    try:
        with lock as is_held:
            yield is_held
    except OSError as error:  # a place that cannot be written, or has no locks
        raise _UnavailableError from error


@contextmanager
def _shared(file: FileDatabase, access: Access) -> Iterator[Any]:
    """Lend a cursor on the file as it is; None if it has to be written first."""
    with _locked(access.shared(_LONGEST_WAIT_S)) as is_held:
        if not is_held:
            raise _UnavailableError
        if not file.is_clean:
            yield None
            return
        with file.reading() as cursor:
            yield cursor


def _ask(
    cursor: Any, query: str, params: Sequence[object] | Mapping[str, object] | None
) -> pa.Table:
    if params is None:
        return cursor.sql(query).to_arrow_table()
    values = dict(params) if isinstance(params, Mapping) else list(params)
    return cursor.sql(query, params=values).to_arrow_table()
