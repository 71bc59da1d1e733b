"""Every field of a workflow file, once: its key, form, meaning and place in the model."""

from __future__ import annotations

from flowbuilder.definition.lists import (
    EnvironmentNames,
    EnvTexts,
    Inputs,
    Parameters,
    Secrets,
    TextList,
)
from flowbuilder.definition.shapes import (
    Choice,
    Condition,
    Duration,
    Flag,
    FreeMapping,
    Json,
    Later,
    Name,
    Share,
    Size,
    Text,
    TypeName,
    Whole,
)
from flowbuilder.definition.table import Field, Record, Records, Switch, Table
from flowbuilder.model.spec import Cache, Resources, Retry, TaskSpec, WorkflowSpec
from flowbuilder.vocabulary import Backoff, Durability, Effects, ExecutorKind, JoinRule, Persist

__all__ = ["CACHE", "DEFAULTS", "RESOURCES", "RETRY", "TASK", "WORKFLOW"]

_MOST = 1_000_000
_LATER_EXECUTORS = frozenset({ExecutorKind.NATIVE, ExecutorKind.DASK})


def _later(expected: str, *kinds: type, hint: str = "", harmless: tuple[object, ...] = ()) -> Later:
    names = {str: "string", dict: "object", list: "array", bool: "boolean"}
    shape: Json = {"type": [names[kind] for kind in kinds]}
    return Later(shape, lambda value: type(value) in kinds, expected, hint, harmless)


RETRY = Table(
    what="retry",
    struct=Retry,
    example="write 'retry: {max_attempts: 3}'",
    fields=(
        Field(
            name="max_attempts",
            shape=Whole(1, 1000),
            doc="How often the task is tried at most, the first time included.",
        ),
        Field(name="backoff", shape=Choice(Backoff), doc="How the delay grows between attempts."),
        Field(
            name="delay",
            shape=Duration(),
            doc="Wait before the second attempt: seconds, or 30s, 5m.",
            attribute="delay_s",
        ),
        Field(
            name="max_delay",
            shape=Duration(),
            doc="Longest wait between two attempts.",
            attribute="max_delay_s",
        ),
        Field(name="jitter", shape=Share(), doc="Random share added to each delay, 0 to 1."),
        Field(
            name="on",
            shape=TextList("exception names, or error, timeout, lost"),
            doc="Failures that are worth another attempt; none named means all.",
        ),
    ),
    near_misses={
        "retries": "write 'max_attempts', which counts the first attempt too",
        "attempts": "did you mean 'max_attempts'?",
        "limit": "did you mean 'max_attempts'?",
        "interval": "did you mean 'delay'?",
    },
)

RESOURCES = Table(
    what="resources",
    struct=Resources,
    example="write 'resources: {cpu: 2}'",
    fields=(
        Field(name="cpu", shape=Whole(1, 4096), doc="CPU slots the task occupies while it runs."),
        Field(
            name="memory",
            shape=Size(),
            doc="Memory it occupies: bytes, or 512MB, 2GiB.",
            attribute="memory_bytes",
        ),
    ),
    near_misses={"cpus": "did you mean 'cpu'?", "mem": "did you mean 'memory'?"},
)

CACHE = Table(
    what="cache",
    struct=Cache,
    example="write 'cache: true' or 'cache: {ttl: 1h}'",
    fields=(
        Field(
            name="ttl",
            shape=Duration(may_be_zero=False),
            doc="Oldest output that is used again: seconds, or 30s, 5m, 1d.",
            attribute="ttl_s",
        ),
        Field(
            name="files",
            shape=TextList("paths"),
            doc="Files, folders or patterns the task reads; their content counts. [] for none.",
        ),
        Field(
            name="env",
            shape=TextList("environment variables"),
            doc="Environment variables the output depends on.",
        ),
        Field(
            name="version",
            shape=Text(),
            doc="Version of the author's own; another one forgets what was kept.",
        ),
    ),
    near_misses={
        **dict.fromkeys(("expires", "max_age", "expiration", "duration"), "did you mean 'ttl'?"),
        **dict.fromkeys(("file", "paths", "inputs", "depends_on"), "did you mean 'files'?"),
        "environment": "did you mean 'env'?",
        "key": "did you mean 'version'?",
        "enabled": "write 'cache: true' or 'cache: false'",
    },
)

