"""The search index in SQLite: documents, and an FTS5 index over their texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from zlib import crc32

import apsw

from flowbuilder.errors import StorageError
from flowbuilder.history.search_documents import Document, RunTexts, text_key
from flowbuilder.history.search_query import SearchQuery
from flowbuilder.history.search_text import MARK_END, MARK_START, plain_text, segment

__all__ = ["SCHEMA_VERSION", "SearchTables"]

SCHEMA_VERSION: Final = 2
_LONGEST_LINE: Final = 1 << 16
_CREATE: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (run_id TEXT PRIMARY KEY, workflow TEXT NOT NULL, text_key TEXT NOT NULL,
  last_seq INTEGER NOT NULL, wall_ns INTEGER NOT NULL, monotonic_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX runs_text ON runs (text_key, run_id);
CREATE TABLE documents (id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, text_key TEXT NOT NULL,
  workflow TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, attempt INTEGER NOT NULL,
  time_ns INTEGER NOT NULL, crc32 INTEGER NOT NULL, text TEXT NOT NULL);
CREATE TABLE open_lines (run_id TEXT NOT NULL, line TEXT NOT NULL, id INTEGER NOT NULL,
  PRIMARY KEY (run_id, line)) WITHOUT ROWID;
CREATE INDEX documents_run ON documents (run_id);
CREATE INDEX documents_text ON documents (text_key) WHERE text_key <> '';
CREATE VIRTUAL TABLE words USING fts5 (text, content = 'documents', content_rowid = 'id',
  tokenize = 'unicode61 remove_diacritics 2');
"""
_INSERT: Final = (
    "INSERT INTO documents (run_id, text_key, workflow, kind, key, attempt, time_ns, crc32, text)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class SearchTables:
    """Reads and writes the index; the caller holds the lock and the transaction.

    Parameters
    ----------
    connection : apsw.Connection
        An open database.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection

    def create(self, meta: dict[str, object]) -> None:
        """Make the empty tables."""
        for _ in self.connection.execute(_CREATE):  # apsw runs a script lazily: exhaust it
            pass
        for name, value in meta.items():
            self.set_meta(name, value)

    def meta(self) -> dict[str, str]:
        """Read where the index stands; empty if there is none."""
        exists = "SELECT 1 FROM sqlite_master WHERE name = 'meta'"
        if next(self.connection.execute(exists), None) is None:
            return {}
        rows = self.connection.execute("SELECT name, value FROM meta")
        return {str(name): str(value) for name, value in rows}

    def set_meta(self, name: str, value: object) -> None:
        """Write where the index stands."""
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, str(value)))

    def last_seqs(self) -> dict[str, int]:
        """Give every run with its newest record."""
        rows = self.connection.execute("SELECT run_id, last_seq FROM runs")
        return {str(run_id): int(str(seq)) for run_id, seq in rows}

    def state_of(self, run_id: str) -> tuple[int, int, int] | None:
        """Give a run's newest record, and its anchor: wall and monotonic nanoseconds."""
        query = "SELECT last_seq, wall_ns, monotonic_ns FROM runs WHERE run_id = ?"
        found = next(self.connection.execute(query, (run_id,)), None)
        return None if found is None else (int(found[0]), int(found[1]), int(found[2]))

    def put_run(self, texts: RunTexts, last_seq: int) -> None:
        """Remember how far a run was read, and its workflow's text."""
        header, version = texts.header, texts.labels.version
        key = text_key(version)
        self.connection.execute(
            "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?)",
            (
                header.run_id,
                _storable(header.workflow),
                key,
                last_seq,
                texts.anchor.wall_ns,
                texts.anchor.monotonic_ns,
            ),
        )
        known = "SELECT 1 FROM documents WHERE text_key = ?"
        if next(self.connection.execute(known, (key,)), None) is None:
            document = Document("workflow", "", 0, texts.anchor.wall_ns, texts.of_workflow())
            self.put_documents("", version.name, [document], key)

    def put_documents(
        self, run_id: str, workflow: str, documents: Iterable[Document], key: str = ""
    ) -> None:
        """Add documents."""
        for document in documents:
            if document.line and self._continue_line(run_id, document):
                continue
            text = segment(_storable(document.text))
            row = (
                run_id,
                key,
                _storable(workflow),
                document.kind,
                document.key,
                document.attempt,
                document.time_ns,
                crc32(text.encode()),
                text,
            )
            self.connection.execute(_INSERT, row)
            rowid = self.connection.last_insert_rowid()
            self.connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (rowid, text))
            if document.line and not _is_whole(text):
                values = (run_id, document.line, rowid)
                self.connection.execute("INSERT INTO open_lines VALUES (?, ?, ?)", values)

    def _continue_line(self, run_id: str, document: Document) -> bool:
        """Join a piece of a log to the document it goes on with, if there is one."""
        query = (
            "SELECT d.id, d.text FROM open_lines l JOIN documents d ON d.id = l.id"
            " WHERE l.run_id = ? AND l.line = ?"
        )
        found = next(self.connection.execute(query, (run_id, document.line)), None)
        if found is None:
            return False
        rowid, old = found
        text = segment(plain_text(str(old)) + _storable(document.text))
        for statement, values in (
            ("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (rowid, old)),
            (
                "UPDATE documents SET text = ?, crc32 = ? WHERE id = ?",
                (text, crc32(text.encode()), rowid),
            ),
            ("INSERT INTO words (rowid, text) VALUES (?, ?)", (rowid, text)),
        ):
            self.connection.execute(statement, values)
        if _is_whole(text):
            done = "DELETE FROM open_lines WHERE run_id = ? AND line = ?"
            self.connection.execute(done, (run_id, document.line))
        return True

    def remove_runs(self, run_ids: Sequence[str]) -> None:
        """Delete all documents of runs, and texts of workflows no run is left of."""
        for run_id in run_ids:
            self._delete("run_id = ?", (run_id,))
            for table in ("runs", "open_lines"):
                self.connection.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))
        if run_ids:
            self._delete("text_key <> '' AND text_key NOT IN (SELECT text_key FROM runs)", ())

    def _delete(self, where: str, values: Sequence[str]) -> None:
        self.connection.execute(
            f"INSERT INTO words (words, rowid, text) SELECT 'delete', id, text FROM documents"
            f" WHERE {where}",
            values,
        )
        self.connection.execute(f"DELETE FROM documents WHERE {where}", values)

    def find(self, query: SearchQuery, limit: int) -> list[dict[str, Any]]:
        """Find documents, newest first.

        Raises
        ------
        StorageError
            If a document is not as it was written.
        """
        conditions, values = _conditions(query.filters)
        columns = (
            "coalesce(r.run_id, d.run_id), d.workflow, d.kind, d.key, d.attempt,"
            " coalesce(r.wall_ns, d.time_ns), d.crc32, d.text"
        )
        if query.expression:
            cut = f"snippet(words, 0, '{MARK_START}', '{MARK_END}', '…', 24)"
            source = f"SELECT {columns}, {cut} FROM words JOIN documents d ON d.id = words.rowid"
            conditions.append("words MATCH ?")
            values.append(query.expression)
            order = "words.rowid"
        else:
            source = f"SELECT {columns}, substr(d.text, 1, 200) FROM documents d"
            order = "d.id"
        # The text of a workflow belongs to the newest run that executed it.
        source += (
            " LEFT JOIN runs r ON d.text_key <> '' AND r.run_id ="
            " (SELECT max(run_id) FROM runs WHERE text_key = d.text_key)"
        )
        statement = f"{source} WHERE {' AND '.join(conditions)} ORDER BY {order} DESC LIMIT ?"
        rows = self.connection.execute(statement, (*values, limit))
        return [_found(row) for row in rows]

    def check(self) -> None:
        """Make sure that index and documents agree.

        Raises
        ------
        apsw.Error
            If they do not.
        """
        self.connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")


