"""What this process offers through its endpoint: control of its runs, and its data by pages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flowbuilder._version import __version__
from flowbuilder.errors import EndpointError
from flowbuilder.runtime.live_run import LiveRun

if TYPE_CHECKING:
    from flowbuilder.api.container import ServiceContainer
    from flowbuilder.runtime.engine import Engine

__all__ = ["ContainerHost", "serve_endpoint"]

_MOST_ROWS = 10_000
_MOST_TASKS = 10_000
_TABLES = {
    ("polars", "DataFrame"),
    ("pandas", "DataFrame"),
    ("pyarrow", "Table"),
    ("pyarrow", "RecordBatch"),
}


def serve_endpoint(container: ServiceContainer) -> Callable[[], None]:
    """Open the endpoint of a container; return what closes it.

    Where no socket can be opened the runs go on without one, and the log says why.
    """
    import logging

    from flowbuilder.endpoint.runtime_folder import runtime_folder
    from flowbuilder.endpoint.server import EndpointServer

    try:
        server = EndpointServer(
            ContainerHost(container),
            folder=runtime_folder(),
            info={
                "engine_id": container.engine.options.engine_id,
                "project": str(container.project),
                "data_dir": str(container.data_dir),
            },
        )
        server.start()
    except EndpointError as error:
        logging.getLogger(__name__).warning("other processes cannot control this one: %s", error)
        return _nothing
    return server.close


def _nothing() -> None:
    """Close nothing."""


class ContainerHost:
    """An `EngineHost` for one container. Called from the endpoint's threads.

    Parameters
    ----------
    container : ServiceContainer
        Whose engine it speaks for.
    """

    def __init__(self, container: ServiceContainer) -> None:
        self._container = container

    def hello(self) -> dict[str, object]:
        """Describe the engine: its live runs, its workers."""
        engine = self._container.engine
        return {
            "version": __version__,
            "engine_id": engine.options.engine_id,
            "workers": engine.options.workers,
            "runs": list(engine.live),
        }

    def start(self, request: dict[str, object]) -> dict[str, object]:
        """Start a workflow file in this process.

        ``path``; optionally ``params``, ``to``, ``from``, ``only``, ``executor``, and ``bindings``:
        parameter -> name of a variable of ``__main__``.
        """
        from flowbuilder.api.loading import load
        from flowbuilder.api.run_request import RunRequest

        path, params = request.get("path"), request.get("params") or {}
        if not isinstance(path, str) or not isinstance(params, Mapping):
            raise EndpointError("expected 'path' to be text and 'params' to be a map")
        bindings = request.get("bindings") or {}
        if not isinstance(bindings, Mapping):
            raise EndpointError("expected 'bindings' to be a map of parameter to variable")
        bound = {str(name): _variable(str(variable)) for name, variable in bindings.items()}
        workflow = load(Path(path), data_dir=self._container.data_dir)
        executor = request.get("executor")
        if not isinstance(executor, str | None):
            raise EndpointError(f"expected 'executor' to be text, found {executor!r}")
        wanted = RunRequest(
            to=_names(request, "to"),
            from_=_names(request, "from"),
            only=_names(request, "only"),
            executor=executor,
        )
        run = workflow.open_run(wanted, {**params, **bound})
        run.begin()
        return {"run_id": run.id}

    def cancel(self, run: str, task: str | None) -> dict[str, object]:
        """Cancel a run, or one task of it by its key."""
        live = self._live(run)
        if task is None:
            self._container.engine.cancel(live)
        else:
            self._container.engine.cancel_task(live, task)
        return _state_of(live)

    def pause(self, run: str) -> dict[str, object]:
        """Start no more tasks of a run until it is resumed."""
        live = self._live(run)
        self._container.engine.pause(live)
        return _state_of(live)

    def resume(self, run: str) -> dict[str, object]:
        """Go on with a paused run."""
        live = self._live(run)
        self._container.engine.resume(live)
        return _state_of(live)

    def variables(self) -> list[dict[str, object]]:
        """List the tables among the variables of ``__main__``, where a notebook keeps them."""
        main = sys.modules.get("__main__")
        found: list[dict[str, object]] = []
        for name, value in list(vars(main).items()) if main is not None else []:
            if name.startswith("_") or not _is_table(value):
                continue
            found.append({"name": name, **_shape(value)})
        return found

    def page(self, request: dict[str, object]) -> bytes:
        """Give rows of a task's output (``run``, ``task``) or of a ``variable``, as Arrow IPC.

        ``offset`` and ``limit`` choose the rows, at most 10,000.
        """
        from flowbuilder.tasks.tables import to_arrow

        if "variable" in request:
            value = _variable(str(request["variable"]))
        else:
            run = self._known(str(request.get("run", "")))
            value = run.value(run.instance_of(str(request.get("task", ""))))
        if not _is_table(value):
            raise EndpointError(f"expected a table, found a {type(value).__name__}")
        offset, limit = _count(request, "offset", 0), _count(request, "limit", 100)
        table = to_arrow(cast("Any", value), "page").slice(offset, min(limit, _MOST_ROWS))
        return _stream(table)

    def inspect(self, run: str) -> dict[str, object]:
        """Describe a run of this process."""
        live = self._known(run)
        tasks = [
            {
                "key": task.key,
                "state": live.task_state(instance).value,
                "attempt": live.attempts[instance],
            }
            for instance, task in enumerate(live.plan.tasks[:_MOST_TASKS])
        ]
        counts = {state.value: number for state, number in live.counts().items()}
        return {**_state_of(live), "workflow": live.workflow, "counts": counts, "tasks": tasks}

    def _live(self, run_id: str) -> LiveRun:
        for engine in self._engines():
            run = engine.live.get(run_id)
            if run is not None:
                return run
        raise EndpointError(f"expected a live run of this process, found {run_id!r}")

    def _known(self, run_id: str) -> LiveRun:
        for engine in self._engines():
            run = engine.find(run_id)
            if run is not None:
                return run
        raise EndpointError(f"expected a run this process still holds in memory, found {run_id!r}")

    def _engines(self) -> list[Engine]:
        """List this container's engine, then the others a run started here may belong to."""
        from flowbuilder.api.container import live_containers

        others = [found.engine for found in live_containers() if found is not self._container]
        return [self._container.engine, *others]


