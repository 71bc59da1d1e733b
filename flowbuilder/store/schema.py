"""The tables of the journal and how an older one becomes a newer one."""

from __future__ import annotations

from typing import Final

import apsw

from flowbuilder.errors import StorageError

__all__ = ["MIGRATIONS", "SCHEMA_MAJOR", "SCHEMA_VERSION", "ensure_schema"]

SCHEMA_MAJOR: Final = 1
"""Programs write journals of their own major version only, and read newer ones if they can."""

_MAJOR_FACTOR = 1000

_CREATE = """
CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE journal (
  pos INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id TEXT NOT NULL,
  first_seq INTEGER NOT NULL,
  n INTEGER NOT NULL,
  kind TEXT NOT NULL,
  schema_version INTEGER NOT NULL,
  crc32 INTEGER NOT NULL,
  body BLOB NOT NULL
);
CREATE UNIQUE INDEX journal_run ON journal (run_id, first_seq);
CREATE TABLE versions (
  plan_id TEXT PRIMARY KEY,
  fingerprint TEXT NOT NULL,
  name TEXT NOT NULL,
  crc32 INTEGER NOT NULL,
  body BLOB NOT NULL
);
CREATE INDEX versions_fingerprint ON versions (fingerprint);
CREATE TABLE runs (
  pos INTEGER PRIMARY KEY,
  run_id TEXT NOT NULL,
  workflow TEXT NOT NULL,
  state TEXT NOT NULL,
  owner TEXT NOT NULL,
  last_seq INTEGER NOT NULL,
  crc32 INTEGER NOT NULL,
  progress BLOB NOT NULL
);
CREATE TABLE snapshots (
  run_id TEXT PRIMARY KEY,
  seq INTEGER NOT NULL,
  crc32 INTEGER NOT NULL,
  states BLOB NOT NULL
);
CREATE TABLE artifacts (
  run_id TEXT NOT NULL,
  instance INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  name TEXT NOT NULL,
  format TEXT NOT NULL,
  path TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  digest TEXT NOT NULL,
  type_name TEXT NOT NULL,
  num_rows INTEGER NOT NULL,
  PRIMARY KEY (run_id, instance, attempt, name)
) WITHOUT ROWID;
INSERT INTO meta VALUES ('application', 'flowbuilder journal');
"""

MIGRATIONS: Final[tuple[str, ...]] = (_CREATE,)
"""Scripts in order; the n-th (from 1) leads to minor version n. Append, never change."""

SCHEMA_VERSION: Final = SCHEMA_MAJOR * _MAJOR_FACTOR + len(MIGRATIONS)


def ensure_schema(connection: apsw.Connection) -> bool:
    """Bring a journal to the newest schema of our major version.

    Returns
    -------
    bool
        Whether it may be written: False if a newer major version made it.

    Raises
    ------
    StorageError
        If the database belongs to another program.
    apsw.Error
        If a statement fails; the journal is then as it was.
    """
    found = _user_version(connection)
    if found < SCHEMA_VERSION:
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have migrated while we waited for the lock.
            found = _migrate(connection, _user_version(connection))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return found // _MAJOR_FACTOR <= SCHEMA_MAJOR


def _migrate(connection: apsw.Connection, found: int) -> int:
    if found >= SCHEMA_VERSION:
        return found
    done = found % _MAJOR_FACTOR
    if found == 0 and next(connection.execute("SELECT 1 FROM sqlite_master"), None):
        raise StorageError(
            f"expected a FlowBuilder journal, found another program's database in"
            f" {connection.filename}",
            hint="choose another place with --data-dir",
        )
    for script in MIGRATIONS[done:]:
        for _ in connection.execute(script):  # apsw runs a script lazily: exhaust it
            pass
    connection.pragma("user_version", SCHEMA_VERSION)
    return SCHEMA_VERSION


def _user_version(connection: apsw.Connection) -> int:
    version = connection.pragma("user_version")
    assert isinstance(version, int)
    return version
