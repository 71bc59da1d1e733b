"""The task type ``python``: call a function of a module by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from flowbuilder.cache.subject import Subject
from flowbuilder.plugins.task_type import Finding, TaskCall, TaskType
from flowbuilder.runtime.program import RemoteCall
from flowbuilder.tasks.function_import import import_function
from flowbuilder.tasks.function_source import FunctionSource, find_module, split_target

__all__ = [
    "PythonTask",
    "call_remotely",
    "find_function_source",
    "finish",
    "keyword_arguments",
    "subject_of_call",
]

_ACCEPTED: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
}


class PythonTask(TaskType):
    """Calls ``module:function`` with ``args`` and the input ports as keyword arguments.

    Notes
    -----
    The workflow's folder is importable. An ``async def`` runs on the I/O loop. Validation reads the
    module's text and imports nothing.
    """

    name = "python"
    summary = "Call a Python function of a module."
    schema: ClassVar[Mapping[str, object]] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["function"],
        "properties": {
            "function": {
                "type": "string",
                "title": "Function",
                "description": "module:function; modules beside the workflow's file are found.",
                "minLength": 3,
            },
            "args": {
                "type": "object",
                "title": "Arguments",
                "description": "Keyword arguments by name; input ports are passed as well.",
                "default": {},
            },
        },
    }

    def check(self, config: Mapping[str, object], directory: Path) -> Iterable[Finding]:
        """Look the function and its parameters up in the module's text."""
        target = config.get("function")
        if not isinstance(target, str) or "${{" in target:
            return
        names = split_target(target)
        if names is None:
            yield Finding(
                f"expected 'module:function', found {target!r}",
                ("function",),
                hint="for example 'cleaning:drop_empty'",
            )
            return
        if names[0] == "__main__":
            return
        yield from _target_findings(*names, directory)
        source = find_function_source(target, directory)
        if source is not None:
            yield from _argument_findings(source, _arguments(config))

    def check_inputs(
        self, config: Mapping[str, object], ports: Collection[str], directory: Path
    ) -> Iterable[Finding]:
        """Compare ports and arguments with the function's parameters."""
        target = config.get("function")
        source = find_function_source(target, directory) if isinstance(target, str) else None
        if source is None:
            return
        arguments = _arguments(config)
        for port in ports:
            if port in arguments:
                yield Finding(f"{port!r} is given by 'args' and by 'inputs'", ("args", port))
            elif port not in source.parameters and not source.is_open:
                yield _unknown(source, port, "input port", ())
        for name in sorted(source.required.difference(arguments, ports)):
            if name not in source.positional_only:
                yield Finding(
                    f"function {source.name!r} needs {name!r}",
                    ("args",),
                    hint="add it under config.args or inputs",
                )

    def run(self, call: TaskCall) -> object:
        """Import the function and call it."""
        function = import_function(str(call.config["function"]), call.directory)
        return finish(function(**keyword_arguments(call)))

    async def run_async(self, call: TaskCall) -> object:
        """Import the function and await it."""
        function = import_function(str(call.config["function"]), call.directory)
        result = function(**keyword_arguments(call))
        return await result if inspect.isawaitable(result) else result

    def cache_subject(self, call: TaskCall) -> Subject:
        """Name the function, imported, and what it is called with."""
        function = import_function(str(call.config["function"]), call.directory)
        return subject_of_call(function, call)

    def remote(self, call: TaskCall) -> RemoteCall:
        """Describe the call for a worker process, which imports the module itself."""
        return RemoteCall(
            call_remotely,
            (str(call.config["function"]), str(call.directory)),
            keyword_arguments(call),
            directory=str(call.directory),
        )


def find_function_source(target: str, directory: Path) -> FunctionSource | None:
    """Read what a function's text says of it; None if the text does not tell."""
    names = split_target(target)
    module = find_module(names[0], directory) if names else None
    return module.functions.get(names[1]) if module and names else None


def subject_of_call(function: Callable[..., object], call: TaskCall) -> Subject:
    """Say what decides the output of calling a function with a task's arguments and ports."""
    return Subject(
        function=function,
        arguments=_arguments(call.config),
        inputs={port: call.inputs[port] for port in call.inputs},
    )


def call_remotely(target: str, directory: str, /, **arguments: object) -> object:
    """Import a function in this process and call it."""
    return finish(import_function(target, Path(directory))(**arguments))


def finish(result: object) -> object:
    """Run an unexpected coroutine to its end; give anything else back."""
    if not inspect.iscoroutine(result):
        return result
    import asyncio

    return asyncio.run(result)


def keyword_arguments(call: TaskCall) -> dict[str, object]:
    """Give what a function is called with: arguments and input ports by name."""
    return {**_arguments(call.config), **{port: call.inputs[port] for port in call.inputs}}


def _arguments(config: Mapping[str, object]) -> Mapping[str, object]:
    arguments = config.get("args")
    return arguments if isinstance(arguments, Mapping) else {}


def _target_findings(module_name: str, qualname: str, directory: Path) -> Iterable[Finding]:
    import sys

    module = find_module(module_name, directory)
    if module is None:
        if module_name not in sys.modules and module_name not in sys.builtin_module_names:
            yield Finding(
                f"module {module_name!r} was not found beside the workflow nor on sys.path",
                ("function",),
                hint="it must be there when the task runs",
                severity="warning",
            )
    elif module.error:
        yield Finding(f"module {str(module.file)!r} cannot be read: {module.error}", ("function",))
    elif qualname not in module.functions and not module.is_open:
        # An attribute of an imported or assigned name cannot be judged from the text.
        first = qualname.partition(".")[0]
        if first in module.functions and "." in qualname:
            return
        names = [name for name in module.functions if not name.startswith("_")]
        yield Finding(
            f"module {str(module.file)!r} defines no {qualname!r}",
            ("function",),
            hint=_near(qualname, names),
        )


def _argument_findings(
    source: FunctionSource, arguments: Mapping[str, object]
) -> Iterable[Finding]:
    for name, value in arguments.items():
        if name not in source.parameters and not source.is_open:
            yield _unknown(source, name, "argument", ("args", name))
            continue
        wanted = source.parameters.get(name, "")
        accepted = _ACCEPTED.get(wanted)
        if accepted is None or (isinstance(value, str) and "${{" in value):
            continue
        is_wrong_bool = isinstance(value, bool) and bool not in accepted
        if is_wrong_bool or not isinstance(value, accepted):
            yield Finding(
                f"argument {name!r} of {source.name!r} is annotated {wanted}, found {value!r}",
                ("args", name),
                severity="warning",
            )


def _unknown(source: FunctionSource, name: str, what: str, path: tuple[str | int, ...]) -> Finding:
    return Finding(
        f"function {source.name!r} has no parameter {name!r} for the {what} of that name",
        path,
        hint=_near(name, source.parameters),
    )


def _near(name: str, names: Iterable[str]) -> str:
    known = list(names)
    matches = difflib.get_close_matches(name, known, n=1)
    if matches:
        return f"did you mean {matches[0]!r}?"
    return f"it has {', '.join(map(repr, known[:12]))}" if known else ""
