"""One task against its type: the config's schema, the type's own findings, where it may run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

from flowbuilder.compile.cache_check import check_cache
from flowbuilder.compile.problem_list import ProblemList, field_text, task_path
from flowbuilder.compile.schema_check import SchemaCheck
from flowbuilder.errors import FlowBuilderError
from flowbuilder.model import SourcePath, TaskSpec
from flowbuilder.plugins.catalogue import TaskTypes
from flowbuilder.plugins.task_type import Finding, TaskType
from flowbuilder.vocabulary import ExecutorKind

__all__ = ["TypeCheck"]


class TypeCheck:
    """Everything known of one task type, looked up once for all its tasks.

    Parameters
    ----------
    name : str
        What ``type:`` says.
    registry : TaskTypes
        Where types are found.
    directory : Path
        Folder of the workflow.
    """

    def __init__(self, name: str, registry: TaskTypes, directory: Path) -> None:
        self.name = name
        self._registry = registry
        self._directory = directory
        self.task_type: TaskType | None = None
        self._failure = ""
        self._is_unloaded = False
        schema: Mapping[str, object] | None = None
        try:
            self.task_type = registry.find(name)
            if self.task_type is None:
                schema = registry.unloaded(name)
                self._is_unloaded = schema is not None
            else:
                schema = self.task_type.schema
        except FlowBuilderError as error:
            self._failure = str(error)
        self._schema = SchemaCheck(schema) if schema else None
        self._has_own_check = _overrides(self.task_type, "check")
        self._has_input_check = _overrides(self.task_type, "check_inputs")
        self._note_once = True

    def check(
        self,
        task: TaskSpec,
        index: int,
        open_paths: Collection[SourcePath],
        problems: ProblemList,
    ) -> None:
        """Check one task of this type.

        Parameters
        ----------
        task : TaskSpec
            The task.
        index : int
            Its position in the workflow.
        open_paths : collection of path
            Where in its config expressions stand.
        problems : ProblemList
            Where to note what is wrong.
        """
        path = task_path(task, index)
        if self.task_type is None:
            self._note_absent(task, path, problems)
            if not self._is_unloaded:
                return
        elif self._note_once:
            self._note_once = False
            self._note_broken_schema(task, path, problems)
        config_path = (*path, "config")
        if self._schema is not None and not self._schema.accepts(task.config):
            self._check_schema(task, self._schema, config_path, open_paths, problems)
        if self.task_type is None:
            return
        if self._has_own_check:
            find = partial(self.task_type.check, task.config, self._directory)
            self._note_findings(task, find, config_path, problems)
        if self._has_input_check:
            ports = task.inputs.keys()
            find = partial(self.task_type.check_inputs, task.config, ports, self._directory)
            self._note_findings(task, find, config_path, problems)
        if task.cache is not None and task.type != "workflow":
            check_cache(task, self.task_type, (*path, "cache"), problems)
        if task.executor is not ExecutorKind.AUTO:
            self._check_executor(task, self.task_type, (*path, "executor"), problems)

    def _note_absent(self, task: TaskSpec, path: SourcePath, problems: ProblemList) -> None:
        place = (*path, "type")
        if self._failure:
            message = f"task type {self.name!r} of task {task.name!r} is broken: {self._failure}"
            problems.add(message, place, task=task.name, code="broken-task-type")
        elif not self._is_unloaded:
            message = f"task {task.name!r} has the unknown type {self.name!r}"
            hint = problems.spelling(self.name, self._registry.names())
            if hint.startswith("did you mean"):
                hint += " types: " + ", ".join(self._registry.names()[:12])
            problems.add(message, place, task=task.name, hint=hint, code="unknown-task-type")
        elif self._note_once:
            self._note_once = False
            unchecked = "" if self._schema else ", so its config is not checked"
            problems.add(
                f"task type {self.name!r} comes from a plugin file that is not trusted{unchecked}",
                place,
                task=task.name,
                hint="read the file, then run 'flowbuilder trust' on its project",
                code="task-type-not-loaded",
                severity="warning",
            )
            self._note_broken_schema(task, path, problems)

    def _note_broken_schema(self, task: TaskSpec, path: SourcePath, problems: ProblemList) -> None:
        reason = self._schema.schema_error() if self._schema else ""
        if reason:
            self._schema = None
            message = f"the schema of task type {self.name!r} is not valid JSON Schema: {reason}"
            hint = "tell the plugin's author"
            problems.add(
                message, (*path, "type"), task=task.name, hint=hint, code="broken-task-type"
            )

    def _check_schema(
        self,
        task: TaskSpec,
        schema: SchemaCheck,
        path: SourcePath,
        open_paths: Collection[SourcePath],
        problems: ProblemList,
    ) -> None:
        for mismatch in schema.mismatches(task.config, open_paths):
            owner = mismatch.path[:-1] if mismatch.is_unknown_field else mismatch.path
            problems.add(
                f"{field_text(('config', *owner))!r} of task {task.name!r}: {mismatch.message}",
                (*path, *mismatch.path),
                task=task.name,
                hint=mismatch.hint,
                code="unknown-field" if mismatch.is_unknown_field else "bad-config",
            )

    def _note_findings(
        self,
        task: TaskSpec,
        find: Callable[[], Iterable[Finding]],
        path: SourcePath,
        problems: ProblemList,
    ) -> None:
        try:
            findings = list(find())
        except Exception as error:
            # A plugin's check must not keep the other problems from being reported.
            message = (
                f"the check of task type {self.name!r} failed: {type(error).__name__}: {error}"
            )
            problems.add(message[:300], path, task=task.name, code="broken-task-type")
            return
        for finding in findings:
            problems.add(
                f"task {task.name!r}: {finding.message}",
                (*path, *finding.path),
                task=task.name,
                hint=finding.hint,
                severity=finding.severity,
                line=finding.line,
                code="bad-config",
            )

    def _check_executor(
        self, task: TaskSpec, task_type: TaskType, path: SourcePath, problems: ProblemList
    ) -> None:
        message, hint = _executor_conflict(task, task_type)
        if message:
            problems.add(message, path, task=task.name, hint=hint, code="executor-conflict")


def _executor_conflict(task: TaskSpec, task_type: TaskType) -> tuple[str, str]:
    """Say why a task cannot run where its author wants it; empty if it can."""
    executor = task.executor
    can_await = task_type.is_async or _overrides(task_type, "run_async")
    if executor is ExecutorKind.INLINE and task.timeout_s is not None:
        message = f"task {task.name!r} has a timeout, but inline tasks cannot be interrupted"
        return message, "use 'executor: thread', or remove the timeout"
    if executor is ExecutorKind.ASYNC and not can_await:
        message = f"a task of type {task.type!r} is not async, it cannot run on the I/O loop"
        return message, "use 'executor: thread' or leave it out"
    if executor is ExecutorKind.PROCESS and not task_type.can_leave(task.config):
        message = f"a task of type {task.type!r} cannot leave this process"
        return message, "leave 'executor' out"
    if task_type.is_async and executor in {ExecutorKind.INLINE, ExecutorKind.THREAD}:
        message = f"a task of type {task.type!r} runs on the I/O loop, it cannot run {executor}"
        return message, "leave 'executor' out"
    return "", ""


def _overrides(task_type: TaskType | None, method: str) -> bool:
    return task_type is not None and getattr(type(task_type), method) is not getattr(
        TaskType, method
    )
