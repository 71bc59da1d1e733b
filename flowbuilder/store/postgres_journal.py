"""The journal on PostgreSQL: many machines share it."""

from __future__ import annotations

from collections.abc import Callable

from flowbuilder.store.checkpoints import Checkpoints
from flowbuilder.store.group_commit import GroupCommit
from flowbuilder.store.postgres_connection import (
    PostgresAddress,
    connect,
    parse_address,
    postgres_errors,
)
from flowbuilder.store.postgres_owners import PostgresOwners
from flowbuilder.store.postgres_schema import ensure_postgres_schema
from flowbuilder.store.postgres_session import PostgresSession
from flowbuilder.store.postgres_writer import PostgresWriter
from flowbuilder.store.reading import PooledReaders
from flowbuilder.store.sql_journal import SqlJournal

__all__ = ["PostgresJournal"]


class PostgresJournal(SqlJournal):
    """A `Journal` in a schema of a PostgreSQL database. Thread-safe.

    Parameters
    ----------
    url : str
        ``postgresql://user@host/database``, with ``?schema=NAME`` for another schema than
        ``flowbuilder``. What it leaves out comes from the environment (``PGPASSWORD``, ...).
    is_owner_alive : callable, optional
        Tells whether the engine with a given id lives; by default its advisory lock does.
    flush_interval_s : float
        Longest time a notified record waits for its commit to begin, in seconds.
    reconnect_s : float
        How long a batch waits for a server that went away, in seconds.

    Raises
    ------
    ConfigurationError
        If the URL is not one.
    StorageError
        If psycopg is missing, the server cannot be reached, or the schema is another program's.
    """

    def __init__(
        self,
        url: str,
        *,
        is_owner_alive: Callable[[str], bool] | None = None,
        flush_interval_s: float = 0.005,
        reconnect_s: float = 15.0,
    ) -> None:
        self.address: PostgresAddress = parse_address(url)
        address = self.address
        with postgres_errors("open", address):
            connection = connect(address)
            try:
                is_writable = ensure_postgres_schema(connection, address)
            except BaseException:
                connection.close()
                raise
        session = PostgresSession(address, connection)
        writer = PostgresWriter(session, reconnect_s)
        group = GroupCommit(
            writer,
            refusal="" if is_writable else _NEWER.format(place=address.shown),
            interval_s=flush_interval_s,
            checkpoints=Checkpoints(None),
        )
        readers = PooledReaders(
            lambda: connect(address, read_only=True),
            lambda: postgres_errors("read", address),
            group.check_usable,
        )
        self.owners = PostgresOwners(session, readers, group.settled)
        super().__init__(group, writer, readers, is_owner_alive or self.owners.is_alive)


_NEWER = (
    "the journal in {place} was made by a newer version of FlowBuilder and can only be read by this"
    " one"
)
