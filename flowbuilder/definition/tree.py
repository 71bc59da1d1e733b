"""Events -> plain values (dict, list, str, int, float, bool, None), iteratively and within limits.

No positions are kept: almost every file is right, so `flowbuilder.definition.places` parses again
when one is asked for. An alias is the very object its anchor made.
"""

from __future__ import annotations

import msgspec
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from flowbuilder.definition.collector import paused_collector
from flowbuilder.definition.events import YamlEvent, open_events
from flowbuilder.definition.limits import Limits
from flowbuilder.definition.scalars import CONTAINER_TAGS, TEXT_TAGS, resolve_scalar, resolve_tagged
from flowbuilder.definition.text import Lines
from flowbuilder.errors import WorkflowSyntaxError
from flowbuilder.model.spec import SourcePath

__all__ = ["Misplaced", "Tree", "parse_tree"]

_MOST_MISPLACED = 1_000


class Misplaced(msgspec.Struct, frozen=True):
    """Something YAML allows and a workflow does not, at an offset of the text.

    Parameters
    ----------
    code : str
        ``duplicate-key``, ``bad-key``, ``bad-tag`` or ``bad-number``.
    path : tuple
        Where it stands.
    offset : int
        In code points.
    message, hint : str
        What was expected and found, and what to do.
    """

    code: str
    path: SourcePath
    offset: int
    message: str
    hint: str = ""


class Tree(msgspec.Struct, frozen=True):
    """A text as plain values.

    Parameters
    ----------
    root : object
        The only document; None if the text is empty.
    misplaced : tuple of Misplaced
        What is wrong with it although it is YAML.
    has_odd_numbers : bool
        Whether ``str(value)`` may differ from what is written (``1.10``, ``0x1F``, ``True``).
    """

    root: object
    misplaced: tuple[Misplaced, ...]
    has_odd_numbers: bool


def parse_tree(text: str, *, file: str, limits: Limits, pure: bool = False) -> Tree:
    """Parse one YAML document.

    Parameters
    ----------
    text : str
        From `decode_text`.
    file : str
        For errors.
    limits : Limits
        Nodes, depth and aliases.
    pure : bool
        Use the pure Python parser.

    Returns
    -------
    Tree
        Plain values, and everything found wrong that does not stop the parser.

    Raises
    ------
    WorkflowSyntaxError
        If the text is not YAML, exceeds a limit, holds a recursive or unknown alias, or several
        documents.
    """
    with paused_collector():
        return _Builder(text, file, limits).build(pure=pure)


class _Anchored(msgspec.Struct, frozen=True):
    """What an alias stands for, and its size."""

    value: object
    nodes: int = 1
    characters: int = 0
    height: int = 0


class _Frame:
    """A list or mapping still open. ``height`` is the nesting below it."""

    __slots__ = ("anchor", "awaits_key", "characters", "height", "key", "merges", "nodes", "value")

    def __init__(
        self,
        value: dict[str, object] | list[object],
        anchor: str | None,
        nodes: int,
        characters: int,
    ) -> None:
        self.value = value
        self.anchor = anchor
        self.nodes = nodes
        self.characters = characters
        self.height = 0
        self.awaits_key = type(value) is dict
        self.key: str | None = ""  # None: a merge, '<<'
        self.merges: list[object] | None = None


