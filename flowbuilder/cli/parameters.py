"""``-p name=value``: text from the command line to typed parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from flowbuilder.errors import ConfigurationError
from flowbuilder.model import Parameter, WorkflowSpec

__all__ = ["read_parameters"]


def read_parameters(given: Sequence[str], spec: object) -> dict[str, object]:
    """Read ``name=value`` texts.

    Parameters
    ----------
    given : sequence of str
        ``value`` is text where the parameter's schema says string, else JSON if it parses, else
        text. ``@FILE`` stands for the
        content of a file: a table for table parameters, JSON or text for others.
    spec : WorkflowSpec or None
        Declares the parameters.

    Raises
    ------
    ConfigurationError
        If a text has no ``=``, names no parameter, or its file cannot be read.
    """
    parameters = (
        {item.name: item for item in cast("WorkflowSpec", spec).params} if spec is not None else {}
    )
    values: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigurationError(f"expected -p NAME=VALUE, found {text!r}")
        parameter = parameters.get(name)
        if parameter is None:
            import difflib

            near = difflib.get_close_matches(name, parameters, 1)
            known = ", ".join(parameters) or "none"
            raise ConfigurationError(
                f"expected a parameter of the workflow ({known}), found {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else "",
            )
        values[name] = (
            _read_file(parameter, value[1:])
            if value.startswith("@")
            else _read_text(parameter, value)
        )
    return values


def _read_text(parameter: Parameter, text: str) -> object:
    kind = parameter.schema.get("type")
    if kind == "string":
        return text
    if parameter.is_table:
        raise ConfigurationError(
            f"expected a file for table parameter {parameter.name!r}, found {text!r}",
            hint=f"write -p {parameter.name}=@data.parquet",
        )
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


def _read_file(parameter: Parameter, name: str) -> object:
    path = Path(name)
    if not path.exists():
        raise ConfigurationError(
            f"expected a file for parameter {parameter.name!r}, found none at {name!r}"
        )
    if parameter.is_table:
        from flowbuilder.plugins.task_type import TaskCall
        from flowbuilder.tasks.read import ReadTask

        config = {"path": str(path.absolute())}
        return ReadTask().run(
            TaskCall(name=parameter.name, key="", run_id="", attempt=1, config=config)
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the file for parameter {parameter.name!r} cannot be read: {error}"
        ) from error
    return _read_text(parameter, text)
