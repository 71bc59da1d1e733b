"""What the programs of one binding call: finds the attempt's task, prepares it once, runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from flowbuilder.compile.expansion import CompiledWorkflow, EdgeKind, Role
from flowbuilder.errors import ExpressionError, FlowBuilderError, InternalError
from flowbuilder.expressions import parse_expression
from flowbuilder.plugins.task_type import TaskType
from flowbuilder.runtime.program import AttemptContext, Program, RemoteCall, RunScope
from flowbuilder.tasks.binding_scope import ExpressionScope, has_output
from flowbuilder.tasks.config_schema import ConfigSchema
from flowbuilder.tasks.prepared_task import PreparedTask, locate_in

if TYPE_CHECKING:
    from flowbuilder.tasks.sleep import SleepTask

__all__ = ["BoundTasks"]

_MAX_PREPARED = 50_000


class BoundTasks:
    """Runs attempts of a compiled workflow. Thread-safe: tables are only ever filled in.

    Parameters
    ----------
    compiled : CompiledWorkflow
        What runs.
    types : mapping of str to TaskType
        Every type the workflow uses; filled while binding.
    """

    def __init__(self, compiled: CompiledWorkflow, types: Mapping[str, TaskType]) -> None:
        self.compiled = compiled
        self.programs: list[Program] = []
        """Per instance; the caller fills it."""
        self._types = types
        self._schemas: dict[str, ConfigSchema] = {}
        self._prepared: dict[int, PreparedTask] = {}

    def prepare(self, instance: int) -> PreparedTask:
        """Give a prepared task, remembered unless there are very many."""
        found = self._prepared.get(instance)
        if found is not None:
            return found
        flat = self.compiled.expansion.tasks[self.compiled.order[instance]]
        name = flat.spec.type
        task_type = self._types[name]
        schema = self._schemas.setdefault(name, ConfigSchema(task_type.schema))
        prepared = PreparedTask(self.compiled, flat, task_type, schema, self._types)
        if len(self._prepared) < _MAX_PREPARED:
            self._prepared[instance] = prepared
        return prepared

    def run(self, context: AttemptContext) -> object:
        """Run a task on the calling thread."""
        prepared = self.prepare(context.instance)
        return prepared.task_type.run(prepared.call(context))

    async def run_async(self, context: AttemptContext) -> object:
        """Run a task on the I/O loop."""
        prepared = self.prepare(context.instance)
        return await prepared.task_type.run_async(prepared.call(context))

    def remote(self, context: AttemptContext) -> RemoteCall:
        """Describe a task for a worker process."""
        prepared = self.prepare(context.instance)
        described = prepared.task_type.remote(prepared.call(context))
        if described is None:
            raise InternalError(
                f"task type {prepared.task_type.name!r} says it can leave and does not"
            )
        return described

    def delay(self, context: AttemptContext) -> float:
        """Give the time a sleep task waits, in seconds."""
        prepared = self.prepare(context.instance)
        scope = ExpressionScope(self.compiled, context.run, prepared.flat.scope)
        return cast("SleepTask", prepared.task_type).delay_s(prepared.config(scope))

    def condition(self, instance: int, run: RunScope) -> bool:
        """Evaluate ``when``.

        Raises
        ------
        ExpressionError
            If it fails, or gives something that is neither true nor false.
        """
        flat = self.compiled.expansion.tasks[self.compiled.order[instance]]
        text = flat.spec.when or "true"
        workflow = self.compiled.expansion.scopes[flat.scope].workflow
        try:
            value = parse_expression(text).evaluate(ExpressionScope(self.compiled, run, flat.scope))
            if isinstance(value, bool):
                return value
            raise ExpressionError(
                f"expected true or false from the condition {text!r}, found {str(value)[:60]!r} "
                f"({type(value).__name__})",
                hint="compare it, for example with == or size(...) > 0",
            )
        except FlowBuilderError as error:
            if error.location is None:
                error.location = locate_in(workflow, flat, "when")
            error.task = error.task or flat.spec.name
            raise

    def enter(self, context: AttemptContext) -> object:
        """Compute a sub-workflow's parameters from ``params`` and input ports, checked."""
        from flowbuilder.compile.check import check_parameters

        prepared = self.prepare(context.instance)
        flat = prepared.flat
        scope = ExpressionScope(self.compiled, context.run, flat.scope)
        given = prepared.config(scope).get("params")
        values = dict(given) if isinstance(given, Mapping) else {}
        values.update(prepared.inputs(context.run))
        inner = self.compiled.expansion.scopes[flat.inner_scope].workflow
        try:
            return check_parameters(inner, values)
        except FlowBuilderError as error:
            if error.location is None:
                error.location = prepared.locate("config", "params")
            error.task = error.task or flat.spec.name
            raise

    def leave(self, context: AttemptContext) -> object:
        """Collect a sub-workflow's output: of the task ``output`` names, else of all last ones."""
        tasks, instances = self.compiled.expansion.tasks, self.compiled.instances
        flat = tasks[self.compiled.order[context.instance]]
        inner = self.compiled.expansion.scopes[flat.inner_scope]
        wanted = flat.spec.config.get("output")
        if isinstance(wanted, str):
            return context.run.output(instances[inner.members[wanted]])
        parents = [
            edge.parent
            for edge in flat.edges
            if edge.kind is EdgeKind.DATA and tasks[edge.parent].role is not Role.ENTER
        ]
        return {
            tasks[parent].spec.name: context.run.output(instances[parent])
            for parent in parents
            if instances[parent] >= 0 and has_output(context.run, instances[parent])
        }
