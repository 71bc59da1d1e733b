"""JSON Schema of a function's keyword parameters, read from its annotations."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence

__all__ = ["schema_of_signature"]

_PLAIN: Mapping[object, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    tuple: "array",
    dict: "object",
    type(None): "null",
}
_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def schema_of_signature(
    function: Callable[..., object], *, skip: Sequence[str] = ()
) -> dict[str, object]:
    """Describe the parameters that can be given by name.

    Parameters
    ----------
    function : callable
        Annotations may be ``str int float bool list dict``, lists and dicts of these, ``Literal``,
        ``Optional`` and unions; anything else accepts any value.
    skip : sequence of str
        Parameters to leave out.

    Returns
    -------
    dict
        JSON Schema of an object; ``additionalProperties`` is false unless the function takes
        ``**kwargs``.
    """
    parameters = inspect.signature(function).parameters
    hints = _hints(function)
    properties: dict[str, object] = {}
    required: list[str] = []
    for name, parameter in parameters.items():
        if name in skip or parameter.kind not in _KINDS:
            continue
        schema = _schema_of(hints.get(name, object))
        if parameter.default is inspect.Parameter.empty:
            required.append(name)
        elif _is_plain(parameter.default):
            schema["default"] = parameter.default
        properties[name] = schema
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    result: dict[str, object] = {
        "type": "object",
        "properties": properties,
        "additionalProperties": is_open,
    }
    if required:
        result["required"] = required
    return result


def _hints(function: Callable[..., object]) -> Mapping[str, object]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # an annotation that names something absent describes nothing
        return {}


def _schema_of(hint: object) -> dict[str, object]:
    plain = _PLAIN.get(hint) if isinstance(hint, type) else None
    if plain is not None:
        return {"type": plain}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return _union(arguments)
    if origin is list and arguments:
        return {"type": "array", "items": _schema_of(arguments[0])}
    if origin is dict and len(arguments) == 2:
        return {"type": "object", "additionalProperties": _schema_of(arguments[1])}
    if origin in _PLAIN:
        return {"type": _PLAIN[origin]}
    return {}


def _union(members: tuple[object, ...]) -> dict[str, object]:
    schemas = [_schema_of(member) for member in members]
    if not all(schemas):
        return {}
    if all(set(schema) == {"type"} for schema in schemas):
        return {"type": [schema["type"] for schema in schemas]}
    return {"anyOf": schemas}


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | str)
