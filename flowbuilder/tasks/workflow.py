"""The task type ``workflow``: its form only, because the compiler unfolds such tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from flowbuilder.plugins.task_type import TaskType
from flowbuilder.vocabulary import Effects

__all__ = ["WorkflowTask"]


class WorkflowTask(TaskType):
    """Runs another workflow inside this one."""

    name = "workflow"
    summary = "Run another workflow, from a file or written inline."
    # Inline tasks are texts of their own scope: their expressions mean inner names.
    raw_fields: ClassVar[frozenset[str]] = frozenset({"tasks"})
    schema: ClassVar[Mapping[str, object]] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "file": {
                "type": "string",
                "title": "File",
                "description": "Path of the workflow, relative to this workflow's folder.",
                "minLength": 1,
            },
            "tasks": {
                "type": "array",
                "title": "Tasks",
                "description": "The tasks themselves, instead of a file.",
                "items": {"type": "object"},
                "minItems": 1,
            },
            "params": {
                "type": "object",
                "title": "Parameters",
                "description": "The inner workflow's parameters; input ports give others.",
                "default": {},
            },
            "output": {
                "type": "string",
                "title": "Output",
                "description": "The inner task whose output is this task's; by default a mapping "
                "with the outputs of all inner tasks that no other inner task uses.",
            },
        },
    }

    def effects(self, config: Mapping[str, object]) -> Effects:
        """Declare none: the inner tasks have their own."""
        del config
        return Effects.NONE
