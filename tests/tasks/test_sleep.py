"""Sleep tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flowbuilder.errors import RunCancelledError, TaskFailedError
from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.runtime.cancel import CancelToken
from flowbuilder.tasks.sleep import SleepTask


def call(duration: object, token: CancelToken | None = None) -> TaskCall:
    return TaskCall(
        name="s",
        key="s",
        run_id="r",
        attempt=1,
        config={"duration": duration},
        cancel=token or CancelToken(),
    )


@pytest.mark.parametrize(("duration", "seconds"), [(0, 0), (1.5, 1.5), ("2m", 120), ("10ms", 0.01)])
def test_delay_is_in_seconds(duration, seconds):
    assert SleepTask().delay_s({"duration": duration}) == seconds


@pytest.mark.parametrize("duration", [-1, "soon", "", float("inf"), float("nan"), None, True, []])
def test_delay_refuses_what_is_no_duration(duration):
    with pytest.raises(TaskFailedError, match="expected a duration"):
        SleepTask().delay_s({"duration": duration})


def test_run_ends_at_once_when_cancelled():
    token = CancelToken()
    token.cancel()

    with pytest.raises(RunCancelledError):
        SleepTask().run(call("1h", token))


def test_both_bodies_wait():
    assert SleepTask().run(call("1ms")) is None
    assert asyncio.run(SleepTask().run_async(call("1ms"))) is None


@pytest.mark.parametrize(
    ("duration", "count"), [("soon", 1), (-3, 1), ("5m", 0), ("${{ params.d }}", 0)]
)
def test_check_reads_constants_only(duration, count):
    assert len(list(SleepTask().check({"duration": duration}, Path()))) == count
