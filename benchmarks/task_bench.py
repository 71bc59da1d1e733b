"""Dependency patterns of Task Bench: task (t, p) of timestep t depends on tasks (t-1, q).

References
----------
Slaughter et al., "Task Bench: A Parameterized Benchmark for Evaluating Parallel Runtime
Performance", SC 2020.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log2

__all__ = ["SHAPES", "Graph", "chain", "make_graph"]

SHAPES = (
    "trivial",
    "chain",
    "no_comm",
    "stencil_1d",
    "stencil_1d_periodic",
    "dom",
    "tree",
    "fft",
    "all_to_all",
    "nearest",
    "spread",
    "random_nearest",
)


@dataclass(frozen=True, slots=True)
class Graph:
    """Tasks 0..n-1 in topological order, each with its parents, ascending."""

    name: str
    parents: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.parents)

    @property
    def sinks(self) -> tuple[int, ...]:
        """Tasks nobody depends on."""
        used = {parent for parents in self.parents for parent in parents}
        return tuple(task for task in range(len(self)) if task not in used)


def chain(length: int) -> Graph:
    """Make tasks that wait for each other one by one."""
    return Graph("chain", tuple((task - 1,) if task else () for task in range(length)))


def make_graph(
    shape: str, *, tasks: int, width: int = 1000, radius: int = 5, seed: int = 7
) -> Graph:
    """Make a graph of about ``tasks`` tasks.

    Parameters
    ----------
    shape : str
        One of `SHAPES`.
    tasks : int
        How many; rounded down to whole timesteps, at least one.
    width : int
        Tasks of a timestep.
    radius : int
        Reach of nearest, spread and random_nearest.
    seed : int
        Makes random_nearest repeatable.
    """
    if shape not in SHAPES:
        raise ValueError(f"expected one of {', '.join(SHAPES)}, found {shape!r}")
    if shape == "chain":
        return chain(tasks)
    width = min(width, tasks)
    steps = max(tasks // width, 1)
    pattern = _Pattern(shape, width, steps, radius, random.Random(seed))
    numbers: list[dict[int, int]] = []
    parents: list[tuple[int, ...]] = []
    for step in range(steps):
        numbers.append({})
        for point in range(pattern.width_at(step)):
            numbers[step][point] = len(parents)
            above = numbers[step - 1] if step else {}
            parents.append(
                tuple(sorted({above[q] for q in pattern.needs(step, point) if q in above}))
            )
    return Graph(shape, tuple(parents))


@dataclass(slots=True)
class _Pattern:
    shape: str
    width: int
    steps: int
    radius: int
    rng: random.Random

    def width_at(self, step: int) -> int:
        if self.shape == "dom":
            return min(self.width, step + 1, self.steps - step)
        if self.shape == "tree":
            return min(self.width, 2 ** min(step, 40))
        return self.width

    def needs(self, step: int, point: int) -> Iterable[int]:
        near = range(point - self.radius // 2, point + (self.radius - 1) // 2 + 1)
        match self.shape:
            case "no_comm":
                return (point,)
            case "stencil_1d":
                return (point - 1, point, point + 1)
            case "stencil_1d_periodic":
                return (p % self.width for p in (point - 1, point, point + 1))
            case "dom":
                return (point - 1, point)
            case "all_to_all":
                return range(self.width)
            case "nearest":
                return near
            case "random_nearest":
                return [q for q in near if self.rng.random() < 0.5]
            case "tree":
                # Once the full width is reached, tasks go on in lanes.
                return (point // 2 if 2 ** min(step, 40) <= self.width else point,)
            case _:
                return self._jumps(step, point)

    def _jumps(self, step: int, point: int) -> Iterable[int]:
        width, reach = self.width, self.radius
        if self.shape == "fft":
            distance = 1 << ((step + _levels(width) - 1) % _levels(width))
            return (point - distance, point, point + distance)
        if self.shape == "spread":
            shifts = (i * width // reach + (step % reach if i else 0) for i in range(reach))
            return ((point + shift) % width for shift in shifts)
        return ()


@lru_cache
def _levels(width: int) -> int:
    return max(ceil(log2(width)), 1)
