"""How one run differs from what its workflow says."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from flowbuilder.errors import FlowBuilderError
from flowbuilder.vocabulary import Durability, ExecutorKind

__all__ = ["Names", "RunRequest", "parse_durability", "parse_executor"]

Names = str | Iterable[str] | None


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How to run a workflow, apart from its parameters.

    Parameters
    ----------
    to, from_, only : str or iterable of str, optional
        Which tasks: these and what they need; these and what needs them; just these.
    executor : str, optional
        Where tasks run whose author left it open.
    durability : str, optional
        Instead of the workflow's own.
    base_run : str, optional
        For ``from_`` and ``only``: the run whose outputs stand in for the tasks left out; the
        newest that has them by default.
    cache : bool
        Whether kept outputs may be used; without, cached tasks run, and their outputs are kept.
    echo : bool
        Whether printed output also goes where it would have gone.
    keeps_all : bool
        Whether every output can be asked for afterwards; otherwise only those of the run itself,
        and others may be dropped when memory is short and no task needs them any more.
    """

    to: Names = None
    from_: Names = None
    only: Names = None
    executor: str | None = None
    durability: str | None = None
    base_run: str | None = None
    cache: bool = True
    echo: bool = True
    keeps_all: bool = True

    @property
    def selection_key(self) -> object:
        """The same for requests that need the same plan."""
        if self.to is None and self.from_ is None and self.only is None:
            return self.executor
        return (_key(self.to), _key(self.from_), _key(self.only), self.executor)


def _key(names: Names) -> object:
    return names if names is None or isinstance(names, str) else tuple(sorted(names))


def parse_executor(value: str | None) -> ExecutorKind | None:
    """Read an executor's name.

    Raises
    ------
    FlowBuilderError
        If there is no such executor, or it is not supported yet.
    """
    if value is None:
        return None
    known = [
        kind.value for kind in ExecutorKind if kind not in {ExecutorKind.NATIVE, ExecutorKind.DASK}
    ]
    if value not in known:
        raise FlowBuilderError(f"expected an executor out of {', '.join(known)}, found {value!r}")
    return ExecutorKind(value)


def parse_durability(value: str | None, default: Durability) -> Durability:
    """Read a durability's name; None gives ``default``.

    Raises
    ------
    FlowBuilderError
        If there is no such durability.
    """
    if value is None:
        return default
    try:
        return Durability(value)
    except ValueError:
        known = ", ".join(Durability)
        raise FlowBuilderError(f"expected a durability out of {known}, found {value!r}") from None
