"""Which outputs are kept: a SQLite file shared by all processes of a project.

Everything in it can be computed again, so whatever is wrong with the file, it is made anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import msgspec

from flowbuilder.cache.entry import Entry
from flowbuilder.cache.file_hashes import Stamp
from flowbuilder.cache.parts import Fingerprint
from flowbuilder.records import ArtifactStored
from flowbuilder.store.connection import check_library, open_connection
from flowbuilder.store.filesystems import network_filesystem
from flowbuilder.store.forks import leak, watch_forks

__all__ = ["CacheIndex"]

_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)
_SCHEMA: Final = """
create table if not exists entries(
  key text primary key, task text not null, created_ns integer not null, used_ns integer not null,
  ttl_s real, cost_ns integer not null, size_bytes integer not null,
  hits integer not null default 0, rank real not null, inline blob, artifact blob,
  seal blob not null);
create index if not exists by_rank on entries(rank);
create table if not exists tasks(
  task text primary key, key text not null, stored_ns integer not null, parts blob not null,
  seal blob not null);
create table if not exists files(
  path text primary key, stamp blob not null, digest blob not null, seal blob not null);
create table if not exists counters(name text primary key, value integer not null);
"""
_COLUMNS: Final = (
    "key, task, created_ns, used_ns, ttl_s, cost_ns, size_bytes, hits, inline, artifact, seal"
)
_MOST_PENDING: Final = 64
_FLUSH_S: Final = 1.0
_DAMAGE: Final = (
    *(apsw.CorruptError, apsw.NotADBError, apsw.FormatError, apsw.MismatchError),
    apsw.SQLError,  # our statements are constant: a table or a column is gone
    *(UnicodeDecodeError, TypeError, ValueError, OverflowError, msgspec.MsgspecError),
)
"""What reading a damaged file raises, from SQLite and from what makes values of its bytes."""


class CacheIndex:
    """Entries by key, the newest fingerprint of each task, hashes of files, counters.

    Thread-safe. A use of an entry and counters are written with the next store, or a second later:
    losing them in a crash costs nothing.

    Parameters
    ----------
    folder : Path
        Where ``index.sqlite`` lies; made if need be.

    Raises
    ------
    apsw.Error, OSError
        If it cannot be opened, and not because it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        check_library()
        self.path = folder / "index.sqlite"
        self._lock = threading.RLock()
        self._uses: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._last_flush = time.monotonic()
        self._connection: apsw.Connection | None = None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._connect()
        except _DAMAGE as error:
            self._rebuild(error)
        watch_forks(self)

    def _connect(self) -> None:
        connection = open_connection(self.path)
        try:
            connection.pragma("synchronous", "NORMAL")
            mode = "delete" if network_filesystem(self.path) else "wal"
            connection.pragma("journal_mode", mode)
            connection.wal_autocheckpoint(1_000)
            connection.execute(_SCHEMA)
            connection.execute("select * from entries limit 1").fetchall()
        except (apsw.Error, *_DAMAGE):
            connection.close()
            raise
        self._connection = connection
        self.path.chmod(0o600)

    def _rebuild(self, error: Exception) -> None:
        """Begin anew: whatever it held can be computed again."""
        _LOG.warning("the cache's index %s is damaged (%s) and is made anew", self.path, error)
        if self._connection is not None:
            with suppress(apsw.Error):
                self._connection.close(force=True)
            self._connection = None
        for suffix in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._connect()

    def abandon(self) -> None:
        """Let go in a forked child, which must not touch its parent's files."""
        connection, self._connection = self._connection, None
        if connection is not None:
            leak([connection])
        self._lock = threading.RLock()

    def close(self) -> None:
        """Write what is pending and close."""
        with self._lock:
            if self._connection is None:
                return
            with suppress(apsw.Error):
                self._flush(self._connection)
            with suppress(apsw.Error):
                self._connection.close()
            self._connection = None

    # -- running statements ----------------------------------------------------------------------

    def _do(self, action: Callable[[apsw.Connection], _T], default: _T) -> _T:
        """Run an action; a damaged file is made anew and gives the default, as does a busy one."""
        with self._lock:
            if self._connection is None:
                return default
            try:
                return action(self._connection)
            except _DAMAGE as error:
                try:
                    self._rebuild(error)
                except (apsw.Error, OSError, *_DAMAGE) as second:
                    _LOG.warning("the cache cannot be used: %s", second)
                    self._connection = None
                return default
            except apsw.Error as error:
                _LOG.warning("the cache was not asked: %s", error)
                return default

    # -- entries ---------------------------------------------------------------------------------

    def find(self, key: str) -> tuple[Entry | None, bool]:
        """Give the entry of a key, and whether there was one that is not as it was written."""

        def ask(connection: apsw.Connection) -> tuple[Entry | None, bool]:
            row = connection.execute(
                f"select {_COLUMNS} from entries where key = ?",  # noqa: S608 - a constant
                (key,),
            ).fetchone()
            if row is None:
                return None, False
            entry = _entry(row)
            if entry is None:
                connection.execute("delete from entries where key = ?", (key,))
                self._counts["damaged"] += 1
            return entry, entry is None

        nothing: tuple[Entry | None, bool] = (None, False)
        return self._do(ask, nothing)

    def entries(self) -> list[Entry]:
        """List all entries, the newest first."""

        def ask(connection: apsw.Connection) -> list[Entry]:
            rows = connection.execute(
                f"select {_COLUMNS} from entries order by created_ns desc"  # noqa: S608
            )
            return [entry for row in rows if (entry := _entry(row)) is not None]

        self.flush()
        return self._do(ask, [])

    def put(self, entry: Entry, fingerprint: Fingerprint, *, floor: float) -> Entry | None:
        """Keep an entry and its task's fingerprint; give the entry it replaces."""

        def write(connection: apsw.Connection) -> Entry | None:
            with connection:
                row = connection.execute(
                    f"select {_COLUMNS} from entries where key = ?",  # noqa: S608
                    (entry.key,),
                ).fetchone()
                artifact = (
                    None if entry.artifact is None else msgspec.msgpack.encode(entry.artifact)
                )
                connection.execute(
                    "insert or replace into entries(key, task, created_ns, used_ns, ttl_s, cost_ns,"
                    " size_bytes, hits, rank, inline, artifact, seal)"
                    " values(?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)",
                    (
                        entry.key,
                        entry.task,
                        entry.created_ns,
                        entry.used_ns,
                        entry.ttl_s,
                        entry.cost_ns,
                        entry.size_bytes,
                        _rank(floor, entry.cost_ns, entry.size_bytes),
                        entry.inline,
                        artifact,
                        _seal(entry.key, entry.created_ns, entry.inline, artifact),
                    ),
                )
                self._write_task(connection, entry.task, fingerprint, entry.created_ns)
                self._counts["stored"] += 1
                self._flush(connection)
            return None if row is None else _entry(row)

        return self._do(write, None)

    def remove(self, keys: list[str]) -> None:
        """Forget entries."""

        def write(connection: apsw.Connection) -> None:
            with connection:
                connection.executemany(
                    "delete from entries where key = ?", [(key,) for key in keys]
                )

        self._do(write, None)

    def cheapest(self) -> Iterator[tuple[Entry, float]]:
        """Give entries in the order in which they should go, with their rank."""

        def ask(connection: apsw.Connection) -> list[tuple[Entry, float]]:
            rows = connection.execute(
                f"select {_COLUMNS}, rank from entries"  # noqa: S608
                " order by rank, used_ns limit 1000"
            )
            return [(entry, row[-1]) for row in rows if (entry := _entry(row[:-1])) is not None]

        nothing: list[tuple[Entry, float]] = []
        yield from self._do(ask, nothing)

    def size_bytes(self) -> int:
        """Add up what the entries occupy."""

        def ask(connection: apsw.Connection) -> int:
            row = connection.execute("select coalesce(sum(size_bytes), 0) from entries").fetchone()
            return int(row[0]) if row else 0

        return self._do(ask, 0)

    # -- fingerprints of tasks -------------------------------------------------------------------

    def latest(self, task: str) -> tuple[Fingerprint, int] | None:
        """Give the fingerprint a task's newest kept or used output had, and when that was."""

        def ask(connection: apsw.Connection) -> tuple[Fingerprint, int] | None:
            row = connection.execute(
                "select key, parts, stored_ns, seal from tasks where task = ?", (task,)
            ).fetchone()
            if row is None or bytes(row[3]) != _seal(row[0], row[2], row[1], None):
                return None
            try:
                return Fingerprint.from_bytes(row[1]), row[2]
            except msgspec.DecodeError:
                return None

        return self._do(ask, None)

    def latest_key(self, task: str) -> str:
        """Give the key of a task's newest fingerprint; empty if it has none."""

        def ask(connection: apsw.Connection) -> str:
            row = connection.execute("select key from tasks where task = ?", (task,)).fetchone()
            return "" if row is None else str(row[0])

        return self._do(ask, "")

    def note_task(self, task: str, fingerprint: Fingerprint) -> None:
        """Remember a fingerprint as the newest of a task."""

        def write(connection: apsw.Connection) -> None:
            self._write_task(connection, task, fingerprint, time.time_ns())

        self._do(write, None)

    @staticmethod
    def _write_task(
        connection: apsw.Connection, task: str, fingerprint: Fingerprint, when_ns: int
    ) -> None:
        parts = fingerprint.to_bytes()
        seal = _seal(fingerprint.key, when_ns, parts, None)
        connection.execute(
            "insert or replace into tasks(task, key, stored_ns, parts, seal) values(?, ?, ?, ?, ?)",
            (task, fingerprint.key, when_ns, parts, seal),
        )

    # -- files -----------------------------------------------------------------------------------

    def recall_file(self, path: str) -> tuple[Stamp, bytes] | None:
        """Give what is remembered of a file."""

        def ask(connection: apsw.Connection) -> tuple[Stamp, bytes] | None:
            row = connection.execute(
                "select stamp, digest, seal from files where path = ?", (path,)
            ).fetchone()
            if row is None or bytes(row[2]) != _seal(path, 0, row[0], row[1]):
                return None
            return msgspec.msgpack.decode(row[0], type=Stamp), bytes(row[1])

        return self._do(ask, None)

    def remember_file(self, path: str, stamp: Stamp, digest: bytes) -> None:
        """Remember a file's hash."""

        def write(connection: apsw.Connection) -> None:
            data = msgspec.msgpack.encode(stamp)
            connection.execute(
                "insert or replace into files(path, stamp, digest, seal) values(?, ?, ?, ?)",
                (path, data, digest, _seal(path, 0, data, digest)),
            )

        self._do(write, None)

    # -- uses and counters -----------------------------------------------------------------------

    def note_use(self, key: str, saved_ns: int) -> None:
        """Note a hit."""
        with self._lock:
            self._uses[key] += 1
            self._counts["hits"] += 1
            self._counts["saved_ns"] += saved_ns
        self._flush_soon()

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[name] += number
        self._flush_soon()

    def counters(self) -> dict[str, int]:
        """Give all counters."""
        self.flush()
        return self._do(
            lambda connection: dict(connection.execute("select name, value from counters")), {}
        )

    def set_counter(self, name: str, value: int) -> None:
        """Set a counter."""
        self._do(
            lambda connection: connection.execute(
                "insert or replace into counters(name, value) values(?, ?)", (name, value)
            ),
            None,
        )

    def flush(self) -> None:
        """Write uses and counters."""
        self._do(self._flush_alone, None)

    def clear(self) -> None:
        """Forget everything."""

        def write(connection: apsw.Connection) -> None:
            with connection:
                for table in ("entries", "tasks", "files", "counters"):
                    connection.execute(f"delete from {table}")  # noqa: S608 - constants

        with self._lock:
            self._uses.clear()
            self._counts.clear()
            self._do(write, None)

    def _flush_soon(self) -> None:
        if len(self._uses) >= _MOST_PENDING or time.monotonic() - self._last_flush > _FLUSH_S:
            self.flush()

    def _flush_alone(self, connection: apsw.Connection) -> None:
        if self._uses or self._counts:
            with connection:
                self._flush(connection)

    def _flush(self, connection: apsw.Connection) -> None:
        uses, self._uses = self._uses, Counter()
        counts, self._counts = self._counts, Counter()
        self._last_flush = time.monotonic()
        now = time.time_ns()
        floor = connection.execute("select value from counters where name = 'floor'").fetchone()
        low = int(floor[0]) / 1e6 if floor else 0.0
        for key, number in uses.items():
            connection.execute(
                "update entries set used_ns = ?, hits = hits + ?,"
                " rank = ? + 1.0 * cost_ns / max(size_bytes, 1) where key = ?",
                (now, number, low, key),
            )
        for name, number in counts.items():
            connection.execute(
                "insert into counters(name, value) values(?, ?)"
                " on conflict(name) do update set value = value + excluded.value",
                (name, number),
            )


