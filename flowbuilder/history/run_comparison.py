"""Two runs side by side: what was different, and what came out different."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from flowbuilder.errors import StorageError
from flowbuilder.history.output_statistics import ColumnStatistics, column_statistics
from flowbuilder.history.run_fold import PlanLabels, RunFold, RunRows, plain_json
from flowbuilder.history.tables import TABLES
from flowbuilder.records import ABSENT, ArtifactStored
from flowbuilder.store.ports import ArtifactStore, Journal, RunSummary, SavedRun

__all__ = [
    "Change",
    "OutputComparison",
    "RunComparison",
    "RunSide",
    "TaskComparison",
    "compare_runs",
]

_TASK_COLUMNS: Final = {name: place for place, name in enumerate(TABLES["tasks"])}
_DEEPEST: Final = 4
_MOST_CHARS: Final = 2000


class RunSide(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two runs."""

    run_id: str
    workflow: str
    state: str
    started_wall_ns: int
    duration_s: float
    fingerprint: str
    code_fingerprint: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not the same in both. ``a`` or ``b`` is None where it is missing."""

    name: str
    a: object
    b: object


class OutputComparison(msgspec.Struct, frozen=True, kw_only=True):
    """A task's output in both runs."""

    is_equal: bool | None
    """None if that is not known: one of them was not kept."""
    rows: tuple[int | None, int | None] = (None, None)
    size_bytes: tuple[int | None, int | None] = (None, None)
    schema: list[Change] = []
    """Column -> type, where it differs."""
    columns: dict[str, tuple[ColumnStatistics | None, ColumnStatistics | None]] = {}
    """Columns whose statistics differ."""
    note: str = ""
    """Why something could not be compared."""


class TaskComparison(msgspec.Struct, frozen=True, kw_only=True):
    """A task in both runs; a state is empty where the task does not exist."""

    key: str
    state: tuple[str, str]
    attempts: tuple[int, int]
    duration_s: tuple[float | None, float | None]
    error: tuple[str, str]
    output: OutputComparison


class RunComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that tells two runs apart."""

    a: RunSide
    b: RunSide
    params: list[Change]
    """Parameters that differ."""
    code: list[Change]
    """Fields of the workflow that differ, as ``task.field``."""
    tasks: list[TaskComparison]
    """Every task of either, in the order of the first run."""

    @property
    def is_same_plan(self) -> bool:
        """Whether both executed the same workflow."""
        return self.a.fingerprint == self.b.fingerprint

    def __repr__(self) -> str:
        from flowbuilder.history.comparison_text import comparison_text

        return comparison_text(self)


def compare_runs(
    journal: Journal, artifacts: ArtifactStore, ref_a: str, ref_b: str, *, max_bytes: int = 2**31
) -> RunComparison:
    """Compare two recorded runs.

    Parameters
    ----------
    journal : Journal
        Has the runs.
    artifacts : ArtifactStore
        Has their outputs.
    ref_a, ref_b : str
        Run ids, unique suffixes, or ``latest``.
    max_bytes : int
        Largest output whose columns are read; 0 reads none.

    Raises
    ------
    StorageError
        If one of them does not exist or is damaged.
    """
    a, b = (_load(journal, ref) for ref in (ref_a, ref_b))
    outputs = _Outputs(artifacts, max_bytes)
    keys = dict.fromkeys([*a.tasks, *b.tasks])
    return RunComparison(
        a=a.side(),
        b=b.side(),
        params=_changes(a.saved.header.params, b.saved.header.params),
        code=list(_code_changes(a.saved, b.saved)),
        tasks=[_compare_task(key, a, b, outputs) for key in keys],
    )


class _Loaded(msgspec.Struct, kw_only=True):
    saved: SavedRun
    tasks: dict[str, int]
    """Key -> instance."""
    last: dict[int, tuple[Any, ...]]
    """Instance -> row of its last attempt."""
    attempts: dict[int, int]

    def side(self) -> RunSide:
        summary: RunSummary = self.saved.summary
        return RunSide(
            run_id=summary.run_id,
            workflow=summary.workflow,
            state=summary.state.value,
            started_wall_ns=summary.started_wall_ns,
            duration_s=summary.duration_s,
            fingerprint=summary.fingerprint,
            code_fingerprint=self.saved.header.code_fingerprint,
        )

    def field(self, key: str, name: str) -> Any:
        row = self.last.get(self.tasks.get(key, -1))
        return None if row is None else row[_TASK_COLUMNS[name]]


def _load(journal: Journal, ref: str) -> _Loaded:
    run_id = journal.find_run(ref).run_id
    saved = journal.load_run(run_id)
    rows = RunRows()
    fold = RunFold(saved.header, PlanLabels(saved.version), rows)
    for event in journal.events(run_id):
        fold.take(event)
    last: dict[int, tuple[Any, ...]] = {}
    attempts: dict[int, int] = {}
    for row in [*rows.tasks, *fold.open_rows()]:
        instance = row[_TASK_COLUMNS["instance"]]
        last[instance] = row
        if row[_TASK_COLUMNS["attempt"]] > 0:
            attempts[instance] = attempts.get(instance, 0) + 1
    tasks = {key: instance for instance, key in enumerate(saved.version.keys)}
    return _Loaded(saved=saved, tasks=tasks, last=last, attempts=attempts)


def _compare_task(key: str, a: _Loaded, b: _Loaded, outputs: _Outputs) -> TaskComparison:
    return TaskComparison(
        key=key,
        state=(_state(a, key), _state(b, key)),
        attempts=(_attempts(a, key), _attempts(b, key)),
        duration_s=(a.field(key, "duration_s"), b.field(key, "duration_s")),
        error=(a.field(key, "error") or "", b.field(key, "error") or ""),
        output=outputs.compare(a.saved, a.tasks.get(key), b.saved, b.tasks.get(key)),
    )


def _state(run: _Loaded, key: str) -> str:
    instance = run.tasks.get(key)
    return "" if instance is None else run.saved.states[instance].value


def _attempts(run: _Loaded, key: str) -> int:
    return run.attempts.get(run.tasks.get(key, -1), 0)


class _Outputs:
    """Compares outputs, reading them only where their digests differ."""

    def __init__(self, artifacts: ArtifactStore, max_bytes: int) -> None:
        self._artifacts = artifacts
        self._max_bytes = max_bytes

    def compare(
        self, a: SavedRun, instance_a: int | None, b: SavedRun, instance_b: int | None
    ) -> OutputComparison:
        if instance_a is None or instance_b is None:
            return OutputComparison(is_equal=None)
        kept_a, kept_b = a.artifacts.get(instance_a), b.artifacts.get(instance_b)
        if kept_a is None and kept_b is None:
            small_a = a.outputs.get(instance_a, ABSENT)
            small_b = b.outputs.get(instance_b, ABSENT)
            if small_a is ABSENT or small_b is ABSENT:
                return OutputComparison(is_equal=None)
            return OutputComparison(is_equal=plain_json(small_a) == plain_json(small_b))
        rows = (_rows(kept_a), _rows(kept_b))
        sizes = (_size(kept_a), _size(kept_b))
        if kept_a is None or kept_b is None:
            return OutputComparison(is_equal=None, rows=rows, size_bytes=sizes)
        if (kept_a.digest, kept_a.type_name) == (kept_b.digest, kept_b.type_name):
            return OutputComparison(is_equal=True, rows=rows, size_bytes=sizes)
        return self._compare_columns(kept_a, kept_b)

    def _compare_columns(self, a: ArtifactStored, b: ArtifactStored) -> OutputComparison:
        note, found = "", {}
        if max(a.size_bytes, b.size_bytes) > self._max_bytes:
            note = f"columns were not read: larger than {self._max_bytes:,} bytes"
        else:
            try:
                found = _different(self._statistics(a), self._statistics(b))
            except StorageError as error:
                note = str(error)
        schema = [
            Change(name=name, a=left and left.type, b=right and right.type)
            for name, (left, right) in found.items()
            if (left and left.type) != (right and right.type)
        ]
        is_same_kind = a.type_name == b.type_name
        return OutputComparison(
            # Another way of writing the same (Arrow chunks, pickles) has another digest.
            is_equal=None if is_same_kind and not found and not note else False,
            rows=(_rows(a), _rows(b)),
            size_bytes=(a.size_bytes, b.size_bytes),
            schema=schema,
            columns=found,
            note=note,
        )

    def _statistics(self, artifact: ArtifactStored) -> dict[str, ColumnStatistics]:
        return column_statistics(self._artifacts.load(artifact)) or {}


def _different(
    a: dict[str, ColumnStatistics], b: dict[str, ColumnStatistics]
) -> dict[str, tuple[ColumnStatistics | None, ColumnStatistics | None]]:
    names = dict.fromkeys([*a, *b])
    return {name: (a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)}


def _rows(artifact: ArtifactStored | None) -> int | None:
    return None if artifact is None or artifact.num_rows < 0 else artifact.num_rows


def _size(artifact: ArtifactStored | None) -> int | None:
    return None if artifact is None else artifact.size_bytes


def _changes(a: Mapping[str, object], b: Mapping[str, object]) -> list[Change]:
    found = []
    for name in dict.fromkeys([*a, *b]):
        left, right = (plain_json(side[name]) if name in side else None for side in (a, b))
        if left != right:
            found.append(Change(name=name, a=_read(left), b=_read(right)))
    return found


def _read(text: str | None) -> object:
    if text is None:
        return None
    value: object = msgspec.json.decode(text)
    return value if len(text) <= _MOST_CHARS else text[:_MOST_CHARS] + "…"


def _code_changes(a: SavedRun, b: SavedRun) -> Iterator[Change]:
    if a.version.fingerprint == b.version.fingerprint:
        return
    left, right = (dict(_fields(run.version.spec_json)) for run in (a, b))
    yield from _changes(left, right)


def _fields(spec_json: bytes) -> Iterator[tuple[str, object]]:
    """Iterate over what a workflow says, as paths: ``task.config.code``."""
    try:
        spec = msgspec.json.decode(spec_json)
    except msgspec.DecodeError:
        return
    if not isinstance(spec, dict):
        return
    for name, value in spec.items():
        if name == "tasks" and isinstance(value, list):
            for task in value:
                yield from _walk(str(task.get("key") or task.get("name")), task, 1)
        else:
            yield from _walk(name, value, 1)


def _walk(path: str, value: object, depth: int) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value and depth < _DEEPEST:
        for name, item in value.items():
            yield from _walk(f"{path}.{name}", item, depth + 1)
    else:
        yield path, value
