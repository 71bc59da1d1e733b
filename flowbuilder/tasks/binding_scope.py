"""What expressions and tasks see of a live run; everything is looked up when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from flowbuilder.compile.expansion import CompiledWorkflow, Scope
from flowbuilder.errors import ExpressionError, RunError
from flowbuilder.runtime.program import RunScope
from flowbuilder.vocabulary import TaskState

__all__ = ["ExpressionScope", "SecretValues", "TaskOutputs", "environment_of", "secret_values"]

_HAS_OUTPUT = frozenset({str(TaskState.SUCCEEDED), str(TaskState.CACHED)})


class ExpressionScope:
    """The roots of expressions for one run and one workflow text.

    Parameters
    ----------
    compiled : CompiledWorkflow
        What runs.
    run : RunScope
        The live run.
    scope : int
        Index of the text in which names are meant.
    """

    __slots__ = ("_compiled", "_run", "_scope")

    def __init__(self, compiled: CompiledWorkflow, run: RunScope, scope: int) -> None:
        self._compiled = compiled
        self._run = run
        self._scope = compiled.expansion.scopes[scope]

    def root(self, name: str) -> Mapping[str, object]:
        """Give the mapping behind a root of expressions."""
        match name:
            case "params":
                return self.params()
            case "tasks":
                return _Tasks(self._compiled, self._run, self._scope)
            case "run":
                return _run_facts(self._run)
            case "env":
                return _EnvironmentValues(self._scope.workflow.env)
            case "secrets":
                return SecretValues(self._scope.workflow.secrets)
        raise ExpressionError(f"expressions have no root {name!r}")

    def params(self) -> Mapping[str, object]:
        """Give the parameters: of the run, or what the sub-workflow's enter task computed."""
        if self._scope.enter < 0:
            return self._run.params
        entered = self._run.output(self._compiled.instances[self._scope.enter])
        assert isinstance(entered, Mapping)
        return entered


class TaskOutputs(Mapping[str, object]):
    """Outputs of those of some tasks that succeeded, fetched when asked for.

    Parameters
    ----------
    run : RunScope
        The live run.
    instances : mapping of str to int
        Task name -> instance.
    """

    __slots__ = ("_instances", "_run")

    def __init__(self, run: RunScope, instances: Mapping[str, int]) -> None:
        self._run = run
        self._instances = instances

    def __getitem__(self, name: str) -> object:
        instance = self._instances[name]
        if not has_output(self._run, instance):
            raise KeyError(name)
        return self._run.output(instance)

    def __iter__(self) -> Iterator[str]:
        return (name for name, item in self._instances.items() if has_output(self._run, item))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class SecretValues(Mapping[str, str]):
    """Secrets by name, read from the environment when asked for; never shown.

    Parameters
    ----------
    variables : mapping of str to str
        Secret name -> environment variable.
    """

    __slots__ = ("_variables",)

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def __getitem__(self, name: str) -> str:
        variable = self._variables[name]
        value = os.environ.get(variable)
        if value is None:
            raise RunError(
                f"secret {name!r} comes from environment variable {variable!r}, which is not set",
                hint=f"set {variable} before the run",
            )
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __repr__(self) -> str:
        return f"<SecretValues {sorted(self._variables)}>"


class _EnvironmentValues(Mapping[str, object]):
    """The environment variables a workflow may read, with its defaults."""

    __slots__ = ("_allowed",)

    def __init__(self, allowed: Mapping[str, str | None]) -> None:
        self._allowed = allowed

    def __getitem__(self, name: str) -> object:
        default = self._allowed[name]
        value = os.environ.get(name, default)
        if value is None:
            raise RunError(
                f"the environment variable {name!r} is not set and has no default",
                hint=f"set {name}, or give it a default under 'env'",
            )
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._allowed)

    def __len__(self) -> int:
        return len(self._allowed)


class _Tasks(Mapping[str, object]):
    """``tasks.<name>``: a mapping with ``state``, and ``output`` once there is one."""

    __slots__ = ("_compiled", "_run", "_scope")

    def __init__(self, compiled: CompiledWorkflow, run: RunScope, scope: Scope) -> None:
        self._compiled = compiled
        self._run = run
        self._scope = scope

    def __getitem__(self, name: str) -> object:
        instance = self._compiled.instances[self._scope.members[name]]
        if instance < 0:
            raise RunError(
                f"task {name!r} is not part of this run", hint="include it in the selection"
            )
        return _TaskFacts(self._run, instance)

    def __iter__(self) -> Iterator[str]:
        return iter(self._scope.members)

    def __len__(self) -> int:
        return len(self._scope.members)


class _TaskFacts(Mapping[str, object]):
    __slots__ = ("_instance", "_run")

    def __init__(self, run: RunScope, instance: int) -> None:
        self._run = run
        self._instance = instance

    def __getitem__(self, name: str) -> object:
        if name == "output" and has_output(self._run, self._instance):
            return self._run.output(self._instance)
        if name == "state":
            return str(self._run.state(self._instance))
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        if has_output(self._run, self._instance):
            yield "output"
        yield "state"

    def __len__(self) -> int:
        return sum(1 for _ in self)


def has_output(run: RunScope, instance: int) -> bool:
    """Whether an instance succeeded, now or in a cache."""
    return str(run.state(instance)) in _HAS_OUTPUT


def environment_of(allowed: Mapping[str, str | None]) -> dict[str, str]:
    """Give the defaults of a workflow's environment variables that are not set in this process."""
    return {
        name: default
        for name, default in allowed.items()
        if default is not None and name not in os.environ
    }


def secret_values(compiled: CompiledWorkflow) -> frozenset[str]:
    """Collect the values of all secrets that are set, for whoever has to hide them."""
    variables = {
        variable
        for scope in compiled.expansion.scopes
        for variable in scope.workflow.secrets.values()
    }
    return frozenset(value for name in variables if (value := os.environ.get(name)))


def _run_facts(run: RunScope) -> Mapping[str, object]:
    started = datetime.fromtimestamp(run.started_ns / 1e9, UTC)
    return MappingProxyType(
        {"id": run.run_id, "workflow": run.workflow, "started_at": started.isoformat()}
    )
