"""Questions about everything that ever ran in a project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flowbuilder.api.container import container_for
from flowbuilder.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from flowbuilder.api.history import PastRun
    from flowbuilder.api.run import Run
    from flowbuilder.history.pruning import MonthReport
    from flowbuilder.history.query_result import QueryResult
    from flowbuilder.history.run_comparison import RunComparison
    from flowbuilder.history.search_result import SearchHits

__all__ = ["compare", "prune_runs", "search", "sql"]


def sql(
    query: str,
    params: Sequence[object] | Mapping[str, object] | None = None,
    *,
    data_dir: str | Path | None = None,
) -> QueryResult:
    """Ask the history of the project, up to this moment.

    Parameters
    ----------
    query : str
        One SELECT in DuckDB's SQL over ``runs``, ``tasks``, ``events``, ``artifacts``, ``metrics``,
        and the ready views ``failure_rate``, ``failure_rate_by_day``, ``task_durations``,
        ``slowest``, ``flaky``, ``cost``, ``cache_hit_rate`` and ``queue_time``.
    params : sequence or mapping, optional
        Values of ``?`` or ``$name`` in the query.
    data_dir : path, optional
        The store; by default found from the working directory.

    Returns
    -------
    QueryResult
        With ``.rows``, ``.arrow()``, ``.pl()`` and ``.df()``.

    Raises
    ------
    QueryError
        If the query is wrong, does not only read, or reaches outside the history.
    PluginError
        If DuckDB or pyarrow is not installed.
    StorageError
        If the journal or a closed month is damaged.
    """
    return container_for(None, data_dir).history.sql(query, params)


def search(text: str, *, limit: int = 20, data_dir: str | Path | None = None) -> SearchHits:
    """Find a text in everything recorded: workflows, parameters of runs, logs and errors.

    Parameters
    ----------
    text : str
        Words that must all occur, in any order; ``"a phrase"``, ``begin*``, ``-without``,
        ``either OR other``; ``kind:error``, ``task:NAME``, ``workflow:NAME``, ``run:ID``.
    limit : int
        At most so many hits.
    data_dir : path, optional
        The store; by default found from the working directory.

    Returns
    -------
    SearchHits
        Newest first; each with its run, task, kind, time, and the text around the match.

    Raises
    ------
    QueryError
        If the text is not a search.
    """
    return container_for(None, data_dir).search_index.search(text, limit=limit)


def compare(
    run_a: str | PastRun | Run,
    run_b: str | PastRun | Run,
    *,
    outputs: bool = True,
    data_dir: str | Path | None = None,
) -> RunComparison:
    """Compare two runs: parameters, workflow, states, durations, and the outputs that were stored.

    Parameters
    ----------
    run_a, run_b : str or Run or PastRun
        Run ids, unique suffixes, ``latest``, or runs.
    outputs : bool
        Whether to read stored outputs that differ, for the statistics of their columns.
    data_dir : path, optional
        The store; by default found from the working directory.

    Returns
    -------
    RunComparison
        With ``params``, ``code`` and ``tasks``; printed, it shows what differs.

    Raises
    ------
    StorageError
        If one of them does not exist or is damaged.
    """
    from flowbuilder.history.run_comparison import compare_runs

    container = container_for(None, data_dir)
    refs = [run if isinstance(run, str) else run.id for run in (run_a, run_b)]
    limit = {} if outputs else {"max_bytes": -1}
    return compare_runs(container.journal, container.artifacts, refs[0], refs[1], **limit)


def prune_runs(
    *,
    grace: str | float = "7d",
    dry_run: bool = False,
    data_dir: str | Path | None = None,
) -> list[MonthReport]:
    """Move the runs of closed months from the journal to Parquet files, where they stay readable.

    Parameters
    ----------
    grace : str or float
        How long a month and its runs must have been over: seconds, or text such as ``7d``.
    dry_run : bool
        Whether to say only what would be done.
    data_dir : path, optional
        The store.

    Returns
    -------
    list of MonthReport
        What became of each month the journal has runs of.

    Raises
    ------
    ConfigurationError
        If ``grace`` is no duration.
    StorageError
        If something is damaged, or the disk refuses; every run is where it was.
    """
    from flowbuilder.durations import parse_duration
    from flowbuilder.history.pruning import prune

    try:
        grace_s = parse_duration(grace)
    except ValueError as error:
        raise ConfigurationError(f"grace: {error}") from error
    container = container_for(None, data_dir)
    if container.settings.journal is not None:
        raise StorageError(
            "the journal on a server is shared by several machines, and months are kept on one",
            hint="prune journals that are files in their project",
        )
    return prune(
        container.journal.recent,
        container.months,
        grace_s=grace_s,
        is_dry=dry_run,
    )
