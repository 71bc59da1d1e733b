"""Built-in task types, and how plans are bound to code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from flowbuilder.plugins.registry import Registry

__all__ = ["BUILTIN_TASK_TYPES", "default_registry"]

BUILTIN_TASK_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "http": "flowbuilder.tasks.http:HttpTask",
        "python": "flowbuilder.tasks.python:PythonTask",
        "read": "flowbuilder.tasks.read:ReadTask",
        "script": "flowbuilder.tasks.script:ScriptTask",
        "shell": "flowbuilder.tasks.shell:ShellTask",
        "sleep": "flowbuilder.tasks.sleep:SleepTask",
        "sql": "flowbuilder.tasks.sql:SqlTask",
        "workflow": "flowbuilder.tasks.workflow:WorkflowTask",
        "write": "flowbuilder.tasks.write:WriteTask",
    }
)
"""Name -> ``module:Class``; a module is imported when a workflow first uses its type."""


def default_registry(project: Path | None = None) -> Registry:
    """Make the registry of a process: built-in, of a project directory, installed.

    Parameters
    ----------
    project : Path, optional
        The directory that holds ``.flowbuilder`` and may hold ``plugins``.
    """
    return Registry(BUILTIN_TASK_TYPES, project=project)
