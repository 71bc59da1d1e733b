"""Answering a query: who its tables are, which files they need, and DuckDB does the rest."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final, Protocol

import msgspec

from flowbuilder.datasets.arrow_types import is_text
from flowbuilder.datasets.catalogue import DatasetRow
from flowbuilder.datasets.evolution import align
from flowbuilder.datasets.filters import ColumnFilter, filters_of, may_match
from flowbuilder.datasets.frames import find_frame, readable_table
from flowbuilder.datasets.libraries import arrow, library
from flowbuilder.datasets.manifest import DataFile
from flowbuilder.datasets.names import fold_dataset, fold_identifier, quote_identifier
from flowbuilder.datasets.parts import StoreParts
from flowbuilder.datasets.query_result import QueryResult
from flowbuilder.datasets.query_text import Mention, QueryText, read_query
from flowbuilder.datasets.relations import files_select, sql_schema
from flowbuilder.datasets.snapshot import Snapshot
from flowbuilder.datasets.sql_session import SqlSession
from flowbuilder.errors import StorageError

__all__ = ["Hits", "Narrower", "Question", "Reading", "answer"]

_QUALIFIED: Final = re.compile(
    r'\s*(?:"(?:[^"]|"")*"|[^\s."(),;]+)\s*\.\s*(?:"(?:[^"]|"")*"|[^\s."(),;]+)'
)
_ROW: Final = "row number of a file"
_RUN_PREFIX: Final = "run_"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked; see `Store.query`."""

    text: str
    params: Any = None
    tables: Mapping[str, object] = msgspec.field(default_factory=dict)
    versions: Mapping[str, int] = msgspec.field(default_factory=dict)
    as_of_ns: int | None = None
    scope: tuple[Mapping[str, object], ...] = ()


