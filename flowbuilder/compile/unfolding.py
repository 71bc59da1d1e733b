"""The unfolding itself: one pass over nested texts that lays their tasks out in one list."""

from __future__ import annotations

from pathlib import Path

import msgspec

from flowbuilder.compile.check import check_with_edges
from flowbuilder.compile.edges import task_edges
from flowbuilder.compile.expansion import Edge, EdgeKind, FlatTask, Role, Scope
from flowbuilder.compile.inclusion import Inclusion, ReadWorkflow, include, locate
from flowbuilder.compile.subworkflow_check import (
    included_problems,
    output_problems,
    parameter_problems,
    setting_problems,
)
from flowbuilder.errors import Problem, WorkflowValidationError
from flowbuilder.model import TaskSpec, WorkflowSpec
from flowbuilder.plugins.catalogue import TaskTypes

__all__ = ["MAX_DEPTH", "SUBWORKFLOW_TYPE", "Place", "Unfolding"]

SUBWORKFLOW_TYPE = "workflow"
MAX_DEPTH = 16


class Link(msgspec.Struct, frozen=True):
    """One file of an inclusion chain."""

    file: Path | None
    shown: str

    @classmethod
    def of_root(cls, spec: WorkflowSpec) -> Link:
        """Start a chain with the outermost workflow."""
        if spec.source is None:
            return cls(None, spec.name)
        # The folder is absolute while the file is shown as the user gave it, so only its name is
        # used.
        return cls((Path(spec.directory) / Path(spec.source.file).name).resolve(), spec.source.file)


class Place(msgspec.Struct, frozen=True):
    """Where a text stands in the unfolded whole; ``chain`` are the files that led there."""

    workflow: WorkflowSpec
    chain: tuple[Link, ...]
    depth: int = 0
    parent: int = -1
    prefix: str = ""
    enter: int = -1

    @classmethod
    def of_root(cls, spec: WorkflowSpec) -> Place:
        """Place the outermost workflow."""
        return cls(workflow=spec, chain=(Link.of_root(spec),))


class _Ends(msgspec.Struct, frozen=True):
    """Flat indices of a task: what its own edges belong to, and what its dependants wait for."""

    entry: int
    exit: int
    inner_scope: int = -1


