"""Shapes of single values: each reads one, describes itself as JSON Schema, and writes it back.

A shape never raises for what a user wrote: it reports the problem and gives `INVALID`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import msgspec

from flowbuilder.definition.report import INVALID, Invalid, Report, nearest
from flowbuilder.durations import parse_duration
from flowbuilder.model.names import MAX_NAME_LENGTH, name_problem, suggest_name
from flowbuilder.model.spec import SourcePath

__all__ = [
    "Choice",
    "Condition",
    "Duration",
    "Flag",
    "FreeMapping",
    "Json",
    "Later",
    "Name",
    "Shape",
    "Share",
    "Size",
    "Text",
    "TypeName",
    "Whole",
    "read_name",
    "scalar_text",
]

Json = dict[str, object]
"""A JSON Schema, or a part of one."""

_DURATION = r"^\s*(\d+(\.\d+)?|(\d+(\.\d+)?(ms|s|m|h|d)\s*)+)\s*$"
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", re.IGNORECASE)
_MOST_BYTES = 2**60


class Shape(Protocol):
    """The form of a value: how it is read, described and written."""

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        ...

    def read(self, value: object, path: SourcePath, report: Report) -> object:
        """Turn what is written into a value of the model, or report why not and give `INVALID`."""
        ...

    def plain(self, value: object) -> object:
        """Turn a value of the model into what is written."""
        ...


class AsIs:
    """A shape whose values are written as they are."""

    __slots__ = ()

    def plain(self, value: object) -> object:
        """Give the value itself."""
        return value


class Text(msgspec.Struct, AsIs, frozen=True):
    """Free text; a number counts as it is written, so ``version: 1.10`` is ``"1.10"``."""

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        return {"type": ["string", "number", "boolean"]}

    def read(self, value: object, path: SourcePath, report: Report) -> str | Invalid:
        """Accept scalars."""
        if type(value) is str:
            return value
        text = scalar_text(value, path, report)
        return report.wrong_type(path, "text", value) if text is None else text


def scalar_text(value: object, path: SourcePath, report: Report) -> str | None:
    """Give a scalar as it is written; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return report.written(path) or ("true" if value else "false")
    if isinstance(value, int | float):
        return report.written(path) or str(value)
    return None


class Name(msgspec.Struct, AsIs, frozen=True):
    """A name by `flowbuilder.model.names`."""

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH}

    def read(self, value: object, path: SourcePath, report: Report) -> str | Invalid:
        """Report a bad name but keep it, so that references to it still resolve."""
        if not isinstance(value, str):
            report.is_broken = True
            return report.wrong_type(path, "a name", value, "put it in quotes" if value else "")
        read_name(value, path, report)
        return value


def read_name(name: str, path: SourcePath, report: Report, *, at_key: bool = False) -> None:
    """Report what is wrong with a name."""
    problem = name_problem(name)
    if problem is None:
        return
    better = suggest_name(name)
    shown = repr(name if len(name) <= 60 else f"{name[:57]}...")
    report.add(
        path,
        f"{shown} cannot be a name: {problem}",
        code="bad-name",
        hint=f"for example {better!r}" if better else "",
        at_key=at_key,
    )


class TypeName(msgspec.Struct, AsIs, frozen=True):
    """The name of a task type."""

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH}

    def read(self, value: object, path: SourcePath, report: Report) -> str | Invalid:
        """Accept any short text; whether the type exists is checked elsewhere."""
        if isinstance(value, str) and value and len(value) <= MAX_NAME_LENGTH:
            return value
        report.is_broken = True
        return report.wrong_type(path, "a task type such as script, shell or http", value)


class Flag(msgspec.Struct, AsIs, frozen=True):
    """True or false."""

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        return {"type": "boolean"}

    def read(self, value: object, path: SourcePath, report: Report) -> bool | Invalid:
        """Accept nothing else: a quoted word is a text."""
        return value if isinstance(value, bool) else report.wrong_type(path, "true or false", value)


class Choice(msgspec.Struct, frozen=True):
    """One word of an enumeration; those in ``later`` are known but not built yet."""

    words: type[StrEnum]
    later: frozenset[StrEnum] = frozenset()

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        return {"enum": [str(word) for word in self.words if word not in self.later]}

    def read(self, value: object, path: SourcePath, report: Report) -> StrEnum | Invalid:
        """Accept a word."""
        known = [str(word) for word in self.words]
        if isinstance(value, str) and value in known:
            word = self.words(value)
            if word not in self.later:
                return word
            ready = ", ".join(each for each in known if self.words(each) not in self.later)
            message = f"'{path[-1]}: {value}' is not supported yet"
            return report.add(path, message, code="not-supported-yet", hint=f"use one of: {ready}")
        expected = "one of " + ", ".join(known)
        if not isinstance(value, str):
            return report.wrong_type(path, expected, value)
        found = value if len(value) <= 60 else f"{value[:57]}..."
        return report.wrong_value(
            path, f"expected {expected}, found {found!r}", _near(value, known)
        )

    def plain(self, value: object) -> object:
        """Give the word."""
        return str(value)


