"""The task type ``shell``: an external command, its output the task's output."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from flowbuilder.cache.subject import Subject
from flowbuilder.model import Cache
from flowbuilder.plugins.task_type import Finding, TaskCall, TaskType
from flowbuilder.tasks.command import OUTPUT_PROPERTIES, CommandOptions, run_command
from flowbuilder.vocabulary import Effects, ExecutorKind

__all__ = ["ShellTask", "check_encoding", "command_subject", "refuse_unnamed_files"]

_ONLY_TEMPLATE = re.compile(r"\s*\$\{\{[^{}]*\}\}\s*")


class ShellTask(TaskType):
    """Runs a command through ``/bin/sh -c``, or a program with arguments and no shell.

    Notes
    -----
    The command leads a process group of its own. When it ends or is cancelled, what is left of the
    group gets TERM and, five seconds later, KILL; a process meant to outlive the task has to leave
    the group (``setsid``). Standard input is closed.

    Data reaches the command through arguments and environment variables only. A ``${{ }}`` in
    ``argv`` or ``env`` is rendered as text. In ``command`` it becomes a quoted reference to a
    variable that holds the value, so the shell never parses data. Every input port whose value is
    text, a number or a boolean of at most 8,192 characters is also there as
    ``FLOWBUILDER_INPUT_<PORT>``, beside ``FLOWBUILDER_RUN_ID``, ``FLOWBUILDER_TASK`` and
    ``FLOWBUILDER_ATTEMPT``.
    """

    name = "shell"
    summary = "Run a shell command or a program."
    shell_fields = frozenset({"command"})
    writes_own_output = True
    only_waits = True
    executor = ExecutorKind.AUTO
    schema: ClassVar[Mapping[str, object]] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "command": {
                "type": "string",
                "title": "Command",
                "description": "For /bin/sh (Windows: cmd.exe); a ${{ }} becomes a variable.",
                "minLength": 1,
            },
            "argv": {
                "type": "array",
                "title": "Arguments",
                "description": "Program and arguments, run without a shell; instead of command.",
                "items": {"type": ["string", "number", "boolean"]},
                "minItems": 1,
            },
            **OUTPUT_PROPERTIES,
        },
    }

    def effects(self, config: Mapping[str, object]) -> Effects:
        """Expect anything of a command."""
        del config
        return Effects.EXTERNAL

    def check(self, config: Mapping[str, object], directory: Path) -> Iterable[Finding]:
        """Demand exactly one of ``command`` and ``argv``, and a known encoding."""
        del directory
        if ("command" in config) == ("argv" in config):
            found = "both" if "command" in config else "neither"
            yield Finding(
                f"expected either 'command' or 'argv', found {found}",
                hint="command runs in a shell, argv without one",
            )
        command = config.get("command")
        if isinstance(command, str) and _ONLY_TEMPLATE.fullmatch(command):
            yield Finding(
                "the value of this template is one word, the name of a program",
                ("command",),
                hint="write the command out, or use 'argv' for a program with arguments",
                severity="warning",
            )
        yield from check_encoding(config)

    def cache_refusal(self, config: Mapping[str, object], cache: Cache) -> tuple[str, str] | None:
        """Refuse a command whose files the author did not name."""
        del config
        return refuse_unnamed_files(cache)

    def cache_subject(self, call: TaskCall) -> Subject:
        """Name the command with its settings, environment and inputs."""
        return command_subject(call)

    def run(self, call: TaskCall) -> object:
        """Run the command and give its output."""
        argv = call.config.get("argv")
        if isinstance(argv, list):
            arguments = [_argument(item) for item in argv]
        else:
            arguments = _through_shell(str(call.config["command"]))
        return run_command(call, arguments, CommandOptions.from_config(call.config))


def refuse_unnamed_files(cache: Cache) -> tuple[str, str] | None:
    """Demand that the author of a command says which files it reads."""
    if cache.files is not None:
        return None
    return (
        "nobody can see which files a command reads",
        "write 'cache: {files: [...]}'; 'files: []' if it reads none",
    )


def command_subject(call: TaskCall, *, params: Mapping[str, object] | None = None) -> Subject:
    """Say what decides the output of a command: what it is given; files are the author's to
    name.
    """
    return Subject(
        arguments={**call.config, "env": dict(call.env)},
        inputs=dict(call.inputs),
        params=dict(params or {}),
    )


def check_encoding(config: Mapping[str, object]) -> Iterable[Finding]:
    """Find an encoding Python does not know."""
    import codecs

    encoding = config.get("encoding", "utf-8")
    if not isinstance(encoding, str) or "${{" in encoding:
        return
    try:
        codecs.getincrementaldecoder(encoding)
    except (LookupError, ValueError):
        yield Finding(
            f"expected an encoding such as utf-8 or latin-1, found {encoding!r}", ("encoding",)
        )


def _argument(item: object) -> str:
    return ("true" if item else "false") if isinstance(item, bool) else str(item)


def _through_shell(command: str) -> list[str]:
    if os.name == "posix":
        return ["/bin/sh", "-c", command]
    return [os.environ.get("COMSPEC", "cmd.exe"), "/d", "/s", "/c", command]
