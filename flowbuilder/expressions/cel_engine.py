"""The one place that calls the CEL package: bounded going in, checked coming out, errors mapped.

What the package does when it is not held back (all measured): a stack overflow on a long chain of
operators, minutes with the interpreter lock held in a comprehension over 1,000 elements, integers
over 64 bits turned into floats, panics that are not `Exception`. So nothing reaches it before
`outline` has counted the source and `to_plain` the values, and their product is within `MAX_COST`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Protocol, cast

from flowbuilder.errors import ExpressionError
from flowbuilder.expressions.cel_library import cel_library
from flowbuilder.expressions.outline import Outline
from flowbuilder.expressions.plain_values import MAX_INTEGER, Weight
from flowbuilder.expressions.tokens import shorten

__all__ = ["MAX_COST", "check_cost", "compile_source", "execute"]

MAX_COST: Final = 4_000_000
"""Largest estimate of copied values in one evaluation; some 0.5 s at worst."""

_COMPILED_PATTERN: Final = 20_000
_COPYING_MACROS: Final = frozenset({"map", "filter"})
_CALL_ERROR = re.compile(r"Undefined variable or function: '(\w+)'|Function '(\w+)' error")
_PARSER_ERROR = re.compile(r"ERROR: <input>:\d+:\d+: (?:Syntax error: )?([^\n]{1,200})")


class _Program(Protocol):
    def execute(self, context: dict[str, object]) -> object: ...


@lru_cache(maxsize=1024)
def compile_source(source: str, shown: str) -> _Program:
    """Compile an expression.

    Parameters
    ----------
    source : str
        The rewritten expression of an `Outline`.
    shown : str
        The expression as its author wrote it, for messages.

    Returns
    -------
    program
        Thread-safe; cached.

    Raises
    ------
    ExpressionError
        If CEL does not accept it.
    """
    cel = cel_library()
    try:
        return cast("_Program", cel.compile(source))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        found = _PARSER_ERROR.search(str(error))
        reason = found[1].split(" expecting ", maxsplit=1)[0] if found else "it is incomplete"
        if "Context`" in reason or "{" in reason:  # the parser's internals, of no use to an author
            reason = "it is incomplete"
        raise ExpressionError(f"{shorten(shown)} is malformed: {_readable(reason)}") from None


def check_cost(plan: Outline, weights: Mapping[str, Weight], shown: str) -> None:
    """Refuse an evaluation that could take long.

    Parameters
    ----------
    plan : Outline
        What the expression does.
    weights : mapping of str to Weight
        Per variable what it holds.
    shown : str
        The expression, for messages.

    Raises
    ------
    ExpressionError
        If the estimate exceeds `MAX_COST`.

    Notes
    -----
    The estimate assumes that every operator copies its operands and every ``+`` joins the largest
    ones, which is what the evaluator does.
    """
    outside, inside = Weight(), Weight()
    for part, weight in ((plan.outside, outside), (plan.inside, inside)):
        for name in part.variables:
            weight.add(weights[name])
    growth = plan.outside.joins + 1
    cost = (growth * outside.units + plan.outside.words) * (plan.outside.operators + 1)
    cost += plan.outside.regex_repeats * _COMPILED_PATTERN
    if plan.macro:
        cost += _macro_cost(plan, outside, inside, growth)
    if cost > MAX_COST:
        raise ExpressionError(
            f"{shorten(shown)} would take too long over {outside.units + inside.units} values",
            hint="mention only the part you need, or compute it in a task",
        )


def _macro_cost(plan: Outline, outside: Weight, inside: Weight, growth: int) -> int:
    body = plan.inside
    per_element = inside.units + body.words
    rounds = growth * max(outside.longest, plan.outside.items)
    visited = rounds * per_element + growth * (outside.spread + plan.outside.words)
    cost = visited * (body.operators + 1) * (body.joins + 1)
    cost += rounds * body.regex_repeats * _COMPILED_PATTERN
    if plan.macro in _COPYING_MACROS:
        made = rounds * rounds * (per_element if plan.macro == "map" else 1)
        cost += (made + growth * growth * outside.square) * (body.joins + 1) // 2
    return cost


def execute(
    program: _Program, variables: dict[str, object], shown: str, *, has_secrets: bool = False
) -> object:
    """Evaluate a compiled expression.

    Parameters
    ----------
    program : program
        From `compile_source`.
    variables : dict
        Plain data by name; `check_cost` has agreed.
    shown : str
        The expression as its author wrote it, for messages.
    has_secrets : bool
        Whether messages must not quote values.

    Returns
    -------
    object
        Plain data, integers within 64 bits.

    Raises
    ------
    ExpressionError
        If it fails, whatever the way.
    """
    try:
        result = program.execute(variables)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        message, hint = _explain(error)
        if has_secrets:
            message = "an operation on a secret is not possible"
        raise ExpressionError(f"{shorten(shown)} failed: {message}", hint=hint) from None
    _check_result(result, shown)
    return result


def _explain(error: BaseException) -> tuple[str, str]:
    """Say in our words what went wrong; the package's own speak of its internals."""
    text = str(error)
    if isinstance(error, KeyError):
        return f"there is no key {text[:80]}", "test it with has(...) first"
    if isinstance(error, ZeroDivisionError):
        return "division by zero", ""
    if isinstance(error, OverflowError):
        return "a number exceeds 64 bits", ""
    if isinstance(error, TypeError) and ("overload" in text or "Unsupported operation" in text):
        hint = "CEL mixes no types: convert with double(x), int(x) or string(x); NaN has no order"
        return "an operator does not fit its operands' types", hint
    called = _CALL_ERROR.search(text)
    if called:
        return f"{called[1] or called[2]}() cannot take what it is given", ""
    return _readable(text), ""


def _readable(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else line[:157] + "..."


def _check_result(result: object, shown: str) -> None:
    pending = [result]
    while pending:
        value = pending.pop()
        if isinstance(value, int):
            if abs(value) > MAX_INTEGER:
                raise ExpressionError(f"{shorten(shown)} failed: a number exceeds 64 bits")
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, dict):
            pending.extend(value.values())
        elif type(value).__module__ == "cel":
            raise ExpressionError(f"{shorten(shown)} gives an optional value, expected plain data")
