"""What the recorder hands over, in any interleaving of driver, printing threads and flusher."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbuilder.records import (
    ABSENT,
    AttemptStarted,
    LogChunk,
    RetryScheduled,
    TaskSkipped,
)
from flowbuilder.runtime.recorder import Recorder
from flowbuilder.store.small_outputs import small_output
from flowbuilder.testing import rows_of
from flowbuilder.vocabulary import TASK_STATE_CODES, TaskState

SUCCEEDED = TASK_STATE_CODES[TaskState.SUCCEEDED]
FAILED = TASK_STATE_CODES[TaskState.FAILED]


def unfold(pieces):
    """Turn blocks into rows: (instance, attempt, state, start, end, output)."""
    for piece in pieces:
        rows = rows_of(piece)
        if not rows:
            yield piece
        for instance, attempt, state, _worker, _ready, start, end, output in rows:
            yield (instance, attempt, state, start, end, output)


class Model:
    """Does to a recorder what a driver may do, and notes what must come out."""

    def __init__(self):
        self.recorder = Recorder()
        self.notified = 0
        self.recorder.attach(self)
        self.facts = []
        self.logs = {}
        self.taken = []
        self.clock = 0
        self.next = 0
        self.live = {}
        self.values = [None] * 5_000
        self.encoded = {}

    def notify(self):
        self.notified += 1

    def tick(self):
        self.clock += 1
        return self.clock

    def start(self):
        instance, self.next = self.next, self.next + 1
        self.start_attempt(instance, 1)

    def start_attempt(self, instance, attempt):
        now = self.tick()
        self.live[instance] = (attempt, now)
        event = AttemptStarted(instance=instance, attempt=attempt, time_ns=now)
        self.recorder.started[instance] = SimpleNamespace(started=lambda: event)

    def end(self, *, retry=False):
        if not self.live:
            return
        instance = next(iter(self.live))
        attempt, start = self.live.pop(instance)
        self.recorder.started.pop(instance, None)
        state, now = FAILED if retry else SUCCEEDED, self.tick()
        self.row(instance, attempt, state, start, now)
        if retry:
            event = RetryScheduled(instance=instance, attempt=attempt + 1, delay_s=0.0, due_ns=now)
            self.recorder.event(event)
            self.facts.append(event)
            self.start_attempt(instance, attempt + 1)

    def row(self, instance, attempt, state, start, end):
        self.recorder.row((instance, attempt, state, 1, start, start, end, instance))
        self.facts.append((instance, attempt, state, start, end, instance))

    def skip(self):
        instance, self.next = self.next, self.next + 1
        now = self.tick()
        event = TaskSkipped(instance=instance, reason="x")
        self.recorder.event(event)
        self.facts.append(event)
        self.row(instance, 0, TASK_STATE_CODES[TaskState.SKIPPED], now, now)

    def log(self, instance, text):
        self.recorder.log(instance, 1, "stdout", text, self.clock)
        self.logs[instance] = self.logs.get(instance, "") + text

    def segment(self, outputs, between):
        """Run a static segment; ``between`` is called after every task."""
        first, self.next = self.next, self.next + len(outputs)
        start = self.tick()
        segment = self.recorder.open_segment(
            first, first + len(outputs), start, self.values, self.encoded
        )
        for place, output in enumerate(outputs):
            instance = first + place
            small = small_output(output)
            if isinstance(output, list | tuple):
                self.encoded[instance] = small
            self.values[instance] = output
            end = self.tick()
            segment.ends.append(end)
            self.facts.append((instance, 1, SUCCEEDED, start, end, small))
            start = end
            between()
        between()
        self.recorder.close_segment(segment)

    def take(self):
        self.taken.extend(unfold(self.recorder.take()))

    def check(self):
        self.take()
        assert self.recorder.take() == []
        starts = [item for item in self.taken if isinstance(item, AttemptStarted)]
        logs = [item for item in self.taken if isinstance(item, LogChunk)]
        facts = [item for item in self.taken if not isinstance(item, AttemptStarted | LogChunk)]
        assert facts == self.facts
        texts = {}
        for chunk in logs:
            texts[chunk.instance] = texts.get(chunk.instance, "") + chunk.text
        assert texts == self.logs
        assert len({(item.instance, item.attempt) for item in starts}) == len(starts)
        self.check_starts()

    def check_starts(self):
        ended = {}
        for item in self.taken:
            if isinstance(item, tuple):
                ended[item[0]] = item[1]
            elif isinstance(item, AttemptStarted):
                assert item.instance < self.next
                # After every earlier attempt of its instance, before its own end.
                assert ended.get(item.instance, 0) == item.attempt - 1


OUTPUT = st.one_of(
    st.none(), st.integers(-5, 5), st.just([1, 2]), st.just((1,)), st.just("text"), st.just({})
)
STEP = st.one_of(
    st.sampled_from(["start", "end", "retry", "skip", "take", "take"]),
    st.tuples(st.just("log"), st.integers(0, 2), st.text(max_size=4)),
    st.tuples(st.just("segment"), st.lists(OUTPUT, max_size=6), st.lists(st.booleans())),
)


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(STEP, max_size=30))
def test_takes_in_any_order_give_the_sequence(steps):
    model = Model()
    for step in steps:
        if step == "retry":
            model.end(retry=True)
        elif isinstance(step, str):
            getattr(model, step)()
        elif step[0] == "log" and step[2]:
            model.log(step[1], step[2])
        elif step[0] == "segment":
            takes = iter(step[2])

            def between(takes=takes):
                if next(takes, False):
                    model.take()
                    model.take()

            model.segment(step[1], between)

    model.check()


@pytest.fixture
def restless():
    """Let the interpreter switch threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_taking_beside_a_recording_thread_loses_and_repeats_nothing():
    model = Model()
    model.values = [None] * 400_000
    stop = threading.Event()
    batches = []

    def flush():
        while not stop.is_set():
            batches.append(model.recorder.take())

    def print_on():
        for number in range(3_000):
            model.log(-1, f"{number}\n")

    threads = [threading.Thread(target=flush), threading.Thread(target=print_on)]
    for thread in threads:
        thread.start()
    for number in range(300):
        model.segment([number] * 200, lambda: None)
        for _ in range(20):
            model.start()
        model.end(retry=True)
        for _ in range(20):
            model.end()
        model.skip()
    while model.live:
        model.end()
    threads[1].join()
    stop.set()
    threads[0].join()
    model.taken = [item for batch in batches for item in unfold(batch)]

    model.check()


