"""What ``auto`` means, and that the reason is told."""

from __future__ import annotations

import pytest

from flowbuilder.runtime.choice import SHORT_NS, MeanDurations, choose_executor
from flowbuilder.runtime.program import Program, RemoteCall
from flowbuilder.vocabulary import ExecutorKind


async def wait(_context):
    return None


PLAIN = Program(function=int, code_key="plain")
LEAVING = Program(call=str, remote=lambda _context: RemoteCall(int), code_key="leaving")
WAITING = Program(coroutine=wait, code_key="waiting")


def choose(program, wanted="auto", *, means=None, alone=False, timeout=False):
    return choose_executor(
        program,
        ExecutorKind(wanted),
        means or MeanDurations(),
        may_block_driver=alone,
        has_timeout=timeout,
    )


def measured(duration_ns):
    means = MeanDurations()
    means.observe("plain", duration_ns)
    return means


@pytest.mark.parametrize(
    ("program", "options", "expected"),
    [
        (PLAIN, {}, "thread"),
        (PLAIN, {"alone": True}, "inline"),
        (PLAIN, {"alone": True, "timeout": True}, "thread"),
        (PLAIN, {"means": measured(SHORT_NS / 2)}, "inline"),
        (PLAIN, {"means": measured(SHORT_NS / 2), "timeout": True}, "thread"),
        (PLAIN, {"means": measured(SHORT_NS * 2)}, "thread"),
        (PLAIN, {"wanted": "thread", "alone": True}, "thread"),
        (PLAIN, {"wanted": "process"}, "thread"),
        (LEAVING, {"wanted": "process"}, "process"),
        (LEAVING, {"means": measured(1e9)}, "thread"),
        (WAITING, {}, "async"),
        (WAITING, {"wanted": "inline", "alone": True}, "async"),
    ],
)
def test_choice_follows_the_rule(program, options, expected):
    executor, reason = choose(program, **options)

    assert executor == expected
    assert reason


def test_process_is_suggested_and_never_chosen_for_long_functions():
    executor, reason = choose(PLAIN, means=measured(1e9))

    assert executor is ExecutorKind.THREAD
    assert "process would help" in reason


def test_mean_follows_new_durations():
    means = measured(1_000_000)
    for _ in range(40):
        means.observe("plain", 1_000)

    assert means.is_short("plain")
    assert means.get("unknown") is None
