"""Connections to PostgreSQL that speak as the journal's readers do, and its errors in our words."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flowbuilder.config import StoreUrl
from flowbuilder.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    import psycopg

__all__ = [
    "PostgresAddress",
    "PostgresConnection",
    "connect",
    "escape_text",
    "parse_address",
    "postgres_error",
    "postgres_errors",
]

_DEFAULT_SCHEMA: Final = "flowbuilder"
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_CONNECT_TIMEOUT_S: Final = 10
_KEEPALIVE_S: Final = 30
_MAX_REASON_CHARS: Final = 300
# PostgreSQL's text holds any character but NUL.
_ESCAPE: Final = "\U0010fffd"


class PostgresAddress(NamedTuple):
    """Where a journal is."""

    conninfo: str
    schema: str
    shown: str
    """The URL without its password."""


def parse_address(url: str) -> PostgresAddress:
    """Read a ``postgresql://`` URL; ``schema=NAME`` among its options names the schema.

    Raises
    ------
    ConfigurationError
        If it is not one; the message shows no password.
    StorageError
        If psycopg is not installed.
    """
    shown = str(StoreUrl(url))
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:
        raise StorageError(
            f"the journal {shown} needs the package psycopg, which cannot be imported: {error}",
            hint="pip install 'flowbuilder[postgres]'",
        ) from error
    place, _, query = url.partition("?")
    options = [option for option in query.split("&") if option]
    names = [option[7:] for option in options if option.startswith("schema=")]
    schema = names[-1] if names else _DEFAULT_SCHEMA
    if not _SCHEMA.fullmatch(schema):
        raise ConfigurationError(
            f"expected a schema of small letters, digits and '_' in {shown}, found {schema!r}"
        )
    rest = "&".join(option for option in options if not option.startswith("schema="))
    conninfo = f"{place}?{rest}" if rest else place
    try:
        conninfo_to_dict(conninfo)
    except ProgrammingError:
        # What it says repeats the URL, password and all.
        raise ConfigurationError(
            f"expected a URL such as postgresql://user@host/database, found {shown}",
            hint="special characters in it are written as %XX",
        ) from None
    return PostgresAddress(conninfo, schema, shown)


class PostgresConnection:
    """A connection with SQLite's manners: question marks, rows as tuples, no transaction unasked.

    Parameters
    ----------
    raw : psycopg.Connection
        In autocommit mode.
    reopen : callable, optional
        Makes a new one for a reader whose server went away; None for connections that write.
    """

    def __init__(
        self, raw: psycopg.Connection, reopen: Callable[[], psycopg.Connection] | None = None
    ) -> None:
        self.raw = raw
        self._reopen = reopen

    @property
    def is_usable(self) -> bool:
        """Whether it is open, as far as is known, and outside a transaction."""
        from psycopg.pq import TransactionStatus

        return not self.raw.closed and self.raw.info.transaction_status == TransactionStatus.IDLE

    def execute(
        self, statement: str, bindings: Sequence[Any] | None = None, /
    ) -> Iterator[tuple[Any, ...]]:
        """Run one statement and iterate over its rows."""
        import psycopg

        try:
            return self._execute(statement, bindings or ())
        except psycopg.OperationalError:
            if self._reopen is None or not self.raw.closed:
                raise
        self.raw = self._reopen()
        return self._execute(statement, bindings or ())

    def send(self, statement: str, values: Sequence[Any]) -> None:
        """Run a statement with psycopg's own placeholders, inside a pipeline."""
        self.raw.execute(statement.encode(), values, binary=True)

    def _execute(self, statement: str, bindings: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        values = [escape_text(value) if type(value) is str else value for value in bindings]
        cursor = self.raw.execute(_translate(statement), values, binary=True)
        if cursor.description is None:
            return iter(())
        return map(_unescape_row, cursor.fetchall())

    def close(self) -> None:
        """Let go of it."""
        self.raw.close()


def connect(address: PostgresAddress, *, read_only: bool = False) -> PostgresConnection:
    """Open a connection with the journal's settings.

    Raises
    ------
    psycopg.Error
        As the library reports it; callers map it with `postgres_errors`.
    """

    def reopen() -> psycopg.Connection:
        return _connect(address, read_only=read_only)

    return PostgresConnection(reopen(), reopen if read_only else None)


def _connect(address: PostgresAddress, *, read_only: bool) -> psycopg.Connection:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(address.conninfo)
    defaults: dict[str, Any] = {
        "fallback_application_name": "flowbuilder",
        "keepalives_idle": _KEEPALIVE_S,
    }
    if not os.environ.get("PGCONNECT_TIMEOUT"):
        defaults["connect_timeout"] = _CONNECT_TIMEOUT_S
    more = {name: value for name, value in defaults.items() if name not in given}
    raw = psycopg.connect(address.conninfo, autocommit=True, client_encoding="UTF8", **more)
    try:
        # What reads several statements in a transaction wants one moment; what writes has a lock.
        isolation = "repeatable read" if read_only else "read committed"
        read_mode = "on" if read_only else "off"
        raw.execute(_SETTINGS, (f'"{address.schema}"', read_mode, isolation, f"{_KEEPALIVE_S}s"))
    except BaseException:
        raw.close()
        raise
    return raw


# A commit must be on disk when it is acknowledged, whatever the server's default; a session that
# hangs in a transaction must not stop everybody; the server must notice a machine that vanished.
_SETTINGS: Final = """
SELECT set_config('search_path', %s, false),
    set_config('default_transaction_read_only', %s, false),
    set_config('default_transaction_isolation', %s, false),
    set_config('tcp_keepalives_idle', %s, false),
    set_config('lock_timeout', '30s', false),
    set_config('idle_in_transaction_session_timeout', '60s', false),
    CASE WHEN current_setting('synchronous_commit') = 'off'
        THEN set_config('synchronous_commit', 'on', false) END,
    CASE WHEN current_setting('idle_session_timeout', true) IS NOT NULL
        THEN set_config('idle_session_timeout', '0', false) END
"""


@cache
def _translate(statement: str) -> bytes:
    return statement.replace("%", "%%").replace("?", "%s").encode()


def escape_text(text: str) -> str:
    """Write NUL, which PostgreSQL's text cannot hold, as two characters it can."""
    if "\0" not in text and _ESCAPE not in text:
        return text
    return text.replace(_ESCAPE, _ESCAPE + "1").replace("\0", _ESCAPE + "0")


def _unescape_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    if any(type(value) is str and _ESCAPE in value for value in row):
        return tuple(_unescape(value) if type(value) is str else value for value in row)
    return row


def _unescape(text: str) -> str:
    return text.replace(_ESCAPE + "0", "\0").replace(_ESCAPE + "1", _ESCAPE)


@contextmanager
def postgres_errors(action: str, address: PostgresAddress) -> Iterator[None]:
    """Turn psycopg's errors inside the block into `StorageError` with what to do about them."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise postgres_error(action, address, error) from error


def postgres_error(action: str, address: PostgresAddress, error: psycopg.Error) -> StorageError:
    """Say in our words what PostgreSQL reported."""
    lines = str(error).strip().splitlines()
    reason = lines[0][:_MAX_REASON_CHARS] if lines else type(error).__name__
    return StorageError(
        f"could not {action} the journal in {address.shown}: {reason}", hint=_advice(error)
    )


def _advice(error: psycopg.Error) -> str:
    state = error.sqlstate or ""
    for prefix, advice in _ADVICE:
        if state.startswith(prefix):
            return advice
    return (
        "check that the server runs and the database exists, and the user with its password"
        " (PGPASSWORD, ~/.pgpass or the URL in the setting 'journal')"
    )


_ADVICE: Final[tuple[tuple[str, str], ...]] = (
    ("25006", "the server is a standby or read-only: name the primary"),
    ("42501", "the user needs CREATE on the database, or the tables of another user's schema"),
    ("53100", "the server's disk is full: free some space; nothing earlier is lost"),
    ("53300", "the server has no free connection: raise max_connections or end other programs"),
    ("55P03", "another process holds the journal's lock: wait for it or end it"),
    ("57P", "the server is shutting down or starting: try again"),
    ("XX001", "the server reports damaged data: restore it from a backup"),
)