def test_slow_task_of_a_segment_is_shown_as_started_once():
    model = Model()
    segment = model.recorder.open_segment(0, 2, 5, model.values, model.encoded)
    first = model.recorder.take()
    assert model.recorder.take() == []
    segment.ends.append(9)
    second = model.recorder.take()
    third = model.recorder.take()

    assert [(item.instance, item.time_ns) for item in first] == [(0, 5)]
    assert [row[0] for item in second for row in item.rows] == [0]
    assert [(item.instance, item.time_ns) for item in third] == [(1, 9)]


def test_finished_segment_shows_no_task_behind_its_end():
    """There may be none: the instance would be outside the plan."""
    model = Model()
    segment = model.recorder.open_segment(0, 1, 5, model.values, model.encoded)
    segment.ends.append(9)

    assert len(model.recorder.take()) == 1
    assert model.recorder.take() == []
    assert model.recorder.is_streaming
    model.recorder.close_segment(segment)
    assert not model.recorder.is_streaming


def test_text_of_one_stream_becomes_one_record():
    recorder = Recorder()
    for text in "abc":
        recorder.log(0, 1, "stdout", text, 1)
    recorder.log(0, 1, "stderr", "e", 1)
    recorder.log(0, 1, "stdout", "d", 1)

    assert [(chunk.stream, chunk.text) for chunk in recorder.take()] == [
        ("stdout", "abc"),
        ("stderr", "e"),
        ("stdout", "d"),
    ]


def test_output_that_does_not_ride_is_absent_in_its_row():
    model = Model()
    model.segment([object()], lambda: None)

    assert next(unfold(model.recorder.take()))[5] is ABSENT
