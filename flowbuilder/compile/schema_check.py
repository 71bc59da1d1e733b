"""Values against a JSON Schema: every mismatch in our words, leaving open what expressions give."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Any

import msgspec

from flowbuilder.compile.schema_messages import (
    describe,
    is_composite,
    nested_errors,
    property_names,
)
from flowbuilder.expressions import nearest

__all__ = ["Mismatch", "SchemaCheck", "to_json_tree"]

ValuePath = tuple[str | int, ...]
_BACKTRACK_LIMIT = 100_000
_MAX_DEPTH = 200


class Mismatch(msgspec.Struct, frozen=True):
    """One value that does not fit: where it is, what is wrong, what to do."""

    path: ValuePath
    message: str
    hint: str = ""
    is_unknown_field: bool = False


class SchemaCheck:
    """A JSON Schema (2020-12), compiled at first use. Never fetches anything a ``$ref`` points to.

    Parameters
    ----------
    schema : mapping
        The schema.
    """

    def __init__(self, schema: Mapping[str, object]) -> None:
        self._schema = schema

    @cached_property
    def _validator(self) -> Any:
        import jsonschema_rs

        schema: Any = to_json_tree(self._schema)
        return jsonschema_rs.Draft202012Validator(
            schema,
            offline=True,
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACK_LIMIT),
        )

    def schema_error(self) -> str:
        """Say what is wrong with the schema itself; empty if nothing is."""
        try:
            _ = self._validator
        except (ValueError, TypeError, RecursionError) as error:
            return str(error).split("\n", maxsplit=1)[0][:200]
        return ""

    def accepts(self, value: object) -> bool:
        """Tell whether a value fits; some 0.5 us for a small one."""
        try:
            return bool(self._validator.is_valid(value))
        except (ValueError, TypeError):
            return False

    def mismatches(self, value: object, open_paths: Collection[ValuePath] = ()) -> list[Mismatch]:
        """Find every value that does not fit.

        Parameters
        ----------
        value : object
            Mappings, sequences and scalars.
        open_paths : collection of path
            Where expressions stand, whose values are not known yet.

        Returns
        -------
        list of Mismatch
            Without those that the expressions may still put right.
        """
        try:
            errors = list(self._validator.iter_errors(to_json_tree(value)))
        except (ValueError, TypeError, RecursionError) as failure:
            return [Mismatch((), f"expected plain data, found something else: {failure}"[:200])]
        wrong = [error for error in errors if not _may_still_fit(error, open_paths)]
        return [mismatch for error in wrong for mismatch in self._explain(error)]

    def _explain(self, error: Any) -> Iterator[Mismatch]:
        path: ValuePath = tuple(error.instance_path)
        unexpected = getattr(error.kind, "unexpected", None)
        if not isinstance(unexpected, list) or not all(
            isinstance(name, str) for name in unexpected
        ):
            message, hint = describe(error, self._schema)
            yield Mismatch(path, message, hint)
            return
        known = property_names(self._schema, error.schema_path)
        for name in unexpected:
            close = nearest(name, known)
            hint = f"did you mean {close!r}?" if close else ""
            if not hint and known:
                hint = "known fields: " + ", ".join(sorted(known)[:12])
            yield Mismatch(
                (*path, name), f"unknown field {name[:80]!r}", hint, is_unknown_field=True
            )


def _may_still_fit(error: Any, open_paths: Collection[ValuePath]) -> bool:
    """Tell whether an expression at or below the value can make it fit."""
    if not open_paths:
        return False
    path: ValuePath = tuple(error.instance_path)
    if path in open_paths:
        return True
    if not any(open_path[: len(path)] == path for open_path in open_paths):
        return False
    branches = nested_errors(error)
    if branches:
        return any(all(_may_still_fit(item, open_paths) for item in branch) for branch in branches)
    return is_composite(error)


def to_json_tree(value: object, depth: int = 0) -> object:
    """Copy mappings and tuples as the dicts and lists a validator knows.

    Parameters
    ----------
    value : object
        Any tree.
    depth : int
        How deep inside it is.

    Returns
    -------
    object
        Everything but collections by reference.

    Raises
    ------
    ValueError
        If the tree is nested more than 200 deep, or cyclic.
    """
    kind = type(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return value
    if depth > _MAX_DEPTH:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return {str(key): to_json_tree(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_tree(item, depth + 1) for item in value]
    return value
