"""Expressions in a workflow: readable, accepted by CEL, mentioning only what there is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from flowbuilder.compile.problem_list import ProblemList
from flowbuilder.errors import ExpressionError
from flowbuilder.expressions import RUN_FIELDS, Expression, read_expression, read_template
from flowbuilder.model import SourcePath, TaskSpec, WorkflowSpec

__all__ = ["ExpressionCheck"]

_WORDS: Final = {
    "params": ("parameter", "unknown-parameter"),
    "tasks": ("task", "unknown-task"),
    "run": ("fact of a run", "unknown-run-field"),
    "env": ("variable under 'env:' of the workflow", "unknown-env"),
    "secrets": ("name under 'secrets:' of the workflow", "unknown-secret"),
}
_DECLARED: Final = frozenset({"params", "env", "secrets"})


class ExpressionCheck:
    """Checks the expressions of one workflow.

    Parameters
    ----------
    spec : WorkflowSpec
        The workflow, whose names may be mentioned.
    problems : ProblemList
        Where to note what is wrong.
    """

    def __init__(self, spec: WorkflowSpec, problems: ProblemList) -> None:
        self._problems = problems
        self._names: Mapping[str, Collection[str]] = {
            "params": {param.name: None for param in spec.params},
            "tasks": {task.name: None for task in spec.tasks},
            "run": RUN_FIELDS,
            "env": spec.env.keys(),
            "secrets": spec.secrets.keys(),
        }

    def check_template(
        self, task: TaskSpec, value: object, path: SourcePath, raw: Collection[str] = ()
    ) -> tuple[frozenset[SourcePath], frozenset[tuple[str, ...]]]:
        """Check a config tree, or a task's environment.

        Parameters
        ----------
        task : TaskSpec
            Whose tree it is.
        value : object
            The tree.
        path : tuple
            Where the tree stands in the source.
        raw : collection of str
            Top-level keys to leave alone.

        Returns
        -------
        open_paths : frozenset of path
            Where in the tree expressions stand, readable or not.
        references : frozenset of tuple
            What they mention.
        """
        template, failures = read_template(value, raw=raw)
        for below, error in failures:
            self._note(task, error, (*path, *below))
        for below, expression in template.sites:
            self._check(task, expression, (*path, *below))
        readable = [below for below, _ in template.sites]
        open_paths = frozenset([*readable, *(below for below, _ in failures)])
        return open_paths, template.references

    def check_condition(
        self, task: TaskSpec, text: str, path: SourcePath
    ) -> frozenset[tuple[str, ...]]:
        """Check a ``when``.

        Parameters
        ----------
        task : TaskSpec
            Whose condition it is.
        text : str
            A bare expression.
        path : tuple
            Where it stands in the source.

        Returns
        -------
        frozenset of tuple
            What it mentions.
        """
        try:
            expression = read_expression(text)
        except ExpressionError as error:
            self._note(task, error, path)
            return frozenset()
        self._check(task, expression, path)
        if expression.is_constant:
            self._problems.add(
                f"'when' of task {task.name!r} mentions nothing, so it is always the same",
                path,
                task=task.name,
                hint="mention params or tasks, or remove it",
                code="constant-condition",
                severity="warning",
            )
        return expression.references

    def _check(self, task: TaskSpec, expression: Expression, path: SourcePath) -> None:
        try:
            expression.verify()
        except ExpressionError as error:
            self._note(task, error, path)
            return
        mentioned = {reference[:2] for reference in expression.references}
        for root, name in sorted(mentioned):
            if name not in self._names[root]:
                self._note_unknown(task, root, name, path)
            elif root == "tasks" and name == task.name:
                self._problems.add(
                    f"task {name!r} reads its own result",
                    path,
                    task=name,
                    hint="name another task",
                    code="self-dependency",
                )

    def _note_unknown(self, task: TaskSpec, root: str, name: str, path: SourcePath) -> None:
        word, code = _WORDS[root]
        hint = self._problems.spelling(name, self._names[root])
        if not hint and root in _DECLARED:
            hint = f"declare it under '{root}:'"
        self._problems.add(
            f"task {task.name!r} mentions `{root}.{name}`, but there is no such {word}",
            path,
            task=task.name,
            hint=hint,
            code=code,
        )

    def _note(self, task: TaskSpec, error: ExpressionError, path: SourcePath) -> None:
        message = f"expression in task {task.name!r}: {error.message}"
        self._problems.add(message, path, task=task.name, hint=error.hint, code="bad-expression")
