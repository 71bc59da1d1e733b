"""A workflow with its sub-workflows unfolded: a flat list of tasks, and the scopes in which their
names and parameters are looked up.

A task of type ``workflow`` becomes an *enter* task (evaluates ``when`` and the inner parameters;
its output is the inner parameter
mapping), the inner tasks, and a *leave* task that carries the outer task's key and collects the
inner outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from flowbuilder.model import TaskSpec, WorkflowSpec
from flowbuilder.runtime.plan import ExecutionPlan

__all__ = ["CompiledWorkflow", "Edge", "EdgeKind", "Expansion", "FlatTask", "Role", "Scope"]


class Role(StrEnum):
    """What a flat task is for."""

    TASK = "task"
    ENTER = "enter"
    LEAVE = "leave"


class EdgeKind(StrEnum):
    """Why one task waits for another; of several reasons the strongest (first listed) is kept."""

    DATA = "data"
    """``inputs:``"""
    ORDER = "order"
    """``depends_on:``"""
    IMPLIED = "implied"
    """An expression or the task type's own text mentions it."""


class Edge(msgspec.Struct, frozen=True):
    """``parent`` (index of a flat task) must be final before its owner starts."""

    parent: int
    kind: EdgeKind


class FlatTask(msgspec.Struct, frozen=True, kw_only=True):
    """One task of the unfolded workflow. ``spec`` is the author's task; for enter and leave the
    outer ``workflow`` task.
    """

    key: str
    """``outer/inner``; the enter task of ``outer`` is ``outer/(enter)``, the leave task
    ``outer``."""
    spec: TaskSpec
    scope: int
    """Index of the scope in which the spec's names are meant (for enter and leave: the outer
    one)."""
    edges: tuple[Edge, ...] = ()
    role: Role = Role.TASK
    inner_scope: int = -1
    """For enter and leave: the scope they open and close."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """One workflow text in the unfolded whole; scope 0 is the root."""

    index: int
    parent: int
    prefix: str
    """``""`` for the root, else ``outer/``."""
    workflow: WorkflowSpec
    enter: int
    """Flat index of the enter task whose output holds this scope's parameters; -1 for the root
    (run parameters)."""
    members: Mapping[str, int]
    """Task name -> flat index of the task that has its output (the leave task for
    sub-workflows)."""


class Expansion(msgspec.Struct, frozen=True, kw_only=True):
    """The unfolded workflow."""

    root: WorkflowSpec
    tasks: tuple[FlatTask, ...]
    scopes: tuple[Scope, ...]


class CompiledWorkflow(msgspec.Struct, frozen=True, kw_only=True):
    """The plan together with what it was made from; task programs are bound from it."""

    plan: ExecutionPlan
    expansion: Expansion
    order: tuple[int, ...]
    """Instance -> flat index."""
    instances: tuple[int, ...]
    """Flat index -> instance, or -1 if the task was eliminated."""
