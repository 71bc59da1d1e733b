"""The definition of a workflow as frozen values."""

from flowbuilder.model.spec import (
    Parameter,
    Resources,
    Retry,
    Selector,
    Source,
    SourcePath,
    TaskSpec,
    WorkflowSpec,
)

__all__ = [
    "Parameter",
    "Resources",
    "Retry",
    "Selector",
    "Source",
    "SourcePath",
    "TaskSpec",
    "WorkflowSpec",
]
