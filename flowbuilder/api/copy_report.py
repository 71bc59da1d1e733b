"""``run.copies()``: what was copied on the way from task to task, and why; where nothing was, it
says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from flowbuilder.compile.expansion import CompiledWorkflow, EdgeKind
from flowbuilder.runtime.program import NOT_SET

if TYPE_CHECKING:
    from flowbuilder.runtime.live_run import LiveRun

__all__ = ["CopyReport", "EdgeCopies", "report_copies"]

_SHARED = {
    "numpy": "a read-only view of the same memory",
    "pandas": "a frame that shares its columns until one side changes them",
    "polars": "a clone that shares its buffers",
    "pyarrow": "the same table",
}


class EdgeCopies(msgspec.Struct, frozen=True, kw_only=True):
    """What was copied between two tasks.

    Parameters
    ----------
    source, target : str
        TaskRun keys; the same where an output was copied when it was made or spilled.
    size_bytes : int
        Bytes written anew, all reasons together.
    reasons : dict of str to int
        Reason -> bytes.
    how : str
        How it was handed over, if nothing was copied.
    """

    source: str
    target: str
    size_bytes: int = 0
    reasons: dict[str, int] = {}
    how: str = ""

    def __str__(self) -> str:
        where = self.source if self.source == self.target else f"{self.source} -> {self.target}"
        if not self.size_bytes and not self.reasons:
            return f"{where}: nothing copied ({self.how})"
        parts = [
            f"{reason} ({_size(size)})" if size else reason for reason, size in self.reasons.items()
        ]
        return f"{where}: {_size(self.size_bytes)} copied: {'; '.join(parts)}"


class CopyReport(msgspec.Struct, frozen=True):
    """The copies of a run, edge by edge. ``str()`` gives a line each."""

    edges: tuple[EdgeCopies, ...]

    @property
    def total_bytes(self) -> int:
        """Bytes copied on all edges."""
        return sum(edge.size_bytes for edge in self.edges)

    def between(self, source: str, target: str) -> EdgeCopies:
        """Give the line of one edge.

        Raises
        ------
        KeyError
            If nothing is handed over between the two.
        """
        for edge in self.edges:
            if (edge.source, edge.target) == (source, target):
                return edge
        raise KeyError(f"nothing is handed over from {source!r} to {target!r}")

    def __iter__(self) -> Iterator[EdgeCopies]:
        return iter(self.edges)

    def __len__(self) -> int:
        return len(self.edges)

    def __str__(self) -> str:
        lines = [str(edge) for edge in self.edges]
        return "\n".join([*lines, f"total: {_size(self.total_bytes)} copied"])

    def __repr__(self) -> str:
        return str(self)


def report_copies(live: LiveRun, compiled: CompiledWorkflow) -> CopyReport:
    """Put together what a run noted, and every edge on which nothing was copied."""
    noted: dict[tuple[int, int], Counter[str]] = {}
    for copy in tuple(live.copies):
        noted.setdefault((copy.source, copy.target), Counter())[copy.reason] += copy.size_bytes
    found = []
    for source, target, kind in _edges(live, compiled):
        reasons = noted.pop((source, target), None)
        found.append(_line(live, source, target, reasons, kind))
    found += [_line(live, source, target, reasons) for (source, target), reasons in noted.items()]
    return CopyReport(tuple(found))


def _edges(live: LiveRun, compiled: CompiledWorkflow) -> Iterator[tuple[int, int, EdgeKind]]:
    """List the edges along which a value went: the consumer began and the producer had one."""
    tasks, instances = compiled.expansion.tasks, compiled.instances
    for target, index in enumerate(compiled.order):
        if not live.attempts[target]:
            continue
        for edge in tasks[index].edges:
            source = instances[edge.parent]
            value = None if source < 0 else live.values[source]
            if value is not None and value is not NOT_SET:
                yield source, target, edge.kind


def _line(
    live: LiveRun,
    source: int,
    target: int,
    reasons: Counter[str] | None,
    kind: EdgeKind = EdgeKind.DATA,
) -> EdgeCopies:
    tasks = live.plan.tasks
    names = "(several)" if source < 0 else tasks[source].key, tasks[target].key
    if reasons is None:
        value = live.values[source]
        library = type(value).__module__.partition(".")[0]
        how = _SHARED.get(library, "the same object")
        if kind is EdgeKind.ORDER:  # nobody knows whether the task looked
            how = f"if it was read: {how}"
        return EdgeCopies(source=names[0], target=names[1], how=how)
    return EdgeCopies(
        source=names[0],
        target=names[1],
        size_bytes=sum(reasons.values()),
        reasons=dict(reasons),
    )


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size_bytes} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return ""