class Unfolding:
    """Work in progress; list slots stay None until the edges of their scope are known."""

    def __init__(self, registry: TaskTypes, read: ReadWorkflow, max_tasks: int) -> None:
        self.tasks: list[FlatTask | None] = []
        self.scopes: list[Scope | None] = []
        self.problems: list[Problem] = []
        self._registry = registry
        self._read_file = read
        self._max_tasks = max_tasks
        self._files: dict[Path, WorkflowSpec] = {}
        # Keyed by id: `_kept` keeps the specifications alive, and thereby their tasks.
        self._inline: dict[int, Inclusion] = {}
        self._edges: dict[int, list[tuple[Edge, ...]]] = {}
        self._checked: set[int] = set()
        self._kept: list[WorkflowSpec] = []

    def distinct_problems(self) -> tuple[Problem, ...]:
        """List what was found, once each: a file may be included more than once."""
        return tuple(dict.fromkeys(self.problems))

    def unfold(self, place: Place) -> tuple[int, list[int]]:
        """Append a workflow; give its scope and the flat indices of its last tasks."""
        spec = place.workflow
        self._reserve(len(spec.tasks), place)
        scope = len(self.scopes)
        self.scopes.append(None)
        self._kept.append(spec)
        ends = [self._append(task, scope, place) for task in spec.tasks]
        local = self._edges_of(spec)
        self._connect(local, ends, scope, place)
        self.scopes[scope] = Scope(
            index=scope,
            parent=place.parent,
            prefix=place.prefix,
            workflow=spec,
            enter=place.enter,
            members={task.name: end.exit for task, end in zip(spec.tasks, ends, strict=True)},
        )
        waited_for = {edge.parent for edges in local for edge in edges}
        return scope, [end.exit for index, end in enumerate(ends) if index not in waited_for]

    def _reserve(self, count: int, place: Place) -> None:
        if len(self.tasks) + count > self._max_tasks:
            message = (
                f"a workflow may unfold to {self._max_tasks:,} tasks, "
                f"and {place.workflow.name!r} exceeds that"
            )
            hint = "include fewer copies of the same file" if place.depth else ""
            problem = Problem(message, hint=hint, code="too-many-tasks")
            raise WorkflowValidationError([*self.problems, problem])

    def _append(self, task: TaskSpec, scope: int, place: Place) -> _Ends:
        index = len(self.tasks)
        self.tasks.append(None)
        if task.type != SUBWORKFLOW_TYPE:
            return _Ends(index, index)
        inner = self._inner_place(task, scope, place, enter=index)
        if inner is None:
            return _Ends(index, index)
        inner_scope, sinks = self.unfold(inner)
        leave = len(self.tasks)
        self.tasks.append(
            FlatTask(
                key=place.prefix + task.name,
                spec=task,
                scope=scope,
                edges=self._leave_edges(task, index, sinks, inner_scope),
                role=Role.LEAVE,
                inner_scope=inner_scope,
            )
        )
        return _Ends(index, leave, inner_scope)

    def _leave_edges(
        self, task: TaskSpec, enter: int, sinks: list[int], inner_scope: int
    ) -> tuple[Edge, ...]:
        """Wait for all inside; the data is what `output` names, else what nothing inside used."""
        scope = self.scopes[inner_scope]
        assert scope is not None
        output = task.config.get("output")
        wanted = scope.members.get(output, -1) if isinstance(output, str) else -1
        parents = sorted({enter, *sinks, *([wanted] if wanted >= 0 else [])})
        data = {wanted} if wanted >= 0 else set(sinks)
        return tuple(
            Edge(parent, EdgeKind.DATA if parent in data else EdgeKind.ORDER) for parent in parents
        )

    def know_edges(self, spec: WorkflowSpec, edges: list[tuple[Edge, ...]]) -> None:
        """Take over the edges of a workflow."""
        self._kept.append(spec)
        self._edges[id(spec)] = edges

    def _edges_of(self, spec: WorkflowSpec) -> list[tuple[Edge, ...]]:
        if id(spec) not in self._edges:
            self.know_edges(spec, task_edges(spec, self._registry))
        return self._edges[id(spec)]

    def _connect(
        self, local: list[tuple[Edge, ...]], ends: list[_Ends], scope: int, place: Place
    ) -> None:
        """Fill the reserved slots of a scope, now that every task's flat index is known."""
        first = (Edge(place.enter, EdgeKind.ORDER),) if place.enter >= 0 else ()
        for task, edges, end in zip(place.workflow.tasks, local, ends, strict=True):
            key = place.prefix + task.name
            is_outer = end.inner_scope >= 0
            self.tasks[end.entry] = FlatTask(
                key=f"{key}/(enter)" if is_outer else key,
                spec=task,
                scope=scope,
                edges=tuple(Edge(ends[edge.parent].exit, edge.kind) for edge in edges) or first,
                role=Role.ENTER if is_outer else Role.TASK,
                inner_scope=end.inner_scope,
            )

    def _inner_place(self, task: TaskSpec, scope: int, place: Place, *, enter: int) -> Place | None:
        """Find and check what ``task`` includes; None if there is something wrong with it."""
        outer = place.workflow
        before = len(self.problems)
        self.problems += setting_problems(outer, task)
        if place.depth >= MAX_DEPTH:
            chain = " -> ".join(link.shown for link in place.chain)
            self._refuse(outer, task, f"sub-workflows nest at most {MAX_DEPTH} deep: {chain}")
            return None
        found = self._inline.get(id(task))
        if found is None:
            found = include(outer, task, lambda path: self._read(path, place.chain))
            self.problems += found.problems
            if found.file is None:
                self._inline[id(task)] = found
        inner = found.workflow
        if inner is None:
            return None
        self._check_inner(inner)
        self.problems += parameter_problems(outer, task, inner)
        self.problems += output_problems(outer, task, inner)
        if any(problem.severity == "error" for problem in self.problems[before:]):
            return None
        link = (Link(found.file, str(task.config["file"])),) if found.file else ()
        return Place(
            workflow=inner,
            chain=place.chain + link,
            depth=place.depth + 1,
            parent=scope,
            prefix=f"{place.prefix}{task.name}/",
            enter=enter,
        )

    def _read(self, path: Path, chain: tuple[Link, ...]) -> WorkflowSpec:
        for position, link in enumerate(chain):
            if link.file == path:
                names = " -> ".join(link.shown for link in (*chain[position:], link))
                problem = Problem(f"workflows include each other: {names}", code="recursion")
                raise WorkflowValidationError([problem])
        spec = self._files.get(path)
        if spec is None:
            spec = self._files[path] = self._read_file(path)
        return spec

    def _check_inner(self, inner: WorkflowSpec) -> None:
        if id(inner) in self._checked:
            return
        self._checked.add(id(inner))
        problems, edges = check_with_edges(inner, self._registry)
        self.know_edges(inner, edges)
        self.problems += problems
        self.problems += included_problems(inner)

    def _refuse(self, outer: WorkflowSpec, task: TaskSpec, message: str) -> None:
        place = locate(outer, task, "config", "file")
        self.problems.append(Problem(message, place, task.name, code="bad-inclusion"))
