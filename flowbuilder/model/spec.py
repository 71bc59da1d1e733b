"""What the author wrote, frozen: a workflow, its tasks and their settings, defaults applied,
durations in seconds.

These are plain values without behaviour. YAML (`flowbuilder.definition`), the decorators
(`flowbuilder.api`) and the canvas all produce
them; `flowbuilder.compile` turns them into an execution plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from flowbuilder.errors import Location
from flowbuilder.vocabulary import Backoff, Durability, Effects, ExecutorKind, JoinRule, Persist

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

SourcePath = tuple[str | int, ...]
"""Keys and indices from the root of the text, such as ``("tasks", 2, "config", "code")``."""


class Source(Protocol):
    """The text a workflow came from, able to say where a field stands."""

    @property
    def file(self) -> str:
        """Path as the user gave it, or ``<string>``; for Python workflows the module's file."""
        ...

    @property
    def text(self) -> str:
        """The whole text."""
        ...

    def locate(self, path: SourcePath) -> Location | None:
        """Find a field; the nearest enclosing one if it is not written out. None if there is no
        text.
        """
        ...

    def locate_line(self, path: SourcePath, line: int) -> Location | None:
        """Find line ``line`` (1-based) of the multi-line text at ``path``."""
        ...


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often and when a failed attempt is repeated. Delays are in seconds; ``jitter`` is a
    share of the delay, 0 to 1.
    """

    max_attempts: int = 1
    backoff: Backoff = Backoff.EXPONENTIAL
    delay_s: float = 1.0
    max_delay_s: float = 300.0
    jitter: float = 0.1
    on: tuple[str, ...] = ()
    """Exception class names, or ``error`` / ``timeout`` / ``lost``; empty means any failure."""


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What a task occupies while it runs: CPU slots of this machine, bytes of memory."""

    cpu: int = 1
    memory_bytes: int = 0


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """That an earlier output for the same input is used again, and what counts as the same."""

    ttl_s: float | None = None
    """Oldest output that is used, in seconds; None for any."""
    files: tuple[str, ...] | None = None
    """Files the task reads without saying so; None if the author did not say whether there are
    any."""
    env: tuple[str, ...] = ()
    """Environment variables the output depends on."""
    version: str = ""
    """The author's own version; another one forgets what was kept."""


class Selector(msgspec.Struct, frozen=True):
    """An input's origin: an upstream task and a path into its output (``fetch_data.body``)."""

    task: str
    path: tuple[str | int, ...] = ()

    def __str__(self) -> str:
        return ".".join([self.task, *map(str, self.path)])


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A run-time parameter. ``schema`` is JSON Schema; type ``table`` stands for a dataframe bound
    at launch.
    """

    name: str
    schema: Mapping[str, object] = {}
    is_required: bool = True
    default: object = None

    @property
    def is_table(self) -> bool:
        """Whether the value is a table, which JSON Schema cannot describe."""
        return self.schema.get("type") == "table"


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of a workflow. ``config`` belongs to the task type and may hold ``${{ }}``
    templates.
    """

    name: str
    type: str
    config: Mapping[str, object] = {}
    depends_on: tuple[str, ...] = ()
    inputs: Mapping[str, Selector] = {}
    when: str | None = None
    """A bare expression, without ``${{ }}``."""
    join: JoinRule = JoinRule.ALL_SUCCESS
    retry: Retry = Retry()
    timeout_s: float | None = None
    executor: ExecutorKind = ExecutorKind.AUTO
    effects: Effects | None = None
    """None: the task type decides."""
    persist: Persist = Persist.AUTO
    encrypt: bool = False
    """Whether the output is kept on disk only encrypted, and nothing of it is recorded."""
    cache: Cache | None = None
    """None: every run computes it."""
    resources: Resources = Resources()
    pool: str | None = None
    priority: int = 0
    env: Mapping[str, str] = {}
    title: str = ""
    note: str = ""
    group: str = ""
    path: SourcePath = ()
    """Where in the source the task stands."""


class WorkflowSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A whole workflow. Everything but ``version``, texts, ``layout`` and ``source`` takes part in
    the fingerprint.
    """

    name: str
    tasks: tuple[TaskSpec, ...]
    version: str = ""
    title: str = ""
    description: str = ""
    note: str = ""
    params: tuple[Parameter, ...] = ()
    env: Mapping[str, str | None] = {}
    """Environment variables expressions may read, with defaults; None means it must be set."""
    secrets: Mapping[str, str] = {}
    """Secret name -> environment variable that holds it."""
    durability: Durability = Durability.RUN
    timeout_s: float | None = None
    layout: Mapping[str, object] = {}
    directory: str = ""
    """Where relative paths of the workflow start: the folder of its file, or the working
    directory."""
    source: Source | None = None