class _Builder:
    """One pass over the events of a text."""

    def __init__(self, text: str, file: str, limits: Limits) -> None:
        self.text = text
        self.file = file
        self.limits = limits
        self.stack: list[_Frame] = []
        self.anchors: dict[str, _Anchored | None] = {}  # None: still open
        self.misplaced: list[Misplaced] = []
        self.root: object = None
        self.documents = 0
        self.nodes = 0
        self.characters = 0
        self.aliases = 0
        self.has_odd_numbers = False

    def build(self, *, pure: bool) -> Tree:
        """Consume every event."""
        max_nodes = self.limits.max_nodes
        for event in open_events(self.text, file=self.file, pure=pure):
            kind: type[object] = type(event)
            if kind is ScalarEvent:
                self._scalar(event)
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                self._open(event, {} if kind is MappingStartEvent else [])
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                self._close(event)
            elif kind is AliasEvent:
                self._alias(event)
            elif kind is DocumentStartEvent:
                self._document(event)
            if self.nodes > max_nodes:
                raise self._error(event, f"expected at most {max_nodes:,} values, found more")
        return Tree(self.root, tuple(self.misplaced), self.has_odd_numbers)

    def _document(self, event: YamlEvent) -> None:
        self.documents += 1
        if self.documents > 1:
            raise self._error(
                event,
                "expected one workflow, found a second document ('---')",
                "put each workflow into a file of its own",
            )

    def _scalar(self, event: YamlEvent) -> None:
        self.nodes += 1
        text: str = event.value
        self.characters += len(text)
        stack = self.stack
        if stack and stack[-1].awaits_key:
            self._key(event, text)
            return
        value: object = text
        if event.tag is not None:
            value = self._tagged(event, event.tag)
        elif not event.style:
            value = self._plain(event, text)
        elif not text.isascii():
            self._check_surrogates(event)
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(value, 1, len(text))
        self._place(value)

    def _plain(self, event: YamlEvent, text: str) -> object:
        try:
            value = resolve_scalar(text)
        except ValueError as error:
            self._misplace(event, "bad-number", str(error), "put it in quotes")
            return text
        if type(value) is not str and value is not None and text not in {"true", "false"}:
            self.has_odd_numbers |= type(value) is bool or str(value) != text
        return value

    def _tagged(self, event: YamlEvent, tag: str) -> object:
        try:
            return resolve_tagged(event.value, tag)
        except LookupError:
            self._refuse_tag(event, tag)
        except ValueError as error:
            self._misplace(event, "bad-tag", str(error))
        return event.value

    def _open(self, event: YamlEvent, value: dict[str, object] | list[object]) -> None:
        stack = self.stack
        if event.tag is not None and event.tag not in CONTAINER_TAGS:
            self._refuse_tag(event, event.tag)
        if stack and stack[-1].awaits_key:
            raise self._error(
                event,
                f"expected text as a key, found a {'mapping' if type(value) is dict else 'list'}",
                'a value that starts with a bracket needs quotes, as in "${{ params.x }}"',
            )
        if len(stack) >= self.limits.max_depth:
            raise self._too_deep(event)
        if event.anchor:
            self.anchors[event.anchor] = None
        stack.append(_Frame(value, event.anchor, self.nodes, self.characters))
        self.nodes += 1

    def _close(self, event: YamlEvent) -> None:
        stack = self.stack
        frame = stack.pop()
        if frame.merges is not None:
            self._merge(frame, event)
        if frame.anchor:
            self.anchors[frame.anchor] = _Anchored(
                frame.value,
                self.nodes - frame.nodes,
                self.characters - frame.characters,
                frame.height + 1,
            )
        if stack and stack[-1].height <= frame.height:
            stack[-1].height = frame.height + 1
        self._place(frame.value)

    def _alias(self, event: YamlEvent) -> None:
        anchored = self._anchored(event)
        self.aliases += 1
        self.nodes += anchored.nodes
        self.characters += anchored.characters
        if self.aliases > self.limits.max_aliases:
            raise self._error(
                event, f"expected at most {self.limits.max_aliases:,} aliases, found more"
            )
        if self.characters > self.limits.max_expanded_characters:
            raise self._error(
                event, "expected less text, found aliases that stand for too much of it"
            )
        if len(self.stack) + anchored.height > self.limits.max_depth:
            raise self._too_deep(event)
        frame = self.stack[-1]
        if frame.awaits_key:
            if not isinstance(anchored.value, str):
                raise self._error(event, f"expected text as a key, found the alias *{event.anchor}")
            self._start_entry(event, anchored.value)
            return
        frame.height = max(frame.height, anchored.height)
        self._place(anchored.value)

    def _anchored(self, event: YamlEvent) -> _Anchored:
        if event.anchor not in self.anchors:
            raise self._error(
                event,
                f"expected an anchor &{event.anchor} above, found none",
                "put a text that starts with '*' in quotes",
            )
        anchored = self.anchors[event.anchor]
        if anchored is None:
            raise self._error(
                event, f"expected a finite value, found *{event.anchor} inside itself"
            )
        return anchored

    def _key(self, event: YamlEvent, text: str) -> None:
        if not event.style and event.tag is None:
            if text == "<<":
                self._start_merge(event)
                return
            self._check_key(event, text)
        elif event.tag is not None and event.tag not in TEXT_TAGS:
            self._refuse_tag(event, event.tag, key=text)
        elif not text.isascii():
            self._check_surrogates(event)
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(text, 1, len(text))
        self._start_entry(event, text)

    def _check_key(self, event: YamlEvent, text: str) -> None:
        try:
            value = resolve_scalar(text)
        except ValueError:
            value = 0
        if type(value) is not str:
            found = repr(text) if text else "nothing"
            self._misplace(
                event,
                "bad-key",
                f"expected text as a key, found {found}",
                "put the key in quotes",
                key=text,
            )

    def _start_merge(self, event: YamlEvent) -> None:
        frame = self.stack[-1]
        if frame.merges is not None:
            hint = "merge several with '<<: [*a, *b]'"
            self._misplace(event, "duplicate-key", "expected '<<' once", hint, key="<<")
        frame.merges = frame.merges or []
        frame.key = None
        frame.awaits_key = False

    def _start_entry(self, event: YamlEvent, key: str) -> None:
        frame = self.stack[-1]
        if key in frame.value:
            message = f"expected each key once, found {_short(key)} again"
            self._misplace(event, "duplicate-key", message, key=key)
        frame.key = key
        frame.awaits_key = False

    def _place(self, value: object) -> None:
        if not self.stack:
            self.root = value
            return
        frame = self.stack[-1]
        container = frame.value
        if type(container) is list:
            container.append(value)
            return
        assert type(container) is dict
        frame.awaits_key = True
        if frame.key is None:
            assert frame.merges is not None
            frame.merges.append(value)
        else:
            container.setdefault(frame.key, value)

    def _merge(self, frame: _Frame, event: YamlEvent) -> None:
        """Add what ``<<`` brings; what the mapping says itself wins, then the earlier one."""
        assert frame.merges is not None
        assert type(frame.value) is dict
        for merged in frame.merges:
            for mapping in merged if type(merged) is list else [merged]:
                if type(mapping) is not dict:
                    raise self._error(event, "expected a mapping after '<<', found something else")
                self.nodes += len(mapping)
                for key, value in mapping.items():
                    frame.value.setdefault(key, value)

    def _refuse_tag(self, event: YamlEvent, tag: str, key: str | None = None) -> None:
        self._misplace(
            event,
            "bad-tag",
            f"expected plain values, found the tag {tag[:80]!r}",
            "tags could run code, so remove it",
            key=key,
        )

    def _check_surrogates(self, event: YamlEvent) -> None:
        if any("\ud800" <= character <= "\udfff" for character in event.value):
            raise self._error(event, "expected readable text, found an escape of a lone surrogate")

    def _misplace(
        self, event: YamlEvent, code: str, message: str, hint: str = "", *, key: str | None = None
    ) -> None:
        if len(self.misplaced) < _MOST_MISPLACED:
            path = self._path() if key is None else (*self._path(entry=False), key)
            offset = event.start_mark.index
            self.misplaced.append(Misplaced(code, path, offset, message, hint))

    def _path(self, *, entry: bool = True) -> SourcePath:
        steps: list[str | int] = [
            (frame.key or "<<") if type(frame.value) is dict else len(frame.value)
            for frame in self.stack
        ]
        return tuple(steps if entry else steps[:-1])

    def _too_deep(self, event: YamlEvent) -> WorkflowSyntaxError:
        return self._error(
            event, f"expected at most {self.limits.max_depth} levels, found deeper nesting"
        )

    def _error(self, event: YamlEvent, message: str, hint: str = "") -> WorkflowSyntaxError:
        place = Lines(self.text).location(self.file, event.start_mark.index)
        return WorkflowSyntaxError(message, location=place, hint=hint)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
