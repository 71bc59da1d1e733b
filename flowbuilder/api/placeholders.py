"""What stands for parameters and outputs while a workflow function is traced.

A placeholder can be passed to tasks and narrowed (``x.field``, ``x['k']``). Anything that would
need its value raises an error that
names the alternative, because there is no value yet.
"""

from __future__ import annotations

import json
from typing import NoReturn, Self

from flowbuilder.errors import WorkflowError

__all__ = ["Expression", "OutputRef", "ParameterRef", "Placeholder"]

_ADVICE = {
    "bool": "use fb.when('...') around the tasks that depend on it",
    "len": "compute it in a task",
    "iter": "pass the whole value to a task",
    "compare": "use fb.when('...') or compute it in a task",
    "arithmetic": "use fb.expr('...') or compute it in a task",
    "call": "call methods inside a task",
    "await": "leave await out: calling a task, async or not, records it",
    "change": "change a copy inside a task, and return it",
}


_RESERVED = frozenset(
    {"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in"}
    | {"let", "loop", "namespace", "null", "package", "return", "true", "var", "void", "while"}
)
"""Words an expression cannot have after a dot."""


def _spell(step: str | int) -> str:
    """Write a step of a path as a person would: ``.name``, ``["odd name"]`` or ``[0]``."""
    if isinstance(step, str) and step.isidentifier() and step.isascii() and step not in _RESERVED:
        return f".{step}"
    return f"[{json.dumps(step, ensure_ascii=False)}]"


class Placeholder:
    """A value that exists only when the workflow runs."""

    __slots__ = ("_expression",)

    def __init__(self, expression: str) -> None:
        object.__setattr__(self, "_expression", expression)

    def _narrow(self, suffix: str, _step: str | int) -> Placeholder:
        return type(self)(self._expression + suffix)

    def __getattr__(self, name: str) -> Placeholder:
        if name.startswith("_"):
            # Python and libraries ask for such names to find out what an object can do.
            raise AttributeError(f"{name!r} of a placeholder is written [{name!r}]")
        return self._narrow(_spell(name), name)

    def __getitem__(self, key: str | int) -> Placeholder:
        if isinstance(key, bool) or not isinstance(key, str | int):
            self._refuse("arithmetic", f"index {key!r}")
        return self._narrow(_spell(key), key)

    def __repr__(self) -> str:
        return f"<{self._expression}, known only when the workflow runs>"

    def _refuse(self, kind: str, what: str) -> NoReturn:
        raise WorkflowError(
            f"expected a value for {what}, found the placeholder {self._expression},"
            " known only when the workflow runs",
            hint=_ADVICE[kind],
        )

    def __bool__(self) -> bool:  # noqa: PLE0304 - never returns
        self._refuse("bool", "a condition")

    def __len__(self) -> int:  # noqa: PLE0303 - never returns
        self._refuse("len", "len()")

    def __iter__(self) -> NoReturn:
        self._refuse("iter", "a loop")

    def __contains__(self, _item: object) -> bool:
        self._refuse("compare", "'in'")

    def __eq__(self, _other: object) -> bool:
        self._refuse("compare", "a comparison")

    __lt__ = __le__ = __gt__ = __ge__ = __ne__ = __eq__
    __hash__ = object.__hash__

    def __add__(self, _other: object) -> NoReturn:
        self._refuse("arithmetic", "arithmetic")

    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __add__
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = __rdivmod__ = __add__
    __pow__ = __rpow__ = __matmul__ = __rmatmul__ = __add__
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __add__
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = __add__

    def __neg__(self) -> NoReturn:
        self._refuse("arithmetic", "arithmetic")

    __pos__ = __abs__ = __invert__ = __round__ = __trunc__ = __floor__ = __ceil__ = __neg__

    def __int__(self) -> int:
        self._refuse("arithmetic", "a number")

    def __float__(self) -> float:
        self._refuse("arithmetic", "a number")

    def __complex__(self) -> complex:
        self._refuse("arithmetic", "a number")

    def __index__(self) -> int:  # noqa: PLE0305 - never returns
        self._refuse("arithmetic", "an index")

    def __next__(self) -> NoReturn:
        self._refuse("iter", "a loop")

    def __await__(self) -> NoReturn:
        self._refuse("await", "await")

    def __setattr__(self, name: str, _value: object) -> None:
        self._refuse("change", f"a change of .{name}")

    def __delattr__(self, name: str) -> None:
        self._refuse("change", f"a change of .{name}")

    def __setitem__(self, key: object, _value: object) -> NoReturn:
        self._refuse("change", f"a change of [{key!r}]")

    def __delitem__(self, key: object) -> NoReturn:
        self._refuse("change", f"a change of [{key!r}]")

    def __enter__(self) -> NoReturn:
        self._refuse("call", "a with block")

    def __exit__(self, *_exception: object) -> None:
        """Never reached."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __call__(self, *_args: object, **_kwargs: object) -> NoReturn:
        """Refuse: a value that does not exist yet has no methods."""
        self._refuse("call", "a call")

    def __format__(self, _spec: str) -> str:
        self._refuse("arithmetic", "text formatting")

    def __str__(self) -> str:  # noqa: PLE0307 - never returns
        self._refuse("arithmetic", "str()")


class ParameterRef(Placeholder):
    """Stands for ``params.x`` or a part of it."""

    __slots__ = ()


class Expression(Placeholder):
    """A CEL expression given by the author with ``fb.expr``."""

    __slots__ = ()


class OutputRef(Placeholder):
    """Stands for a task's output or a part of it."""

    __slots__ = ("_path", "_task")

    _path: tuple[str | int, ...]
    _task: str

    def __init__(self, task: str, path: tuple[str | int, ...] = ()) -> None:
        steps = "".join(map(_spell, path))
        super().__init__(f"tasks{_spell(task)}.output{steps}")
        object.__setattr__(self, "_task", task)
        object.__setattr__(self, "_path", path)

    def _narrow(self, _suffix: str, step: str | int) -> Placeholder:
        return OutputRef(self._task, (*self._path, step))
