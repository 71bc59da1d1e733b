"""Asking the process that executes a run to cancel, pause or resume it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowbuilder.endpoint.client import connect
from flowbuilder.endpoint.registry import find_owner
from flowbuilder.errors import EndpointError
from flowbuilder.ids import short_id
from flowbuilder.store.ports import RunSummary
from flowbuilder.vocabulary import FINAL_RUN_STATES, RunState

if TYPE_CHECKING:
    from flowbuilder.api.container import ServiceContainer

__all__ = ["control_run"]

_PATIENCE_S = 60.0
_REACHED = {"resume": FINAL_RUN_STATES, "cancel": {RunState.CANCELLED}}
"""The states that show that an action was carried out, though nobody said so."""


def control_run(
    container: ServiceContainer, summary: RunSummary, action: str, task: str | None = None
) -> dict[str, object]:
    """Carry out an action on a run that is alive in some process of this machine.

    Parameters
    ----------
    container : ServiceContainer
        Services of the store that holds the run.
    summary : RunSummary
        The run.
    action : {"cancel", "pause", "resume"}
        What to do.
    task : str, optional
        With ``cancel``: only this task.

    Raises
    ------
    EndpointError
        If its process cannot be reached or refuses; names host and pid.
    """
    entry = find_owner(container.data_dir, summary.owner)
    if entry is None:
        raise EndpointError(
            f"run {short_id(summary.run_id)} is executed by pid {summary.owner_pid} on"
            f" {summary.owner_host}, which has no endpoint on this machine",
            hint="run the command there",
        )
    try:
        with connect(entry, timeout_s=_PATIENCE_S) as client:
            if action == "cancel":
                return client.cancel(summary.run_id, task)
            if action == "pause":
                return client.pause(summary.run_id)
            return client.resume(summary.run_id)
    except EndpointError:
        # A run that goes on may end, and its process with it, before the answer is sent.
        state = container.journal.find_run(summary.run_id).state
        # After the end of its run a task runs no more, whatever became of it.
        reached = FINAL_RUN_STATES if task is not None else _REACHED.get(action, ())
        if state not in reached:
            raise
        return {"run_id": summary.run_id, "state": state.value}
