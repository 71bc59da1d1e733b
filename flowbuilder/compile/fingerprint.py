"""Identity of a workflow: a hash of what it means, whatever its text looks like.

Canonical form: settings that equal their default are left out, durations are seconds, keys and
tasks are sorted (the order of tasks in the file means nothing), sub-workflows stand inline instead
of their file's name. Texts for people (title, note, description, group), layout, version, positions
and the folder of the file take no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from operator import attrgetter

from flowbuilder.compile.expansion import Expansion, FlatTask, Role
from flowbuilder.compile.plain_data import encode_canonical, to_plain
from flowbuilder.model import Cache, Parameter, Resources, Retry, TaskSpec, WorkflowSpec

__all__ = ["FORMAT_VERSION", "canonical_json", "plan_identity", "workflow_fingerprint"]

FORMAT_VERSION = 1
"""Raised whenever the same canonical form starts to mean something else."""

_DIGEST_BYTES = 16
_DEFAULT_RETRY = Retry()
_DEFAULT_RESOURCES = Resources()
_DEFAULT_CACHE = Cache()
# Fields that are compared and written as they are; the others need a form of their own.
_SETTINGS = (
    "when",
    "join",
    "timeout_s",
    "executor",
    "effects",
    "persist",
    "encrypt",
    "pool",
    "priority",
)
_settings_of = attrgetter(*_SETTINGS)
_DEFAULT_SETTINGS = _settings_of(TaskSpec(name="", type=""))


def workflow_fingerprint(expansion: Expansion) -> str:
    """Hash what a workflow means.

    Parameters
    ----------
    expansion : Expansion
        The workflow with its sub-workflows unfolded.

    Returns
    -------
    str
        32 lower-case hexadecimal digits (BLAKE2b of the canonical JSON).
    """
    return _digest(canonical_json(expansion))


def plan_identity(fingerprint: str, options: Mapping[str, object]) -> str:
    """Hash a fingerprint together with the selection; without a selection it is the fingerprint."""
    if not options:
        return fingerprint
    return _digest(encode_canonical([fingerprint, to_plain(options)]))


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def canonical_json(workflow: Expansion | WorkflowSpec) -> bytes:
    """Write the normalised workflow as canonical JSON.

    Parameters
    ----------
    workflow : Expansion or WorkflowSpec
        Of a bare specification, sub-workflow files are named instead of inlined.

    Returns
    -------
    bytes
        UTF-8 JSON, keys sorted, no spaces.

    Raises
    ------
    WorkflowError
        If a config holds an object that is not plain data.
    """
    if isinstance(workflow, Expansion):
        root = workflow.root
        body = _scope_form(root, _task_forms(workflow))
    else:
        root = workflow
        body = _scope_form(root, (_task_form(task) for task in root.tasks))
    body |= {"format": FORMAT_VERSION, "name": root.name, "durability": str(root.durability)}
    if root.timeout_s is not None:
        body["timeout_s"] = to_plain(root.timeout_s)
    return encode_canonical(body)


def _task_forms(expansion: Expansion) -> list[dict[str, object]]:
    """Give the forms of the root's tasks; inner ones end up inside their outer task."""
    forms: list[list[dict[str, object]]] = [[] for _ in expansion.scopes]
    for task in expansion.tasks:
        if task.role is Role.TASK:
            forms[task.scope].append(_task_form(task.spec))
        elif task.role is Role.LEAVE:  # follows everything inside it
            forms[task.scope].append(_outer_form(task, expansion, forms[task.inner_scope]))
    return forms[0]


def _outer_form(
    leave: FlatTask, expansion: Expansion, inner: list[dict[str, object]]
) -> dict[str, object]:
    form = _task_form(leave.spec, config={})
    form["workflow"] = _scope_form(expansion.scopes[leave.inner_scope].workflow, inner)
    for field in ("params", "output"):
        if leave.spec.config.get(field):
            form[field] = to_plain(leave.spec.config[field])
    return form


def _scope_form(workflow: WorkflowSpec, tasks: Iterable[dict[str, object]]) -> dict[str, object]:
    form: dict[str, object] = {"tasks": sorted(tasks, key=lambda task: str(task["name"]))}
    if workflow.params:
        form["params"] = {param.name: _parameter_form(param) for param in workflow.params}
    if workflow.env:
        form["env"] = dict(workflow.env)
    if workflow.secrets:
        form["secrets"] = dict(workflow.secrets)
    return form


def _parameter_form(param: Parameter) -> dict[str, object]:
    form: dict[str, object] = {"schema": to_plain(param.schema)}
    if not param.is_required:
        form["default"] = to_plain(param.default)
    return form


def _task_form(task: TaskSpec, *, config: Mapping[str, object] | None = None) -> dict[str, object]:
    form: dict[str, object] = {"name": task.name, "type": task.type}
    config = task.config if config is None else config
    if config:
        form["config"] = to_plain(config)
    if task.depends_on:
        form["depends_on"] = sorted(set(task.depends_on))
    if task.inputs:
        form["inputs"] = {port: [item.task, *item.path] for port, item in task.inputs.items()}
    if task.env:
        form["env"] = dict(task.env)
    settings = _settings_of(task)
    if settings != _DEFAULT_SETTINGS:
        for field, value, default in zip(_SETTINGS, settings, _DEFAULT_SETTINGS, strict=True):
            if value != default:
                form[field] = to_plain(value)
    if task.retry != _DEFAULT_RETRY:
        form["retry"] = _differences(task.retry, _DEFAULT_RETRY)
    if task.resources != _DEFAULT_RESOURCES or task.cache is not None:
        form |= _rare_settings(task)
    return form


def _rare_settings(task: TaskSpec) -> dict[str, object]:
    form: dict[str, object] = {}
    if task.resources != _DEFAULT_RESOURCES:
        form["resources"] = _differences(task.resources, _DEFAULT_RESOURCES)
    if task.cache is not None:
        form["cache"] = _differences(task.cache, _DEFAULT_CACHE)
    return form


def _differences(
    value: Retry | Resources | Cache, default: Retry | Resources | Cache
) -> dict[str, object]:
    """Give the fields that differ from their defaults; several names are a set."""
    form: dict[str, object] = {}
    for field in value.__struct_fields__:
        item = getattr(value, field)
        if item != getattr(default, field):
            form[field] = sorted(set(item)) if isinstance(item, tuple) else to_plain(item)
    return form
