"""The border between the scheduler and what a task does: a `Program` per instance, and the context
an attempt gets.

Programs are made by `flowbuilder.tasks.binding` from a plan and its workflow. The scheduler
neither knows task types nor expressions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from flowbuilder.runtime.cancel import CancelToken

__all__ = [
    "NOT_SET",
    "AttemptContext",
    "CachedOutput",
    "InputSlot",
    "Program",
    "RemoteCall",
    "RunScope",
]


class _NotSet:
    __slots__ = ()

    def __repr__(self) -> str:
        return "NOT_SET"


NOT_SET = _NotSet()
"""Stands in the value column where a task has no output yet."""


class RunScope(Protocol):
    """What expressions and inputs may see of a live run."""

    @property
    def run_id(self) -> str:
        """Full run id."""
        ...

    @property
    def workflow(self) -> str:
        """Name of the workflow."""
        ...

    @property
    def params(self) -> Mapping[str, object]:
        """Parameters of this run, checked, defaults filled in."""
        ...

    @property
    def started_ns(self) -> int:
        """Unix nanoseconds of the run's start."""
        ...

    @property
    def scratch(self) -> Path:
        """Folder for spilled output of this run; made on first use by whoever writes."""
        ...

    @property
    def temporary(self) -> Path:
        """Folder for files that are of no use after this process; made by whoever writes."""
        ...

    @property
    def query_bytes(self) -> int:
        """Memory a query may take before it uses files; 0 for no limit."""
        ...

    @property
    def policy(self) -> str:
        """``local`` or ``restricted`` (no private network addresses, no files outside the
        project).
        """
        ...

    @property
    def redact(self) -> Callable[[str], str] | None:
        """Takes secret values out of text; None if the workflow has none."""
        ...

    @property
    def uses_cache(self) -> bool:
        """Whether kept outputs of earlier runs may be used."""
        ...

    def output(self, instance: int) -> object:
        """Give the output of a finished instance as a consumer may have it (shared, but guarded
        against mutation).

        Raises
        ------
        FlowBuilderError
            If the instance did not succeed.
        """
        ...

    def state(self, instance: int) -> str:
        """Give the state of an instance as text."""
        ...

    def note_copy(self, source: int, target: int, size_bytes: int, reason: str) -> None:
        """Remember that data was copied on its way from an instance (-1: several) to another, or
        to itself when its output was made.
        """
        ...


class AttemptContext(msgspec.Struct):
    """One attempt of one instance, as its program sees it."""

    run: RunScope
    instance: int
    attempt: int
    key: str
    cancel: CancelToken
    timeout_s: float | None
    write: Callable[[str, str], None]
    """``write(stream, text)`` appends to the attempt's captured output; streams: stdout, stderr,
    log."""
    captured_stdout: Callable[[], str] = str
    """Gives what the attempt printed so far; empty on executors that cannot tell."""


class RemoteCall(msgspec.Struct, frozen=True):
    """A call another process can make. Tables among the arguments travel as memory-mapped Arrow
    IPC, never pickled.

    Functions of importable modules travel by name, those of ``__main__`` by cloudpickle, once per
    version and worker.
    """

    function: Callable[..., object]
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = msgspec.field(default_factory=dict)
    directory: str = ""
    is_confidential: bool = False
    """Whether arguments and result travel through pipes only, never in files."""
    around: Callable[[Callable[[], object]], object] | None = None
    """Gets a function that makes the call and gives its value; called instead of it, on the thread
    that waits for the worker."""


class CachedOutput(msgspec.Struct, frozen=True):
    """What the body of a cached task gives: the output, and where it comes from."""

    value: object
    key: str
    """Fingerprint; empty if it could not be made."""
    is_hit: bool
    """Whether an earlier output is used."""
    is_kept: bool
    """Whether it is in the cache now."""
    saved_s: float
    why: str
    """Why it ran or did not, in words."""


class InputSlot(msgspec.Struct, frozen=True):
    """An argument that comes from an upstream output: the instance and a path into its value."""

    instance: int
    path: tuple[str | int, ...] = ()


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """How to run one instance. Exactly one of ``call``, ``coroutine`` and ``delay`` is set.

    Parameters
    ----------
    call : callable
        Runs on an inline, thread or (where ``remote`` is None) process executor's thread; returns
        the output.
    coroutine : callable
        Runs on the I/O loop.
    delay : callable
        Gives a time in seconds after which the attempt succeeds with output None; costs no thread
        and no coroutine.
    remote : callable
        Builds the call for a worker process; None if the task cannot leave this process.
    condition : callable
        Evaluates ``when``; may raise.
    function, arguments : callable, sequence
        If set, ``call(context)`` equals ``function(*values)``, and ``coroutine(context)`` awaits
        it, where an `InputSlot` stands for an upstream output and anything else for itself: lets
        executors skip the context.
    code_key : str
        Same for programs whose durations should be averaged together.
    owns_output : bool
        Whether the body reports output through ``context.write`` instead of printing.
    uses_cpu : bool
        Whether a running attempt occupies CPU slots; False for bodies that only wait, such as for
        a child process.
    """

    call: Callable[[AttemptContext], object] | None = None
    coroutine: Callable[[AttemptContext], Awaitable[object]] | None = None
    delay: Callable[[AttemptContext], float] | None = None
    remote: Callable[[AttemptContext], RemoteCall] | None = None
    condition: Callable[[RunScope], bool] | None = None
    function: Callable[..., object] | None = None
    arguments: Sequence[object] = ()
    code_key: str = ""
    owns_output: bool = False
    uses_cpu: bool = True
