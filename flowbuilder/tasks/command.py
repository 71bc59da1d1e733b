"""Runs one external command for a task: environment, limits, output, and what its end means."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from flowbuilder.errors import AuthorizationError, TaskFailedError
from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.tasks.captured_output import CapturedOutput, LineForwarder, OutputTooLargeError
from flowbuilder.tasks.environment_text import environment_text
from flowbuilder.tasks.output_pump import pump
from flowbuilder.tasks.process_group import ProcessGroup

__all__ = ["OUTPUT_PROPERTIES", "CommandOptions", "run_command", "working_directory"]

_MAX_INPUT_CHARS = 8192
_TAIL_CHARS = 4096

OUTPUT_PROPERTIES: Final[Mapping[str, object]] = {
    "cwd": {
        "type": "string",
        "title": "Working directory",
        "description": "Where the command runs, relative to the workflow's folder.",
        "default": ".",
    },
    "env": {
        "type": "object",
        "title": "Environment",
        "description": "Extra environment variables.",
        "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        "default": {},
    },
    "success_codes": {
        "type": "array",
        "title": "Success codes",
        "description": "Exit codes that mean success.",
        "items": {"type": "integer", "minimum": 0, "maximum": 4294967295},
        "minItems": 1,
        "default": [0],
    },
    "output": {
        "enum": ["text", "json", "lines", "bytes", "none"],
        "title": "Output",
        "description": "What standard output becomes: text without its last line break, parsed "
        "JSON, a list of lines, bytes as they are, or nothing.",
        "default": "text",
    },
    "encoding": {
        "type": "string",
        "title": "Encoding",
        "description": "Encoding of the output; bytes that do not fit become U+FFFD.",
        "default": "utf-8",
    },
    "max_output_bytes": {
        "type": "integer",
        "title": "Output kept in memory",
        "description": "More than this goes to a file; the result is cut and names it.",
        "minimum": 1024,
        "maximum": 1073741824,
        "default": 4194304,
    },
}
"""Config fields that `shell` and bash scripts share."""


class CommandOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a command runs; the fields are those of `OUTPUT_PROPERTIES`."""

    cwd: str = "."
    env: Mapping[str, object]
    success_codes: Collection[int] = (0,)
    output: str = "text"
    encoding: str = "utf-8"
    max_output_bytes: int = 4 * 1024 * 1024

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> CommandOptions:
        """Pick the fields out of a checked config."""
        given = {name: config[name] for name in OUTPUT_PROPERTIES if name in config}
        given.setdefault("env", {})
        return cls(**given)  # type: ignore[arg-type]


def run_command(call: TaskCall, argv: Sequence[str], options: CommandOptions) -> object:
    """Run a command and give its output.

    Parameters
    ----------
    call : TaskCall
        The attempt; its cancel token ends the command with everything it started.
    argv : sequence of str
        Program and arguments.
    options : CommandOptions
        Directory, environment and limits.

    Returns
    -------
    object
        As ``options.output`` says.

    Raises
    ------
    TaskFailedError
        If it cannot start, or ends with another exit code than the expected ones.
    RunCancelledError
        If the attempt was asked to stop.
    """
    call.cancel.raise_if_cancelled()
    spill_path = None if call.is_confidential else _spill_path(call)
    stdout = CapturedOutput(options.max_output_bytes, spill_path)
    errors = _forwarder(call, "stderr", options, tail_chars=_TAIL_CHARS)
    group = _start(call, argv, options)
    try:
        _pump_output(call, group, options, stdout, errors)
        code = group.finish()
    except OutputTooLargeError as error:
        raise _too_much(call, options) from error
    finally:
        group.abandon()
        stdout.close()
    call.cancel.raise_if_cancelled()
    if code not in options.success_codes:
        raise _failure(call, code, errors.tail())
    return _output(call, stdout, options)


def working_directory(call: TaskCall, cwd: str) -> Path:
    """Resolve where a command runs.

    Raises
    ------
    TaskFailedError
        If it is not a directory.
    AuthorizationError
        If it is outside the workflow's folder and the policy is restricted.
    """
    path = (call.directory / cwd).resolve()
    if call.policy == "restricted" and not path.is_relative_to(call.directory.resolve()):
        raise AuthorizationError(
            f"expected a working directory inside the workflow's folder, found {cwd!r}",
            task=call.name,
        )
    if not path.is_dir():
        raise TaskFailedError(
            f"the working directory {str(path)!r} does not exist",
            task=call.name,
            hint="create it, or correct 'cwd'",
        )
    return path