class Hits(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one file that an index found: all that can match, in the file's order; themselves, or
    their numbers in the file.
    """

    file_id: int
    table: Any = None
    numbers: tuple[int, ...] = ()


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How one dataset was read: what the observer and the result tell of.

    Parameters
    ----------
    snapshot : Snapshot
        The version.
    filters : tuple of ColumnFilter
        What the query asked of it, as far as it is understood; empty if the dataset is named more
        than once.
    scanned_rows : int
        Rows in the files that were read as they are.
    index : str
        The index that was used, in words; empty if none.
    """

    snapshot: Snapshot
    filters: tuple[ColumnFilter, ...]
    scanned_rows: int
    skipped_files: int = 0
    index: str = ""


class Narrower(Protocol):
    """An index, as a query sees it."""

    def find_hits(
        self,
        snapshot: Snapshot,
        files: Sequence[DataFile],
        filters: Sequence[ColumnFilter],
    ) -> tuple[str, list[Hits]]:
        """Look up the rows that can match, in those files that are indexed.

        Returns
        -------
        tuple
            The index in words, and the hits; no hits for a file means it must be scanned.
        """
        ...


class _Binder:
    """Makes every table of one query known to one cursor."""

    def __init__(
        self,
        parts: StoreParts,
        session: SqlSession,
        question: Question,
        narrower: Narrower | None,
        run_output: Callable[[str, str], object] | None,
    ) -> None:
        self._parts, self._session, self._question = parts, session, question
        self._narrower, self._run_output = narrower, run_output
        self._given = {fold_identifier(name): value for name, value in question.tables.items()}
        self._versions = {fold_dataset(name): v for name, v in question.versions.items()}
        self.readings: list[Reading] = []
        self.replaced: list[tuple[Mention, str]] = []

    def bind(self, cursor: Any, query: QueryText, held: ExitStack) -> None:
        done: set[tuple[str, str]] = set()
        for mention in query.mentions:
            if mention.schema:
                self._bind_output(cursor, mention)
                continue
            key = (mention.schema, fold_identifier(mention.name))
            if key not in done:
                done.add(key)
                self._bind_name(cursor, query, mention, held)

    def _bind_name(self, cursor: Any, query: QueryText, mention: Mention, held: ExitStack) -> None:
        value = self._given.get(fold_identifier(mention.name))
        if isinstance(value, Snapshot):
            self._bind_dataset(cursor, query, mention, value)
            return
        if value is not None:
            cursor.register(mention.name, readable_table(value, mention.name))
            return
        row = self._parts.catalogue.find(mention.name)
        if row is not None:
            snapshot = held.enter_context(self._open(row))
            self._bind_dataset(cursor, query, mention, snapshot)
            return
        frame = find_frame(list(self._question.scope), mention.name)
        if frame is not None:
            cursor.register(mention.name, readable_table(frame, mention.name))

    def _open(self, row: DatasetRow) -> Snapshot:
        version = self._versions.get(fold_dataset(row.name))
        if version is None and self._question.as_of_ns is not None:
            version = self._parts.catalogue.version_at(row, self._question.as_of_ns)
        return self._parts.snapshot(row, version)

    def _bind_output(self, cursor: Any, mention: Mention) -> None:
        """Put a run's output in the place of ``run_<suffix>.task``."""
        schema = fold_identifier(mention.schema)
        if self._run_output is None or not schema.startswith(_RUN_PREFIX) or "." in schema:
            return
        name = f"{mention.schema}.{mention.name}"
        given = self._given.get(fold_identifier(name))
        value = (
            self._run_output(schema.removeprefix(_RUN_PREFIX), mention.name)
            if given is None
            else given
        )
        unique = f"output_{secrets.token_hex(6)}"
        cursor.register(unique, readable_table(value, name))
        self.replaced.append((mention, unique))

    def _bind_dataset(
        self, cursor: Any, query: QueryText, mention: Mention, snapshot: Snapshot
    ) -> None:
        # Only a table named once may be narrowed: another mention would see too little.
        is_single = query.is_transparent and len(query.mentions_of(mention.name)) == 1
        # Fewer rows may make DuckDB join or group in another order, and a bare LIMIT pick others.
        is_single &= mention.is_scan or not query.has_bare_limit
        filters = filters_of(mention, snapshot.schema, self._question.params) if is_single else []
        files = [
            file
            for file in snapshot.manifest.files
            if may_match(filters, file.body.columns, file.body.num_rows)
        ]
        index, hits = "", list[Hits]()
        if filters and files and self._narrower is not None:
            index, hits = self._narrower.find_hits(snapshot, files, filters)
        found = {hit.file_id: hit for hit in hits}
        self._register(cursor, mention.name, snapshot, files, found)
        self.readings.append(
            Reading(
                snapshot=snapshot,
                filters=tuple(filters),
                scanned_rows=sum(f.body.num_rows for f in files if f.file_id not in found),
                skipped_files=len(snapshot.manifest.files) - len(files),
                index=index if found else "",
            )
        )

    def _register(
        self,
        cursor: Any,
        name: str,
        snapshot: Snapshot,
        files: Sequence[DataFile],
        found: Mapping[int, Hits],
    ) -> None:
        """Join hits and files in the order of the dataset's rows, so that every row stands where a
        plain scan would meet it.
        """
        if found and all(f.file_id in found and found[f.file_id].table is not None for f in files):
            tables = [_sql_table(found[file.file_id].table, snapshot) for file in files]
            cursor.register(name, arrow().concat_tables(tables))
            return
        selects, run = [], list[DataFile]()
        for number, file in enumerate(files):
            hits = found.get(file.file_id)
            if hits is None:
                run.append(file)
                continue
            if run:
                selects.append(files_select(self._session, cursor, snapshot, run))
                run = []
            if hits.table is None:
                selects += self._select_rows(cursor, snapshot, file, hits.numbers)
            else:
                unique = f"hits {number} of {name}"
                cursor.register(unique, _sql_table(hits.table, snapshot))
                selects.append(f"SELECT * FROM {quote_identifier(unique)}")  # noqa: S608
        if run or not selects:
            selects.append(files_select(self._session, cursor, snapshot, run))
        body = " UNION ALL ".join(selects)
        cursor.execute(f"CREATE TEMP VIEW {quote_identifier(name)} AS {body}").fetchall()

    def _select_rows(
        self, cursor: Any, snapshot: Snapshot, file: DataFile, numbers: Sequence[int]
    ) -> list[str]:
        """Write the query for single rows of a file; none for no rows."""
        if not numbers:
            return []
        source = files_select(self._session, cursor, snapshot, [file], row_number=_ROW)
        row, listed = quote_identifier(_ROW), ", ".join(map(str, numbers))
        return [f"SELECT * EXCLUDE {row} FROM ({source}) WHERE {row} IN ({listed})"]  # noqa: S608


def _sql_table(table: Any, snapshot: Snapshot) -> Any:
    return align(table, sql_schema(snapshot.schema))


def answer(
    parts: StoreParts,
    session: SqlSession,
    question: Question,
    *,
    narrower: Narrower | None,
    run_output: Callable[[str, str], object] | None,
    observe: Callable[[Sequence[Reading], float], None],
) -> QueryResult:
    """Answer a query over datasets, run outputs and frames.

    Parameters
    ----------
    parts, session : StoreParts, SqlSession
        The store.
    question : Question
        What is asked.
    narrower : Narrower or None
        The index to be used, if any.
    run_output : callable or None
        Gives the output of a run's task, by suffix and name.
    observe : callable
        Told how each dataset was read, and how long the query took.

    Raises
    ------
    StorageError
        If the text is no SELECT, a name means nothing, or DuckDB fails.
    """
    duckdb = library("duckdb")
    begin = time.perf_counter()
    with ExitStack() as held:
        cursor = held.enter_context(session.cursor())
        try:
            query = read_query(session, cursor, question.text)
            binder = _Binder(parts, session, question, narrower, run_output)
            binder.bind(cursor, query, held)
            text = _with_outputs(question.text, binder.replaced)
            relation = cursor.sql(text, params=question.params)
            table = relation.to_arrow_table()
        except duckdb.Error as error:
            raise _failure(error, parts, question) from error
        elapsed = time.perf_counter() - begin
        observe(binder.readings, elapsed)
        return QueryResult(
            table,
            layouts=_layouts(binder.readings),
            versions={r.snapshot.name: r.snapshot.version.version for r in binder.readings},
            used=tuple(_in_words(r) for r in binder.readings if r.index or r.skipped_files),
            elapsed_s=elapsed,
        )


def _with_outputs(text: str, replaced: list[tuple[Mention, str]]) -> str:
    """Write registered names where the query says ``run_<suffix>.task``."""
    body = text.encode()
    for mention, unique in sorted(replaced, key=lambda item: -item[0].location):
        start, end = mention.location, mention.location + mention.length
        span = body[start:end].decode()
        named = _QUALIFIED.match(span)
        if named is None:
            raise StorageError(
                f"expected the name of a run's output, found {span!r}",
                hint='write it as run_<suffix>.task or run_<suffix>."task name"',
            )
        alias = "" if mention.is_aliased else f" AS {quote_identifier(mention.name)}"
        span = f"{quote_identifier(unique)}{alias}{span[named.end() :]}"
        body = body[:start] + span.encode() + body[end:]
    return body.decode()


def _layouts(readings: Sequence[Reading]) -> dict[str, Any]:
    """Give the types text and duration columns are kept as; a name two datasets keep differently
    has none.
    """
    found: dict[str, Any] = {}
    unsure = set()
    for reading in readings:
        for field in reading.snapshot.schema:
            types = arrow().types
            is_kept = types.is_dictionary(field.type) or types.is_duration(field.type)
            if is_kept or is_text(field.type):
                known = found.setdefault(field.name, field.type)
                if not known.equals(field.type):
                    unsure.add(field.name)
    return {name: kind for name, kind in found.items() if name not in unsure}


def _in_words(reading: Reading) -> str:
    name, total = reading.snapshot.name, len(reading.snapshot.manifest.files)
    parts = []
    if reading.skipped_files:
        parts.append(f"{reading.skipped_files} of {total} files skipped")
    if reading.index:
        parts.append(reading.index)
    return f"{name}: {', '.join(parts)}"


def _failure(error: Exception, parts: StoreParts, question: Question) -> StorageError:
    text = str(error).strip()
    hint = ""
    if "Table with name" in text or "does not exist" in text:
        known = [row.name for row in parts.catalogue.all()] + list(question.tables)
        listed = ", ".join(map(repr, known[:20])) or "none"
        hint = f"datasets and tables handed over: {listed}; a variable must hold a table"
    first = text.partition("\n\n")[0].replace("\n", " ")
    return StorageError(f"the query failed: {first}", hint=hint)
