"""Which engines live, on whichever machine: each holds an advisory lock of the database.

The lock belongs to the session that writes the engine's records, so it ends with the process, the
machine or the connection, and comes back with a new session.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Final

from flowbuilder.errors import StorageError
from flowbuilder.store.forks import watch_forks
from flowbuilder.store.postgres_session import PostgresSession
from flowbuilder.store.reading import Readers

__all__ = ["PostgresEngineLock", "PostgresOwners"]

_CHECK_S: Final = 15.0
_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


class PostgresEngineLock:
    """The hold of this process on its lock, renewed by a thread when the server was away.

    Parameters
    ----------
    engine_id : str
        The name of this engine in ``runs.owner``.
    session : PostgresSession
        What holds the lock.
    exclusive : callable
        A context in which nobody else uses the session; raises once the journal is closed.
    """

    def __init__(
        self,
        engine_id: str,
        session: PostgresSession,
        exclusive: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._engine_id = engine_id
        self._session = session
        self._exclusive = exclusive
        self._end = threading.Event()
        with exclusive():
            session.hold(_lock_of(engine_id))
        self._thread = threading.Thread(
            target=self._renew_often, name="flowbuilder-owner", daemon=True
        )
        self._thread.start()
        watch_forks(self)

    @property
    def engine_id(self) -> str:
        """The name of this engine in ``runs.owner``."""
        return self._engine_id

    def release(self) -> None:
        """End the hold. May be repeated."""
        if self._end.is_set():
            return
        self._end.set()
        self._thread.join()
        with suppress(StorageError), self._exclusive():  # a closed journal's session is gone
            self._session.let_go(_lock_of(self._engine_id))

    def renew(self) -> None:
        """Make sure that the lock is held.

        Raises
        ------
        StorageError
            If the database does not answer, or the journal is closed.
        """
        with self._exclusive():
            self._session.check()

    def abandon(self) -> None:
        """Forget the lock in a forked child: it is the parent's."""
        self._end = threading.Event()
        self._end.set()

    def _renew_often(self) -> None:
        # A run may compute for hours and write nothing: without this, a server that restarts
        # meanwhile would make it look ended.
        while not self._end.wait(_CHECK_S):
            with suppress(StorageError):  # it is tried again, and writing tells what is wrong
                self.renew()


class PostgresOwners:
    """The engines of a journal.

    Parameters
    ----------
    session : PostgresSession
        What holds the locks of this process.
    readers : Readers
        What looks at the locks of others.
    exclusive : callable
        A context in which nobody else uses the session.
    """

    def __init__(
        self,
        session: PostgresSession,
        readers: Readers,
        exclusive: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._session = session
        self._readers = readers
        self._exclusive = exclusive

    def acquire(self) -> PostgresEngineLock:
        """Register this process as a new engine.

        Raises
        ------
        StorageError
            If the database does not answer.
        """
        return PostgresEngineLock(os.urandom(16).hex(), self._session, self._exclusive)

    def is_alive(self, engine_id: str) -> bool:
        """Tell whether an engine lives, by trying its lock.

        Raises
        ------
        StorageError
            If the database does not answer.
        """
        if not _NAME.fullmatch(engine_id):
            return False
        # Shared, so that two who look do not take each other for a holder; given back at once.
        query = "SELECT pg_try_advisory_xact_lock_shared(?)"
        with self._readers.reading() as connection:
            return not next(connection.execute(query, (_lock_of(engine_id),)))[0]


def _lock_of(engine_id: str) -> int:
    from hashlib import blake2b

    return int.from_bytes(blake2b(engine_id.encode(), digest_size=8).digest(), "big", signed=True)
