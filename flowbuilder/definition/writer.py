"""`WorkflowSpec` -> canonical YAML: one way to write each workflow, defaults left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flowbuilder.definition.collector import paused_collector
from flowbuilder.definition.fields import TASK, WORKFLOW
from flowbuilder.definition.limits import Limits
from flowbuilder.definition.quoting import literal_block, scalar_text
from flowbuilder.definition.report import dotted
from flowbuilder.errors import WorkflowError
from flowbuilder.model.spec import SourcePath, WorkflowSpec

__all__ = ["write_workflow"]

_WIDTH = 90
_LONGEST_SIMPLE_KEY = 1000  # libyaml gives up after 1024
_MAX_DEPTH = Limits().max_depth


def write_workflow(spec: WorkflowSpec) -> str:
    """Write a workflow as YAML.

    Parameters
    ----------
    spec : WorkflowSpec
        From anywhere.

    Returns
    -------
    str
        Text from which `read_workflow` makes an equal workflow; YAML 1.1 readers understand it
        alike.

    Raises
    ------
    WorkflowError
        If it holds something YAML has no words for, such as a Python object in a config.
    """
    with paused_collector():
        blocks: list[str] = []
        for name, value in WORKFLOW.plain(spec).items():
            if name == "tasks":
                blocks.append("\n" + "\n".join(_tasks(value)))
            else:
                blocks.append("\n".join(_entry(name, value, "", (name,))))
    return "\n".join(blocks) + "\n"


def _tasks(tasks: object) -> Iterable[str]:
    assert isinstance(tasks, list)
    yield "tasks:" if tasks else "tasks: []"
    for index, task in enumerate(tasks):
        path = ("tasks", index)
        lines = [
            line
            for name in (each.name for each in TASK.fields if each.name in task)
            for line in _entry(name, task[name], "    ", (*path, name))
        ]
        lines[0] = f"  - {lines[0][4:]}"
        yield from lines


def _entry(key: object, value: object, indent: str, path: SourcePath) -> Iterable[str]:
    """Write one entry of a mapping, each line with its indentation."""
    if not isinstance(key, str):
        raise _unwritable(path, f"the key {key!r}")
    written = _scalar(key, path)
    if len(written) > _LONGEST_SIMPLE_KEY:
        yield f"{indent}? {written}"
        written = ""
    head = f"{indent}{written}:"
    yield from _after(head, value, indent, path)


def _after(head: str, value: object, indent: str, path: SourcePath) -> Iterable[str]:
    """Write a value behind its key or dash."""
    if isinstance(value, str) and "\n" in value:
        block = literal_block(value, f"{indent}  ")
        yield f"{head} {_scalar(value, path) if block is None else block}"
        return
    if isinstance(value, Mapping | list | tuple) and len(path) >= _MAX_DEPTH:
        raise _unwritable(path[:3], f"more than {_MAX_DEPTH} levels")
    flow = _flow(value, _WIDTH - len(head), path)
    if flow is not None:
        yield f"{head} {flow}"
        return
    yield head
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _entry(key, inner, f"{indent}  ", (*path, key))
    else:
        assert isinstance(value, list | tuple)
        for index, inner in enumerate(value):
            yield from _item(inner, f"{indent}  ", (*path, index))


def _item(value: object, indent: str, path: SourcePath) -> Iterable[str]:
    """Write an item of a list; a mapping starts on the line of its dash."""
    lines = list(_after(f"{indent}-", value, indent, path))
    if len(lines) > 1:
        # The dash stands alone on the first line; the next is indented by its width.
        lines[:2] = [f"{indent}- {lines[1][len(indent) + 2 :]}"]
    return lines


def _flow(value: object, width: int, path: SourcePath) -> str | None:
    """Write a scalar, an empty collection, or a short list of scalars; None for anything else."""
    if isinstance(value, Mapping):
        return None if value else "{}"
    if not isinstance(value, list | tuple):
        return _scalar(value, path)
    if any(isinstance(item, Mapping | list | tuple) for item in value):
        return None
    if any(isinstance(item, str) and "\n" in item for item in value):
        return None
    items = [_scalar(item, (*path, index)) for index, item in enumerate(value)]
    flow = f"[{', '.join(items)}]"
    return flow if len(flow) <= width else None


def _scalar(value: object, path: SourcePath) -> str:
    try:
        return scalar_text(value)
    except (TypeError, ValueError) as error:
        raise _unwritable(path, str(error)) from None


def _unwritable(path: SourcePath, found: str) -> WorkflowError:
    return WorkflowError(
        f"expected text, numbers, truth values, lists or mappings at {dotted(path)}, found {found}",
        hint="pass it as a parameter, or make it inside a task",
    )
