"""What an engine offers to the outside through its endpoint."""

from __future__ import annotations

from typing import Protocol

__all__ = ["EngineHost"]


class EngineHost(Protocol):
    """The engine's side of an endpoint.

    Notes
    -----
    Called from the endpoint's threads, several at a time, while the main thread does anything. All
    values are what msgpack knows: None, bool, int, float, str, bytes, lists, and maps with text
    keys. A `FlowBuilderError` reaches the client as its message; any other exception as a bug.
    """

    def hello(self) -> dict[str, object]:
        """Describe the engine: its live runs, its workers."""
        ...

    def start(self, request: dict[str, object]) -> dict[str, object]:
        """Start a run; returns at least ``run_id``."""
        ...

    def cancel(self, run: str, task: str | None) -> dict[str, object]:
        """Cancel a run, or one task of it by its key."""
        ...

    def pause(self, run: str) -> dict[str, object]:
        """Start no more tasks of a run until it is resumed."""
        ...

    def resume(self, run: str) -> dict[str, object]:
        """Go on with a paused run."""
        ...

    def variables(self) -> list[dict[str, object]]:
        """List what can be looked at with `page`."""
        ...

    def page(self, request: dict[str, object]) -> bytes:
        """Give rows of a table as an Arrow IPC stream."""
        ...

    def inspect(self, run: str) -> dict[str, object]:
        """Describe a live run."""
        ...
