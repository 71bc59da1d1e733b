"""One task of a compiled workflow, ready to be called: templates parsed, ports resolved.

Made at a task's first attempt, because most of a large plan is bound without ever needing it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from flowbuilder.compile.expansion import CompiledWorkflow, EdgeKind, FlatTask, Role
from flowbuilder.errors import FlowBuilderError, Location, RunError, TaskFailedError
from flowbuilder.expressions import Template, follow, holds_template, parse_template
from flowbuilder.model import Selector, WorkflowSpec
from flowbuilder.plugins.task_type import TaskCall, TaskType
from flowbuilder.runtime.program import AttemptContext, RunScope
from flowbuilder.tasks.binding_scope import (
    ExpressionScope,
    SecretValues,
    TaskOutputs,
    environment_of,
    has_output,
)
from flowbuilder.tasks.config_schema import ConfigSchema
from flowbuilder.tasks.environment_text import environment_text
from flowbuilder.tasks.shell_text import externalise
from flowbuilder.vocabulary import JoinRule

__all__ = ["PreparedTask", "locate_in"]


class PreparedTask:
    """Builds the `TaskCall` of each attempt. Immutable, shared between threads.

    Parameters
    ----------
    compiled : CompiledWorkflow
        What runs.
    flat : FlatTask
        The task.
    task_type : TaskType
        Its type.
    schema : ConfigSchema
        The type's schema.
    parent_types : mapping of str to TaskType
        Types of other tasks by type name, for what scripts see as ``input_data``.

    Raises
    ------
    ExpressionError
        If a template cannot be parsed.
    """

    def __init__(
        self,
        compiled: CompiledWorkflow,
        flat: FlatTask,
        task_type: TaskType,
        schema: ConfigSchema,
        parent_types: Mapping[str, TaskType],
    ) -> None:
        self.flat = flat
        self.task_type = task_type
        self._compiled = compiled
        self._schema = schema
        self._workflow: WorkflowSpec = compiled.expansion.scopes[flat.scope].workflow
        self.directory = Path(self._workflow.directory or Path.cwd())
        config, self._shell_values = self._externalised()
        self._config = schema.with_defaults(config)
        self._template = self._parse(self._config, "config", raw=True)
        self._env = self._parse(dict(flat.spec.env), "env")
        self._parents = self._parent_instances()
        self._is_confidential = flat.spec.encrypt or self._reads_encrypted()
        self._only_parent = self._find_only_parent(parent_types)

    def call(self, context: AttemptContext) -> TaskCall:
        """Give everything one attempt may use.

        Raises
        ------
        FlowBuilderError
            If an expression fails, a rendered value does not fit the schema, or an input has no
            value.
        """
        run = context.run
        spec = self.flat.spec
        scope = ExpressionScope(self._compiled, run, self.flat.scope)
        return TaskCall(
            name=spec.name,
            key=context.key,
            run_id=run.run_id,
            attempt=context.attempt,
            config=self.config(scope),
            inputs=self.inputs(run),
            upstream=TaskOutputs(run, self._parents),
            params=scope.params(),
            env=self._environment(scope),
            secrets=SecretValues(self._workflow.secrets),
            directory=self.directory,
            scratch=run.scratch,
            temporary=run.temporary,
            memory_bytes=run.query_bytes,
            policy=run.policy,
            cancel=context.cancel,
            timeout_s=context.timeout_s,
            is_confidential=self._is_confidential,
            write=context.write,
            locate=self.locate_line,
            input_data=lambda: self._input_data(run),
            note_copy=partial(self._note_copy, context),
            captured_stdout=context.captured_stdout,
        )

    def config(self, scope: ExpressionScope) -> Mapping[str, object]:
        """Render the config."""
        if self._template is None:
            # A body may change what it gets; the next attempt must not see that.
            return copy.deepcopy(self._config)
        rendered = self._render(self._template, scope, "config")
        assert isinstance(rendered, dict)
        mismatch = self._schema.mismatch(rendered)
        if mismatch is not None:
            field = ".".join(map(str, ("config", *mismatch.path)))
            raise TaskFailedError(
                f"the value computed for {field} does not fit: {mismatch.message}",
                location=self.locate("config", *mismatch.path),
                task=self.flat.spec.name,
                hint=mismatch.hint,
                error_type="ConfigMismatch",
            )
        return rendered

    def inputs(self, run: RunScope) -> dict[str, object]:
        """Give the value of every port; None where the join rule let its task fail."""
        return {
            port: self._input(run, port, selector)
            for port, selector in self.flat.spec.inputs.items()
        }

    def locate(self, *path: str | int) -> Location | None:
        """Find a field of the task in its text."""
        return locate_in(self._workflow, self.flat, *path)

    def locate_line(self, path: tuple[str | int, ...], line: int) -> Location | None:
        """Find a line of a config text."""
        source = self._workflow.source
        if source is None:
            return None
        return source.locate_line((*self.flat.spec.path, "config", *path), line)

    def _externalised(self) -> tuple[dict[str, object], dict[str, Template]]:
        """Move templates out of shell text, into the environment."""
        config = dict(self.flat.spec.config)
        values: dict[str, Template] = {}
        for field in self.task_type.shell_fields:
            text = config.get(field)
            if isinstance(text, str):
                try:
                    shell_text = externalise(text)
                except FlowBuilderError as error:
                    raise self._placed(error, "config", field) from None
                config[field] = shell_text.text
                for name, expression in shell_text.values.items():
                    values[name] = parse_template(f"${{{{ {expression.text} }}}}")
        return config, values

    def _parse(
        self, tree: Mapping[str, object], field: str, *, raw: bool = False
    ) -> Template | None:
        # What `_externalised` left of a shell text is for the shell, whatever it looks like.
        skipped = {*self.task_type.raw_fields, *self.task_type.shell_fields} if raw else frozenset()
        if not any(holds_template(tree[name]) for name in tree if name not in skipped):
            return None
        try:
            return parse_template(tree, raw=skipped)
        except FlowBuilderError as error:
            raise self._placed(error, field) from None

    def _render(self, template: Template, scope: ExpressionScope, field: str) -> object:
        try:
            return template.render(scope)
        except FlowBuilderError as error:
            for path, expression in template.sites:
                try:
                    expression.evaluate(scope)
                except FlowBuilderError:
                    raise self._placed(error, field, *path) from error.__cause__
            raise self._placed(error, field) from error.__cause__

    def _environment(self, scope: ExpressionScope) -> dict[str, str]:
        env = environment_of(self._workflow.env)
        if self._env is not None:
            rendered = self._render(self._env, scope, "env")
            assert isinstance(rendered, dict)
            for name, value in rendered.items():
                env[name] = environment_text(value, f"environment variable {name!r}")
        else:
            env.update(self.flat.spec.env)
        for name, template in self._shell_values.items():
            value = self._render(template, scope, "config")
            shown = template.sites[0][1].text if template.sites else name
            env[name] = environment_text(value, f"the value of '{shown}' in a command")
        return env

    def _input(self, run: RunScope, port: str, selector: Selector) -> object:
        instance = self._parents.get(selector.task, -1)
        if instance < 0:
            raise RunError(
                f"input {port!r} comes from task {selector.task!r}, which is not part of this run",
                location=self.locate("inputs", port),
                task=self.flat.spec.name,
            )
        if self.flat.spec.join is not JoinRule.ALL_SUCCESS and not has_output(run, instance):
            return None
        value = run.output(instance)
        if not selector.path:
            return value
        try:
            return follow(value, selector.path, start=(selector.task,))
        except FlowBuilderError as error:
            raise self._placed(error, "inputs", port) from None

    def _parent_instances(self) -> dict[str, int]:
        tasks, instances = self._compiled.expansion.tasks, self._compiled.instances
        return {
            tasks[edge.parent].spec.name: instances[edge.parent]
            for edge in self.flat.edges
            if tasks[edge.parent].role is not Role.ENTER and instances[edge.parent] >= 0
        }

    def _note_copy(self, context: AttemptContext, name: str, size_bytes: int, reason: str) -> None:
        selector = self.flat.spec.inputs.get(name)
        task = name if selector is None else selector.task
        source = self._parents.get(task, -1) if name else context.instance
        context.run.note_copy(source, context.instance, size_bytes, reason)

    def _reads_encrypted(self) -> bool:
        planned, instances = self._compiled.plan.tasks, self._compiled.instances
        parents = (instances[edge.parent] for edge in self.flat.edges)
        return any(parent >= 0 and planned[parent].encrypt for parent in parents)

    def _find_only_parent(
        self, parent_types: Mapping[str, TaskType]
    ) -> tuple[int, TaskType | None] | None:
        tasks, instances = self._compiled.expansion.tasks, self._compiled.instances
        parents = [
            edge.parent
            for edge in self.flat.edges
            if edge.kind is not EdgeKind.IMPLIED and tasks[edge.parent].role is not Role.ENTER
        ]
        if len(parents) != 1 or instances[parents[0]] < 0:
            return None
        parent = tasks[parents[0]]
        found = parent_types.get(parent.spec.type) if parent.role is Role.TASK else None
        return instances[parents[0]], found

    def _input_data(self, run: RunScope) -> object:
        if self._only_parent is None:
            return None
        instance, parent_type = self._only_parent
        if self.flat.spec.join is not JoinRule.ALL_SUCCESS and not has_output(run, instance):
            return None
        output = run.output(instance)
        return parent_type.as_input_data(output) if parent_type is not None else output

    def _placed(self, error: FlowBuilderError, *path: str | int) -> FlowBuilderError:
        """Say where, if the error does not know yet."""
        if error.location is None:
            error.location = self.locate(*path)
        if error.task is None:
            error.task = self.flat.spec.name
        return error


def locate_in(workflow: WorkflowSpec, flat: FlatTask, *path: str | int) -> Location | None:
    """Find a field of a task in the text it was read from; None if there is no text."""
    if workflow.source is None:
        return None
    return workflow.source.locate((*flat.spec.path, *path))
