"""What can be found: the texts in a run's facts, as documents."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from flowbuilder.clock import Anchor
from flowbuilder.history.run_fold import PlanLabels, plain_json
from flowbuilder.records import (
    AttemptFailed,
    Event,
    LogChunk,
    RunCreated,
    RunHeader,
    RunStateChanged,
    VersionHeader,
)

__all__ = ["Document", "RunTexts", "text_key"]

_LONGEST: Final = 1 << 20


class Document(NamedTuple):
    """One text that can be found."""

    kind: str
    key: str
    """Of the task; empty for the run as a whole."""
    attempt: int
    time_ns: int
    """Unix time."""
    text: str
    line: str = ""
    """Names the stream of a log: pieces of one stream are one document until a line is whole."""


def text_key(version: VersionHeader) -> str:
    """Name a workflow's text: versions with the same text are found once."""
    text = f"{version.name}\0{version.path}\0{version.text}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).hexdigest()


class RunTexts(msgspec.Struct):
    """Turns one run's facts into documents; goes on where it was left."""

    header: RunHeader
    labels: PlanLabels
    anchor: Anchor = Anchor(wall_ns=0, monotonic_ns=0)

    def of_workflow(self) -> str:
        """Give the text of the workflow itself, with its name and place."""
        version = self.labels.version
        return f"{version.name}\n{version.path}\n{version.text}"[:_LONGEST]

    def of_event(self, event: Event) -> Iterator[Document]:
        """Give what an event says."""
        if isinstance(event, RunCreated):
            self.anchor = Anchor(wall_ns=event.wall_ns, monotonic_ns=event.monotonic_ns)
            if not event.resumed:
                yield Document("run", "", 0, event.wall_ns, self._about_run())
        elif isinstance(event, LogChunk):
            line = f"{event.instance} {event.attempt} {event.stream}"
            found = self._document("log", event, event.instance, event.attempt, event.text)
            yield found._replace(line=line)
        elif isinstance(event, AttemptFailed):
            text = f"{event.error_type}: {event.message}\n{event.location}\n{event.traceback}"
            yield self._document("error", event, event.instance, event.attempt, text)
        elif isinstance(event, RunStateChanged) and event.error:
            yield self._document("error", event, -1, 0, event.error)

    def _about_run(self) -> str:
        params = "\n".join(
            f"{name} = {value if isinstance(value, str) else plain_json(value)}"
            for name, value in self.header.params.items()
        )
        return f"{self.header.workflow}\n{params}"[:_LONGEST]

    def _document(
        self, kind: str, event: Event, instance: int, attempt: int, text: str
    ) -> Document:
        key = self.labels.of(instance)[1]
        time_ns = self.anchor.to_wall_ns(event.time_ns) if event.time_ns else self.anchor.wall_ns
        return Document(kind, key, attempt, time_ns, text[:_LONGEST])
