"""The task type ``sleep``: wait, holding neither a thread nor a coroutine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from flowbuilder.durations import parse_duration
from flowbuilder.errors import TaskFailedError
from flowbuilder.plugins.task_type import Finding, TaskCall, TaskType
from flowbuilder.vocabulary import Effects, ExecutorKind

__all__ = ["SleepTask"]


class SleepTask(TaskType):
    """Waits for a duration; the output is None."""

    name = "sleep"
    summary = "Wait for a while."
    executor = ExecutorKind.ASYNC
    is_async = True
    schema: ClassVar[Mapping[str, object]] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["duration"],
        "properties": {
            "duration": {
                "type": ["number", "string"],
                "title": "Duration",
                "description": "Seconds, or text such as 500ms, 30s, 5m or 1h30m.",
            }
        },
    }

    def effects(self, config: Mapping[str, object]) -> Effects:
        """Allow repeating a wait, but not merging two into one."""
        del config
        return Effects.IDEMPOTENT

    def check(self, config: Mapping[str, object], directory: Path) -> Iterable[Finding]:
        """Read the duration, unless it is a template."""
        del directory
        duration = config.get("duration")
        if not isinstance(duration, str | int | float) or "${{" in str(duration):
            return
        try:
            parse_duration(duration)
        except ValueError as error:
            yield Finding(str(error), ("duration",))

    def delay_s(self, config: Mapping[str, object]) -> float:
        """Give the time to wait, in seconds.

        Raises
        ------
        TaskFailedError
            If the rendered value is not a duration.
        """
        try:
            return parse_duration(config.get("duration"))
        except ValueError as error:
            raise TaskFailedError(str(error), hint="correct 'duration'") from error

    def run(self, call: TaskCall) -> None:
        """Wait on the calling thread."""
        if call.cancel.wait(self.delay_s(call.config)):
            call.cancel.raise_if_cancelled()

    async def run_async(self, call: TaskCall) -> None:
        """Wait on the I/O loop."""
        import asyncio

        await asyncio.sleep(self.delay_s(call.config))
