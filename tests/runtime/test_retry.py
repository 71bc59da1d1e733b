"""Whether and when a failed attempt is repeated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.errors import TaskFailedError
from flowbuilder.runtime.plan import RetryPolicy
from flowbuilder.runtime.retry import MAX_LOST_WORKERS, retry_delay_s, should_retry
from flowbuilder.vocabulary import Backoff, FailureKind

ERROR = FailureKind.ERROR


@given(
    st.sampled_from(list(Backoff)),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1),
    st.integers(1, 10_000),
    st.floats(0, 1, exclude_max=True),
)
def test_delay_stays_within_its_bounds(backoff, delay_s, max_delay_s, jitter, failures, draw):
    policy = RetryPolicy(backoff=backoff, delay_s=delay_s, max_delay_s=max_delay_s, jitter=jitter)

    assert 0 <= retry_delay_s(policy, failures, draw=draw) <= max_delay_s


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [("fixed", [2, 2, 2]), ("linear", [2, 4, 6]), ("exponential", [2, 4, 8])],
)
def test_delay_grows_as_named(backoff, delays):
    policy = RetryPolicy(backoff=Backoff(backoff), delay_s=2.0, jitter=0.0)

    assert [retry_delay_s(policy, failures) for failures in (1, 2, 3)] == delays


def test_jitter_spreads_around_the_delay():
    policy = RetryPolicy(backoff=Backoff.FIXED, delay_s=10.0, jitter=0.5)

    assert [retry_delay_s(policy, 1, draw=draw) for draw in (0.0, 0.5)] == [5.0, 10.0]


@pytest.mark.parametrize(("failures", "expected"), [(1, True), (2, True), (3, False), (4, False)])
def test_attempts_are_limited(failures, expected):
    policy = RetryPolicy(max_attempts=3)

    assert should_retry(policy, ERROR, ValueError(), failures, lost=0) is expected


@pytest.mark.parametrize(
    ("named", "error", "expected"),
    [
        ("OSError", ConnectionResetError(), True),
        ("builtins.ValueError", ValueError(), True),
        ("KeyError", ValueError(), False),
        ("error", KeyError(), True),
        ("timeout", KeyError(), False),
        ("HTTPError", TaskFailedError("seen in a worker", error_type="HTTPError"), True),
    ],
)
def test_errors_are_matched_by_name_along_their_bases(named, error, expected):
    policy = RetryPolicy(max_attempts=2, on=(named,))

    assert should_retry(policy, ERROR, error, failures=1, lost=0) is expected


def test_lost_workers_have_a_limit_of_their_own():
    policy = RetryPolicy(max_attempts=1)
    decisions = [
        should_retry(policy, FailureKind.LOST, None, failures=0, lost=lost)
        for lost in range(1, MAX_LOST_WORKERS + 1)
    ]

    assert decisions == [True] * (MAX_LOST_WORKERS - 1) + [False]


def test_broken_contracts_are_never_retried():
    policy = RetryPolicy(max_attempts=9)

    assert not should_retry(policy, FailureKind.CONTRACT, ValueError(), failures=1, lost=0)
