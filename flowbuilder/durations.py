"""Durations as people write them: ``30``, ``1.5``, ``"30s"``, ``"5m"``, ``"1h30m"``,
``"250ms"``.
"""

from __future__ import annotations

import math
import re

__all__ = ["MAX_DURATION_S", "format_duration", "parse_duration"]

MAX_DURATION_S = 10 * 365 * 86_400.0
"""Ten years: anything longer is a typing error, and far below what a timer can hold."""

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def parse_duration(value: object) -> float:
    """Read a duration.

    Parameters
    ----------
    value : int, float or str
        A number is seconds; text is a sum of numbers with units ms, s, m, h, d in falling order of
        your liking.

    Returns
    -------
    float
        Seconds, finite, from 0 to `MAX_DURATION_S`.

    Raises
    ------
    ValueError
        If it is not a duration, is negative, not finite, or over ten years.
    """
    seconds = _seconds(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"expected a duration of 0 or more seconds, found {value!r}")
    if seconds > MAX_DURATION_S:
        raise ValueError(f"expected a duration of at most ten years, found {value!r}")
    return seconds


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a duration such as 30, '30s' or '5m', found {value!r}")  # noqa: TRY004
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e15 else math.copysign(math.inf, value)
    text = value.strip()[:64]
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise ValueError(f"expected a duration such as 30, '30s' or '5m', found {value[:64]!r}")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """Show a duration in at most seven characters: ``850us``, ``12ms``, ``3.4s``, ``2m05s``,
    ``1h02m``.
    """
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}us"
    if seconds < 1:
        return f"{seconds * 1e3:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m{int(seconds % 60):02d}s"
    return f"{int(seconds // 3600)}h{int(seconds % 3600 // 60):02d}m"