def _rank(floor: float, cost_ns: int, size_bytes: int) -> float:
    return floor + cost_ns / max(size_bytes, 1)


def _seal(key: str, when_ns: int, first: bytes | None, second: bytes | None) -> bytes:
    import xxhash

    total = xxhash.xxh3_128(f"{key} {when_ns}".encode("utf-8", "surrogatepass"))
    for data in (first, second):
        total.update(b"none" if data is None else b"some%d " % len(data))
        total.update(data or b"")
    return total.digest()


def _entry(row: tuple[Any, ...]) -> Entry | None:
    """Make an entry of a row; None if the row is not as it was written."""
    key, task, created_ns, used_ns, ttl_s, cost_ns, size_bytes, hits, inline, artifact, seal = row
    try:
        if seal != _seal(key, created_ns, inline, artifact):
            return None
        return msgspec.convert(
            {
                "key": key,
                "task": task,
                "created_ns": created_ns,
                "used_ns": used_ns,
                "ttl_s": ttl_s,
                "cost_ns": cost_ns,
                "size_bytes": size_bytes,
                "hits": hits,
                "inline": inline,
                "artifact": None
                if artifact is None
                else msgspec.msgpack.decode(artifact, type=ArtifactStored),
            },
            Entry,
        )
    except (TypeError, ValueError, msgspec.MsgspecError):
        return None
