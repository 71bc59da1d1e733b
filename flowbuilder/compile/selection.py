"""Which tasks of a workflow a plan runs: ``--to``, ``--from``, ``--only``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from flowbuilder.compile.expansion import Expansion, Role
from flowbuilder.errors import Problem, WorkflowValidationError
from flowbuilder.expressions import spelling_hint
from flowbuilder.model.topology import transpose

__all__ = ["Selected", "Selection", "ancestors", "descendants", "select"]


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, as TaskRun keys; ``outer`` stands for a whole sub-workflow.

    Parameters
    ----------
    to : tuple of str
        These and all they wait for.
    from_ : tuple of str
        These and all that waits for them.
    only : tuple of str
        Just these.
    """

    to: tuple[str, ...] = ()
    from_: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        to: str | Iterable[str] | None,
        from_: str | Iterable[str] | None,
        only: str | Iterable[str] | None,
    ) -> Selection:
        """Accept one name, several or none; their order means nothing."""
        return cls(to=_names(to), from_=_names(from_), only=_names(only))

    def to_options(self) -> dict[str, object]:
        """Give what was asked for as plain data, under the words of the command line."""
        asked = {"to": self.to, "from": self.from_, "only": self.only}
        return {word: list(names) for word, names in asked.items() if names}

    def __bool__(self) -> bool:
        return bool(self.to or self.from_ or self.only)


def _names(value: str | Iterable[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(sorted({value} if isinstance(value, str) else set(value)))


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome, as flat indices, ascending.

    Parameters
    ----------
    run : tuple of int
        Tasks the plan runs.
    preloaded : tuple of int
        Tasks outside ``run`` whose outputs it needs from an earlier run.
    targets : tuple of int
        Tasks named by ``to`` or ``only``: their outputs are wanted even if others use them.
    """

    run: tuple[int, ...]
    preloaded: tuple[int, ...]
    targets: tuple[int, ...]


def select(
    expansion: Expansion, parents: Sequence[Sequence[int]], selection: Selection
) -> Selected:
    """Apply a selection.

    Parameters
    ----------
    expansion : Expansion
        The unfolded workflow.
    parents : sequence of sequences of int
        Per flat task what it waits for.
    selection : Selection
        What was asked for. ``to`` and ``from_`` together mean what lies between.

    Raises
    ------
    WorkflowValidationError
        If a name is unknown, the words contradict each other, or nothing is left.
    """
    ends = _resolve(expansion, selection)
    run = _chosen(expansion, parents, selection, ends)
    needed = {parent for task in run for parent in parents[task]}
    # Inner expressions read their parameters from the enter task, also where no edge says so.
    scopes = {expansion.tasks[task].scope for task in run}
    needed |= {expansion.scopes[scope].enter for scope in scopes if scope}
    targets = {ends[name][1] for name in (*selection.to, *selection.only)}
    return Selected(
        run=tuple(sorted(run)),
        preloaded=tuple(sorted(needed - run)),
        targets=tuple(sorted(targets & run)),
    )


def _chosen(
    expansion: Expansion,
    parents: Sequence[Sequence[int]],
    selection: Selection,
    ends: dict[str, tuple[int, int]],
) -> set[int]:
    if selection.only and (selection.to or selection.from_):
        raise _refusal("'only' names exactly the tasks to run", "leave out 'to' and 'from'")
    if selection.only:
        return {task for name in selection.only for task in _inside(expansion, name, ends[name])}
    run = set(range(len(parents)))
    if selection.to:
        run &= ancestors(parents, [ends[name][1] for name in selection.to])
    if selection.from_:
        run &= descendants(parents, [ends[name][0] for name in selection.from_])
    if not run:
        raise _refusal("no task lies between 'from' and 'to'", "swap them, or leave one out")
    return run


def _inside(expansion: Expansion, name: str, ends: tuple[int, int]) -> Iterable[int]:
    """List a task, or a sub-workflow with its enter, inner and leave tasks: they stand together."""
    assert expansion.tasks[ends[1]].key == name
    return range(ends[0], ends[1] + 1)


def _resolve(expansion: Expansion, selection: Selection) -> dict[str, tuple[int, int]]:
    """Find the first and last flat task of every name."""
    enters = {
        task.inner_scope: index
        for index, task in enumerate(expansion.tasks)
        if task.role is Role.ENTER
    }
    ends = {
        task.key: (enters.get(task.inner_scope, index), index)
        for index, task in enumerate(expansion.tasks)
        if task.role is not Role.ENTER
    }
    asked = [("to", selection.to), ("from", selection.from_), ("only", selection.only)]
    problems = [
        Problem(
            f"'{word}' must name tasks of workflow {expansion.root.name!r}, found {name!r}",
            hint=spelling_hint(name, ends),
            code="unknown-task",
        )
        for word, names in asked
        for name in names
        if name not in ends
    ]
    if problems:
        raise WorkflowValidationError(problems)
    return ends


def ancestors(parents: Sequence[Sequence[int]], targets: Iterable[int]) -> set[int]:
    """Collect the targets and everything they wait for."""
    found = set(targets)
    stack = list(found)
    while stack:
        for parent in parents[stack.pop()]:
            if parent not in found:
                found.add(parent)
                stack.append(parent)
    return found


def descendants(parents: Sequence[Sequence[int]], sources: Iterable[int]) -> set[int]:
    """Collect the sources and everything that waits for them."""
    offsets, successors = transpose(parents)
    found = set(sources)
    stack = list(found)
    while stack:
        task = stack.pop()
        for successor in successors[offsets[task] : offsets[task + 1]]:
            if successor not in found:
                found.add(successor)
                stack.append(successor)
    return found


def _refusal(message: str, hint: str) -> WorkflowValidationError:
    return WorkflowValidationError([Problem(message, hint=hint, code="bad-selection")])
