"""Where things stand in a text: a second parse, made only when somebody asks.

The text has been read before, so nothing is checked again here.
"""

from __future__ import annotations

from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from flowbuilder.definition.collector import paused_collector
from flowbuilder.definition.events import YamlEvent, open_events
from flowbuilder.definition.text import Lines
from flowbuilder.errors import Location
from flowbuilder.model.spec import SourcePath

__all__ = ["YamlSource"]

_MERGE = -1
"""Key of a merge in progress; keys of a mapping are texts."""
_STARTS = frozenset({MappingStartEvent, SequenceStartEvent})
_ENDS = frozenset({MappingEndEvent, SequenceEndEvent})
_VALUES = frozenset({ScalarEvent, AliasEvent, MappingStartEvent, SequenceStartEvent})


class _Place:
    """A value in the text: its offset, its entries, and for scalars how it is written."""

    __slots__ = ("entries", "key_offsets", "offset", "style", "written")

    def __init__(self, event: YamlEvent) -> None:
        self.offset: int = event.start_mark.index
        self.entries: dict[str | int, _Place] | None = None
        self.key_offsets: dict[str, int] = {}
        self.style = ""
        self.written = ""


class YamlSource:
    """The text of a workflow file, able to say where a field stands (`flowbuilder.model.Source`).

    Parameters
    ----------
    file : str
        Path as the user gave it.
    text : str
        From `decode_text`.

    Notes
    -----
    The first question parses the text again and keeps the result; thread-safe. Every source equals
    every other and None, so two workflows are equal if they say the same, wherever they came from.
    """

    __slots__ = ("_file", "_lines", "_root", "_text")

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text
        self._lines: Lines | None = None
        self._root: _Place | None = None

    @property
    def file(self) -> str:
        """Path as the user gave it."""
        return self._file

    @property
    def text(self) -> str:
        """The whole text."""
        return self._text

    def locate(self, path: SourcePath) -> Location | None:
        """Find a field.

        Parameters
        ----------
        path : tuple
            Keys and indices from the root.

        Returns
        -------
        Location
            The value of a text or number, the key of a mapping or list; the nearest enclosing one
            if the field is not written out.
        """
        place, key_offset = self._find(path)
        is_container = place.entries is not None or not place.written
        return self.at(key_offset if is_container and key_offset is not None else place.offset)

    def locate_key(self, path: SourcePath) -> Location | None:
        """Find the key of a field, or the item if it stands in a list."""
        place, key_offset = self._find(path)
        return self.at(place.offset if key_offset is None else key_offset)

    def locate_line(self, path: SourcePath, line: int) -> Location | None:
        """Find a line of a text.

        Parameters
        ----------
        path : tuple
            A text in the workflow.
        line : int
            1-based line of its value.

        Returns
        -------
        Location
            The real line of a ``|`` block; of any other text the place where it starts.
        """
        place, _ = self._find(path)
        if place.style != "|":
            return self.locate(path)
        written = place.written.split("\n")
        line = max(1, min(line, len(written)))
        header = self.at(place.offset).line
        content = written[line - 1]
        real = self._line_table().line(header + line)
        indent = len(real) - len(content) if content and real.endswith(content) else 0
        return Location(self._file, header + line, indent + 1)

    def written(self, path: SourcePath) -> str | None:
        """Give a scalar as it is written, such as ``1.10`` where the value is 1.1."""
        place, _ = self._find(path)
        return place.written if place.entries is None else None

    def at(self, offset: int) -> Location:
        """Turn an offset in code points into a location."""
        return self._line_table().location(self._file, offset)

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, YamlSource)

    def __hash__(self) -> int:
        return hash(YamlSource)

    def __repr__(self) -> str:
        return f"YamlSource({self._file!r})"

    def __reduce__(self) -> tuple[type[YamlSource], tuple[str, str]]:
        return (YamlSource, (self._file, self._text))

    def _line_table(self) -> Lines:
        if self._lines is None:
            self._lines = Lines(self._text)
        return self._lines

    def _find(self, path: SourcePath) -> tuple[_Place, int | None]:
        """Walk along a path as far as the text goes; also give the offset of the last key."""
        if self._root is None:
            with paused_collector():
                self._root = _places(self._text, self._file)
        place, key_offset = self._root, None
        for step in path:
            inner = None if place.entries is None else place.entries.get(step)
            if inner is None:
                break
            key_offset = place.key_offsets.get(step) if isinstance(step, str) else None
            place = inner
        return place, key_offset


def _places(text: str, file: str) -> _Place:
    """Build the places of a text that has parsed before."""
    root: _Place | None = None
    stack: list[_Open] = []
    anchors: dict[str, _Place] = {}
    for event in open_events(text, file=file):
        kind: type[object] = type(event)
        if kind in _ENDS:
            closed = stack.pop()
            _merge(closed.place)
            continue
        if kind not in _VALUES:
            continue
        place = anchors[event.anchor or ""] if kind is AliasEvent else _Place(event)
        if kind is ScalarEvent:
            place.style, place.written = event.style or "", event.value
        if kind is not AliasEvent and event.anchor:
            anchors[event.anchor] = place
        if not stack:
            root = place
        elif stack[-1].takes_key(place, event, is_plain=kind is ScalarEvent and not event.style):
            continue
        if kind in _STARTS:
            place.entries = {}
            stack.append(_Open(place, is_mapping=kind is MappingStartEvent))
    assert root is not None, "a source is made of a text with one document"
    return root


class _Open:
    """A list or mapping in progress."""

    __slots__ = ("awaits_key", "is_mapping", "key", "place")

    def __init__(self, place: _Place, *, is_mapping: bool) -> None:
        self.place = place
        self.is_mapping = is_mapping
        self.awaits_key = is_mapping
        self.key: str | int = 0

    def takes_key(self, place: _Place, event: YamlEvent, *, is_plain: bool) -> bool:
        """Put a place where it belongs; True if it was the key of an entry still to come."""
        entries = self.place.entries
        assert entries is not None
        if not self.is_mapping:
            entries[len(entries)] = place
            return False
        if self.awaits_key:
            self.key = _MERGE if is_plain and place.written == "<<" else place.written
            self.place.key_offsets.setdefault(place.written, event.start_mark.index)
        else:
            entries.setdefault(self.key, place)
        self.awaits_key = not self.awaits_key
        return not self.awaits_key


def _merge(place: _Place) -> None:
    assert place.entries is not None
    merged = place.entries.pop(_MERGE, None)
    if merged is None or merged.entries is None:
        return
    is_list = 0 in merged.entries
    for source in merged.entries.values() if is_list else [merged]:
        for key, inner in (source.entries or {}).items():
            if key not in place.entries and isinstance(key, str):
                place.entries[key] = inner
                place.key_offsets[key] = source.key_offsets.get(key, inner.offset)