def _near(word: str, known: list[str]) -> str:
    hint = nearest(word, known)
    return hint if hint.startswith("did") else ""


class Duration(msgspec.Struct, frozen=True):
    """Seconds, or text such as ``30s`` and ``1h30m``."""

    may_be_zero: bool = True

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        bound = "minimum" if self.may_be_zero else "exclusiveMinimum"
        return {"anyOf": [{"type": "number", bound: 0}, {"type": "string", "pattern": _DURATION}]}

    def read(self, value: object, path: SourcePath, report: Report) -> float | Invalid:
        """Accept what `parse_duration` does."""
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            return report.wrong_value(path, str(error))
        if seconds == 0 and not self.may_be_zero:
            return report.wrong_value(path, f"expected more than 0 seconds, found {value!r}")
        return seconds

    def plain(self, value: object) -> object:
        """Give seconds, whole ones without a point."""
        assert isinstance(value, float | int)
        return int(value) if float(value).is_integer() else value


class Whole(msgspec.Struct, AsIs, frozen=True):
    """A whole number within bounds."""

    least: int
    most: int

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def read(self, value: object, path: SourcePath, report: Report) -> int | Invalid:
        """Accept whole numbers, ``2.0`` too."""
        expected = f"a whole number from {self.least} to {self.most}"
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            return report.wrong_type(path, expected, value)
        if not self.least <= value <= self.most:
            return report.wrong_value(path, f"expected {expected}, found {value}")
        return value


class Share(msgspec.Struct, AsIs, frozen=True):
    """A number from 0 to 1."""

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        return {"type": "number", "minimum": 0, "maximum": 1}

    def read(self, value: object, path: SourcePath, report: Report) -> float | Invalid:
        """Accept numbers from 0 to 1."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return report.wrong_type(path, "a number from 0 to 1", value)
        if math.isnan(value) or not 0 <= value <= 1:
            return report.wrong_value(path, f"expected a number from 0 to 1, found {value}")
        return float(value)


class Size(msgspec.Struct, AsIs, frozen=True):
    """Bytes, or text such as ``512MB`` and ``2GiB``."""

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        pattern = r"^\s*\d+(\.\d+)?\s*[KMGTkmgt]?[Ii]?[Bb]?\s*$"
        return {
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": pattern}]
        }

    def read(self, value: object, path: SourcePath, report: Report) -> int | Invalid:
        """Accept bytes or a number with a unit."""
        size = _size(value)
        if size is None or not 0 <= size <= _MOST_BYTES:
            return report.wrong_type(path, "a size such as 512MB or 2GiB", value)
        return size


def _size(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) and len(value) <= 40 else None
    if found is None:
        return None
    number, prefix, binary = found.groups()
    factor = (1024 if binary else 1000) ** " KMGT".index(prefix.upper() or " ")
    return int(float(number) * factor) if "." in number else int(number) * factor


class FreeMapping(msgspec.Struct, AsIs, frozen=True):
    """A mapping whose content somebody else checks."""

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        return {"type": "object"}

    def read(self, value: object, path: SourcePath, report: Report) -> dict[str, object] | Invalid:
        """Accept any mapping, by reference."""
        return value if isinstance(value, dict) else report.wrong_type(path, "a mapping", value)


class Condition(msgspec.Struct, AsIs, frozen=True):
    """An expression, bare or as ``${{ ... }}``."""

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        return {"type": ["string", "boolean"], "minLength": 1}

    def read(self, value: object, path: SourcePath, report: Report) -> str | Invalid:
        """Accept an expression and take it out of its braces."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if not isinstance(value, str):
            return report.wrong_type(path, "an expression", value)
        text = value.strip()
        if text.startswith("${{") and text.endswith("}}"):
            text = text[3:-2].strip()
        if "${{" in text:
            message = "expected one expression, found '${{' inside it"
            return report.wrong_value(path, message, "write it without braces: a && b")
        if not text:
            return report.wrong_value(path, "expected an expression, found an empty text")
        return text


class Later(msgspec.Struct, AsIs, frozen=True):
    """A field whose behaviour does not exist yet: its form is checked, then it is refused."""

    shape: Json
    accepts: Callable[[object], bool]
    expected: str
    hint: str = ""
    harmless: tuple[object, ...] = ()

    def schema(self) -> Json:
        """Describe the accepted values as JSON Schema."""
        return self.shape

    def read(self, value: object, path: SourcePath, report: Report) -> Invalid:
        """Refuse everything that would have to do something."""
        if any(value is each for each in self.harmless):
            return INVALID
        if not self.accepts(value):
            return report.wrong_type(path, self.expected, value)
        message = f"{str(path[-1])!r} is not supported yet"
        return report.add(path, message, code="not-supported-yet", hint=self.hint, at_key=True)
