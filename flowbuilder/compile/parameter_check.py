"""Parameters: their own schemas at validation, and the values a run is given."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from flowbuilder.compile.problem_list import ProblemList, base_path, field_text
from flowbuilder.compile.schema_check import SchemaCheck
from flowbuilder.compile.schema_messages import show
from flowbuilder.errors import WorkflowValidationError
from flowbuilder.expressions import is_table
from flowbuilder.model import Parameter, WorkflowSpec

__all__ = ["check_parameter_schemas", "check_parameters"]

_SCALARS = (str, int, float, bool, type(None))


def check_parameter_schemas(spec: WorkflowSpec, problems: ProblemList) -> None:
    """Find parameters whose schema is wrong, or whose default does not fit it.

    Parameters
    ----------
    spec : WorkflowSpec
        The workflow.
    problems : ProblemList
        Where to note what is wrong.
    """
    for param in spec.params:
        path = (*base_path(spec), "params", param.name)
        if param.is_table:
            if not param.is_required and param.default is not None:
                message = f"parameter {param.name!r} is a table, which has no default"
                problems.add(message, (*path, "default"), hint="remove it", code="bad-default")
            continue
        check = SchemaCheck(param.schema)
        reason = check.schema_error()
        if reason:
            message = f"the schema of parameter {param.name!r} is not valid JSON Schema: {reason}"
            problems.add(message, path, code="bad-schema")
        elif not param.is_required and not check.accepts(param.default):
            for mismatch in check.mismatches(param.default):
                message = (
                    f"the default of parameter {param.name!r} does not fit: {mismatch.message}"
                )
                problems.add(message, (*path, "default"), hint=mismatch.hint, code="bad-default")


def check_parameters(spec: WorkflowSpec, given: Mapping[str, object]) -> dict[str, object]:
    """Check the parameters of a run and fill in the defaults.

    Parameters
    ----------
    spec : WorkflowSpec
        The workflow.
    given : mapping of str to object
        Values by name. A parameter of type ``table`` takes any in-memory table.

    Returns
    -------
    dict
        A value for every parameter, in the workflow's order, by reference; defaults are copies.

    Raises
    ------
    WorkflowValidationError
        With every name that is unknown or missing and every value that does not fit.
    """
    problems = ProblemList(spec)
    known = {param.name: param for param in spec.params}
    for name in given:
        if name not in known:
            message = f"workflow {spec.name!r} has no parameter {name!r}"
            hint = problems.spelling(str(name), known) or "it takes no parameters"
            problems.add(message, ("params",), hint=hint, code="unknown-parameter")
    values: dict[str, object] = {}
    for name, param in known.items():
        if name in given:
            _check_value(param, given[name], problems)
            values[name] = given[name]
        elif param.is_required:
            _note_missing(param, problems)
        else:
            values[name] = _default_of(param)
    found = problems.sorted()
    if found:
        raise WorkflowValidationError(found)
    return values


def _default_of(param: Parameter) -> object:
    """Copy collections, so that no run can change the default of the next."""
    default = param.default
    return default if isinstance(default, _SCALARS) else copy.deepcopy(default)


def _note_missing(param: Parameter, problems: ProblemList) -> None:
    name = param.name
    if param.is_table:
        message = f"parameter {name!r} is a table and was not given one"
        hint = f"pass {name}=frame to run(), or -p {name}=@{name}.parquet on the command line"
    else:
        message = f"parameter {name!r} is required and was not given"
        hint = f"pass {name}=... to run(), or -p {name}=... on the command line"
    problems.add(message, ("params", name), hint=hint, code="missing-parameter")


def _check_value(param: Parameter, value: object, problems: ProblemList) -> None:
    path = ("params", param.name)
    if param.is_table:
        if not is_table(value):
            message = f"parameter {param.name!r} expects a table, found {_kind(value)}"
            hint = f"pass a frame, or -p {param.name}=@{param.name}.parquet on the command line"
            problems.add(message, path, hint=hint, code="wrong-parameter")
        return
    if not param.schema:
        return
    check = SchemaCheck(param.schema)
    reason = check.schema_error()
    if reason:
        message = f"the schema of parameter {param.name!r} is not valid JSON Schema: {reason}"
        problems.add(message, path, code="bad-schema")
    elif not check.accepts(value):
        for mismatch in check.mismatches(value):
            below = field_text(mismatch.path)
            where = f"{below!r} of parameter" if below else "parameter"
            message = f"{where} {param.name!r}: {mismatch.message}"
            problems.add(message, path, hint=mismatch.hint, code="wrong-parameter")


def _kind(value: object) -> str:
    plain = isinstance(value, str | int | float | list | tuple | Mapping) or value is None
    return show(value) if plain else f"a {type(value).__name__}"
