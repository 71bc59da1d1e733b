"""Full-text search over everything recorded: brought up to date first, then asked."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import apsw

from flowbuilder._version import __version__
from flowbuilder.clock import Anchor
from flowbuilder.errors import QueryError, StorageError
from flowbuilder.history.access import Access
from flowbuilder.history.search_documents import RunTexts
from flowbuilder.history.search_query import parse_search
from flowbuilder.history.search_result import SearchHit, SearchHits
from flowbuilder.history.search_tables import SCHEMA_VERSION, SearchTables
from flowbuilder.history.search_text import read_snippet
from flowbuilder.history.source import JournalSource
from flowbuilder.records import Event
from flowbuilder.store.forks import leak, watch_forks
from flowbuilder.store.ports import Journal
from flowbuilder.store.retention import JournalMark

__all__ = ["KeptFacts", "Search"]

_log = logging.getLogger(__name__)
_FILE: Final = "search.db"
_LOCK: Final = "search.lock"
_CHUNK_S: Final = 0.3
_LONGEST_WAIT_S: Final = 30.0
_RUNS_AT_ONCE: Final = 200
_MADE_BY: Final = f"{SCHEMA_VERSION} {__version__}"


class KeptFacts(Protocol):
    """Runs that are kept outside the journal, with their facts."""

    def mark(self) -> str:
        """Say which months there are."""
        ...

    def last_seqs(self) -> Mapping[str, int]:
        """Give every run with its newest record."""
        ...

    def runs(self, run_ids: Iterable[str]) -> Iterator[tuple[RunTexts, list[Event]]]:
        """Iterate over runs with their facts."""
        ...


class _UnusableError(Exception):
    """The index has to be made anew."""


class Search:
    """The index of one store. Thread-safe; one per process and store.

    Parameters
    ----------
    journal : Journal
        The truth.
    kept : KeptFacts
        Runs that moved from the journal to the months.
    folder : Path or None
        Where the index is; None keeps it in memory.
    """

    def __init__(self, journal: Journal, kept: KeptFacts, folder: Path | None) -> None:
        self._source = JournalSource(journal)
        self._kept = kept
        self._place = None if folder is None else (folder / _FILE, Access(folder / _LOCK))
        self._memory: apsw.Connection | None = None
        self._lock = threading.Lock()
        watch_forks(self)

    def search(self, text: str, *, limit: int = 20) -> SearchHits:
        """Find a text in workflows, runs, logs and errors recorded up to now, newest first.

        Parameters
        ----------
        text : str
            See `flowbuilder.history.search_query`.
        limit : int
            At most so many hits.

        Raises
        ------
        QueryError
            If it is not a search.
        StorageError
            If the journal or a month is damaged.
        """
        if limit < 1:
            raise QueryError(f"expected a limit of at least 1, found {limit}")
        query = parse_search(text)
        rows = self._up_to_date(lambda tables: tables.find(query, limit))
        return SearchHits(map(_hit, rows), text)

    def check(self) -> None:
        """Make sure that the index agrees with its documents; a damaged one is made anew."""
        self._up_to_date(SearchTables.check)

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            memory, self._memory = self._memory, None
            if memory is not None:
                memory.close()

    def abandon(self) -> None:
        """Forget everything in a forked child, which must not touch it."""
        leak([self._memory])
        self._memory = None

    def _up_to_date(self, question: Callable[[SearchTables], Any]) -> Any:
        with self._lock:
            for is_fresh in (False, True):
                try:
                    return self._ask_file(question, is_fresh=is_fresh)
                except (apsw.Error, _UnusableError, _DamageError) as error:
                    _log.warning("the search index is made anew: %r", error)
                except OSError as error:
                    _log.info("the search index is kept in memory: %s", error)
                    break
            return self._ask_memory(question)

    def _ask_memory(self, question: Callable[[SearchTables], Any]) -> Any:
        try:
            self._memory = self._memory or apsw.Connection(":memory:")
            tables = SearchTables(self._memory)
            mark = self._source.mark()
            while not self._advance(tables, mark):
                pass
            return question(tables)
        except (apsw.Error, _UnusableError) as error:
            self._memory = None
            raise StorageError(f"the search index cannot be made: {error!r}") from error

    def _ask_file(self, question: Callable[[SearchTables], Any], *, is_fresh: bool) -> Any:
        if self._place is None:
            raise OSError("there is no place for it")
        path, access = self._place
        if is_fresh:
            with access.exclusive(_LONGEST_WAIT_S) as is_held:
                if not is_held:
                    raise OSError("other processes hold it")
                for old in (path.with_name(f"{path.name}-journal"), path):
                    old.unlink(missing_ok=True)
        mark = self._source.mark()
        while True:
            with access.shared(_LONGEST_WAIT_S) as is_held:
                if not is_held:
                    raise OSError("another process holds it")
                if path.exists():
                    with _opened(path) as tables:
                        if self._is_current(tables, mark):
                            return _checked(question, tables)
            # Somebody who reads lets go in a moment.
            with access.exclusive(_CHUNK_S) as is_held:
                if is_held:
                    with _opened(path) as tables:
                        self._advance(tables, mark)

    def _is_current(self, tables: SearchTables, mark: JournalMark) -> bool:
        found = tables.meta()
        if not found or self._has_moved(found, mark):
            return False
        pos = int(found["pos"])
        return 0 <= mark.last_pos <= pos or not self._source.has_more(pos)

    def _has_moved(self, found: Mapping[str, str], mark: JournalMark) -> bool:
        if found["made_by"] != _MADE_BY or found["identity"] != mark.identity:
            raise _UnusableError
        return int(found["removals"]) != mark.removals or found["months"] != self._kept.mark()

    def _advance(self, tables: SearchTables, mark: JournalMark) -> bool:
        """Take in facts for a moment; tell whether nothing up to ``mark`` is left."""
        with tables.connection:
            found = tables.meta()
            if not found:
                start = {"made_by": _MADE_BY, "identity": mark.identity, "pos": 0}
                tables.create({**start, "removals": -2, "months": "-"})
                found = tables.meta()
        deadline = time.monotonic() + _CHUNK_S
        self._has_moved(found, mark)
        for page in self._source.pages(int(found["pos"])):
            with tables.connection:
                self._index(tables, page.events)
                tables.set_meta("pos", page.next_pos)
            if time.monotonic() > deadline:
                return False
        with tables.connection:
            self._settle(tables, found, mark)
        return True

    def _index(self, tables: SearchTables, events: Iterable[Event]) -> None:
        by_run: dict[str, list[Event]] = {}
        for event in events:
            by_run.setdefault(event.run_id, []).append(event)
        for run_id, of_run in by_run.items():
            header = self._source.header(run_id)
            if header is None:
                continue  # removed meanwhile
            texts = RunTexts(header, self._source.labels(header.plan_id))
            _put(tables, texts, of_run)

    def _settle(self, tables: SearchTables, found: Mapping[str, str], mark: JournalMark) -> None:
        """Let removed runs go, and take in those that only the months have."""
        if not self._has_moved(found, mark):
            return
        months = self._kept.mark()
        kept = self._kept.last_seqs()
        alive = self._source.run_ids()
        stored = tables.last_seqs()
        wanted = [run for run, seq in kept.items() if run not in alive and stored.get(run) != seq]
        gone = [run for run in stored if run not in alive and run not in kept]
        tables.remove_runs([*gone, *(run for run in wanted if run in stored)])
        for start in range(0, len(wanted), _RUNS_AT_ONCE):
            for texts, events in self._kept.runs(wanted[start : start + _RUNS_AT_ONCE]):
                _put(tables, texts, events)
        tables.set_meta("removals", mark.removals)
        tables.set_meta("months", months)


class _DamageError(Exception):
    """A document of the index is not as it was written."""


def _checked(question: Callable[[SearchTables], Any], tables: SearchTables) -> Any:
    try:
        return question(tables)
    except StorageError as error:
        raise _DamageError(str(error)) from error


@contextmanager
def _opened(path: Path) -> Iterator[SearchTables]:
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(5000)
        connection.pragma("synchronous", "NORMAL")
        yield SearchTables(connection)
    finally:
        connection.close()


def _put(tables: SearchTables, texts: RunTexts, events: list[Event]) -> None:
    """Index the facts of one run that were not taken in before."""
    run_id, workflow = texts.header.run_id, texts.header.workflow
    last_seq = -1
    state = tables.state_of(run_id)
    if state is not None:
        last_seq = state[0]
        texts.anchor = Anchor(wall_ns=state[1], monotonic_ns=state[2])
    new = [event for event in events if event.seq > last_seq]
    for event in new:
        tables.put_documents(run_id, workflow, texts.of_event(event))
    if new:
        tables.put_run(texts, new[-1].seq)


def _hit(row: Mapping[str, Any]) -> SearchHit:
    snippet = read_snippet(row["marked"])
    fields = {name: row[name] for name in ("run_id", "workflow", "kind", "task", "attempt")}
    return SearchHit(**fields, time_ns=row["time_ns"], text=snippet.text, marks=snippet.marks)
