"""Which executor ``auto`` means, and what the measured durations say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.runtime.choice import SHORT_NS, MeanDurations, choose_executor
from flowbuilder.runtime.program import Program, RemoteCall
from flowbuilder.vocabulary import ExecutorKind

AUTO, INLINE, THREAD = ExecutorKind.AUTO, ExecutorKind.INLINE, ExecutorKind.THREAD
ASYNC, PROCESS = ExecutorKind.ASYNC, ExecutorKind.PROCESS


async def coroutine(_context):
    """Do nothing."""


def nothing():
    """Do nothing."""


PLAIN = Program(function=nothing, code_key="plain")
AWAITED = Program(coroutine=coroutine, code_key="awaited")
SLEEPING = Program(delay=lambda _c: 1.0, code_key="sleeping")
LEAVING = Program(function=nothing, remote=lambda _c: RemoteCall(nothing), code_key="leaving")


def means_of(mean_ns):
    means = MeanDurations()
    if mean_ns is not None:
        for key in ("plain", "awaited", "sleeping", "leaving"):
            means.observe(key, mean_ns)
    return means


UNKNOWN, SHORT, LONG = None, 10_000.0, 80e6


@pytest.mark.parametrize(
    ("program", "wanted", "mean_ns", "alone", "timeout", "expected"),
    [
        # auto: inline if known to be short, or alone on a caller's driver; else a thread.
        (PLAIN, AUTO, SHORT, False, False, INLINE),
        (PLAIN, AUTO, LONG, True, False, INLINE),
        (PLAIN, AUTO, UNKNOWN, True, False, INLINE),
        (PLAIN, AUTO, UNKNOWN, False, False, THREAD),
        (PLAIN, AUTO, LONG, False, False, THREAD),
        # A timeout needs a thread, whatever else.
        (PLAIN, AUTO, SHORT, True, True, THREAD),
        (PLAIN, INLINE, SHORT, True, True, THREAD),
        # Asked for.
        (PLAIN, INLINE, LONG, False, False, INLINE),
        (PLAIN, INLINE, UNKNOWN, False, False, INLINE),
        (PLAIN, THREAD, SHORT, True, False, THREAD),
        (LEAVING, PROCESS, SHORT, True, False, PROCESS),
        (LEAVING, PROCESS, SHORT, True, True, PROCESS),
        (PLAIN, PROCESS, SHORT, True, False, THREAD),
        # It never picks a process by itself.
        (LEAVING, AUTO, LONG, False, False, THREAD),
        # What waits needs no thread, whatever was asked for.
        (AWAITED, AUTO, SHORT, True, False, ASYNC),
        (AWAITED, INLINE, SHORT, True, False, ASYNC),
        (AWAITED, THREAD, LONG, False, True, ASYNC),
        (SLEEPING, AUTO, UNKNOWN, True, True, ASYNC),
    ],
)
def test_choice_by_rule(program, wanted, mean_ns, alone, timeout, expected):
    kind, reason = choose_executor(
        program, wanted, means_of(mean_ns), may_block_driver=alone, has_timeout=timeout
    )

    assert kind is expected
    assert reason


def test_long_function_is_told_what_would_help():
    _, reason = choose_executor(
        PLAIN, AUTO, means_of(LONG), may_block_driver=False, has_timeout=False
    )

    assert "process would help" in reason


def test_choice_of_a_thread_instead_of_a_process_says_why():
    _, reason = choose_executor(
        PLAIN, PROCESS, means_of(None), may_block_driver=False, has_timeout=False
    )

    assert "cannot leave" in reason


def test_mean_follows_recent_durations():
    means = MeanDurations()
    assert means.get("f") is None
    assert not means.is_short("f")

    means.observe("f", 40.0)
    means.observe("f", 80.0)

    assert means.get("f") == 50.0


def test_one_long_run_ends_inline_execution_and_short_ones_bring_it_back():
    means = means_of(SHORT)
    means.observe("plain", 10e9)
    assert not means.is_short("plain")

    for _ in range(60):
        means.observe("plain", SHORT)

    assert means.is_short("plain")


def test_programs_without_a_key_share_no_mean():
    means = MeanDurations()

    means.observe("", 1.0)

    assert means.get("") is None
    assert not means.is_short("")


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=50))
def test_mean_stays_within_what_was_measured(durations):
    means = MeanDurations()
    for duration in durations:
        means.observe("f", duration)

    low, high = min(durations), max(durations)
    assert low * (1 - 1e-9) <= means.get("f") <= high * (1 + 1e-9)
    assert means.is_short("f") == (means.get("f") < SHORT_NS)


def test_one_switch_of_threads_does_not_make_short_code_long():
    means = MeanDurations()
    means.observe("f", 1_000.0)

    means.observe("f", 5e6)

    assert means.is_short("f")


def test_code_that_turned_slow_is_soon_known_to_be():
    means = MeanDurations()
    means.observe("f", 1_000.0)
    for _ in range(5):
        means.observe("f", 5e6)
    assert not means.is_short("f")

    means.observe("g", 1_000.0)
    means.observe("g", 1e9)
    assert not means.is_short("g")
