"""Runs of this project: list them, look one up, resume one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from flowbuilder.api.container import container_for
from flowbuilder.api.history import PastRun
from flowbuilder.api.run import Run

__all__ = ["last_run", "resume", "run", "runs"]


def runs(
    *, limit: int = 50, workflow: str | None = None, data_dir: str | Path | None = None
) -> list[PastRun]:
    """List the newest runs of the project.

    Parameters
    ----------
    limit : int
        At most so many.
    workflow : str, optional
        Only of this workflow.
    data_dir : path, optional
        The store; by default found from the working directory.
    """
    container = container_for(None, data_dir)
    return [
        PastRun(container, summary.run_id)
        for summary in container.journal.list_runs(limit=limit, workflow=workflow)
    ]


def run(ref: str = "latest", *, data_dir: str | Path | None = None) -> PastRun:
    """Look a run up by id, unique suffix, or ``latest``.

    Raises
    ------
    StorageError
        If none or several match.
    """
    container = container_for(None, data_dir)
    return PastRun(container, container.journal.find_run(ref).run_id)


def last_run(*, data_dir: str | Path | None = None) -> PastRun:
    """Give the newest run of the project."""
    return run("latest", data_dir=data_dir)


def resume(
    ref: str = "latest",
    *,
    assume: str | None = None,
    check: bool = True,
    params: Mapping[str, object] | None = None,
    functions: Mapping[str, Callable[..., object]] | None = None,
    data_dir: str | Path | None = None,
) -> Run:
    """Continue a run that failed, was cancelled or lost its process; only what is not settled runs.

    Parameters
    ----------
    ref : str
        Run id, a unique suffix, or ``latest``.
    assume : {"done", "rerun"}, optional
        What to do with external tasks whose outcome is unknown.
    check : bool
        Raise if it does not succeed this time either.
    params : mapping, optional
        Values the journal could not keep (tables).
    functions : mapping, optional
        ``module:name`` -> function, for workflows written in Python.
    data_dir : path, optional
        The store.

    Raises
    ------
    RecoveryError
        If its owner lives, nothing is left to run, or its version is gone.
    """
    from flowbuilder.api.resuming import prepare_resume

    prepared = prepare_resume(
        container_for(None, data_dir), ref, assume=assume, params=params, functions=functions
    )
    again = prepared.open()
    prepared.announce()
    again.drive()
    if check:
        again.raise_for_state()
    return again
