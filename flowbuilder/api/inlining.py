"""Functions of ``__main__`` as scripts, so that a workflow written in a notebook can be saved as a
file.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable, Mapping

import msgspec

from flowbuilder.errors import WorkflowError
from flowbuilder.model import TaskSpec, WorkflowSpec

__all__ = ["inline_main_functions"]


def inline_main_functions(
    spec: WorkflowSpec, functions: Mapping[str, Callable[..., object]]
) -> WorkflowSpec:
    """Replace tasks that call functions of ``__main__`` by scripts with the function's source.

    Raises
    ------
    WorkflowError
        If a function uses names from outside itself; names them and what to do.
    """
    tasks = tuple(_inline(task, functions) if _is_main(task) else task for task in spec.tasks)
    return msgspec.structs.replace(spec, tasks=tasks)


def _is_main(task: TaskSpec) -> bool:
    return task.type == "python" and str(task.config.get("function", "")).startswith("__main__:")


def _inline(task: TaskSpec, functions: Mapping[str, Callable[..., object]]) -> TaskSpec:
    reference = str(task.config["function"])
    function = functions.get(reference)
    advice = "move the function and what it uses to a module, and import it from there"
    if function is None:
        raise WorkflowError(
            f"task {task.name!r} calls {reference}, whose source is not at hand",
            task=task.name,
            hint=advice,
        )
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        raise WorkflowError(
            f"the source of {reference} cannot be read: {error}", task=task.name, hint=advice
        ) from error
    definition = _definition_of(source)
    if isinstance(definition, ast.AsyncFunctionDef):
        raise WorkflowError(
            f"{reference} is async, which a script cannot be", task=task.name, hint=advice
        )
    free = _free_names(definition)
    if free:
        raise WorkflowError(
            f"{reference} uses names from outside itself: {', '.join(sorted(free))}",
            task=task.name,
            hint=f"import or define them inside the function, or {advice}",
        )
    _strip(definition)
    arguments = task.config.get("args") or {}
    assert isinstance(arguments, Mapping)
    if any(
        isinstance(value, str) and "${{" in value.replace("$${{", "")
        for value in _leaves(arguments)
    ):
        call = f"result = {definition.name}(**inputs, **{_bound_arguments(arguments)})"
    else:
        call = (
            f"result = {definition.name}(**inputs, **{dict(arguments)!r})"
            if arguments
            else f"result = {definition.name}(**inputs)"
        )
    code = f"{ast.unparse(definition)}\n\n{call}\n"
    return msgspec.structs.replace(task, type="script", config={"language": "python", "code": code})


def _strip(definition: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    """Remove decorators and annotations: the names in them are not there in a script."""
    definition.decorator_list = []
    definition.returns = None
    for argument in (
        *definition.args.posonlyargs,
        *definition.args.args,
        *definition.args.kwonlyargs,
    ):
        argument.annotation = None


def _bound_arguments(arguments: Mapping[str, object]) -> str:
    """Spell arguments as code; only whole parameters can be reached from a script."""
    parts = []
    for name, value in arguments.items():
        text = value.strip() if isinstance(value, str) else ""
        if text.startswith("${{ params.") and text.endswith("}}") and text.count("${{") == 1:
            steps = text[len("${{ params.") : -2].strip().split(".")
            parts.append(f"{name!r}: params" + "".join(f"[{step!r}]" for step in steps))
        elif any(isinstance(leaf, str) and "${{" in leaf for leaf in _leaves(value)):
            raise WorkflowError(
                f"argument {name!r} is an expression, which a script cannot take",
                hint="move the function to a module, and import it from there",
            )
        else:
            parts.append(f"{name!r}: {value!r}")
    return "{" + ", ".join(parts) + "}"


def _leaves(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def _definition_of(source: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return node
    raise WorkflowError(
        "expected the source of a function defined with def",
        hint="lambdas cannot be written to a file",
    )


def _free_names(definition: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    bound = {definition.name}
    used: set[str] = set()
    for node in ast.walk(definition):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler
        ):
            bound.add(node.name or "")
    for decorator in definition.decorator_list:
        used -= {node.id for node in ast.walk(decorator) if isinstance(node, ast.Name)}
    for annotation in _annotations(definition):
        used -= {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
    return {name for name in used - bound if not hasattr(builtins, name)}


def _annotations(definition: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.expr]:
    every = [*definition.args.posonlyargs, *definition.args.args, *definition.args.kwonlyargs]
    found = [argument.annotation for argument in every if argument.annotation is not None]
    if definition.returns is not None:
        found.append(definition.returns)
    return found
