"""What happened in a live run and is not on the disk yet. The driver appends, the journal's
flusher takes.

There is no lock on the driver's path: lists are appended to by their owner and cut from the front
by the one taker, each in one
bytecode that the interpreter does not divide.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Callable
from itertools import cycle, repeat
from operator import is_not
from typing import Protocol

import msgspec

from flowbuilder.records import (
    AttemptBlock,
    AttemptRows,
    AttemptStarted,
    Event,
    LogChunk,
    Record,
    Row,
)
from flowbuilder.store.small_outputs import small_output
from flowbuilder.vocabulary import TASK_STATE_CODES, TaskState

__all__ = ["NO_RECORDER", "Recorder", "Segment"]

_SUCCEEDED = TASK_STATE_CODES[TaskState.SUCCEEDED]
_FEW = 16
"""Up to so many attempts are handed over as rows: columns would cost more than they save."""

_MAX_CHUNK = 65_536
_MEETING = 1_024
"""How much of the text before is looked at for secrets that were printed in pieces."""


_log_locks = cycle([threading.Lock() for _ in range(16)])


def _renew_locks() -> None:
    global _log_locks  # noqa: PLW0603 - whoever held one does not exist in a forked child
    _log_locks = cycle([threading.Lock() for _ in range(16)])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class Segment(msgspec.Struct, eq=False, gc=False):
    """A static inline segment while it runs: consecutive instances, of which ``len(ends)`` are
    finished.
    """

    values: list[object]
    encoded: dict[int, object]
    first: int
    last: int
    start_ns: int
    ends: list[int]
    taken: int = 0
    is_open: bool = True
    shown: int = -1
    is_seen: bool = False
    """Whether a taker keeps count of it."""


class Notified(Protocol):
    """Who is told that there is something to take."""

    def notify(self) -> None:
        """Say that there is."""
        ...


class Started(Protocol):
    """An attempt under way."""

    def started(self) -> AttemptStarted:
        """Describe its beginning."""
        ...


class Recorder(msgspec.Struct, eq=False, gc=False):
    """Collects the facts of one run; a `LiveSource` for the journal."""

    items: list[Row | Event | Segment] | None = None
    journal: Notified | None = None
    segment: Segment | None = None
    started: dict[int, Started] = {}
    """Live attempts not recorded as started; short ones never are."""
    log_lock: threading.Lock = msgspec.field(default_factory=lambda: next(_log_locks))
    """One of a few: thousands of runs live at once, and printing holds it for an instant."""

    def attach(self, journal: Notified) -> None:
        """Connect who is told that there is something to take."""
        self.journal = journal

    def detach(self) -> None:
        """Disconnect it when the run has ended; the journal still takes what is left."""
        self.journal = None

    @property
    def is_streaming(self) -> bool:
        """Whether a segment is producing rows without notifying, or attempts run whose start is
        not on record.
        """
        return self.segment is not None or bool(self.started)

    def row(self, row: Row) -> None:
        """Record a finished attempt."""
        self._put(row)

    def _put(self, item: Row | Event | Segment) -> None:
        items = self.items
        if items is None:
            with self.log_lock:
                if self.items is None:
                    self.items = []
                items = self.items
        items.append(item)
        if self.journal is not None:
            self.journal.notify()

    def event(self, event: Event) -> None:
        """Record any other fact."""
        self._put(event)

    def log(  # noqa: PLR0917 - called for every print
        self,
        instance: int,
        attempt: int,
        stream: str,
        text: str,
        time_ns: int,
        level: str = "",
        redact: Callable[[str], str] | None = None,
    ) -> None:
        """Record printed text; consecutive pieces of one stream become one record.

        ``redact`` sees where two pieces meet, each of which was harmless alone.
        """
        with self.log_lock:
            if self.items is None:
                self.items = []
            last = self.items[-1] if self.items else None
            if (
                isinstance(last, LogChunk)
                and last.instance == instance
                and last.attempt == attempt
                and last.stream == stream
                and last.level == level
                and len(last.text) < _MAX_CHUNK
            ):
                if redact is None:
                    last.text += text
                else:
                    cut = max(0, len(last.text) - _MEETING)
                    last.text = last.text[:cut] + redact(last.text[cut:] + text)
                return
            self.items.append(
                LogChunk(
                    instance=instance,
                    attempt=attempt,
                    stream=stream,
                    text=text,
                    level=level,
                    time_ns=time_ns,
                )
            )
        journal = self.journal
        if journal is not None:
            journal.notify()

    def open_segment(
        self, first: int, last: int, start_ns: int, values: list[object], encoded: dict[int, object]
    ) -> Segment:
        """Begin a static segment of instances ``first`` to ``last - 1``; the columns are read as
        its rows are taken.
        """
        segment = Segment(values, encoded, first, last, start_ns, [])
        self.segment = segment
        self._put(segment)
        return segment

    def close_segment(self, segment: Segment) -> None:
        """End it; its rows stay until they are taken."""
        segment.is_open = False
        self.segment = None
        done = len(segment.ends)
        if done - segment.taken <= _FEW:
            with self.log_lock:
                # Many runs may wait to be taken, and rows weigh less than a segment.
                if not segment.is_seen and self.items and self.items[-1] is segment:
                    self.items[-1:] = _segment_rows(segment, done)

    def take(self) -> list[Record]:
        """Hand over everything recorded since the last call, oldest first."""
        # Looked at before the items, so that whatever a start followed is among these; shown behind
        # them.
        started = [
            attempt.started()
            for instance in list(self.started)
            if (attempt := self.started.pop(instance, None)) is not None
        ]
        with self.log_lock:
            items = self._cut()
        pieces: list[Record] = []
        rows: list[Row] = []
        for item in items:
            if isinstance(item, tuple):
                rows.append(item)
                continue
            if isinstance(item, Segment):
                done = len(item.ends)
                if item.taken < done <= item.taken + _FEW:
                    rows.extend(_segment_rows(item, done))
                    continue
            if rows:
                pieces.append(_together(rows))
                rows = []
            if isinstance(item, Segment):
                pieces.extend(_segment_pieces(item, done))
            else:
                pieces.append(item)
        if rows:
            pieces.append(_together(rows))
        if started:
            # An attempt that ended between the two looks needs no start.
            ended = {item[:2] for item in items if isinstance(item, tuple)}
            pieces.extend(
                event for event in started if (event.instance, event.attempt) not in ended
            )
        return pieces

    def _cut(self) -> list[Row | Event | Segment]:
        all_items = self.items
        if all_items is None:
            return []
        count = len(all_items)
        items = all_items[:count]
        # A segment that is still open was pushed last by the driver; only log text can stand
        # behind it.
        kept = [item for item in items if isinstance(item, Segment) and item.is_open]
        for item in kept:
            item.is_seen = True
        all_items[:count] = kept
        if not all_items and self.journal is None:
            # The run has ended, and its driver appends nothing more.
            self.items = None
        return items


class _NoRecorder(Recorder):
    """Takes the place of a recorder the journal has: facts of an ended run are dropped."""

    def _put(self, item: Row | Event | Segment) -> None:
        pass

    def log(self, *_args: object, **_more: object) -> None:
        pass


NO_RECORDER = _NoRecorder()


def _segment_rows(segment: Segment, done: int) -> list[Row]:
    """Give the few attempts of a segment that ended since the last look."""
    taken, ends = segment.taken, segment.ends
    start = ends[taken - 1] if taken else segment.start_ns
    rows: list[Row] = []
    for place in range(taken, done):
        instance, end = segment.first + place, ends[place]
        value, encoded = segment.values[instance], segment.encoded
        small = encoded[instance] if instance in encoded else small_output(value)
        rows.append((instance, 1, _SUCCEEDED, 0, start, start, end, small))
        start = end
    segment.taken = done
    return rows


def _segment_pieces(segment: Segment, done: int) -> list[Record]:
    taken = segment.taken
    first, last = segment.first + taken, segment.first + done
    if taken == done:
        # No progress since the last look: the current task is not a short one, so show that it
        # runs.
        if segment.is_open and last < segment.last and segment.shown != last:
            segment.shown = last
            start_ns = segment.ends[-1] if segment.ends else segment.start_ns
            return [AttemptStarted(instance=last, attempt=1, executor="inline", time_ns=start_ns)]
        return []
    segment.taken = done
    block = AttemptBlock(
        instances=array("i", range(first, last)),
        ends_ns=array("q", segment.ends[taken:done]),
        outputs=_encode_outputs(segment.values[first:last], segment.encoded, first),
        first_start_ns=segment.ends[taken - 1] if taken else segment.start_ns,
    )
    return [block]


def _together(rows: list[Row]) -> AttemptRows | AttemptBlock:
    found = AttemptRows(rows)
    return found if len(rows) <= _FEW else found.to_block()


def _encode_outputs(
    values: list[object], encoded: dict[int, object], first: int
) -> list[object] | None:
    """Turn the outputs of consecutive instances into what rides in their records; None if all are
    None.
    """
    # By identity: `==` is code of the user's types, and tables compare by element.
    if not any(map(is_not, values, repeat(None))):
        return None
    return [
        None
        if value is None
        else encoded[first + row]
        if first + row in encoded
        else small_output(value)
        for row, value in enumerate(values)
    ]
