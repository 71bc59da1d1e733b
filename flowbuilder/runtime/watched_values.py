"""A large output under the eyes of the memory keeper: in memory, or in a file and mapped again when
somebody asks for it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flowbuilder.errors import FlowBuilderError

if TYPE_CHECKING:
    from flowbuilder.runtime.live_run import LiveRun
    from flowbuilder.runtime.memory_keeper import MemoryKeeper
    from flowbuilder.runtime.table_transport import TableRef

__all__ = ["WatchedValue"]

_RELOADED: Final = "mapped again after it was spilled"
_RECOPIED: Final = "read back after it was spilled"


class WatchedValue:
    """The guard of a large output, and what stands in its place while it is in a file.

    As a guard it is called with whatever the column holds, the value or the stand-in itself: the
    two change places while others look.

    Parameters
    ----------
    keeper : MemoryKeeper
        Who decides.
    run : LiveRun
        The run; not kept alive.
    instance : int
        Whose output it is.
    guard : callable or None
        How consumers get it.
    size_bytes : int
        About what it holds.
    """

    __slots__ = (
        "__weakref__",
        "_guard",
        "_keeper",
        "_original",
        "_ref",
        "_run",
        "instance",
        "is_dropped",
        "is_spilled",
        "rank",
        "size_bytes",
        "worth",
    )

    def __init__(
        self,
        keeper: MemoryKeeper,
        run: LiveRun,
        instance: int,
        guard: Callable[[Any], object] | None,
        size_bytes: int,
    ) -> None:
        self._keeper = keeper
        self._run = weakref.ref(run)
        self._guard = guard
        self._original: weakref.ref[object] | None = None
        self._ref: TableRef | None = None
        self.instance = instance
        self.size_bytes = size_bytes
        self.is_spilled = False
        self.is_dropped = False
        self.worth = 0.0
        """Seconds it took to compute, per byte."""
        self.rank = 0.0
        """What has the lowest goes first."""

    @property
    def run(self) -> LiveRun | None:
        """The run, while somebody needs it."""
        return self._run()

    def __call__(self, value: object) -> object:
        """Give the value as a consumer may have it."""
        self.rank = self._keeper.age + self.worth
        if value is self:
            value = self.restore()
        return value if self._guard is None else self._guard(value)

    def spill(self, ref: TableRef) -> None:
        """Put this in the place of the value, which is in a file now."""
        run = self._run()
        if run is None:
            return
        value = run.values[self.instance]
        with suppress(TypeError):
            self._original = weakref.ref(value)
        self._ref = ref
        if ref.path:
            weakref.finalize(self, _remove, os.getpid(), ref.path)
        self._replace(run, value, self)
        self.is_spilled = True

    def drop(self) -> None:
        """Forget a value nobody can ask for any more."""
        run = self._run()
        if run is not None:
            self._replace(run, run.values[self.instance], self)
            self.is_spilled = self.is_dropped = True

    def restore(self) -> object:
        """Give the value, mapped from its file if nobody kept it: equal, and as mutable as before.

        Raises
        ------
        FlowBuilderError
            If it was dropped.
        StorageError
            If its file was removed.
        """
        with self._keeper.restoring:
            run = self._run()
            assert run is not None
            held = run.values[self.instance]
            if held is not self:
                return held
            if self.is_dropped:
                key = run.plan.tasks[self.instance].key
                raise FlowBuilderError(
                    f"the output of task {key!r} was dropped when memory was short: nothing of the"
                    " run needed it any more",
                    task=key,
                    hint="set 'persist: always' on the task, or raise memory_limit",
                )
            value = self._original() if self._original is not None else None
            if value is not None:
                # Somebody else holds it. The column does not, or it would never be freed.
                return value
            value = self._load(run)
            self._replace(run, self, value)
            return value

    def _load(self, run: LiveRun) -> object:
        from flowbuilder.runtime.table_transport import import_table

        assert self._ref is not None
        value = import_table(self._ref, keep=True)
        is_copy = not self._ref.path
        size = self._ref.size_bytes if is_copy else 0
        run.note_copy(self.instance, self.instance, size, _RECOPIED if is_copy else _RELOADED)
        self._keeper.note_reload(self._ref.size_bytes)
        return value

    def _replace(self, run: LiveRun, old: object, new: object) -> None:
        """Change the column, and those of twins that share the output."""
        run.values[self.instance] = new
        for twin, first in enumerate(run.plan.twins):
            if first == self.instance and run.values[twin] is old:
                run.values[twin] = new


def _remove(pid: int, path: str) -> None:
    if os.getpid() == pid:  # a forked child inherits the finalizers but not the files
        with suppress(OSError):
            Path(path).unlink()
