"""The tables of a journal on PostgreSQL, in a schema of their own, and their migrations."""

from __future__ import annotations

from typing import Final

from flowbuilder.errors import StorageError
from flowbuilder.store.postgres_connection import PostgresAddress, PostgresConnection
from flowbuilder.store.schema import SCHEMA_MAJOR

__all__ = ["POSTGRES_MIGRATIONS", "POSTGRES_SCHEMA_VERSION", "ensure_postgres_schema"]

_MAJOR_FACTOR = 1000
_MIGRATION_LOCK: Final = 0x466C6F77  # any number that no other program is likely to lock

# `position` is one row, locked by every transaction that writes: positions have no gaps and become
# visible in order, so whoever has read up to one has missed nothing before it.
_CREATE = """
CREATE TABLE meta (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE position (pos bigint NOT NULL) WITH (fillfactor = 10);
INSERT INTO position VALUES (0);
CREATE TABLE journal (
  pos bigint PRIMARY KEY,
  run_id text NOT NULL,
  first_seq bigint NOT NULL,
  n bigint NOT NULL,
  kind text NOT NULL,
  schema_version integer NOT NULL,
  crc32 bigint NOT NULL,
  body bytea NOT NULL
);
CREATE UNIQUE INDEX journal_run ON journal (run_id, first_seq);
CREATE TABLE versions (
  plan_id text PRIMARY KEY,
  fingerprint text NOT NULL,
  name text NOT NULL,
  crc32 bigint NOT NULL,
  body bytea NOT NULL
);
CREATE INDEX versions_fingerprint ON versions (fingerprint);
CREATE TABLE runs (
  pos bigint PRIMARY KEY,
  run_id text NOT NULL,
  workflow text NOT NULL,
  state text NOT NULL,
  owner text NOT NULL,
  last_seq bigint NOT NULL,
  crc32 bigint NOT NULL,
  progress bytea NOT NULL
) WITH (fillfactor = 70);
CREATE TABLE snapshots (
  run_id text PRIMARY KEY,
  seq bigint NOT NULL,
  crc32 bigint NOT NULL,
  states bytea NOT NULL
);
CREATE TABLE artifacts (
  run_id text NOT NULL,
  instance bigint NOT NULL,
  attempt bigint NOT NULL,
  name text NOT NULL,
  format text NOT NULL,
  path text NOT NULL,
  size_bytes bigint NOT NULL,
  digest text NOT NULL,
  type_name text NOT NULL,
  num_rows bigint NOT NULL
);
CREATE INDEX artifacts_run ON artifacts (run_id, instance, attempt);
INSERT INTO meta VALUES ('application', 'flowbuilder journal');
"""

POSTGRES_MIGRATIONS: Final[tuple[str, ...]] = (_CREATE,)
"""Scripts in order; the n-th (from 1) leads to minor version n. Append, never change."""

POSTGRES_SCHEMA_VERSION: Final = SCHEMA_MAJOR * _MAJOR_FACTOR + len(POSTGRES_MIGRATIONS)


def ensure_postgres_schema(connection: PostgresConnection, address: PostgresAddress) -> bool:
    """Bring a journal to the newest schema of our major version.

    Returns
    -------
    bool
        Whether it may be written: False if a newer major version made it.

    Raises
    ------
    StorageError
        If the schema belongs to another program, or the database does not hold all characters.
    psycopg.Error
        If a statement fails; the journal is then as it was.
    """
    ((encoding,),) = connection.execute("SELECT current_setting('server_encoding')")
    if encoding != "UTF8":
        raise StorageError(
            f"expected a database encoded in UTF8 at {address.shown}, found {encoding}",
            hint="make one: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0",
        )
    found = _version_of(connection, address)
    if found < POSTGRES_SCHEMA_VERSION:
        with connection.raw.transaction():
            # Another process may migrate at this moment.
            connection.execute("SELECT pg_advisory_xact_lock(?)", (_MIGRATION_LOCK,))
            found = _migrate(connection, address)
    return found // _MAJOR_FACTOR <= SCHEMA_MAJOR


def _migrate(connection: PostgresConnection, address: PostgresAddress) -> int:
    query = "SELECT 1 FROM pg_namespace WHERE nspname = ?"
    if next(connection.execute(query, (address.schema,)), None) is None:
        connection.execute(f'CREATE SCHEMA "{address.schema}"')
    found = _version_of(connection, address)
    if found >= POSTGRES_SCHEMA_VERSION:
        return found
    if found == 0 and next(connection.execute(_TABLES, (address.schema,)), None):
        raise StorageError(
            f"expected a FlowBuilder journal, found another program's tables in schema"
            f" {address.schema!r} of {address.shown}",
            hint="name another schema: add ?schema=NAME to the URL",
        )
    for script in POSTGRES_MIGRATIONS[found % _MAJOR_FACTOR :]:
        for statement in filter(str.strip, script.split(";")):
            connection.execute(statement)
    connection.execute(
        "INSERT INTO meta VALUES ('schema_version', ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (str(POSTGRES_SCHEMA_VERSION),),
    )
    return POSTGRES_SCHEMA_VERSION


_TABLES: Final = "SELECT 1 FROM pg_tables WHERE schemaname = ?"


def _version_of(connection: PostgresConnection, address: PostgresAddress) -> int:
    query = (
        "SELECT 1 FROM information_schema.columns"
        " WHERE table_schema = ? AND table_name = 'meta' AND column_name = 'value'"
    )
    if next(connection.execute(query, (address.schema,)), None) is None:
        return 0
    found = next(connection.execute("SELECT value FROM meta WHERE name = 'schema_version'"), None)
    try:
        return int(found[0]) if found is not None else 0
    except (TypeError, ValueError):
        return 0
