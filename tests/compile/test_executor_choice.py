"""Planned executors: whose word counts, and what the plan says about it."""

from __future__ import annotations

import pytest

from flowbuilder.compile.executor_choice import AUTO_REASON, choose_planned_executor
from flowbuilder.model import TaskSpec
from flowbuilder.vocabulary import ExecutorKind

AUTO, INLINE, THREAD = ExecutorKind.AUTO, ExecutorKind.INLINE, ExecutorKind.THREAD
ASYNC, PROCESS = ExecutorKind.ASYNC, ExecutorKind.PROCESS


@pytest.mark.parametrize(
    ("kind", "own", "override", "expected"),
    [
        ("work", AUTO, None, AUTO),
        ("work", AUTO, AUTO, AUTO),
        ("work", PROCESS, None, PROCESS),
        ("work", PROCESS, THREAD, PROCESS),
        ("work", AUTO, THREAD, THREAD),
        ("wait", AUTO, None, ASYNC),
        ("wait", AUTO, PROCESS, ASYNC),
        ("fussy", AUTO, None, THREAD),
        ("fussy", AUTO, PROCESS, PROCESS),
        ("missing", AUTO, None, AUTO),
    ],
)
def test_executor_is_the_authors_then_the_callers_then_the_types(
    registry, kind, own, override, expected
):
    spec = TaskSpec(name="t", type=kind, executor=own)

    executor, reason = choose_planned_executor(spec, registry.find(kind), override)

    assert executor is expected
    assert reason


def test_a_task_with_a_timeout_is_never_planned_inline(registry):
    spec = TaskSpec(name="t", type="work", timeout_s=1.0)

    executor, reason = choose_planned_executor(spec, registry.find("work"), INLINE)

    assert executor is AUTO
    assert reason != AUTO_REASON
