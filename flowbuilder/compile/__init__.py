"""From a `WorkflowSpec` to an `ExecutionPlan`: check, unfold, optimise, explain.

Names are imported when they are first used, so that reading a compiled workflow costs no compiler.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowbuilder.compile.compiler import compile_workflow, validate_workflow
    from flowbuilder.compile.expand import expand_workflow
    from flowbuilder.compile.expansion import CompiledWorkflow, Expansion
    from flowbuilder.compile.explain import explain_plan

__all__ = [
    "CompiledWorkflow",
    "Expansion",
    "compile_workflow",
    "expand_workflow",
    "explain_plan",
    "validate_workflow",
]

_HOMES = {
    "CompiledWorkflow": "expansion",
    "Expansion": "expansion",
    "compile_workflow": "compiler",
    "expand_workflow": "expand",
    "explain_plan": "explain",
    "validate_workflow": "compiler",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
