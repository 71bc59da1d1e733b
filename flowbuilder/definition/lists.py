"""Shapes of lists and mappings whose entries mean something: dependencies, inputs, parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from flowbuilder.definition.report import Invalid, Report, describe, nearest
from flowbuilder.definition.selectors import format_selector, parse_selector
from flowbuilder.definition.shapes import AsIs, Json, read_name, scalar_text
from flowbuilder.model.names import fold_name
from flowbuilder.model.spec import Parameter, Selector, SourcePath

__all__ = ["EnvTexts", "EnvironmentNames", "Inputs", "Parameters", "Secrets", "TextList"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_VARIABLE_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$"
_TYPES = ("string", "number", "integer", "boolean", "array", "object", "null", "table")
_TYPE_OF = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
_TEXT: Json = {"type": ["string", "number", "boolean"]}


class TextList(msgspec.Struct, frozen=True):
    """A list of texts, or one text alone; a repeated one is kept once, with a warning."""

    what: str

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        one: Json = {"type": "string", "minLength": 1}
        return {"anyOf": [one, {"type": "array", "items": one}]}

    def read(self, value: object, path: SourcePath, report: Report) -> tuple[str, ...] | Invalid:
        """Accept a text or a list of texts."""
        if isinstance(value, str) and value:
            return (value,)
        if not isinstance(value, list | tuple):
            return report.wrong_type(path, f"a list of {self.what}", value)
        kept: dict[str, None] = {}
        for index, item in enumerate(value):
            if not isinstance(item, str) or not item:
                report.wrong_type((*path, index), f"one of the {self.what}", item)
            elif item in kept:
                report.add(
                    (*path, index),
                    f"{item[:60]!r} is named twice in {str(path[-1])!r}",
                    code="repeated",
                    severity="warning",
                    hint="remove one",
                )
            else:
                kept[item] = None
        return tuple(kept)

    def plain(self, value: object) -> object:
        """Give a list."""
        assert isinstance(value, tuple)
        return list(value)


class Inputs(msgspec.Struct, frozen=True):
    """Port name -> selector; ``[a, b]`` stands for ``{a: a, b: b}``."""

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        one: Json = {"type": "string", "minLength": 1}
        return {
            "anyOf": [
                {"type": "object", "additionalProperties": one},
                {"type": "array", "items": one},
            ]
        }

    def read(
        self, value: object, path: SourcePath, report: Report
    ) -> dict[str, Selector] | Invalid:
        """Accept a mapping of selectors, or a list of task names."""
        if isinstance(value, list | tuple):
            return self._from_list(value, path, report)
        if not isinstance(value, dict):
            return report.wrong_type(path, "a mapping such as {raw: fetch}", value)
        found: dict[str, Selector] = {}
        for port, text in value.items():
            selector = _selector(text, (*path, port), report)
            if selector is not None:
                found[port] = selector
        return found

    def _from_list(
        self, value: list[object] | tuple[object, ...], path: SourcePath, report: Report
    ) -> dict[str, Selector]:
        found: dict[str, Selector] = {}
        for index, text in enumerate(value):
            selector = _selector(text, (*path, index), report)
            if selector is None:
                continue
            if selector.path:
                hint = f"write {{name: {text}}}"
                report.wrong_type((*path, index), "a task name without a path", text, hint)
            found[selector.task] = selector
        return found

    def plain(self, value: object) -> object:
        """Give a mapping of texts."""
        assert isinstance(value, Mapping)
        return {port: format_selector(selector) for port, selector in value.items()}


def _selector(text: object, path: SourcePath, report: Report) -> Selector | None:
    if not isinstance(text, str):
        report.wrong_type(path, "a task name such as fetch or fetch.body", text)
        return None
    if text.lstrip().startswith("${{"):
        report.wrong_value(
            path, "expected a task name, found an expression", "write fetch.body, without braces"
        )
        return None
    try:
        return parse_selector(text)
    except ValueError as error:
        report.wrong_value(path, str(error))
        return None


class EnvTexts(msgspec.Struct, AsIs, frozen=True):
    """Environment variables of a task: name -> text."""

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        names: Json = {"pattern": _VARIABLE_PATTERN}
        return {"type": "object", "propertyNames": names, "additionalProperties": _TEXT}

    def read(self, value: object, path: SourcePath, report: Report) -> dict[str, str] | Invalid:
        """Accept a mapping of texts."""
        if not isinstance(value, dict):
            return report.wrong_type(path, "a mapping of environment variables", value)
        found: dict[str, str] = {}
        for name, given in value.items():
            _check_variable(name, (*path, name), report)
            text = _env_text(given, (*path, name), report)
            if text is not None:
                found[name] = text
        return found


def _env_text(value: object, path: SourcePath, report: Report) -> str | None:
    text = scalar_text(value, path, report)
    if text is None:
        report.wrong_type(path, "text", value, 'an empty value is written ""')
    elif "\0" in text:
        report.wrong_value(path, "expected text without NUL, found one")
    return text


def _check_variable(name: object, path: SourcePath, report: Report) -> None:
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        report.add(
            path,
            f"expected the name of an environment variable, found {describe(name)}",
            code="bad-name",
            hint="letters, digits and '_' are allowed",
            at_key=True,
        )


class EnvironmentNames(msgspec.Struct, AsIs, frozen=True):
    """Environment variables expressions may read: a list of names, or name -> default."""

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        names: Json = {"pattern": _VARIABLE_PATTERN}
        text: Json = {"type": ["string", "number", "boolean", "null"]}
        one: Json = {"type": "string", **names}
        return {
            "anyOf": [
                {"type": "object", "propertyNames": names, "additionalProperties": text},
                {"type": "array", "items": one},
            ]
        }

    def read(
        self, value: object, path: SourcePath, report: Report
    ) -> dict[str, str | None] | Invalid:
        """Accept a list of names, or a mapping of defaults."""
        if isinstance(value, list | tuple):
            for index, name in enumerate(value):
                _check_variable(name, (*path, index), report)
            return {name: None for name in value if isinstance(name, str)}
        if not isinstance(value, dict):
            return report.wrong_type(path, "a list of environment variables", value)
        found: dict[str, str | None] = {}
        for name, default in value.items():
            _check_variable(name, (*path, name), report)
            found[name] = None if default is None else _env_text(default, (*path, name), report)
        return found


class Secrets(msgspec.Struct, AsIs, frozen=True):
    """Secrets: a list of names, or name -> environment variable that holds it."""

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        variable: Json = {"type": ["string", "null"], "pattern": _VARIABLE_PATTERN}
        one: Json = {"type": "string", "pattern": _VARIABLE_PATTERN}
        return {
            "anyOf": [
                {"type": "object", "additionalProperties": variable},
                {"type": "array", "items": one},
            ]
        }

    def read(self, value: object, path: SourcePath, report: Report) -> dict[str, str] | Invalid:
        """Accept a list of names, or a mapping to variables."""
        if isinstance(value, list | tuple):
            for index, name in enumerate(value):
                _check_variable(name, (*path, index), report)
            return {name: name for name in value if isinstance(name, str)}
        if not isinstance(value, dict):
            return report.wrong_type(path, "a list of secrets", value)
        found: dict[str, str] = {}
        for name, variable in value.items():
            at = (*path, name)
            read_name(name, at, report, at_key=True)
            chosen = name if variable is None else variable
            _check_variable(chosen, at, report)
            if isinstance(chosen, str):
                found[name] = chosen
        return found


class Parameters(msgspec.Struct, frozen=True):
    """Parameter name -> JSON Schema with an optional ``default``, or just a default."""

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        kind: Json = {"enum": list(_TYPES)}
        full: Json = {
            "type": "object",
            "properties": {
                "type": {"anyOf": [kind, {"type": "array", "items": kind}]},
                "default": {"description": "Value if none is given; without it one must be."},
                "description": {"type": "string"},
                "enum": {"type": "array"},
                "required": {"type": "array", "items": {"type": "string"}},
            },
        }
        short: Json = {
            "type": ["string", "number", "integer", "boolean", "array", "null"],
            "description": "A default; the type follows from it.",
        }
        return {"type": "object", "additionalProperties": {"anyOf": [full, short]}}

    def read(
        self, value: object, path: SourcePath, report: Report
    ) -> tuple[Parameter, ...] | Invalid:
        """Accept a mapping of parameters."""
        if not isinstance(value, dict):
            report.is_broken = True
            return report.wrong_type(path, "a mapping such as {limit: {type: integer}}", value)
        first: dict[str, str] = {}
        for name in value:
            read_name(name, (*path, name), report, at_key=True)
            twin = first.setdefault(fold_name(name), name)
            if twin != name:
                message = f"the parameters {twin[:60]!r} and {name[:60]!r} are too alike"
                report.add((*path, name), message, code="duplicate-name", at_key=True)
        return tuple(
            _parameter(name, given, (*path, name), report) for name, given in value.items()
        )

    def plain(self, value: object) -> object:
        """Give a mapping of schemas."""
        assert isinstance(value, tuple)
        return {parameter.name: _plain_parameter(parameter) for parameter in value}


def _parameter(name: str, given: object, path: SourcePath, report: Report) -> Parameter:
    if given is None:
        return Parameter(name=name)
    if not isinstance(given, dict):
        kind = _TYPE_OF.get(type(given))
        return Parameter(
            name=name, schema={"type": kind} if kind else {}, is_required=False, default=given
        )
    _check_schema(given, path, report)
    return Parameter(
        name=name,
        schema={key: value for key, value in given.items() if key != "default"},
        is_required="default" not in given,
        default=given.get("default"),
    )


def _check_schema(given: dict[str, object], path: SourcePath, report: Report) -> None:
    """Catch what people write from habit; the whole schema is checked elsewhere."""
    if isinstance(given.get("required"), bool):
        report.wrong_type(
            (*path, "required"),
            "a list",
            given["required"],
            "leave it out: a parameter without 'default' is required",
        )
    kind = given.get("type", "string")
    for index, word in enumerate(kind if isinstance(kind, list) else [kind]):
        if word not in _TYPES:
            at = (*path, "type", index) if isinstance(kind, list) else (*path, "type")
            report.wrong_value(
                at, f"expected a type, found {describe(word)}", nearest(word, _TYPES)
            )


def _plain_parameter(parameter: Parameter) -> object:
    schema = dict(parameter.schema)
    if not parameter.is_required:
        schema["default"] = parameter.default
    return schema