_UNDER_CONFIG = "what belongs to the task type is written under 'config:'"

TASK = Table(
    what="task",
    struct=TaskSpec,
    example="write '- name: ...' and, below it, 'type: ...'",
    fields=(
        Field(
            name="name",
            shape=Name(),
            doc="Unique name: a letter or '_', then letters, digits, '_' and '-'.",
            is_required=True,
        ),
        Field(
            name="type",
            shape=TypeName(),
            doc="Task type, such as script, shell, http or sql.",
            is_required=True,
        ),
        Field(name="title", shape=Text(), doc="Name for people; any text."),
        Field(name="note", shape=Text(), doc="Remark for readers; any text."),
        Field(name="group", shape=Text(), doc="Group the task is drawn in."),
        Field(
            name="depends_on",
            shape=TextList("task names"),
            doc="Tasks that must end before this one starts.",
        ),
        Field(
            name="inputs",
            shape=Inputs(),
            doc="Outputs of other tasks by name: {raw: fetch_data} or {raw: fetch_data.body}.",
        ),
        Field(
            name="when",
            shape=Condition(),
            doc="Expression; the task is skipped unless it is true.",
        ),
        Field(
            name="join",
            shape=Choice(JoinRule),
            doc="How the tasks it depends on must have ended.",
        ),
        Field(
            name="config", shape=FreeMapping(), doc="Settings of the task type; may hold ${{ }}."
        ),
        Field(name="retry", shape=Record(RETRY), doc="How failures are repeated."),
        Field(
            name="timeout",
            shape=Duration(may_be_zero=False),
            doc="Longest time of one attempt: seconds, or 30s, 5m.",
            attribute="timeout_s",
        ),
        Field(
            name="executor",
            shape=Choice(ExecutorKind, _LATER_EXECUTORS),
            doc="Where the task runs; auto chooses and says why.",
        ),
        Field(
            name="effects",
            shape=Choice(Effects),
            doc="What running it twice does to the outside world.",
        ),
        Field(name="persist", shape=Choice(Persist), doc="Whether a large output is kept on disk."),
        Field(
            name="encrypt",
            shape=Flag(),
            doc="Whether the output is on disk only encrypted, and nothing printed is recorded.",
        ),
        Field(
            name="resources", shape=Record(RESOURCES), doc="What the task occupies while it runs."
        ),
        Field(name="pool", shape=Name(), doc="Pool that limits how many such tasks run at a time."),
        Field(
            name="priority",
            shape=Whole(-_MOST, _MOST),
            doc="Larger runs first among tasks that are ready.",
        ),
        Field(
            name="env", shape=EnvTexts(), doc="Environment variables of the task; may hold ${{ }}."
        ),
        Field(
            name="foreach",
            shape=_later(
                "an expression, a list or a mapping",
                str,
                list,
                dict,
                hint="loop inside the task, or write one task for each",
            ),
            doc="Runs the task once for each item.",
        ),
        Field(
            name="cache",
            shape=Switch(CACHE),
            doc="Whether an earlier output for the same input is used again.",
        ),
        Field(
            name="on_failure",
            shape=_later(
                "a task name, a list or a mapping",
                str,
                list,
                dict,
                hint="add a task with 'join: one_failed'",
            ),
            doc="What to do when the task fails.",
        ),
        Field(
            name="hooks",
            shape=_later("a mapping", dict, hint="remove it"),
            doc="What to do before and after the task.",
        ),
    ),
    near_misses={
        **dict.fromkeys(
            ("needs", "depends", "dependencies", "after", "upstream", "requires", "parents"),
            "did you mean 'depends_on'?",
        ),
        **dict.fromkeys(
            ("command", "code", "url", "query", "language", "method", "path", "args", "function"),
            _UNDER_CONFIG,
        ),
        **dict.fromkeys(
            ("run", "script", "shell", "bash", "cmd"),
            "write 'type: shell' and 'config: {command: ...}'",
        ),
        **dict.fromkeys(("with", "params", "parameters", "arguments"), "did you mean 'config'?"),
        **dict.fromkeys(("uses", "kind", "operator", "image"), "did you mean 'type'?"),
        **dict.fromkeys(("if", "condition", "only_if"), "did you mean 'when'?"),
        **dict.fromkeys(("id", "task", "key"), "did you mean 'name'?"),
        **dict.fromkeys(("for", "for_each", "loop", "matrix", "map"), "did you mean 'foreach'?"),
        **dict.fromkeys(
            ("retries", "attempts", "max_attempts"), "write 'retry: {max_attempts: 3}'"
        ),
        **dict.fromkeys(("memoize", "memo", "ttl", "cache_for"), "write 'cache: true'"),
        **dict.fromkeys(("timeout-minutes", "timeout_s"), "write 'timeout: 30s' or 'timeout: 5m'"),
        "environment": "did you mean 'env'?",
        "input": "did you mean 'inputs'?",
        "disabled": "write 'when: \"false\"'",
        "enabled": "write 'when:' with an expression",
        "continue-on-error": "write 'join: all_done' on the tasks that follow",
        "trigger_rule": "did you mean 'join'?",
        "description": "did you mean 'note'?",
    },
)

