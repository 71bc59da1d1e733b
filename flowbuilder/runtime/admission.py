"""Limits that tasks of all runs share: CPU slots and named pools. A limit is never exceeded, not
for an instant.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping

from flowbuilder.errors import ConfigurationError

__all__ = ["CPU_POOL", "MEMORY_POOL", "Admission", "Pool"]

CPU_POOL = "cpu"
"""The pool of CPU slots, one per usable core unless configured."""

MEMORY_POOL = "memory"
"""The pool of bytes that tasks declare under ``resources: {memory: ...}``."""


class Pool:
    """A number of units, some of them taken, and who waits for the next. Thread-safe."""

    __slots__ = ("_lock", "_waiters", "capacity", "name", "peak", "used")

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self.used = 0
        self.peak = 0
        self._lock = threading.Lock()
        self._waiters: OrderedDict[object, tuple[int, Callable[[], None]]] = OrderedDict()

    def try_acquire(self, units: int, who: object, wake: Callable[[], None]) -> bool:
        """Take ``units`` if they are free; else remember to call ``wake`` (once per ``who``) when
        some may be.

        More units than there are count as all of them, so that a greedy task runs alone instead of
        never.
        """
        units = min(units, self.capacity)
        with self._lock:
            if self.used + units <= self.capacity:
                self.used += units
                self.peak = max(self.peak, self.used)
                return True
            self._waiters[who] = units, wake
            return False

    def acquire(self, units: int) -> None:
        """Wait for ``units``; only for threads that drive nothing else meanwhile."""
        ready = threading.Event()
        try:
            while not self.try_acquire(units, ready, ready.set):
                ready.wait()
                ready.clear()
        except BaseException:
            self.forget(ready)
            raise
        self.wake_next()

    def release(self, units: int) -> None:
        """Give ``units`` back and wake the first waiter they may be enough for."""
        with self._lock:
            self.used -= min(units, self.capacity)
        self.wake_next()

    def wake_next(self) -> None:
        """Pass a wake-up on: whoever was woken calls this if units may be left after it took its
        own.

        A waiter whose units are not free is passed over, else one that can never be served (its
        units are held by an abandoned thread) would keep the others waiting.
        """
        with self._lock:
            free = self.capacity - self.used
            if not free:
                return
            fitting = (who for who, (units, _) in self._waiters.items() if units <= free)
            who = next(fitting, None)
            if who is None:
                return
            _, wake = self._waiters.pop(who)
        wake()

    def forget(self, who: object) -> None:
        """Drop a waiter that ended; its wake-up, if it came meanwhile, goes to the next."""
        with self._lock:
            self._waiters.pop(who, None)
        self.wake_next()


class Admission:
    """All pools of an engine.

    Parameters
    ----------
    workers : int
        CPU slots.
    limits : mapping of str to int
        Configured pools; a task that names another pool is an error before the run starts.
    memory_bytes : int
        Memory this process may use.
    """

    def __init__(self, workers: int, limits: Mapping[str, int], memory_bytes: int) -> None:
        self._pools = {
            CPU_POOL: Pool(CPU_POOL, workers),
            MEMORY_POOL: Pool(MEMORY_POOL, memory_bytes),
        }
        for name, capacity in limits.items():
            self._pools[name] = Pool(name, capacity)

    def pool(self, name: str) -> Pool:
        """Look a pool up.

        Raises
        ------
        ConfigurationError
            If it is not configured.
        """
        try:
            return self._pools[name]
        except KeyError:
            known = ", ".join(sorted(self._pools))
            raise ConfigurationError(
                f"expected a configured pool, found {name!r}; known pools: {known}",
                hint="add it to [tool.flowbuilder.pools] in pyproject.toml, "
                f"for example {name} = 4",
            ) from None

    @property
    def cpu(self) -> Pool:
        """The CPU slots."""
        return self._pools[CPU_POOL]

    @property
    def memory(self) -> Pool:
        """The bytes of memory."""
        return self._pools[MEMORY_POOL]
