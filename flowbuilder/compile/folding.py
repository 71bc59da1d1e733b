"""Constant folding: expressions that mention nothing are evaluated once, when the plan is made.

A condition that is always true disappears. One that is always false stays: the run then records the
task and what depends on it as skipped, with the reason, like any other condition. Expressions that
fail stay as well, so that the error keeps its place and its time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

import msgspec

from flowbuilder.compile.expansion import Expansion, FlatTask, Role
from flowbuilder.errors import ExpressionError
from flowbuilder.expressions import parse_expression, parse_template
from flowbuilder.model import TaskSpec
from flowbuilder.plugins.catalogue import TaskTypes

__all__ = ["fold_expansion", "fold_value"]

_OPENING = "${{"
_FOLDABLE = frozenset({str, dict, list})
_Key = TypeVar("_Key")
# Whatever mentions one of these may depend on the run; cheaper to see than a parse.
_VARIABLE = re.compile(r"\b(?:params|tasks|run|env|secrets)\b")


def fold_expansion(expansion: Expansion, registry: TaskTypes) -> Expansion:
    """Replace constant expressions by their values.

    Parameters
    ----------
    expansion : Expansion
        The unfolded workflow.
    registry : TaskTypes
        Task types, for the config fields that are passed as written.

    Returns
    -------
    Expansion
        The same object if there was nothing to fold.
    """
    # What a shell reads is not folded either: there a value becomes a variable, never text.
    untouched: dict[str, Collection[str]] = {}
    for name in {task.spec.type for task in expansion.tasks}:
        task_type = registry.find(name)
        untouched[name] = task_type.raw_fields | task_type.shell_fields if task_type else ()
    tasks = list(expansion.tasks)
    changed = False
    for index, task in enumerate(tasks):
        spec = _fold_task(task, untouched[task.spec.type])
        if spec is not task.spec:
            tasks[index] = msgspec.structs.replace(task, spec=spec)
            changed = True
    return msgspec.structs.replace(expansion, tasks=tuple(tasks)) if changed else expansion


def _fold_task(task: FlatTask, untouched: Collection[str]) -> TaskSpec:
    """Fold one task; the leave task keeps its spec, because only the enter task evaluates it."""
    spec = task.spec
    if task.role is Role.LEAVE:
        return spec
    if spec.when is not None and _is_always_true(spec.when):
        spec = msgspec.structs.replace(spec, when=None)
    changes = {}
    for field, value in spec.config.items():
        if type(value) in _FOLDABLE and field not in untouched:
            folded = fold_value(value)
            if folded is not value:
                changes[field] = folded
    if not changes:
        return spec
    return msgspec.structs.replace(spec, config={**spec.config, **changes})


def _is_always_true(text: str) -> bool:
    if _VARIABLE.search(text):
        return False
    try:
        expression = parse_expression(text)
        return not expression.references and expression.evaluate(_Nothing()) is True
    except ExpressionError:
        return False


def fold_value(value: object) -> object:
    """Fold the constant expressions in a config value; the same object if there are none."""
    if isinstance(value, str):
        return _fold_text(value) if _OPENING in value else value
    if isinstance(value, dict):
        pairs = [(key, item, fold_value(item)) for key, item in _foldable(value.items())]
        changes = {key: folded for key, item, folded in pairs if folded is not item}
        return {**value, **changes} if changes else value
    if isinstance(value, list):
        pairs = [(place, item, fold_value(item)) for place, item in _foldable(enumerate(value))]
        changes = {place: folded for place, item, folded in pairs if folded is not item}
        return [changes.get(place, item) for place, item in enumerate(value)] if changes else value
    return value


def _foldable(pairs: Iterable[tuple[_Key, object]]) -> list[tuple[_Key, object]]:
    return [(key, item) for key, item in pairs if type(item) in _FOLDABLE]


def _fold_text(text: str) -> object:
    if _VARIABLE.search(text):
        return text
    try:
        template = parse_template(text)
        result = text if template.references else template.render(_Nothing())
    except ExpressionError:
        return text
    # An escaped opening must stay escaped: the result is read as a template once more.
    return text if _OPENING in repr(result) else result


class _Nothing:
    """The scope of an expression that mentions nothing."""

    def root(self, name: str) -> Mapping[str, object]:
        del name
        return {}
