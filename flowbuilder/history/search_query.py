"""What people type into a search, as an expression the index understands.

``load failed`` both words, ``"connection refused"`` a phrase, ``Key*`` a beginning, ``-retry``
without, ``timeout OR refused`` either, and ``kind:error task:clean workflow:etl run:1a2b3c4d`` only
there.
"""

from __future__ import annotations

import difflib
import re
from typing import Final, NamedTuple

from flowbuilder.errors import QueryError
from flowbuilder.history.search_text import has_words, segment

__all__ = ["KINDS", "SearchQuery", "parse_search"]

KINDS: Final = ("error", "log", "run", "workflow")
_FILTERS: Final = ("kind", "run", "task", "workflow")
_ITEM = re.compile(
    r'(?P<minus>-?)(?:(?P<field>[a-z]+):(?=\S))?(?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+))(?P<star>\*?)'
)
_MAX_CHARS: Final = 4096
_MAX_TERMS: Final = 64


class SearchQuery(NamedTuple):
    """A search that is ready to be asked."""

    expression: str
    """For FTS5; empty if only filters are given."""
    filters: dict[str, str]
    """Field -> what it must be."""


class _Term(NamedTuple):
    expression: str
    is_negative: bool


def parse_search(text: str) -> SearchQuery:
    """Read a search.

    Raises
    ------
    QueryError
        If it asks for nothing, a quote stays open, ``OR`` stands alone, or a filter has no such
        value.
    """
    if len(text) > _MAX_CHARS:
        raise QueryError(f"expected a search of at most {_MAX_CHARS} characters, found {len(text)}")
    found = _Found()
    for item in _items(text.encode("utf-8", "replace").decode()):
        found.take(item)
    return found.query()


class _Found:
    """What was read of a search so far."""

    def __init__(self) -> None:
        self.filters: dict[str, str] = {}
        self.groups: list[list[str]] = []
        self.negative: list[str] = []
        self.idle = ""
        self.joins = False

    def take(self, item: dict[str, str]) -> None:
        """Take in the next word, phrase, filter or OR."""
        if item["word"] == "OR" and not item["minus"] and not item["field"]:
            if self.joins or not self.groups:
                raise _dangling_or()
            self.joins = True
        elif item["field"] in _FILTERS and not item["minus"]:
            name, value = _filter(item)
            self.filters[name] = value
        else:
            self._take_term(item)

    def _take_term(self, item: dict[str, str]) -> None:
        term = _term(item)
        if term is None:
            self.idle = self.idle or item["word"] or item["phrase"] or '""'
            return
        if term.is_negative:
            self.negative.append(term.expression)
        elif self.joins:
            self.groups[-1].append(term.expression)
        else:
            self.groups.append([term.expression])
        self.joins = False

    def query(self) -> SearchQuery:
        """Give the whole."""
        if self.joins:
            raise _dangling_or()
        if self.idle and not self.groups:
            raise QueryError(
                f"expected a word to search for, found {self.idle!r}",
                hint="letters, digits and words of any script can be found; punctuation cannot",
            )
        has_filters = bool(self.filters)
        expression = _expression(self.groups, self.negative, has_filters=has_filters)
        return SearchQuery(expression, self.filters)


def _items(text: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        match = _ITEM.match(text, place)
        if match is None:
            raise QueryError(
                f"the quote at character {place + 1 + (text[place] != chr(34))} is never closed",
                hint='quotes come in pairs: "connection refused"',
            )
        found.append({name: value or "" for name, value in match.groupdict().items()})
        found[-1]["is_phrase"] = "yes" if match["phrase"] is not None else ""
        place = match.end()
    if len(found) > _MAX_TERMS:
        raise QueryError(f"expected a search of at most {_MAX_TERMS} words, found {len(found)}")
    return found


def _filter(item: dict[str, str]) -> tuple[str, str]:
    name, value = item["field"], item["phrase"] or item["word"]
    if name == "kind" and value not in KINDS:
        near = difflib.get_close_matches(value, KINDS, 1)
        raise QueryError(
            f"expected a kind ({', '.join(KINDS)}), found {value!r}",
            hint=f"did you mean {near[0]!r}?" if near else "",
        )
    return name, value


def _term(item: dict[str, str]) -> _Term | None:
    """Give the expression for a word or phrase; None for one without anything to find."""
    word = item["word"]
    is_prefix = bool(item["star"])
    if not item["is_phrase"] and word.endswith("*"):
        word, is_prefix = word.rstrip("*"), True
    text = f"{item['field']}:{item['phrase'] or word}" if item["field"] else item["phrase"] or word
    if not has_words(text):
        return None
    quoted = '"' + segment(text).replace('"', '""') + '"'
    return _Term(quoted + "*" * is_prefix, bool(item["minus"]))


def _expression(groups: list[list[str]], negative: list[str], *, has_filters: bool) -> str:
    if not groups:
        if negative or not has_filters:
            raise QueryError(
                "expected something to search for"
                + (", found only what to leave out" if negative else ""),
                hint="write a word, or a filter such as kind:error",
            )
        return ""
    wanted = " AND ".join("(" + " OR ".join(group) + ")" for group in groups)
    return f"({wanted}) NOT ({' OR '.join(negative)})" if negative else wanted


def _dangling_or() -> QueryError:
    return QueryError(
        "expected a word on both sides of OR", hint='to find the word itself, write "OR"'
    )
