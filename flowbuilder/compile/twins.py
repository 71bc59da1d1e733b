"""Common sub-tasks: tasks that would compute the same from the same, so one is enough."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from flowbuilder.compile.expansion import Expansion, FlatTask, Role
from flowbuilder.compile.plain_data import encode_canonical, to_plain
from flowbuilder.errors import WorkflowError
from flowbuilder.vocabulary import Effects, JoinRule

__all__ = ["find_twins"]


def find_twins(
    expansion: Expansion,
    order: Sequence[int],
    effects: Sequence[Effects],
    *,
    fixed: Collection[int] = (),
) -> dict[int, int]:
    """Find tasks that equal an earlier one in everything that decides their output.

    Only tasks without effects qualify. Equal means: type, config, settings, the scope of their
    parameters, and inputs from tasks that are the same or twins themselves. Names, titles and notes
    do not count. A task on which a join rule other than ``all_success`` waits is left alone,
    because such a rule could tell a twin from a run of its own.

    Parameters
    ----------
    expansion : Expansion
        The unfolded workflow.
    order : sequence of int
        Flat indices of the tasks in the plan, parents first.
    effects : sequence of Effects
        Per flat task, what running it twice does.
    fixed : collection of int
        Flat indices that run no code: their outputs come from an earlier run.

    Returns
    -------
    dict of int to int
        Flat index -> flat index of its earlier representative; only for tasks that have one.
    """
    if not any(effects[index] is Effects.NONE for index in order):
        return {}
    search = _TwinSearch(expansion)
    excluded = _judged_by_others(expansion, order) | set(fixed)
    for index in order:
        if effects[index] is Effects.NONE and index not in excluded:
            search.visit(index)
    return search.twins


def _judged_by_others(expansion: Expansion, order: Sequence[int]) -> set[int]:
    return {
        edge.parent
        for index in order
        if expansion.tasks[index].role is not Role.LEAVE
        and expansion.tasks[index].spec.join is not JoinRule.ALL_SUCCESS
        for edge in expansion.tasks[index].edges
    }


class _TwinSearch:
    """Value numbering: equal signatures over already numbered parents."""

    def __init__(self, expansion: Expansion) -> None:
        self._expansion = expansion
        self._first: dict[object, int] = {}
        self._scope_twin: dict[int, int] = {}
        self.twins: dict[int, int] = {}

    def visit(self, index: int) -> None:
        task = self._expansion.tasks[index]
        try:
            signature = self._signature(task)
        except (WorkflowError, TypeError):  # objects that have no comparable form
            return
        first = self._first.setdefault(signature, index)
        if first == index:
            return
        self.twins[index] = first
        if task.role is Role.ENTER:
            self._scope_twin[task.inner_scope] = self._expansion.tasks[first].inner_scope

    def _signature(self, task: FlatTask) -> object:
        spec = task.spec
        scope = self._scope_twin.get(task.scope, task.scope)
        edges = tuple(sorted((self.twins.get(e.parent, e.parent), e.kind) for e in task.edges))
        if task.role is Role.LEAVE:
            return ("leave", self._scope_twin.get(task.inner_scope, task.inner_scope), edges)
        inner = (
            id(self._expansion.scopes[task.inner_scope].workflow) if task.inner_scope >= 0 else 0
        )
        settings = (
            spec.when,
            spec.join,
            spec.retry,
            spec.timeout_s,
            spec.executor,
            spec.persist,
            spec.encrypt,
            spec.cache,
        )
        occupied = (spec.resources, spec.pool, spec.priority, tuple(sorted(spec.env.items())))
        config: Mapping[str, object] = spec.config
        if task.role is Role.ENTER:
            config = {"params": config.get("params")}
        return (
            task.role,
            spec.type,
            scope,
            inner,
            edges,
            settings,
            occupied,
            self._inputs(task),
            encode_canonical(to_plain(config)),
        )

    def _inputs(self, task: FlatTask) -> object:
        members = self._expansion.scopes[task.scope].members
        return tuple(
            (port, self.twins.get(members[item.task], members[item.task]), item.path)
            for port, item in sorted(task.spec.inputs.items())
        )
