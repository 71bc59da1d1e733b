"""Every error FlowBuilder raises: one tree, raise the leaf, catch the branch.

A message is one sentence: what was expected, what was found, where, and what to do. The facts in
it are attributes too, so
programs never parse text. All errors pickle, because they cross process boundaries.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

__all__ = [
    "AuthorizationError",
    "ConfigurationError",
    "CycleError",
    "EndpointError",
    "ExecutorError",
    "ExpressionError",
    "FlowBuilderError",
    "InternalError",
    "Location",
    "PluginError",
    "Problem",
    "QueryError",
    "RecoveryError",
    "RunCancelledError",
    "RunError",
    "StorageError",
    "TaskFailedError",
    "TaskTimeoutError",
    "WorkerLostError",
    "WorkflowError",
    "WorkflowSyntaxError",
    "WorkflowValidationError",
]


class Location(msgspec.Struct, frozen=True, order=True):
    """A place in a text a person can open.

    Parameters
    ----------
    file : str
        Path as the user gave it, or ``<string>``.
    line : int
        1-based line.
    column : int
        1-based column, counted in Unicode code points.
    """

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong with a workflow, as ``validate`` reports it.

    Parameters
    ----------
    message : str
        What was expected and what was found.
    location : Location or None
        Where; None for workflows that have no text.
    task : str or None
        Name of the task, if the problem belongs to one.
    field : str
        Dotted path inside the workflow, such as ``tasks[2].retry.delay``.
    hint : str
        What to do, for example ``did you mean 'depends_on'?``; may be empty.
    code : str
        Stable identifier for programs, such as ``unknown-field``.
    severity : str
        ``error`` or ``warning``. Warnings never stop a run.
    """

    message: str
    location: Location | None = None
    task: str | None = None
    field: str = ""
    hint: str = ""
    code: str = "invalid"
    severity: str = "error"

    def __str__(self) -> str:
        where = f"{self.location}: " if self.location else ""
        kind = "warning: " if self.severity == "warning" else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{kind}{self.message}{hint}"


class FlowBuilderError(Exception):
    """Base of every error raised on purpose.

    Parameters
    ----------
    message : str
        The sentence without its place.
    location : Location, optional
        Where in the user's text.
    task : str, optional
        Task the error belongs to.
    hint : str, optional
        What to do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        location: Location | None = None,
        task: str | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.task = task
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.location}: " if self.location else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{hint}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(
    cls: type[FlowBuilderError], args: tuple[object, ...], state: dict[str, object]
) -> FlowBuilderError:
    # Subclasses may want more arguments than `args` holds, so the instance is restored, not
    # constructed.
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(FlowBuilderError):
    """A setting is wrong: the user's configuration, environment variable or argument."""


class WorkflowError(FlowBuilderError):
    """The workflow as written is wrong: the author's to fix."""


class WorkflowSyntaxError(WorkflowError):
    """The text is not the YAML we accept (syntax, encoding, size or nesting limits)."""


class WorkflowValidationError(WorkflowError):
    """The text is YAML but not a workflow; carries every problem found.

    Parameters
    ----------
    problems : sequence of Problem
        All of them, in the order of the text; at least one has severity ``error``.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CycleError(WorkflowError):
    """Tasks wait for each other; ``cycle`` names one such round, first task repeated at the end."""

    def __init__(self, cycle: Sequence[str], *, location: Location | None = None) -> None:
        self.cycle = tuple(cycle)
        shown = self.cycle if len(self.cycle) <= 12 else (*self.cycle[:6], "...", *self.cycle[-5:])
        super().__init__(
            "tasks wait for each other in a circle: " + " -> ".join(shown),
            location=location,
            task=self.cycle[0],
            hint="remove one of these dependencies",
        )


class ExpressionError(WorkflowError):
    """A ``${{ }}`` or ``when:`` expression is malformed, too large, or failed to evaluate."""


class PluginError(FlowBuilderError):
    """A task type is unknown, not trusted, or broken: the plugin author's or the installer's to
    fix.
    """


class RunError(FlowBuilderError):
    """A run did not succeed."""


class TaskFailedError(RunError):
    """A task's own code raised, or its command failed; ``__cause__`` is the original where there
    is one.
    """

    def __init__(
        self,
        message: str,
        *,
        location: Location | None = None,
        task: str | None = None,
        hint: str = "",
        traceback: str = "",
        run_id: str = "",
        error_type: str = "",
    ) -> None:
        super().__init__(message, location=location, task=task, hint=hint)
        self.traceback = traceback
        self.run_id = run_id
        self.error_type = error_type


class TaskTimeoutError(RunError):
    """A task or a run took longer than its ``timeout``."""


class RunCancelledError(RunError):
    """The run, or the task, was cancelled."""


class RecoveryError(RunError):
    """A run cannot be resumed as asked: its owner lives, or its records do not allow it."""


class ExecutorError(FlowBuilderError):
    """Running tasks somewhere failed for a reason other than the task."""


class WorkerLostError(ExecutorError):
    """A worker process died under a task (segmentation fault, out of memory, ``os._exit``)."""


class StorageError(FlowBuilderError):
    """The journal or an artifact could not be read or written."""


class QueryError(FlowBuilderError):
    """A question to the store was no question, wrong, or reached outside; correct it."""


class EndpointError(FlowBuilderError):
    """A live engine could not be reached or refused a request."""


class AuthorizationError(FlowBuilderError):
    """The caller may not do this, or a policy forbids it."""


class InternalError(FlowBuilderError):
    """A bug of ours; please report it with the message."""
