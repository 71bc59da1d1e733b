"""Recording a workflow function: task calls become tasks, placeholders become inputs and
expressions.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from flowbuilder.api.placeholders import Expression, OutputRef, Placeholder
from flowbuilder.errors import WorkflowError
from flowbuilder.model import Selector, TaskSpec

__all__ = ["Trace", "add", "current_trace", "expr", "foreach", "when"]

_active = threading.local()


class Trace:
    """What a workflow function did so far."""

    def __init__(self) -> None:
        self.tasks: list[TaskSpec] = []
        self.functions: dict[str, Callable[..., object]] = {}
        self.lines: list[int] = []
        self._names: dict[str, int] = {}
        self._conditions: list[str] = []

    def free_name(self, wanted: str) -> str:
        """Give ``wanted``, or ``wanted_2`` and so on if it is taken."""
        name = wanted
        while name in self._names:
            self._names[wanted] += 1
            name = f"{wanted}_{self._names[wanted]}"
        self._names[name] = 1
        return name

    @contextlib.contextmanager
    def condition(self, text: str) -> Iterator[None]:
        """Give every task recorded inside the condition; nested ones are joined by ``&&``."""
        self._conditions.append(text)
        try:
            yield
        finally:
            self._conditions.pop()

    def condition_for(self, own: str | None) -> str | None:
        """Join the surrounding conditions and a task's own."""
        texts = [*self._conditions, *([own] if own else [])]
        if len(texts) < 2:
            return texts[0] if texts else None
        return " && ".join(f"({text})" for text in texts)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Make this the trace that task calls on this thread go to."""
        outer = getattr(_active, "trace", None)
        _active.trace = self
        try:
            yield
        finally:
            _active.trace = outer


def current_trace() -> Trace | None:
    """Give the trace of the workflow function being traced on this thread, or None."""
    trace: Trace | None = getattr(_active, "trace", None)
    return trace


def expr(text: str) -> Any:
    """Write a CEL expression to pass to a task, for example ``fb.expr("params.limit * 2")``.

    Parameters
    ----------
    text : str
        Without ``${{ }}``; may use ``params``, ``tasks``, ``run``, ``env``, ``secrets``.

    Raises
    ------
    ExpressionError
        If it does not parse.
    """
    from flowbuilder.expressions import parse_expression

    parse_expression(text)
    return Expression(text)


@contextlib.contextmanager
def when(condition: str) -> Iterator[None]:
    """Run the tasks called inside only if a condition holds: ``with fb.when("params.full"): ...``.

    Raises
    ------
    WorkflowError
        If used outside a workflow function.
    ExpressionError
        If the condition does not parse.
    """
    trace = _require_trace("fb.when")
    expr(condition)
    with trace.condition(condition):
        yield


def foreach(*_args: object, **_kwargs: object) -> NoReturn:
    """Map a task over items. Not supported yet.

    Raises
    ------
    WorkflowError
        Always, in this version.
    """
    raise WorkflowError(
        "'foreach' is not supported yet", hint="loop inside a task, or write one task per item"
    )


def add(
    type: str,  # noqa: A002 - the field's name in a workflow file
    name: str = "",
    *,
    config: Mapping[str, object] | None = None,
    inputs: Mapping[str, object] | None = None,
    depends_on: Sequence[object] = (),
    **fields: Any,
) -> Any:
    """Record a task of any type inside a workflow function: ``fb.add("sql", "by_hour",
    config={"query": ...}, inputs={"f": flights})``.

    Parameters
    ----------
    type : str
        Task type, such as ``sql`` or ``shell``.
    name : str
        Task name; the type's name if empty.
    config : mapping
        Its config; placeholders may stand anywhere in it.
    inputs : mapping
        Port name -> output of another task.
    depends_on : sequence
        Outputs of tasks to wait for.
    **fields
        Any other field of a task as it would stand in a file: ``retry``, ``timeout``, ``when``, ...

    Returns
    -------
    OutputRef
        Stands for the task's output.

    Raises
    ------
    WorkflowError
        If used outside a workflow function, or a field is not valid.
    """
    from flowbuilder.api.building import read_task

    trace = _require_trace("fb.add")
    given = {key: to_config(value) for key, value in (config or {}).items()}
    origins = {port: to_selector(value) for port, value in (inputs or {}).items()}
    needs = tuple(to_selector(value).task for value in depends_on)
    entry = {"name": name or type, "type": type, **fields}
    if given:
        entry["config"] = given
    spec = read_task(entry, len(trace.tasks))
    spec = msgspec.structs.replace(
        spec,
        name=trace.free_name(spec.name),
        inputs=origins,
        depends_on=needs,
        when=trace.condition_for(spec.when),
    )
    trace.tasks.append(spec)
    return OutputRef(spec.name)


def to_selector(value: object) -> Selector:
    """Turn a task's output into an input's origin.

    Raises
    ------
    WorkflowError
        If it is something else.
    """
    if isinstance(value, OutputRef):
        return Selector(value._task, value._path)  # noqa: SLF001
    raise WorkflowError(
        f"expected the output of a task, found {value!r}", hint="pass what calling a task returned"
    )


def to_config(value: object) -> object:
    """Turn a value with placeholders inside into what a workflow file would hold.

    Raises
    ------
    WorkflowError
        If a constant cannot be written in YAML.
    """
    if isinstance(value, Placeholder):
        return f"${{{{ {value._expression} }}}}"  # noqa: SLF001
    if isinstance(value, str):
        return value.replace("${{", "$${{")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: to_config(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        return [to_config(item) for item in value]
    raise WorkflowError(
        f"expected a constant that can be written in YAML, found a value of type"
        f" {type(value).__name__}",
        hint="make it a parameter, or build it inside a task",
    )


def _require_trace(what: str) -> Trace:
    trace = current_trace()
    if trace is None:
        raise WorkflowError(
            f"expected {what} inside a function decorated with @fb.workflow, found it outside"
        )
    return trace
