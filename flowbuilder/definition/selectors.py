r"""Selectors as people write them: ``fetch``, ``fetch.body``, ``fetch['x-y'][0].name``."""

from __future__ import annotations

import re

from flowbuilder.model.names import name_problem
from flowbuilder.model.spec import Selector

__all__ = ["format_selector", "parse_selector"]

_HEAD = re.compile(r"[^.\[]*")
# Compiled at the first use, by `re` itself: most selectors are just a name.
_STEP = r"""(?xs)\.(?P<index>\d{1,9})(?=[.\[]|$)
      | \.(?P<name>[^\W\d][\w-]*)
      | \[(?P<position>-?\d{1,9})\]
      | \['(?P<single>(?:[^'\\]|\\.)*)'\]
      | \["(?P<double>(?:[^"\\]|\\.)*)"\]"""
_PLAIN = re.compile(r"[^\W\d][\w-]*")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse_selector(text: str) -> Selector:
    """Read the origin of an input.

    Parameters
    ----------
    text : str
        A task name, then any number of ``.key``, ``['key']`` and ``[index]``.

    Returns
    -------
    Selector
        The task and the path into its output.

    Raises
    ------
    ValueError
        If it is not of that form; the message says where it stops being.
    """
    head = _HEAD.match(text)
    assert head is not None
    task = head.group()
    problem = name_problem(task)
    if problem:
        raise ValueError(
            f"expected a task name such as fetch or fetch.body, found {text[:60]!r}: {problem}"
        )
    steps: list[str | int] = []
    at = head.end()
    while at < len(text):
        step = re.compile(_STEP).match(text, at)
        if step is None:
            raise ValueError(
                f"expected .key, ['key'] or [0] after {text[:at][-40:]!r}, "
                f"found {text[at : at + 40]!r}"
            )
        steps.append(_value(step))
        at = step.end()
    return Selector(task, tuple(steps))


def format_selector(selector: Selector) -> str:
    """Write a selector as text.

    Parameters
    ----------
    selector : Selector
        Any.

    Returns
    -------
    str
        What `parse_selector` turns into an equal selector.
    """
    parts = [selector.task]
    for step in selector.path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif _PLAIN.fullmatch(step):
            parts.append(f".{step}")
        else:
            escaped = step.replace("\\", "\\\\").replace("'", "\\'")
            parts.append(f"['{escaped}']")
    return "".join(parts)


def _value(step: re.Match[str]) -> str | int:
    kind = step.lastgroup
    assert kind is not None
    text = step.group(kind)
    if kind in {"index", "position"}:
        return int(text)
    return text if kind == "name" else _ESCAPED.sub(r"\1", text)
