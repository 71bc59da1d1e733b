"""The one session that writes, made anew when the server went away, and the locks it holds."""

from __future__ import annotations

from contextlib import suppress

from flowbuilder.store.postgres_connection import (
    PostgresAddress,
    PostgresConnection,
    connect,
    postgres_errors,
)

__all__ = ["PostgresSession"]


class PostgresSession:
    """A session and its advisory locks. Used by one thread at a time.

    An engine's lock is held by the session that writes its records, and taken again with each new
    session: who cannot write does not own.

    Parameters
    ----------
    address : PostgresAddress
        Where the journal is.
    connection : PostgresConnection
        An open connection, which becomes the session's first.
    """

    def __init__(self, address: PostgresAddress, connection: PostgresConnection) -> None:
        self.address = address
        self._connection: PostgresConnection | None = connection
        self._locks: set[int] = set()

    @property
    def is_lost(self) -> bool:
        """Whether there is no session at the moment."""
        return self._connection is None

    def connected(self) -> PostgresConnection:
        """Give the connection, outside a transaction; a new one if the last ended.

        Raises
        ------
        psycopg.Error
            If none can be had.
        """
        found = self._connection
        if found is not None and found.is_usable:
            return found
        self.drop()
        connection = connect(self.address)
        try:
            for lock in self._locks:
                connection.execute("SELECT pg_advisory_lock(?)", (lock,))
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def in_transaction(self) -> PostgresConnection:
        """Give the connection whose transaction is open."""
        assert self._connection is not None
        return self._connection

    def rollback(self) -> None:
        """Undo what an unfinished transaction did, by ending the session if nothing else does."""
        import psycopg

        connection = self._connection
        if connection is None:
            return
        try:
            if connection.raw.closed:
                self.drop()
            else:
                connection.execute("ROLLBACK")
        except psycopg.Error:
            self.drop()

    def drop(self) -> None:
        """End the session. The server undoes what it had not committed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def hold(self, lock: int) -> None:
        """Take an advisory lock for as long as this process lives.

        Raises
        ------
        StorageError
            If the database does not answer.
        """
        with postgres_errors("register this process in", self.address):
            self.connected().execute("SELECT pg_advisory_lock(?)", (lock,))
        self._locks.add(lock)

    def let_go(self, lock: int) -> None:
        """Give an advisory lock back. The locks of a session that ended are gone already."""
        import psycopg

        self._locks.discard(lock)
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.execute("SELECT pg_advisory_unlock(?)", (lock,))

    def check(self) -> None:
        """Make sure that the session lives, and with it the locks.

        Raises
        ------
        StorageError
            If the database does not answer.
        """
        import psycopg

        with postgres_errors("reach", self.address):
            try:
                self.connected().execute("SELECT 1")
            except psycopg.OperationalError:
                self.drop()
                self.connected()

    def abandon(self) -> list[object]:
        """Forget the connection after a fork; return what must not be closed."""
        connection, self._connection = self._connection, None
        return [] if connection is None else [connection.raw]
