"""FlowBuilder: Jupyter-native workflows. One file, no server, nothing copied, every run recorded.

Names are resolved on first use, so that ``import flowbuilder`` costs next to nothing.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from flowbuilder._version import __version__

if TYPE_CHECKING:
    from flowbuilder.api.caching import cache_stats, clear_cache
    from flowbuilder.api.datasets import store
    from flowbuilder.api.loading import from_yaml, load, loads
    from flowbuilder.api.maintenance import backup_store, check_store
    from flowbuilder.api.querying import compare, prune_runs, search, sql
    from flowbuilder.api.run import Run, TaskRun
    from flowbuilder.api.runs import last_run, resume, run, runs
    from flowbuilder.api.settings import configure
    from flowbuilder.api.task_function import Task, task
    from flowbuilder.api.tracing import add, expr, foreach, when
    from flowbuilder.api.workflow import Workflow
    from flowbuilder.api.workflow_function import WorkflowFunction, workflow
    from flowbuilder.errors import FlowBuilderError, Location, Problem
    from flowbuilder.plugins.decorator import task_type
    from flowbuilder.plugins.task_type import Finding, TaskCall, TaskType
    from flowbuilder.store.table_scan import TableScan

__all__ = [
    "Finding",
    "FlowBuilderError",
    "Location",
    "Problem",
    "Run",
    "TableScan",
    "Task",
    "TaskCall",
    "TaskRun",
    "TaskType",
    "Workflow",
    "WorkflowFunction",
    "__version__",
    "add",
    "backup_store",
    "cache_stats",
    "check_store",
    "clear_cache",
    "compare",
    "configure",
    "expr",
    "foreach",
    "from_yaml",
    "last_run",
    "load",
    "loads",
    "prune_runs",
    "resume",
    "run",
    "runs",
    "search",
    "sql",
    "store",
    "task",
    "task_type",
    "when",
    "workflow",
]

_HOMES = {
    "Finding": "flowbuilder.plugins.task_type",
    "FlowBuilderError": "flowbuilder.errors",
    "Location": "flowbuilder.errors",
    "Problem": "flowbuilder.errors",
    "Run": "flowbuilder.api.run",
    "TableScan": "flowbuilder.store.table_scan",
    "Task": "flowbuilder.api.task_function",
    "TaskCall": "flowbuilder.plugins.task_type",
    "TaskRun": "flowbuilder.api.run",
    "TaskType": "flowbuilder.plugins.task_type",
    "Workflow": "flowbuilder.api.workflow",
    "WorkflowFunction": "flowbuilder.api.workflow_function",
    "add": "flowbuilder.api.tracing",
    "backup_store": "flowbuilder.api.maintenance",
    "check_store": "flowbuilder.api.maintenance",
    "cache_stats": "flowbuilder.api.caching",
    "clear_cache": "flowbuilder.api.caching",
    "compare": "flowbuilder.api.querying",
    "configure": "flowbuilder.api.settings",
    "expr": "flowbuilder.api.tracing",
    "foreach": "flowbuilder.api.tracing",
    "from_yaml": "flowbuilder.api.loading",
    "last_run": "flowbuilder.api.runs",
    "load": "flowbuilder.api.loading",
    "loads": "flowbuilder.api.loading",
    "prune_runs": "flowbuilder.api.querying",
    "resume": "flowbuilder.api.runs",
    "run": "flowbuilder.api.runs",
    "runs": "flowbuilder.api.runs",
    "search": "flowbuilder.api.querying",
    "sql": "flowbuilder.api.querying",
    "task": "flowbuilder.api.task_function",
    "task_type": "flowbuilder.plugins.decorator",
    "when": "flowbuilder.api.tracing",
    "workflow": "flowbuilder.api.workflow_function",
}


class _StorePackage(ModuleType):
    """``flowbuilder.store`` is a package, and ``fb.store()`` gives the project's datasets."""

    def __call__(self, *args: object, **options: object) -> object:
        from flowbuilder.api.datasets import store as open_store

        return open_store(*args, **options)  # type: ignore[arg-type]


class _Package(ModuleType):
    """Makes the subpackage callable whoever imports it first."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "store" and isinstance(value, ModuleType):
            value.__class__ = _StorePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name == "store":
        from importlib import import_module

        return import_module("flowbuilder.store")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'flowbuilder' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
