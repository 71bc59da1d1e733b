"""The contract of a task type: what ``type:`` names in a workflow. Subclass `TaskType`, or
decorate a function with `task_type`.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import msgspec

from flowbuilder.cache.subject import Subject
from flowbuilder.errors import Location
from flowbuilder.model import Cache
from flowbuilder.runtime.cancel import CancelToken
from flowbuilder.runtime.program import RemoteCall
from flowbuilder.vocabulary import Effects, ExecutorKind

__all__ = ["Finding", "TaskCall", "TaskType"]


class Finding(msgspec.Struct, frozen=True):
    """Something a task type's own check found in a config.

    Parameters
    ----------
    message : str
        What was expected and what was found.
    path : tuple
        Keys below ``config``, such as ``("code",)``.
    line : int or None
        1-based line inside the multi-line text at ``path``.
    hint : str
        What to do.
    severity : str
        ``error`` or ``warning``.
    """

    message: str
    path: tuple[str | int, ...] = ()
    line: int | None = None
    hint: str = ""
    severity: str = "error"


def _system_temporary() -> Path:
    import tempfile

    return Path(tempfile.gettempdir())


class TaskCall(msgspec.Struct, kw_only=True):
    """Everything one attempt may use.

    Parameters
    ----------
    config : mapping
        The task's config, every ``${{ }}`` replaced by its value, checked against the type's
        schema, defaults filled in.
    inputs : mapping
        Upstream outputs by port name (``inputs:``). Shared with other tasks: never mutate them.
    upstream : mapping
        Outputs of all tasks this one waits for and that succeeded, by task name.
    env : mapping
        Extra environment variables of the task (``env:``).
    directory : Path
        Where relative paths start: the folder of the workflow file.
    scratch : Path
        Folder for large captured output; make it before use.
    temporary : Path
        Folder for files that are of no use after this process; make it before use. What a killed
        process leaves there is removed when the next one starts.
    memory_bytes : int
        About what a query may take in memory before it uses ``temporary``; 0 for no limit.
    policy : str
        ``local`` or ``restricted``.
    cancel : CancelToken
        Stop soon when it is set; a subprocess or a connection should be closed from
        ``cancel.on_cancel``.
    timeout_s : float or None
        Time allowed for this attempt; the engine enforces it through ``cancel`` as well.
    write : callable
        ``write(stream, text)`` appends to the captured output (stdout, stderr, log).
    locate : callable
        ``locate(("code",), 3)`` gives the place in the workflow file of line 3 of a config text,
        or None.
    input_data : callable
        Gives the output of the only task this one waits for, as a script wants it (see
        `TaskType.as_input_data`); None if there
        is none, or more than one.
    is_confidential : bool
        Whether the task makes or reads an encrypted output: nothing of it may be written to files.
    note_copy : callable
        ``note_copy(name, size_bytes, reason)`` says that data of an input or upstream task had to
        be copied; an empty name means the task's own output.
    captured_stdout : callable
        Gives what this attempt has printed so far, where output is captured by routing.
    """

    name: str
    key: str
    run_id: str
    attempt: int
    config: Mapping[str, object]
    inputs: Mapping[str, object] = msgspec.field(default_factory=dict)
    upstream: Mapping[str, object] = msgspec.field(default_factory=dict)
    params: Mapping[str, object] = msgspec.field(default_factory=dict)
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    secrets: Mapping[str, str] = msgspec.field(default_factory=dict)
    directory: Path = msgspec.field(default_factory=Path.cwd)
    scratch: Path = msgspec.field(default_factory=Path.cwd)
    temporary: Path = msgspec.field(default_factory=_system_temporary)
    memory_bytes: int = 0
    policy: str = "local"
    cancel: CancelToken = msgspec.field(default_factory=CancelToken)
    timeout_s: float | None = None
    is_confidential: bool = False
    write: Callable[[str, str], None] = lambda _stream, _text: None
    locate: Callable[[tuple[str | int, ...], int], Location | None] = lambda _path, _line: None
    input_data: Callable[[], object] = lambda: None
    note_copy: Callable[[str, int, str], None] = lambda _name, _size_bytes, _reason: None
    captured_stdout: Callable[[], str] = lambda: ""


class TaskType(ABC):
    """A kind of task. Instances are stateless and shared between threads.

    A type defines either ``run`` (blocking; a thread or the driver calls it) or ``run_async`` (the
    I/O loop awaits it).
    Importing the module of a type must be cheap; heavy libraries belong inside ``run``.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    schema: ClassVar[Mapping[str, object]] = {"type": "object"}
    """JSON Schema (2020-12) of ``config``. ``default`` keywords are applied before ``run``."""
    executor: ClassVar[ExecutorKind] = ExecutorKind.AUTO
    raw_fields: ClassVar[frozenset[str]] = frozenset()
    """Config fields that are passed as written: no ``${{ }}`` inside (code in another language)."""
    shell_fields: ClassVar[frozenset[str]] = frozenset()
    """Config texts a shell will read: a ``${{ }}`` inside becomes a reference to an environment
    variable that holds the value."""
    is_async: ClassVar[bool] = False
    writes_own_output: ClassVar[bool] = False
    """Whether the body reports output through ``call.write`` instead of printing."""

    only_waits: ClassVar[bool] = False
    """Whether the body occupies no CPU of this process while it runs, because it waits for another
    one."""

    def effects(self, config: Mapping[str, object]) -> Effects:
        """Say what running such a task twice does to the outside world; the author can override
        it.
        """
        del config
        return Effects.IDEMPOTENT

    def check(self, config: Mapping[str, object], directory: Path) -> Iterable[Finding]:
        """Find mistakes the schema cannot see. Must not run or import user code, nor take more
        than milliseconds.
        """
        del config, directory
        return ()

    def check_inputs(
        self, config: Mapping[str, object], ports: Collection[str], directory: Path
    ) -> Iterable[Finding]:
        """Find mistakes that show only with the names of the input ports. The same limits as for
        `check`.
        """
        del config, ports, directory
        return ()

    def references(self, config: Mapping[str, object], tasks: Collection[str]) -> Iterable[str]:
        """Name those of ``tasks`` that the config mentions outside ``${{ }}`` and therefore
        depends on.
        """
        del config, tasks
        return ()

    def run(self, call: TaskCall) -> object:
        """Do the work and return the output."""
        raise NotImplementedError

    async def run_async(self, call: TaskCall) -> object:
        """Do the work on the I/O loop and return the output."""
        raise NotImplementedError

    def as_input_data(self, output: object) -> object:
        """Give what a script that waits only for such a task sees as ``input_data``: the text,
        where the output wraps one.
        """
        return output

    def cache_refusal(self, config: Mapping[str, object], cache: Cache) -> tuple[str, str] | None:
        """Say why outputs for such a config cannot be used again, and what the author can do; None
        if they can. Types that do not define `cache_subject` refuse.
        """
        del config, cache
        if type(self).cache_subject is not TaskType.cache_subject:
            return None
        return f"type {self.name!r} does not say what decides its output", "remove 'cache'"

    def cache_subject(self, call: TaskCall) -> Subject:
        """Say what decides the output of an attempt, beside the files and variables the author
        names. Runs where the attempt runs, before it.
        """
        raise NotImplementedError

    def can_leave(self, config: Mapping[str, object]) -> bool:
        """Whether a task with this config can run in a worker process, so that `remote` describes
        it.
        """
        del config
        return type(self).remote is not TaskType.remote

    def remote(self, call: TaskCall) -> RemoteCall | None:
        """Describe the work for a worker process; None if it must stay in this one."""
        del call
        return None
