"""One line per run: its stored progress, completed by what only the present knows."""

from __future__ import annotations

import time
from collections.abc import Callable

from flowbuilder.records import RunHeader
from flowbuilder.store.ports import RunSummary
from flowbuilder.store.progress import Progress
from flowbuilder.vocabulary import RunState

__all__ = ["current_state", "summarise"]


def current_state(progress: Progress, is_alive: Callable[[str], bool]) -> RunState:
    """Give a run's state now: ``interrupted`` if it is not final and its owner is gone."""
    if not progress.is_final and not is_alive(progress.owner):
        return RunState.INTERRUPTED
    try:
        return RunState(progress.state)
    except ValueError:  # a newer version's word
        return RunState.RUNNING


def summarise(progress: Progress, header: RunHeader, is_alive: Callable[[str], bool]) -> RunSummary:
    """Make the summary people and views see."""
    state = current_state(progress, is_alive)
    return RunSummary(
        run_id=progress.run_id,
        workflow=progress.workflow,
        fingerprint=progress.fingerprint,
        plan_id=progress.plan_id,
        state=state,
        started_wall_ns=progress.started_wall_ns,
        duration_s=_duration_s(progress, state),
        counts=progress.named_counts(),
        task_count=progress.task_count,
        path=progress.path,
        params=header.params,
        error=progress.error,
        error_task=progress.error_task,
        owner=progress.owner,
        owner_host=progress.owner_host,
        owner_pid=progress.owner_pid,
        parent_run_id=progress.parent_run_id,
        last_seq=progress.last_seq,
        durability=progress.durability,
    )


def _duration_s(progress: Progress, state: RunState) -> float:
    if progress.ended_wall_ns:
        end = progress.ended_wall_ns
    elif state is RunState.INTERRUPTED:
        end = progress.updated_wall_ns  # the last that is known of it
    else:
        end = time.time_ns()
    # The wall clock may have been set back in between.
    return max(0.0, (end - progress.started_wall_ns) / 1e9)
