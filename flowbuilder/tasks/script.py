"""The task type ``script``: Python or bash written in the workflow itself."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import msgspec

from flowbuilder.cache.subject import Subject
from flowbuilder.model import Cache
from flowbuilder.plugins.task_type import Finding, TaskCall, TaskType
from flowbuilder.runtime.program import RemoteCall
from flowbuilder.tasks.command import OUTPUT_PROPERTIES, CommandOptions, run_command
from flowbuilder.tasks.environment_text import environment_text
from flowbuilder.tasks.function_import import make_importable
from flowbuilder.tasks.script_body import (
    RESERVED_NAMES,
    run_script,
    run_script_remotely,
    used_params,
    uses_input_data,
)
from flowbuilder.tasks.script_code import place_of_code
from flowbuilder.tasks.shell import check_encoding, command_subject, refuse_unnamed_files
from flowbuilder.vocabulary import Effects

__all__ = ["ScriptTask"]

_MAX_ARGUMENT_BYTES = 100_000


class ScriptTask(TaskType):
    """Runs code.

    Notes
    -----
    Python sees ``inputs`` (upstream outputs by port), ``params``, ``input_data`` (the output of the
    only task it waits for: text where that is an http or shell task) and every port as a variable.
    The output is ``result`` if the code sets it, else what it printed without the last line break.
    ``sys.exit()`` ends it early. ``__name__`` is ``__flow__``.

    Bash runs as ``bash -e -o pipefail``, so the first failing command fails the task; the output is
    what it printed. Parameters that are plain data are ``FLOWBUILDER_PARAM_<NAME>``, inputs as for
    ``shell``.

    A ``${{ }}`` in ``code`` is left as it stands: data comes by name, not by text.
    """

    name = "script"
    summary = "Run Python or bash code written in the workflow."
    raw_fields = frozenset({"code"})
    schema: ClassVar[Mapping[str, object]] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["code"],
        "properties": {
            "language": {
                "enum": ["python", "bash"],
                "title": "Language",
                "description": "What the code is written in.",
                "default": "python",
            },
            "code": {
                "type": "string",
                "title": "Code",
                "description": "The script. Python: set 'result', or print. Bash: print.",
                "contentMediaType": "text/x-python",
            },
            **OUTPUT_PROPERTIES,
        },
    }

    def effects(self, config: Mapping[str, object]) -> Effects:
        """Assume that a script may be repeated; the author knows better."""
        del config
        return Effects.IDEMPOTENT

    def check(self, config: Mapping[str, object], directory: Path) -> Iterable[Finding]:
        """Parse Python code, point out templates, and refuse command settings on Python."""
        del directory
        code = config.get("code")
        language = config.get("language", "python")
        yield from check_encoding(config)
        if not isinstance(code, str):
            return
        if "${{" in code:
            line = code.count("\n", 0, code.index("${{")) + 1
            yield Finding(
                "'${{ }}' has no meaning inside code",
                ("code",),
                line,
                hint="use params['name'] or inputs['port']",
                severity="warning",
            )
        if language == "python":
            yield from _syntax_findings(code)
            for field in OUTPUT_PROPERTIES:
                if field in config:
                    hint = "remove it, or use it with language: bash"
                    yield Finding(f"{field!r} is not for Python code", (field,), hint=hint)

    def check_inputs(
        self, config: Mapping[str, object], ports: Collection[str], directory: Path
    ) -> Iterable[Finding]:
        """Point out ports that are no variables because their names have a meaning."""
        del directory
        if config.get("language", "python") == "python":
            for port in sorted(RESERVED_NAMES.intersection(ports)):
                yield Finding(
                    f"input port {port!r} is hidden by the variable of that name",
                    hint=f"rename the port, or use inputs[{port!r}]",
                    severity="warning",
                )

    def run(self, call: TaskCall) -> object:
        """Run the code here."""
        code = str(call.config["code"])
        if call.config.get("language", "python") == "bash":
            return _run_bash(call, code)
        make_importable(call.directory)
        return run_script(
            code,
            place_of_code(call.locate, code, call.name),
            inputs=call.inputs,
            params=call.params,
            input_data=call.input_data,
            printed=call.captured_stdout,
        )

    def cache_refusal(self, config: Mapping[str, object], cache: Cache) -> tuple[str, str] | None:
        """Refuse bash whose files the author did not name."""
        if config.get("language", "python") == "bash":
            return refuse_unnamed_files(cache)
        return None

    def cache_subject(self, call: TaskCall) -> Subject:
        """Name the code, what it imports, its ports and the parameters it mentions."""
        code = str(call.config["code"])
        if call.config.get("language", "python") == "bash":
            return command_subject(call, params=call.params)
        # Before its imports are followed: what they mean must not hang on what ran first.
        make_importable(call.directory)
        inputs = dict(call.inputs)
        if uses_input_data(code):
            inputs["input_data"] = call.input_data()
        used = used_params(code)
        return Subject(
            script=code,
            first_line=place_of_code(call.locate, code, call.name).first_line,
            arguments={"env": dict(call.env)} if call.env else {},
            inputs=inputs,
            params={
                name: call.params[name] for name in call.params if used is None or name in used
            },
        )

    def can_leave(self, config: Mapping[str, object]) -> bool:
        """Let Python leave; bash is a process already."""
        return config.get("language", "python") == "python"

    def remote(self, call: TaskCall) -> RemoteCall | None:
        """Describe the run of Python code in a worker process."""
        if not self.can_leave(call.config):
            return None
        make_importable(call.directory)
        code = str(call.config["code"])
        return RemoteCall(
            run_script_remotely,
            kwargs={
                "code": code,
                "place": place_of_code(call.locate, code, call.name),
                "inputs": dict(call.inputs),
                "params": dict(call.params),
                "input_data": call.input_data() if uses_input_data(code) else None,
            },
            directory=str(call.directory),
        )


def _run_bash(call: TaskCall, code: str) -> object:
    options = CommandOptions.from_config(call.config)
    env: dict[str, object] = {}
    for name, value in call.params.items():
        if value is None or isinstance(value, str | int | float | list | dict):
            text = environment_text(value, f"parameter {name!r}")
            if len(text) < _MAX_ARGUMENT_BYTES // 4:
                env[f"FLOWBUILDER_PARAM_{name.upper()}"] = text
    env.update(options.env)
    argv = ["bash", "-e", "-o", "pipefail"]
    if len(code.encode()) <= _MAX_ARGUMENT_BYTES:
        argv += ["-c", code, call.name]
    else:  # over the system's limit for one argument
        call.scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = call.scratch / f"{call.name}-{call.attempt}.bash"
        file.write_text(code, encoding="utf-8")
        argv.append(str(file))
    return run_command(call, argv, msgspec.structs.replace(options, env=env))


@lru_cache(maxsize=4096)
def _syntax_findings(code: str) -> tuple[Finding, ...]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except SyntaxError as error:
        # Unbalanced brackets may be reported past the end.
        line = min(error.lineno or 1, code.count("\n") + 1)
        return (Finding(f"the code is not valid Python: {error.msg}", ("code",), line),)
    except (ValueError, RecursionError, MemoryError) as error:
        reason = str(error) or "it is nested too deeply"
        return (Finding(f"the code is not valid Python: {reason}", ("code",), 1),)
    return ()
