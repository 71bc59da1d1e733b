"""What subjects are made to do. A workload is a function ``(subject, params) -> metrics``, run once
in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.workloads.acknowledging import measure_acknowledging
from benchmarks.workloads.caching import measure_cached_calls, measure_hashing
from benchmarks.workloads.commands import measure_command
from benchmarks.workloads.compiling import measure_compiling
from benchmarks.workloads.graphs import measure_graph
from benchmarks.workloads.hand_overs import measure_hand_overs
from benchmarks.workloads.histories import measure_history
from benchmarks.workloads.imports import measure_import
from benchmarks.workloads.keyed_rows import measure_keyed_rows
from benchmarks.workloads.latency import measure_latency
from benchmarks.workloads.searching import measure_search
from benchmarks.workloads.waiting import measure_waiting

__all__ = ["WORKLOADS"]

WORKLOADS: dict[str, Callable[[object, Mapping[str, object]], dict[str, float]]] = {
    "graph": measure_graph,
    "latency": measure_latency,
    "waiting": measure_waiting,
    "acknowledging": measure_acknowledging,
    "compiling": measure_compiling,
    "command": measure_command,
    "import": measure_import,
    "cached_calls": measure_cached_calls,
    "hashing": measure_hashing,
    "keyed_rows": measure_keyed_rows,
    "history": measure_history,
    "search": measure_search,
    "hand_overs": measure_hand_overs,
}
