"""A workflow of three tasks over and over: how long until the first task runs, and until all is
done."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.statistics import percentile
from benchmarks.task_bench import chain

__all__ = ["bare_commit", "measure_latency"]


def measure_latency(subject: object, params: Mapping[str, object]) -> dict[str, float]:
    """Time each run on its own. With ``beside_commit`` every run is followed by one bare SQLite
    commit in the same folder.

    The run and the commit beside it see the same disk at the same moment, so their ratio means
    something on a shared machine.
    """
    iterations, warm_up = int(params["iterations"]), int(params.get("warm_up", 50))
    run = subject.prepare(chain(3), _task)
    commit = bare_commit(Path(os.environ["BENCH_SCRATCH"])) if params.get("beside_commit") else None
    for _ in range(warm_up):
        run()
        if commit:
            commit()
    _starts.clear()
    gc.collect()
    gc.freeze()
    firsts, wholes, commits = [], [], []
    for _ in range(iterations):
        begin = time.perf_counter_ns()
        run()
        end = time.perf_counter_ns()
        firsts.append(_starts[-1] - begin)
        wholes.append(end - begin)
        if commit:
            commit()
            commits.append(time.perf_counter_ns() - end)
    return {
        **_spread("first", firsts),
        **_spread("whole", wholes),
        **(_spread("commit", commits) if commits else {}),
        **(
            {"whole_per_commit": percentile(wholes, 0.5) / percentile(commits, 0.5)}
            if commits
            else {}
        ),
    }


_NOTHING = object()
_starts: list[int] = []


def _task(p0: object = _NOTHING) -> None:
    if p0 is _NOTHING:
        _starts.append(time.perf_counter_ns())


def _spread(name: str, values_ns: list[int]) -> dict[str, float]:
    return {
        f"{name}_p50_ns": float(percentile(values_ns, 0.5)),
        f"{name}_p99_ns": float(percentile(values_ns, 0.99)),
    }


def bare_commit(folder: Path) -> Callable[[], None]:
    """Make the cheapest durable write there is in SQLite with the settings of a journal: WAL, FULL,
    one row, one commit."""
    import apsw

    connection = apsw.Connection(str(folder / "bare-commit.db"))
    cursor = connection.cursor()
    cursor.execute("pragma journal_mode=wal")
    cursor.execute("pragma synchronous=full")
    cursor.execute("pragma wal_autocheckpoint=0")
    cursor.execute("create table facts(id integer primary key, body blob)")
    body = bytes(200)
    return lambda: (cursor.execute("insert into facts(body) values (?)", (body,)), None)[1]