def _conditions(filters: dict[str, str]) -> tuple[list[str], list[Any]]:
    conditions, values = [], []
    for name, value in filters.items():
        if name == "task":
            # A task's name finds all parts of its map.
            conditions.append("(d.key = ? OR d.key GLOB ?)")
            values += [value, _glob(value) + "[[]*"]
        elif name == "run":
            conditions.append(
                "(d.run_id LIKE ? ESCAPE '\\' OR d.text_key IN"
                " (SELECT text_key FROM runs WHERE run_id LIKE ? ESCAPE '\\'))"
            )
            values += ["%" + _like(value.lower())] * 2
        else:
            conditions.append(f"d.{name} = ?")
            values.append(value)
    return conditions, values


def _glob(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _like(text: str) -> str:
    return "".join(f"\\{c}" if c in "%_\\" else c for c in text)


def _found(row: tuple[Any, ...]) -> dict[str, Any]:
    run_id, workflow, kind, key, attempt, time_ns, seal, text, snippet = row
    if not isinstance(text, str) or crc32(text.encode()) != seal:
        raise StorageError("a document of the search index is damaged")
    return {
        "run_id": run_id,
        "workflow": workflow,
        "kind": kind,
        "task": key,
        "attempt": attempt,
        "time_ns": time_ns,
        "marked": snippet,
    }


def _is_whole(text: str) -> bool:
    return text.endswith("\n") or len(text) > _LONGEST_LINE


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