def _start(call: TaskCall, argv: Sequence[str], options: CommandOptions) -> ProcessGroup:
    cwd = working_directory(call, options.cwd)
    try:
        return ProcessGroup(argv, cwd=cwd, env=_environment(call, options.env))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        hint = ""
        if isinstance(error, FileNotFoundError):
            hint = "install it, or give its full path"
        elif isinstance(error, OSError) and error.errno == 7:  # E2BIG
            hint = "pass large values through a file"
        raise TaskFailedError(
            f"the program {argv[0]!r} could not be started: {reason}", task=call.name, hint=hint
        ) from error


def _environment(call: TaskCall, extra: Mapping[str, object]) -> dict[str, str]:
    env = {**os.environ, **call.env}
    env["FLOWBUILDER_RUN_ID"] = call.run_id
    env["FLOWBUILDER_TASK"] = call.name
    env["FLOWBUILDER_ATTEMPT"] = str(call.attempt)
    for port in call.inputs:
        value = call.inputs[port]
        if isinstance(value, str | int | float):
            text = environment_text(value, f"input {port!r}")
            if len(text) <= _MAX_INPUT_CHARS and "\0" not in text:
                env[f"FLOWBUILDER_INPUT_{port.upper()}"] = text
    for name, value in extra.items():
        env[name] = environment_text(value, f"environment variable {name!r}")
    return env


def _pump_output(
    call: TaskCall,
    group: ProcessGroup,
    options: CommandOptions,
    stdout: CapturedOutput,
    errors: LineForwarder,
) -> None:
    lines = _forwarder(call, "stdout", options)
    keep = options.output != "none"

    def take(data: bytes) -> None:
        if keep:
            stdout.feed(data)
        lines.feed(data)

    process: subprocess.Popen[bytes] = group.process
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        pump(group, {process.stdout: take, process.stderr: errors.feed}, call.cancel)
    lines.close()
    errors.close()


def _forwarder(
    call: TaskCall, stream: str, options: CommandOptions, *, tail_chars: int = 0
) -> LineForwarder:
    write = call.write
    return LineForwarder(
        lambda text: write(stream, text),
        options.encoding,
        limit_bytes=options.max_output_bytes,
        tail_chars=tail_chars,
    )


def _spill_path(call: TaskCall) -> Path:
    name = re.sub(r"[^\w.-]", "_", call.key)[-100:]
    return call.scratch / f"{name}-{abs(hash(call.key)) % 0xFFFF:04x}-{call.attempt}.stdout"


def _failure(call: TaskCall, code: int, stderr: str) -> TaskFailedError:
    hint = {126: "is it executable?", 127: "is the program installed?"}.get(code, "")
    last = "\n".join(stderr.strip().splitlines()[-5:])
    said = f"; its last words on stderr:\n{last}" if last else ", without a word on stderr"
    return TaskFailedError(
        f"the command {_ending(code)}{said}",
        task=call.name,
        hint=hint,
        error_type=f"exit:{code}" if code >= 0 else f"signal:{-code}",
    )


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _too_much(call: TaskCall, options: CommandOptions) -> TaskFailedError:
    if call.is_confidential:
        message = f"the command wrote more than {options.max_output_bytes} bytes and was stopped"
        hint = "raise 'max_output_bytes': output that must be encrypted goes to no file"
    else:
        message = "the command wrote more than 4 GiB and was stopped"
        hint = "write to a file instead of standard output"
    return TaskFailedError(message, task=call.name, hint=hint)


def _output(call: TaskCall, stdout: CapturedOutput, options: CommandOptions) -> object:
    if options.output == "none":
        return None
    if options.output in ("json", "bytes"):
        return _whole_output(call, stdout, options)
    text = stdout.head().decode(options.encoding, "replace")
    if options.output == "lines":
        lines = text.splitlines()
        return [*lines, _cut_note(stdout)] if stdout.is_spilled else lines
    if stdout.is_spilled:
        return f"{text}\n{_cut_note(stdout)}"
    return text.removesuffix("\n").removesuffix("\r")


def _whole_output(call: TaskCall, stdout: CapturedOutput, options: CommandOptions) -> object:
    if stdout.is_spilled:
        raise TaskFailedError(
            f"expected at most {options.max_output_bytes} bytes of output, found "
            f"{stdout.size_bytes}; all of it is in {str(stdout.path)!r}",
            task=call.name,
            hint="raise 'max_output_bytes', or write to a file",
        )
    if options.output == "bytes":
        return stdout.head()
    try:
        return json.loads(stdout.head().decode(options.encoding, "replace"))
    except (ValueError, RecursionError) as error:
        start = stdout.head()[:80].decode(options.encoding, "replace")
        raise TaskFailedError(
            f"expected JSON on standard output, found {start!r}: {error}",
            task=call.name,
            hint="print JSON only, or choose 'output: text'",
        ) from error


def _cut_note(stdout: CapturedOutput) -> str:
    kept = len(stdout.head())
    return f"[output cut after {kept} of {stdout.size_bytes} bytes; all of it is in {stdout.path}]"
