"""The tables of the catalogue and how an older one becomes a newer one."""

from __future__ import annotations

from typing import Final

import apsw

from flowbuilder.errors import StorageError

__all__ = ["ensure_catalogue_schema"]

_APPLICATION_ID: Final = 0x46424453  # "FBDS"

_CREATE = """
CREATE TABLE datasets (
  dataset_id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  folded TEXT NOT NULL UNIQUE,
  partition_by TEXT NOT NULL,
  head INTEGER NOT NULL
);
CREATE TABLE schemas (
  dataset_id INTEGER NOT NULL,
  schema_id INTEGER NOT NULL,
  crc32 INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (dataset_id, schema_id)
) WITHOUT ROWID;
CREATE TABLE versions (
  dataset_id INTEGER NOT NULL,
  version INTEGER NOT NULL,
  created_ns INTEGER NOT NULL,
  crc32 INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (dataset_id, version)
) WITHOUT ROWID;
CREATE TABLE files (
  file_id INTEGER PRIMARY KEY AUTOINCREMENT,
  dataset_id INTEGER NOT NULL,
  place INTEGER NOT NULL,
  schema_id INTEGER NOT NULL,
  added INTEGER NOT NULL,
  removed INTEGER,
  crc32 INTEGER NOT NULL,
  body BLOB NOT NULL,
  sketches_crc32 INTEGER NOT NULL,
  sketches BLOB NOT NULL
);
CREATE INDEX files_of ON files (dataset_id, removed, added);
CREATE TABLE uses (
  run_id TEXT NOT NULL,
  dataset_id INTEGER NOT NULL,
  version INTEGER NOT NULL,
  task TEXT NOT NULL,
  noted_ns INTEGER NOT NULL,
  PRIMARY KEY (run_id, dataset_id, version, task)
) WITHOUT ROWID;
CREATE INDEX uses_of ON uses (dataset_id, version);
CREATE TABLE indexes (
  index_id INTEGER PRIMARY KEY AUTOINCREMENT,
  dataset_id INTEGER NOT NULL,
  column_name TEXT NOT NULL,
  kind TEXT NOT NULL,
  created_ns INTEGER NOT NULL,
  used_ns INTEGER NOT NULL,
  used INTEGER NOT NULL DEFAULT 0,
  build_s REAL NOT NULL DEFAULT 0,
  built_cells INTEGER NOT NULL DEFAULT 0,
  UNIQUE (dataset_id, column_name, kind)
);
CREATE TABLE pieces (
  index_id INTEGER NOT NULL,
  file_id INTEGER NOT NULL,
  name TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  crc32 INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (index_id, file_id)
) WITHOUT ROWID;
CREATE TABLE observations (
  dataset_id INTEGER NOT NULL,
  column_name TEXT NOT NULL,
  kind TEXT NOT NULL,
  queries REAL NOT NULL,
  scan_s REAL NOT NULL,
  scans REAL NOT NULL,
  share REAL NOT NULL,
  seen_ns INTEGER NOT NULL,
  PRIMARY KEY (dataset_id, column_name, kind)
) WITHOUT ROWID;
"""

_MIGRATIONS: Final[tuple[str, ...]] = (_CREATE,)
"""Scripts in order; the n-th (from 1) leads to version n. Append, never change."""


def ensure_catalogue_schema(connection: apsw.Connection) -> None:
    """Bring a catalogue to the newest schema.

    Raises
    ------
    StorageError
        If the database belongs to another program, or to a newer one of ours.
    """
    newest = len(_MIGRATIONS)
    found = _version(connection)
    if found < newest:
        connection.execute("BEGIN IMMEDIATE")
        try:
            _migrate(connection, _version(connection))  # another process may have been first
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    elif found > newest:
        raise StorageError(
            f"expected a catalogue of datasets of version {newest}, found version {found} in"
            f" {connection.filename}",
            hint="a newer FlowBuilder made it: update this one",
        )


def _migrate(connection: apsw.Connection, found: int) -> None:
    if found == 0 and next(connection.execute("SELECT 1 FROM sqlite_master"), None):
        raise StorageError(
            f"expected a catalogue of datasets, found another program's database in"
            f" {connection.filename}",
            hint="choose another place with data_dir",
        )
    for script in _MIGRATIONS[found:]:
        for _ in connection.execute(script):  # apsw runs a script lazily: exhaust it
            pass
    connection.pragma("application_id", _APPLICATION_ID)
    connection.pragma("user_version", len(_MIGRATIONS))


def _version(connection: apsw.Connection) -> int:
    version = connection.pragma("user_version")
    assert isinstance(version, int)
    return version
