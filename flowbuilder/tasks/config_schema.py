"""A task type's JSON Schema at work: defaults filled in, rendered values checked."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from flowbuilder.compile.schema_check import Mismatch, SchemaCheck

__all__ = ["ConfigSchema"]

_SCALARS = (type(None), bool, int, float, str)
_LARGE = 10_000


class ConfigSchema:
    """A schema, compiled when it is first needed. Thread-safe.

    Parameters
    ----------
    schema : mapping
        JSON Schema (2020-12) of a config.
    """

    __slots__ = ("_check", "_schema")

    def __init__(self, schema: Mapping[str, object]) -> None:
        self._schema = schema
        self._check = SchemaCheck(schema)

    def with_defaults(self, config: Mapping[str, object]) -> dict[str, object]:
        """Fill in the ``default`` of absent properties, also inside objects that are there."""
        return _with_defaults(config, self._schema)

    def mismatch(self, config: Mapping[str, object]) -> Mismatch | None:
        """Find the first value that does not fit.

        Returns
        -------
        Mismatch or None
            None if everything fits. Tables and other objects count as objects, and collections of
            over 10,000 members are not looked into.
        """
        plain = _plain(config)
        if self._check.accepts(plain):
            return None
        return next(iter(self._check.mismatches(plain)), None)


def _with_defaults(config: Mapping[str, object], schema: Mapping[str, object]) -> dict[str, object]:
    filled = dict(config)
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return filled
    for name, part in properties.items():
        if not isinstance(part, Mapping):
            continue
        if name not in filled:
            if "default" in part:
                filled[name] = copy.deepcopy(part["default"])
        else:
            value = filled[name]
            if isinstance(value, Mapping) and "properties" in part:
                filled[name] = _with_defaults(value, part)
    return filled


def _plain(value: object, depth: int = 0) -> object:
    if isinstance(value, _SCALARS):
        return value
    if depth > 32 or not isinstance(value, Mapping | list | tuple):
        return {}
    if isinstance(value, Mapping):
        if len(value) > _LARGE:
            return {}
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    return [] if len(value) > _LARGE else [_plain(item, depth + 1) for item in value]
