"""Readers of single settings; each raises `ValueError` for what it cannot take."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from flowbuilder.durations import parse_duration

__all__ = [
    "choice_reader",
    "parse_size",
    "read_count",
    "read_duration",
    "read_path",
    "read_pools",
]

_MAX_COUNT = 1_000_000
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", re.ASCII | re.IGNORECASE)
_SIZE_FACTORS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


def parse_size(value: object) -> int:
    """Read an amount of bytes.

    Parameters
    ----------
    value : int or str
        A number of bytes, or text such as ``"64 MiB"``, ``"1.5GB"``, ``"200k"``.

    Returns
    -------
    int
        Bytes, from 0 to 2**62.

    Raises
    ------
    ValueError
        If it is not a size.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = float(value)
    else:
        match = _SIZE.fullmatch(value.strip()[:64]) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"expected a size such as 1048576 or '64 MiB', found {value!r}")
        size = float(match[1]) * _SIZE_FACTORS[(match[2] or "").lower()]
    if not 0 <= size <= 2**62:
        raise ValueError(f"expected a size from 0 to 4 EiB, found {value!r}")
    return math.floor(size)


def read_count(value: object) -> int:
    """Read a whole number from 1 to 1,000,000."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,12}\s*", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_COUNT:
        raise ValueError(f"expected a whole number from 1 to {_MAX_COUNT}, found {value!r}")
    return value


def read_duration(value: object) -> float:
    """Read a duration in seconds."""
    return parse_duration(value)


def read_path(value: object) -> Path:
    """Read a path; it must not be empty."""
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ValueError(f"expected a path, found {value!r}")
    if "\0" in str(value):
        raise ValueError(f"expected a path without NUL characters, found {str(value)!r}")
    return Path(value).expanduser()


def read_pools(value: object) -> Mapping[str, int]:
    """Read pool limits: a table of names and counts, or text such as ``"gpu=1, db=4"``."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        value = {name.strip(): limit.strip() for name, _, limit in pairs}
    if not isinstance(value, Mapping):
        raise ValueError(f"expected pools such as 'gpu=1, db=4', found {value!r}")  # noqa: TRY004
    pools: dict[str, int] = {}
    for name, limit in value.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"expected a pool name, found {name!r}")
        try:
            pools[name] = read_count(limit)
        except ValueError as error:
            raise ValueError(f"pool {name!r}: {error}") from None
    return MappingProxyType(pools)


def choice_reader(choices: type[StrEnum]) -> Callable[[object], object]:
    """Make a reader for one of an enumeration's words."""

    def read_choice(value: object) -> object:
        if isinstance(value, str) and value in tuple(choices):
            return choices(value)
        raise ValueError(f"expected one of {', '.join(choices)}, found {value!r}")

    return read_choice
