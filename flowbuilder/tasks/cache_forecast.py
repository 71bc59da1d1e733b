"""What the cache would spare a run, as far as that can be known without running user code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from flowbuilder.cache.code_walk import NotYetKnownError
from flowbuilder.cache.entry import Entry
from flowbuilder.cache.parts import UncacheableError
from flowbuilder.cache.task_cache import CacheRequest, TaskCache
from flowbuilder.compile.expansion import CompiledWorkflow, FlatTask, Role
from flowbuilder.durations import format_duration
from flowbuilder.errors import FlowBuilderError
from flowbuilder.model import Parameter
from flowbuilder.plugins.catalogue import TaskTypes
from flowbuilder.plugins.decorator import FunctionTaskType
from flowbuilder.plugins.task_type import TaskType
from flowbuilder.runtime.cancel import CancelToken
from flowbuilder.runtime.program import AttemptContext
from flowbuilder.tasks.bound_tasks import BoundTasks
from flowbuilder.tasks.cache_site import CacheSite
from flowbuilder.tasks.cached_tasks import CachedTasks
from flowbuilder.vocabulary import TaskState

__all__ = ["forecast_cache"]

_UNKNOWN = "unknown until it runs"


class _UnknownUntilRunError(Exception):
    """Something only a run can tell."""


def forecast_cache(
    compiled: CompiledWorkflow, registry: TaskTypes, cache: TaskCache | None
) -> Mapping[str, str]:
    """Say for every cached task what the cache would do with it.

    Parameters
    ----------
    compiled : CompiledWorkflow
        The plan; parameters have their defaults.
    registry : TaskTypes
        Task types.
    cache : TaskCache or None
        The store's cache; None if nothing was ever kept.

    Returns
    -------
    mapping of str to str
        Task key -> ``would be skipped: ...``, ``would run: ...`` or ``unknown until it runs: ...``.

    Notes
    -----
    Nothing is imported, run or unpickled: functions, and what depends on their outputs, are
    unknown. Files are hashed unless their hashes are remembered.
    """
    tasks = [compiled.expansion.tasks[index] for index in compiled.order]
    if not any(flat.spec.cache is not None for flat in tasks):
        return {}
    forecaster = _Forecaster(compiled, registry, cache)
    return {
        flat.key: forecaster.judge(instance, flat)
        for instance, flat in enumerate(tasks)
        if flat.spec.cache is not None and flat.role is Role.TASK
    }


class _Forecaster:
    def __init__(
        self, compiled: CompiledWorkflow, registry: TaskTypes, cache: TaskCache | None
    ) -> None:
        self._cache = cache
        self._types: dict[str, TaskType] = {}
        for scope in compiled.expansion.scopes:
            for task in scope.workflow.tasks:
                found = registry.find(task.type)
                if found is not None:
                    self._types[task.type] = found
        self._bound = BoundTasks(compiled, self._types)
        self._run = _ImaginedRun(compiled)
        self._cached = CachedTasks(self._bound, CacheSite(self._open), {})

    def _open(self) -> TaskCache:
        assert self._cache is not None
        return self._cache

    def judge(self, instance: int, flat: FlatTask) -> str:
        cache = self._cache
        if cache is None:
            return "would run: never cached"
        task_type = self._types.get(flat.spec.type)
        if task_type is None or task_type.name == "python":
            return f"{_UNKNOWN}: its function is not imported to plan"
        if isinstance(task_type, FunctionTaskType):
            return f"{_UNKNOWN}: its type's code is not examined to plan"
        try:
            return self._look(cache, instance, flat)
        except (_UnknownUntilRunError, NotYetKnownError) as error:
            return f"{_UNKNOWN}: {_text(error)}"
        except UncacheableError as error:
            return f"would run: not cached: {error.reason}"
        except FlowBuilderError as error:
            return f"{_UNKNOWN}: {error.message}"
        except Exception as error:  # a type's own code met what it did not expect
            return f"{_UNKNOWN}: {type(error).__name__}: {error}"

    def _look(self, cache: TaskCache, instance: int, flat: FlatTask) -> str:
        settings = flat.spec.cache
        assert settings is not None
        context = AttemptContext(
            run=self._run,
            instance=instance,
            attempt=1,
            key=flat.key,
            cancel=CancelToken(),
            timeout_s=None,
            write=lambda _stream, _text: None,
        )
        prepared = self._bound.prepare(instance)
        fingerprint = self._cached.fingerprint(prepared, context, may_import=False)
        entry = cache.peek(fingerprint, settings.ttl_s)
        if entry is not None:
            self._run.found[instance] = lambda: _load(cache, entry)
            age_s = max(0.0, (time.time_ns() - entry.created_ns) / 1e9)
            cost = format_duration(entry.cost_ns / 1e9)
            return f"would be skipped: kept {format_duration(age_s)} ago, saves {cost}"
        request = CacheRequest(
            task=f"{self._run.workflow}/{flat.key}", fingerprint=fingerprint, ttl_s=settings.ttl_s
        )
        return f"would run: {cache.explain_miss(request)}"


def _load(cache: TaskCache, entry: Entry) -> object:
    if entry.artifact is not None and entry.artifact.format == "pickle":
        raise _UnknownUntilRunError("it needs an output that is not unpickled to plan")
    return cache.load(entry)


def _text(error: Exception) -> str:
    if isinstance(error, NotYetKnownError):
        return f"module {str(error)!r} is not imported to plan"
    return str(error)


class _ImaginedRun:
    """A run that would start now, with what is known of it. Implements `RunScope`."""

    run_id = "(the run that would start)"  # no kept output depends on it: ids never repeat
    started_ns = 0
    policy = "local"
    scratch = temporary = Path()
    query_bytes = 0
    redact = None
    uses_cache = True

    def __init__(self, compiled: CompiledWorkflow) -> None:
        self.workflow = compiled.plan.workflow
        self.params: Mapping[str, object] = _Defaults(compiled.expansion.root.params)
        self.found: dict[int, Callable[[], object]] = {}
        self._keys = [task.key for task in compiled.plan.tasks]

    def output(self, instance: int) -> object:
        """Give the output a kept entry holds."""
        load = self.found.get(instance)
        if load is None:
            _refuse(f"it depends on the output of {self._keys[instance]!r}")
        return load()

    def note_copy(self, source: int, target: int, size_bytes: int, reason: str) -> None:
        """Do nothing: nothing runs."""

    def state(self, instance: int) -> str:
        """Give the state a kept entry means."""
        if instance not in self.found:
            _refuse(f"it depends on how {self._keys[instance]!r} ends")
        return TaskState.CACHED.value


class _Defaults(Mapping[str, object]):
    """Parameters, as far as they have defaults."""

    def __init__(self, params: Sequence[Parameter]) -> None:
        self._params = {param.name: param for param in params}

    def __getitem__(self, name: str) -> object:
        param = self._params[name]
        if param.is_required:
            _refuse(f"it depends on parameter {name!r}, which has no default")
        return param.default

    def __iter__(self) -> Iterator[str]:
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)


def _refuse(why: str) -> NoReturn:
    raise _UnknownUntilRunError(why)
