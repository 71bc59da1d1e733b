"""Text -> `WorkflowSpec`, with every problem found on the way."""

from __future__ import annotations

from collections.abc import Mapping

from flowbuilder.definition.collector import paused_collector
from flowbuilder.definition.fields import WORKFLOW
from flowbuilder.definition.limits import Limits
from flowbuilder.definition.places import YamlSource
from flowbuilder.definition.reading import Reading
from flowbuilder.definition.report import Invalid, Report, dotted
from flowbuilder.definition.text import decode_text
from flowbuilder.definition.tree import Misplaced, parse_tree
from flowbuilder.errors import Location, Problem, WorkflowSyntaxError
from flowbuilder.model.names import fold_name
from flowbuilder.model.spec import (
    Cache,
    Resources,
    Retry,
    Source,
    SourcePath,
    TaskSpec,
    WorkflowSpec,
)

__all__ = ["read_tree", "read_workflow"]

_DEFAULT_LIMITS = Limits()
_MERGED = {"retry": Retry, "resources": Resources, "cache": Cache}
# A sub-workflow has no attempts and no slot of its own: these belong to its inner tasks.
_NOT_FOR_SUBWORKFLOWS = ("retry", "timeout_s", "executor", "pool", "cache")


def read_workflow(
    text: str | bytes,
    *,
    file: str = "<string>",
    directory: str = "",
    limits: Limits = _DEFAULT_LIMITS,
) -> Reading:
    """Read a workflow from YAML.

    Parameters
    ----------
    text : str or bytes
        The text; bytes are UTF-8, or UTF-16 with a byte order mark.
    file : str
        Name of the file in messages.
    directory : str
        Where relative paths of the workflow start.
    limits : Limits
        Bounds of the text.

    Returns
    -------
    Reading
        Whatever the text says, nothing is raised: if it is not YAML there is one problem with code
        ``syntax``.

    Notes
    -----
    Takes about 50 us a task. Imports and runs nothing the text names.
    """
    try:
        decoded = decode_text(text, file=file, limits=limits)
        tree = parse_tree(decoded, file=file, limits=limits)
    except WorkflowSyntaxError as error:
        return Reading(spec=None, problems=(_syntax_problem(error),))
    if tree.root is None:
        message = "expected a workflow with 'name:' and 'tasks:', found an empty text"
        problem = Problem(message, location=Location(file, 1), code="empty-workflow")
        return Reading(spec=None, problems=(problem,))
    source = YamlSource(file, decoded)
    report = Report(tree.root, source)
    report.has_odd_numbers = tree.has_odd_numbers
    return _read(tree.root, report, directory, _misplaced(tree.misplaced, source, report))


def read_tree(
    data: object,
    *,
    file: str = "<string>",
    directory: str = "",
    source: Source | None = None,
    path: SourcePath = (),
    name: str | None = None,
) -> Reading:
    """Read a workflow from plain values, such as one written inside the config of a task.

    Parameters
    ----------
    data : object
        A mapping like the root of a workflow file.
    file, directory : str
        As `read_workflow`; ``file`` counts if there is no ``source``.
    source : Source, optional
        The text ``data`` comes from.
    path : tuple
        Where ``data`` stands in ``source``; every ``TaskSpec.path`` starts with it.
    name : str, optional
        Name of the workflow if ``data`` has none.

    Returns
    -------
    Reading
        As `read_workflow`.
    """
    if name is not None and isinstance(data, Mapping) and "name" not in data:
        data = {"name": name, **data}
    report = Report(data, source, path)
    report.has_odd_numbers = source is not None
    reading = _read(data, report, directory, [])
    if source is not None or file == "<string>":
        return reading
    placed = tuple(_with_file(problem, file) for problem in reading.problems)
    return Reading(spec=reading.spec, problems=placed, draft=reading.draft)


