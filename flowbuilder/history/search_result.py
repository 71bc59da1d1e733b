"""What a search found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from typing import overload

import msgspec

from flowbuilder.ids import short_id

__all__ = ["SearchHit", "SearchHits"]


class SearchHit(msgspec.Struct, frozen=True, kw_only=True):
    """One place."""

    run_id: str
    """The run; of a workflow's text the newest run of it."""
    workflow: str
    kind: str
    """``log``, ``error``, ``run`` or ``workflow``."""
    task: str
    """Key of the task; empty for the run as a whole."""
    attempt: int
    time_ns: int
    """Unix time in nanoseconds."""
    text: str
    """A piece of the text around the matches, on one line."""
    marks: list[tuple[int, int]]
    """Start and end of every match in ``text``."""

    @property
    def time(self) -> datetime:
        """When it was recorded, UTC."""
        return datetime.fromtimestamp(self.time_ns / 1e9, UTC)

    def marked(self, before: str = "«", after: str = "»") -> str:
        """Give the text with its matches marked."""
        pieces, end = [], 0
        for start, stop in self.marks:
            pieces += [self.text[end:start], before, self.text[start:stop], after]
            end = stop
        return "".join([*pieces, self.text[end:]])


class SearchHits(Sequence[SearchHit]):
    """Hits, newest first.

    Parameters
    ----------
    hits : iterable of SearchHit
        What was found.
    query : str
        What was searched for.
    """

    def __init__(self, hits: Iterable[SearchHit], query: str) -> None:
        self._hits = list(hits)
        self.query = query

    @overload
    def __getitem__(self, place: int) -> SearchHit: ...

    @overload
    def __getitem__(self, place: slice) -> list[SearchHit]: ...

    def __getitem__(self, place: int | slice) -> SearchHit | list[SearchHit]:
        return self._hits[place]

    def __len__(self) -> int:
        return len(self._hits)

    def __iter__(self) -> Iterator[SearchHit]:
        return iter(self._hits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchHits) and self._hits == other._hits

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        lines = [
            f"{_about(hit)}  {''.join(c if c.isprintable() else ' ' for c in hit.marked())}"
            for hit in self._hits
        ]
        return "\n".join([*lines, f"({len(self)} hit{'s' * (len(self) != 1)})"])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(_about(hit))}</td><td>{_marked_html(hit)}</td></tr>"
            for hit in self._hits
        )
        return f"<table>{rows}</table>"


def _about(hit: SearchHit) -> str:
    when = f"{hit.time:%Y-%m-%d %H:%M:%S}"
    place = f"{hit.workflow}/{hit.task}" if hit.task else hit.workflow
    return f"{when}  {short_id(hit.run_id)}  {hit.kind:<8}  {place}"


def _marked_html(hit: SearchHit) -> str:
    pieces, end = [], 0
    for start, stop in hit.marks:
        pieces += [escape(hit.text[end:start]), "<mark>", escape(hit.text[start:stop]), "</mark>"]
        end = stop
    return "".join([*pieces, escape(hit.text[end:])])