_TASK_DEFAULTS = frozenset(
    {
        *("join", "retry", "timeout", "executor", "effects", "persist", "encrypt"),
        *("resources", "pool", "priority", "env", "cache"),
    }
)

DEFAULTS = Table(
    what="defaults",
    struct=TaskSpec,
    fields=tuple(field for field in TASK.fields if field.name in _TASK_DEFAULTS),
    near_misses=TASK.near_misses,
)


WORKFLOW = Table(
    what="workflow",
    struct=WorkflowSpec,
    fields=(
        Field(
            name="name",
            shape=Name(),
            doc="Name: a letter or '_', then letters, digits, '_' and '-'.",
            is_required=True,
        ),
        Field(name="version", shape=Text(), doc="Version of the author's own."),
        Field(name="title", shape=Text(), doc="Name for people; any text."),
        Field(name="description", shape=Text(), doc="What the workflow is for."),
        Field(name="note", shape=Text(), doc="Remark for readers; any text."),
        Field(
            name="params",
            shape=Parameters(),
            doc="Run-time parameters: a JSON Schema each, or just a default.",
        ),
        Field(
            name="env",
            shape=EnvironmentNames(),
            doc="Environment variables expressions may read: names, or name: default.",
        ),
        Field(
            name="secrets",
            shape=Secrets(),
            doc="Secrets expressions may read: names, or name: ENVIRONMENT_VARIABLE.",
        ),
        Field(
            name="durability",
            shape=Choice(Durability),
            doc="What is on disk before an end is acknowledged.",
        ),
        Field(
            name="timeout",
            shape=Duration(may_be_zero=False),
            doc="Longest time of a run: seconds, or 30s, 5m.",
            attribute="timeout_s",
        ),
        Field(
            name="schedule",
            shape=_later(
                "text or a mapping", str, dict, hint="start runs from outside, for example by cron"
            ),
            doc="When runs start by themselves.",
        ),
        Field(
            name="defaults",
            shape=Record(DEFAULTS),
            doc="Settings every task takes over.",
            is_folded=True,
        ),
        Field(name="tasks", shape=Records(TASK), doc="The tasks, in any order.", is_required=True),
        Field(name="layout", shape=FreeMapping(), doc="Where the canvas draws the tasks."),
    ),
    near_misses={
        **dict.fromkeys(("steps", "jobs", "stages", "nodes", "task"), "did you mean 'tasks'?"),
        **dict.fromkeys(("on", "cron", "trigger", "triggers"), "did you mean 'schedule'?"),
        **dict.fromkeys(
            ("parameters", "param", "inputs", "vars", "variables", "arguments"),
            "did you mean 'params'?",
        ),
        **dict.fromkeys(("environment", "environ"), "did you mean 'env'?"),
        "default": "did you mean 'defaults'?",
        "id": "did you mean 'name'?",
        "retry": "write it under 'defaults:'",
        "executor": "write it under 'defaults:'",
    },
    allows_extensions=True,
)