def _with_file(problem: Problem, file: str) -> Problem:
    return Problem(
        problem.message,
        location=Location(file, 1),
        task=problem.task,
        field=problem.field,
        hint=problem.hint,
        code=problem.code,
        severity=problem.severity,
    )


def _read(
    root: object,
    report: Report,
    directory: str,
    problems: list[Problem],
) -> Reading:
    with paused_collector():
        fields = WORKFLOW.read(root, (), report)
        draft = None
        if not isinstance(fields, Invalid):
            _check_twins(fields, report)
            if not report.is_broken:
                draft = _build(fields, report.source, directory, report.prefix)
        found = sorted([*problems, *report.problems()], key=_place)
    is_wrong = any(problem.severity == "error" for problem in found)
    return Reading(
        spec=None if is_wrong else draft, problems=tuple(found), draft=draft, source=report.source
    )


def _build(
    fields: dict[str, object], source: Source | None, directory: str, prefix: SourcePath
) -> WorkflowSpec:
    """Apply the defaults and freeze."""
    defaults = fields.pop("defaults", None) or {}
    written = fields.pop("tasks")
    assert isinstance(defaults, dict)
    assert isinstance(written, list)
    inner = {key: value for key, value in defaults.items() if key not in _NOT_FOR_SUBWORKFLOWS}
    tasks = tuple(
        TaskSpec(
            path=(*prefix, "tasks", index),
            **_merge(inner if task["type"] == "workflow" else defaults, task),  # type: ignore[arg-type]
        )
        for index, task in enumerate(written)
    )
    values: dict[str, object] = {
        **fields,
        "tasks": tasks,
        "directory": directory,
        "source": source,
    }
    return WorkflowSpec(**values)  # type: ignore[arg-type]


def _merge(defaults: dict[str, object], task: dict[str, object]) -> dict[str, object]:
    """Lay a task over the defaults; retry, resources, cache and env field by field."""
    merged = {**defaults, **task} if defaults else task
    for name, struct in _MERGED.items():
        own = merged.get(name)
        if isinstance(own, dict):
            below = defaults.get(name)
            merged[name] = struct(**({**below, **own} if isinstance(below, dict) else own))
    if "env" in task and isinstance(defaults.get("env"), dict) and task["env"]:
        merged["env"] = {**defaults["env"], **task["env"]}  # type: ignore[dict-item]
    return merged


def _check_twins(fields: dict[str, object], report: Report) -> None:
    """Report task names that are the same or look the same."""
    first: dict[str, int] = {}
    tasks = fields.get("tasks")
    for index, task in enumerate(tasks if isinstance(tasks, list) else ()):
        name = task.get("name") if task is not None else None
        if not isinstance(name, str):
            continue
        twin = first.setdefault(fold_name(name), index)
        if twin == index:
            continue
        there = report.place(("tasks", twin, "name"))
        where = f" at {there}" if there else f" as task number {twin + 1}"
        assert isinstance(tasks, list)
        before = tasks[twin]["name"]
        how = "" if before == name else f", which {before!r} is too close to"
        message = f"the task name {name!r} is taken{how}: it is used{where}"
        report.add(
            ("tasks", index, "name"), message, code="duplicate-name", hint="rename one of them"
        )


def _misplaced(found: tuple[Misplaced, ...], source: YamlSource, report: Report) -> list[Problem]:
    problems: list[Problem] = []
    for each in found:
        message = each.message
        if each.code == "duplicate-key":
            message += f" (first at {source.locate_key(each.path)})"
        problems.append(
            Problem(
                message,
                location=source.at(each.offset),
                task=report.task_name(each.path),
                field=dotted(each.path),
                hint=each.hint,
                code=each.code,
            )
        )
    return problems


def _syntax_problem(error: WorkflowSyntaxError) -> Problem:
    return Problem(error.message, location=error.location, hint=error.hint, code="syntax")


def _place(problem: Problem) -> tuple[int, int]:
    at = problem.location
    return (at.line, at.column) if at else (0, 0)
