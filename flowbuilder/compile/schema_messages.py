"""What a JSON Schema mismatch means to an author: expected, found, and what to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from flowbuilder.expressions import nearest

__all__ = ["describe", "is_composite", "nested_errors", "property_names", "show"]

_TYPES: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
_COMPOSITE: Final = frozenset({"anyOf", "oneOf", "not", "contains", "const", "enum", "uniqueItems"})
_CONDITIONAL: Final = frozenset({"if", "then", "else", "dependentSchemas"})
_BOUNDS: Final = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}
_LENGTHS: Final = {
    "minLength": ("at least", "characters"),
    "maxLength": ("at most", "characters"),
    "minItems": ("at least", "items"),
    "maxItems": ("at most", "items"),
    "minProperties": ("at least", "fields"),
    "maxProperties": ("at most", "fields"),
}


def show(value: object) -> str:
    """Show a value in a message: short, on one line, as YAML writes it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def describe(error: Any, schema: Mapping[str, object]) -> tuple[str, str]:
    """Put a mismatch into words.

    Parameters
    ----------
    error : jsonschema_rs.ValidationError
        What the validator found.
    schema : mapping
        The whole schema.

    Returns
    -------
    message, hint : str
        ``expected ..., found ...`` and what to do; the hint may be empty.
    """
    keyword = error.kind.name
    found = show(error.instance)
    if keyword == "type":
        return f"expected {_type_words(error.kind.types)}, found {found}", ""
    if keyword == "required":
        return f"required field {error.kind.property!r} is missing", f"add '{error.kind.property}:'"
    if keyword == "enum":
        return _describe_choice(error.kind.options, error.instance)
    if keyword == "const":
        return f"expected {show(error.kind.value)}, found {found}", ""
    if keyword in _BOUNDS:
        return f"expected {_BOUNDS[keyword]} {error.kind.limit}, found {found}", ""
    if keyword in _LENGTHS:
        word, unit = _LENGTHS[keyword]
        return f"expected {word} {error.kind.limit} {unit}, found {len(error.instance)}", ""
    if keyword == "pattern":
        return f"expected text like {error.kind.pattern}, found {found}", ""
    if keyword == "format":
        return f"expected a {error.kind.format}, found {found}", ""
    if keyword in {"oneOf", "anyOf"}:
        return _describe_forms(error, schema)
    return " ".join(str(error.message).split())[:200], ""


def _type_words(types: Sequence[str]) -> str:
    return " or ".join(_TYPES.get(name, name) for name in types)


def _describe_choice(options: Sequence[object], value: object) -> tuple[str, str]:
    texts = [option for option in options if isinstance(option, str)]
    close = nearest(value, texts) if isinstance(value, str) else None
    listed = ", ".join(show(option) for option in options[:12])
    more = ", ..." if len(options) > 12 else ""
    hint = f"did you mean {close!r}?" if close else ""
    return f"expected one of {listed}{more}, found {show(value)}", hint


def _describe_forms(error: Any, schema: Mapping[str, object]) -> tuple[str, str]:
    """Describe a value that has none of several forms, or more than one."""
    fields = _required_by_forms(schema, error.schema_path)
    branches = nested_errors(error)
    listed = ", ".join(map(repr, fields))
    if not branches or not all(branches):  # it has several of the forms
        if fields:
            return f"expected only one of {listed}, found several", "remove the others"
        return f"expected one of several forms, found {show(error.instance)} that has more", ""
    if fields and all(item.kind.name == "required" for branch in branches for item in branch):
        return f"expected one of {listed}, found none", f"add '{fields[0]}:'"
    types = [name for branch in branches for name in _types_expected(error, branch)]
    if types and len(types) >= len(branches):
        words = _type_words(list(dict.fromkeys(types)))
        return f"expected {words}, found {show(error.instance)}", ""
    # The form its author meant is most likely the one with the fewest and deepest mistakes.
    nearest_form = min(branches, key=_distance, default=[])
    if not nearest_form:
        return f"expected exactly one of several forms, found {show(error.instance)}", ""
    cause = nearest_form[0]
    below = ".".join(map(str, list(cause.instance_path)[len(list(error.instance_path)) :]))
    message, hint = describe(cause, schema)
    return f"{below}: {message}" if below else message, hint


def _distance(branch: Sequence[Any]) -> tuple[bool, int, int]:
    is_other_type = any(item.kind.name == "type" for item in branch)
    return is_other_type, len(branch), -max(len(item.instance_path) for item in branch)


def _types_expected(error: Any, branch: Sequence[Any]) -> list[str]:
    """List the types a form asked for, if the type is what was wrong."""
    if len(branch) != 1 or branch[0].kind.name != "type":
        return []
    same_place = list(branch[0].instance_path) == list(error.instance_path)
    return list(branch[0].kind.types) if same_place else []


def nested_errors(error: Any) -> list[list[Any]]:
    """List, per form of a ``oneOf`` or ``anyOf``, why the value does not have it."""
    context = getattr(error.kind, "context", None)
    return context if isinstance(context, list) else []


def is_composite(error: Any) -> bool:
    """Tell whether the mismatch of a collection may be due to one of its members."""
    return error.kind.name in _COMPOSITE or not _CONDITIONAL.isdisjoint(map(str, error.schema_path))


def property_names(
    schema: Mapping[str, object], schema_path: Sequence[str | int]
) -> Collection[str]:
    """List the fields the object at fault may have, as far as its own schema says."""
    owner = _schema_at(schema, list(schema_path)[:-1])
    properties = owner.get("properties") if isinstance(owner, Mapping) else None
    return list(properties) if isinstance(properties, Mapping) else []


def _required_by_forms(schema: Mapping[str, object], schema_path: Sequence[str | int]) -> list[str]:
    """List the fields by which the forms differ, if that is what they differ by."""
    forms = _schema_at(schema, list(schema_path))
    if not isinstance(forms, list):
        return []
    required = [form.get("required") if isinstance(form, Mapping) else None for form in forms]
    if not all(isinstance(names, list) and len(names) == 1 for names in required):
        return []
    return [str(names[0]) for names in required if names]


def _schema_at(schema: object, path: Sequence[str | int]) -> object:
    for step in path:
        if isinstance(schema, Mapping):
            schema = schema.get(str(step))
        elif isinstance(schema, list | tuple) and isinstance(step, int) and step < len(schema):
            schema = schema[step]
        else:
            return None
    return schema
