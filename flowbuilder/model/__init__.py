"""The definition of a workflow as frozen values."""

from flowbuilder.model.spec import (
    Cache,
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
    "Cache",
    "Parameter",
    "Resources",
    "Retry",
    "Selector",
    "Source",
    "SourcePath",
    "TaskSpec",
    "WorkflowSpec",
]
