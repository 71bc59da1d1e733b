"""A plan's explanation as aligned plain text."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING
from unicodedata import combining, east_asian_width

if TYPE_CHECKING:
    from flowbuilder.compile.explain import Need, PlanExplanation, PlannedStep

__all__ = ["write_explanation"]

_WIDTH = 100
_SHOWN_NAMES = 12
_SHOWN_NEEDS = 6
_LONGEST_NAME = 40
_AUTO = (
    "decided when a task is ready: inline if its code was measured under 100 us or nothing else "
    "is ready, async for an async def, else a thread"
)


def write_explanation(explanation: PlanExplanation, *, limit: int) -> str:
    """Write an explanation.

    Parameters
    ----------
    explanation : PlanExplanation
        What to write.
    limit : int
        Most tasks shown one by one.
    """
    steps = explanation.steps[:limit]
    blocks = [_header(explanation), _table(steps)]
    left = len(explanation.steps) - len(steps)
    if left > 0:
        blocks.append([f"... and {left:,} more tasks; --json lists all of them"])
    blocks.append(_footer(explanation))
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _header(explanation: PlanExplanation) -> list[str]:
    shape = (
        f"{_count(explanation.task_count, 'task')}, {_count(explanation.edge_count, 'dependency')}"
        f"; depth {explanation.depth:,}, width {explanation.width:,}"
    )
    facts = [
        ("workflow", explanation.workflow),
        ("fingerprint", explanation.fingerprint),
        ("shape", shape),
        ("critical path", _names(explanation.critical_path, " -> ")),
        ("outputs", _names(explanation.outputs, ", ")),
    ]
    for word, value in explanation.selection.items():
        names = value if isinstance(value, str) else _names(value, ", ")  # type: ignore[arg-type]
        facts.append((word, names))
    return [line for label, value in facts if value for line in _labelled(label, value)]


def _labelled(label: str, value: str) -> list[str]:
    return _wrapped(f"{label:<15}", value)


def _wrapped(lead: str, value: str) -> list[str]:
    """Wrap a text beside what leads it in, without breaking names."""
    return textwrap.wrap(
        value,
        _WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table(steps: Sequence[PlannedStep]) -> list[str]:
    """Write a line per task, in running order, and indented lines for what is special about it."""
    if not steps:
        return []
    name_width = min(_LONGEST_NAME, max(4, *(_columns(step.task) for step in steps)))
    type_width = max(4, *(_columns(step.type) for step in steps))
    executor_width = max(8, *(len(step.executor) for step in steps))
    number_width = len(str(len(steps)))
    titles = (" " * number_width, f"{'task':<{name_width}}", f"{'type':<{type_width}}")
    lines = ["   ".join((*titles, f"{'executor':<{executor_width}}", "why")).rstrip()]
    indent = " " * (number_width + 3)
    for number, step in enumerate(steps, 1):
        mark = " * " if step.is_critical else "   "
        lines.append(
            f"{number:>{number_width}}{mark}{_padded(step.task, name_width)}   "
            f"{_padded(step.type, type_width)}   "
            f"{'-' if step.is_preloaded else step.executor:<{executor_width}}   {step.reason}"
        )
        for label, value in _details(step):
            lines += _wrapped(f"{indent}  {label:<11}", value)
    return lines


def _columns(text: str) -> int:
    """Count terminal columns: East Asian letters take two, combining marks none."""
    return sum(
        0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text
    )


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def _details(step: PlannedStep) -> Iterator[tuple[str, str]]:
    if step.is_preloaded or step.twin_of:  # the reason says it all
        return
    if step.needs:
        yield "needs", _needs(step.needs)
    if step.settings:
        yield "settings", "; ".join(step.settings)
    if step.cache:
        yield "cache", step.cache


def _needs(needs: Sequence[Need]) -> str:
    shown = [f"{need.task} ({need.kind})" for need in needs[:_SHOWN_NEEDS]]
    if len(needs) > _SHOWN_NEEDS:
        shown.append(f"and {len(needs) - _SHOWN_NEEDS:,} more")
    return ", ".join(shown)


def _footer(explanation: PlanExplanation) -> list[str]:
    steps = explanation.steps
    lines = []
    if any(step.is_critical for step in steps):
        lines += _labelled("*", "on the critical path: the run cannot end before these have")
    running = [step for step in steps if not step.is_preloaded]
    lines += _labelled("executors", _counts(step.executor for step in running))
    if any(step.executor == "auto" for step in running):
        lines += _labelled("auto", _AUTO)
    lines += _labelled("types", _counts(step.type for step in steps))
    twins = sum(bool(step.twin_of) for step in steps)
    if twins:
        lines += _labelled(
            "runs once", f"{_count(twins, 'task')} sharing the output of an equal one"
        )
    preloaded = [step.task for step in steps if step.is_preloaded]
    if preloaded:
        lines += _labelled("preloaded", f"{_names(preloaded, ', ')} (from an earlier run)")
    if explanation.not_selected:
        count = _count(len(explanation.not_selected), "task")
        lines += _labelled("left out", f"{count}: {_names(explanation.not_selected, ', ')}")
    return lines + _labelled("cache", _cache_summary(steps))


def _cache_summary(steps: Sequence[PlannedStep]) -> str:
    cached = [step for step in steps if step.cache]
    if not cached:
        cacheable = [step.task for step in steps if step.is_cacheable]
        skipped = f"; it could skip {_names(cacheable, ', ')}" if cacheable else ""
        return f"not enabled{skipped}"
    groups: dict[str, list[str]] = {}
    for step in cached:
        groups.setdefault(step.cache.partition(":")[0], []).append(step.task)
    return "; ".join(f"{verdict}: {_names(names, ', ')}" for verdict, names in groups.items())


def _counts(words: Iterable[str]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in Counter(words).most_common())


def _count(number: int, word: str) -> str:
    plural = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return f"{number:,} {word if number == 1 else plural}"


def _names(names: Sequence[str], separator: str) -> str:
    """Join names; of many, the first and the last ones."""
    if len(names) <= _SHOWN_NAMES:
        return separator.join(names)
    half = _SHOWN_NAMES // 2
    between = f"... {len(names) - 2 * half:,} more ..."
    return separator.join([*names[:half], between, *names[-half:]])