def _state_of(live: LiveRun) -> dict[str, object]:
    return {"run_id": live.run_id, "state": live.run_state.value}


def _variable(name: str) -> object:
    main = sys.modules.get("__main__")
    try:
        return vars(main)[name] if main is not None else None
    except KeyError:
        raise EndpointError(f"expected a variable of this process, found {name!r}") from None


def _is_table(value: object) -> bool:
    return any(
        (base.__module__.partition(".")[0], base.__name__) in _TABLES
        for base in type(value).__mro__
    )


def _shape(value: object) -> dict[str, object]:
    kind = type(value)
    names = getattr(value, "column_names", None)
    columns: Iterable[object] = getattr(value, "columns", ()) if names is None else names
    rows = getattr(value, "num_rows", None)
    return {
        "type": f"{kind.__module__.partition('.')[0]}.{kind.__name__}",
        "rows": int(rows if rows is not None else len(cast("Any", value))),
        "columns": [str(column) for column in columns],
    }


def _names(request: Mapping[str, object], word: str) -> list[str] | None:
    value = request.get(word)
    if value is None:
        return None
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise EndpointError(f"expected {word!r} to be names of tasks, found {value!r}")
    return names


def _count(request: Mapping[str, object], name: str, default: int) -> int:
    value = request.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise EndpointError(f"expected {name!r} to be a number from 0, found {value!r}")
    return value


def _stream(table: Any) -> bytes:
    import pyarrow as pa  # type: ignore[import-untyped]

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
