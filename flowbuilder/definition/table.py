"""Field tables: one list of fields per object drives reading, the JSON Schema and writing.

So the three cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import force_setattr

from flowbuilder.definition.report import Invalid, Report, describe, nearest
from flowbuilder.definition.shapes import Json, Later, Shape
from flowbuilder.model.spec import SourcePath

__all__ = ["Field", "Record", "Records", "Switch", "Table"]


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field of an object in the file.

    Parameters
    ----------
    name : str
        Key in the file.
    shape : Shape
        Its form.
    doc : str
        One sentence for editors.
    attribute : str
        Attribute of the model; empty if it is called like the field.
    is_required : bool
        Whether the object is nothing without it. Any other field may be ``null``, which is its
        default.
    is_folded : bool
        Whether it goes into other fields when read, so it is never written.
    """

    name: str
    shape: Shape
    doc: str
    attribute: str = ""
    is_required: bool = False
    is_folded: bool = False

    @property
    def target(self) -> str:
        """Attribute of the model."""
        return self.attribute or self.name

    @property
    def is_later(self) -> bool:
        """Whether the field is known but does nothing yet."""
        return isinstance(self.shape, Later)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of one kind of object.

    Parameters
    ----------
    what : str
        Its name in messages, such as ``task``.
    struct : type
        The model's class; its defaults are the defaults of the fields.
    fields : tuple of Field
        In the order they are written.
    example : str
        What to write, for whoever writes something that is no mapping.
    near_misses : mapping
        Keys other tools use -> what to write here.
    allows_extensions : bool
        Whether keys that start with ``x-`` are left alone (a place for anchors).
    """

    what: str
    struct: type[msgspec.Struct]
    fields: tuple[Field, ...]
    example: str = ""
    near_misses: Mapping[str, str] = msgspec.field(default_factory=dict)
    allows_extensions: bool = False
    # Derived from the others, never given: reading a task is then a few dictionary look-ups.
    by_name: dict[str, Field] = {}
    required: tuple[str, ...] = ()
    defaults: dict[str, object] = {}

    def __post_init__(self) -> None:
        force_setattr(self, "by_name", {each.name: each for each in self.fields})
        required = tuple(each.name for each in self.fields if each.is_required)
        force_setattr(self, "required", required)
        force_setattr(self, "defaults", _struct_defaults(self.struct))

    def read(self, value: object, path: SourcePath, report: Report) -> dict[str, object] | Invalid:
        """Read an object.

        Parameters
        ----------
        value : object
            What is written.
        path : tuple
            Where.
        report : Report
            Gets every problem.

        Returns
        -------
        dict or Invalid
            Attribute -> value for each field that is written and right.
        """
        if not isinstance(value, dict):
            expected = "a mapping" if path and isinstance(path[-1], str) else f"a {self.what}"
            return report.wrong_type(path, expected, value, self.example)
        found: dict[str, object] = {}
        by_name = self.by_name
        for key, given in value.items():
            known = by_name.get(key)
            if known is None:
                self._report_unknown(key, path, report)
            elif given is None and not known.is_required:
                if not known.is_later:
                    found[known.target] = self.defaults.get(known.target)
            else:
                result = known.shape.read(given, (*path, key), report)
                if not isinstance(result, Invalid):
                    found[known.attribute or key] = result
        for name in self.required:
            if name not in value:
                report.is_broken = True
                message = f"expected the field {name!r} in this {self.what}, found none"
                report.add(path, message, code="missing-field", hint=f"add '{name}:'")
        return found

    def _report_unknown(self, key: object, path: SourcePath, report: Report) -> None:
        if self.allows_extensions and str(key).startswith("x-"):
            return
        hint = self.near_misses.get(str(key)) or nearest(key, list(self.by_name))
        message = f"unknown field {describe(key)} in this {self.what}"
        report.add((*path, str(key)), message, code="unknown-field", hint=hint, at_key=True)

    def plain(self, value: object) -> dict[str, object]:
        """Write an object: its fields in order, those at their default left out."""
        found: dict[str, object] = {}
        for each in self.fields:
            if each.is_later or each.is_folded:
                continue
            given = getattr(value, each.target)
            if each.is_required or given != self.defaults[each.target]:
                found[each.name] = each.shape.plain(given)
        return found

    def schema(self, overrides: Mapping[str, Json] | None = None) -> Json:
        """Describe the object as JSON Schema.

        Parameters
        ----------
        overrides : mapping, optional
            Field name -> schema in place of the shape's own.

        Returns
        -------
        dict
            Schema of a closed object.
        """
        properties: Json = {}
        for each in self.fields:
            own = (overrides or {}).get(each.name) or each.shape.schema()
            properties[each.name] = self._described(each, own)
        schema: Json = {"type": "object", "additionalProperties": False, "properties": properties}
        if self.required:
            schema["required"] = list(self.required)
        if self.allows_extensions:
            schema["patternProperties"] = {"^x-": True}
        return schema

    def _described(self, each: Field, own: Json) -> Json:
        doc = f"{each.doc} Not supported yet." if each.is_later else each.doc
        schema: Json = {"description": doc}
        default = self.defaults.get(each.target)
        if default is not None and default != "" and isinstance(default, str | int | float):
            schema["default"] = each.shape.plain(default)
        if each.is_required:
            return {**schema, **own}
        return {**schema, "anyOf": [own, {"type": "null"}]}


class Record(msgspec.Struct, frozen=True):
    """An object inside an object; read as attribute -> value, so that defaults can be merged in."""

    table: Table

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        return self.table.schema()

    def read(self, value: object, path: SourcePath, report: Report) -> object:
        """Read the fields."""
        return self.table.read(value, path, report)

    def plain(self, value: object) -> object:
        """Write the fields."""
        return self.table.plain(value)


class Switch(msgspec.Struct, frozen=True):
    """An object, or just true for one with its defaults and false for none."""

    table: Table

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        return {"anyOf": [{"type": "boolean"}, self.table.schema()]}

    def read(self, value: object, path: SourcePath, report: Report) -> object:
        """Read the fields; true has none, false is None."""
        if isinstance(value, bool):
            return {} if value else None
        if not isinstance(value, dict):
            return report.wrong_type(path, "true, false or a mapping", value, self.table.example)
        return self.table.read(value, path, report)

    def plain(self, value: object) -> object:
        """Write the fields, or true if all are at their defaults."""
        return self.table.plain(value) or True


class Records(msgspec.Struct, frozen=True):
    """A list of at least one object."""

    table: Table

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        return {"type": "array", "minItems": 1, "items": self.table.schema()}

    def read(self, value: object, path: SourcePath, report: Report) -> object:
        """Read every object; None in place of what is none."""
        what = self.table.what
        if not isinstance(value, list | tuple):
            report.is_broken = True
            hint = f"write '- name: ...' for each {what}" if isinstance(value, dict) else ""
            return report.wrong_type(path, f"a list of {what}s", value, hint)
        if not value:
            report.is_broken = True
            message = f"expected at least one {what}, found an empty list"
            return report.add(path, message, code="empty-workflow")
        read = self.table.read
        found: list[dict[str, object] | None] = []
        for index, item in enumerate(value):
            fields = read(item, (*path, index), report)
            if isinstance(fields, Invalid):
                report.is_broken = True
                found.append(None)
            else:
                found.append(fields)
        return found

    def plain(self, value: object) -> object:
        """Write every object."""
        assert isinstance(value, tuple)
        return [self.table.plain(item) for item in value]


def _struct_defaults(struct: type[msgspec.Struct]) -> dict[str, object]:
    defaults: dict[str, object] = {}
    for each in msgspec.structs.fields(struct):
        if each.default is not msgspec.NODEFAULT:
            defaults[each.name] = each.default
        elif each.default_factory is not msgspec.NODEFAULT:
            defaults[each.name] = each.default_factory()
    return defaults
