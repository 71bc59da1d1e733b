"""What a plain YAML scalar means: the core schema of YAML 1.2.

``no``, ``on``, ``12:30:45``, ``1_000`` and dates are text; ``null``, ``true``, ``0o17`` and
``.inf`` are not.

References
----------
YAML 1.2.2, section 10.3.2.
"""

from __future__ import annotations

import math
import re

__all__ = [
    "CONTAINER_TAGS",
    "MAX_INTEGER",
    "MIN_INTEGER",
    "TEXT_TAGS",
    "resolve_scalar",
    "resolve_tagged",
]

_CORE = "tag:yaml.org,2002:"
CONTAINER_TAGS = frozenset({"!", _CORE + "map", _CORE + "seq"})
TEXT_TAGS = frozenset({"!", _CORE + "str"})
_TAGGED: dict[str, tuple[type, ...]] = {
    _CORE + "int": (int,),
    _CORE + "float": (int, float),
    _CORE + "bool": (bool,),
    _CORE + "null": (type(None),),
}

MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**63 - 1

_WORDS: dict[str, object] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_NUMBER_STARTS = frozenset("0123456789+-.")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST_INTEGER = (
    70  # 64 bits in octal with room for leading zeros; int() refuses thousands of digits
)


def resolve_scalar(text: str) -> object:
    """Give the value of an unquoted scalar.

    Parameters
    ----------
    text : str
        As written, without surrounding white space.

    Returns
    -------
    object
        None, bool, int, float, or the text itself.

    Raises
    ------
    ValueError
        If it is a whole number that does not fit into 64 bits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def resolve_tagged(text: str, tag: str) -> object:
    """Give the value of a scalar with a tag of the core schema.

    Parameters
    ----------
    text : str
        As written.
    tag : str
        Resolved, such as ``tag:yaml.org,2002:int``.

    Returns
    -------
    object
        A value of the tag's type.

    Raises
    ------
    LookupError
        If the tag is not one of the core schema.
    ValueError
        If the text is not a value of that type.
    """
    if tag in TEXT_TAGS:
        return text
    types = _TAGGED[tag]
    value = resolve_scalar(text)
    if type(value) not in types:
        name = tag.removeprefix(_CORE)
        raise ValueError(f"expected a value for '!!{name}', found {text[:40]!r}")
    return float(value) if isinstance(value, int) and float in types else value


def _integer(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    value = int(text, base) if len(text) <= _LONGEST_INTEGER else MAX_INTEGER + 1
    if not MIN_INTEGER <= value <= MAX_INTEGER:
        raise ValueError("expected a whole number of at most 64 bits, found a larger one")
    return value
