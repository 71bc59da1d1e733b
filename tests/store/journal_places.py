"""Where journals of each kind are kept, so that one set of tests holds for all of them.

A place can be opened several times, as several processes do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import apsw

from flowbuilder.store.ports import Journal
from flowbuilder.store.sqlite_journal import SqliteJournal


class JournalPlace(Protocol):
    """One store of one kind."""

    is_shared: bool
    """Whether several processes can use it."""
    url: str
    """What another process opens it with (see `open_journal`); empty for the store directory."""
    data_dir: Path

    def open(self, is_owner_alive: Callable[[str], bool]) -> Journal: ...

    def execute(self, statement: str, *values: object) -> None:
        """Change the tables behind the journal's back."""
        ...


class SqlitePlace:
    is_shared = True
    url = ""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.path = data_dir / "journal.db"

    def open(self, is_owner_alive):
        self.data_dir.mkdir(exist_ok=True)
        return SqliteJournal(self.path, is_owner_alive=is_owner_alive)

    def execute(self, statement, *values):
        connection = apsw.Connection(str(self.path))
        connection.execute(statement, values)
        connection.close()


class MemoryPlace:
    is_shared = False
    url = ""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def open(self, is_owner_alive):
        return SqliteJournal(None, is_owner_alive=is_owner_alive)

    def execute(self, statement, *values):
        raise NotImplementedError


class PostgresPlace:
    is_shared = True

    def __init__(self, url: str, data_dir: Path) -> None:
        self.url = url
        self.data_dir = data_dir

    def open(self, is_owner_alive):
        from flowbuilder.store.postgres_journal import PostgresJournal

        return PostgresJournal(self.url, is_owner_alive=is_owner_alive)

    def execute(self, statement, *values):
        from flowbuilder.store.postgres_connection import connect, parse_address

        connection = connect(parse_address(self.url))
        connection.execute(statement, values)
        connection.close()
