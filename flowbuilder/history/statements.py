"""Which statements a question may be, and what is said of one that fails."""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

from flowbuilder.errors import QueryError
from flowbuilder.history.database import load_duckdb
from flowbuilder.history.views import VIEW_NAMES

__all__ = ["check_statement", "is_about_question", "query_error"]

_EXPLAIN = re.compile(r"\s*explain\s+(analyze\s+)?", re.IGNORECASE)
_MISSING = re.compile(r"Table with name (\S+) does not exist")
_HINT: Final = f"the tables are {', '.join(VIEW_NAMES)}"


def check_statement(text: str) -> None:
    """Make sure that a text is one question.

    Raises
    ------
    QueryError
        If it is empty, several statements, wrong SQL, or anything that does not only read.
    """
    statements = _statements(text)
    if len(statements) != 1:
        raise QueryError(f"expected one SQL statement, found {len(statements)}")
    kind = statements[0].type.name
    if kind == "EXPLAIN":
        explained = _statements(_EXPLAIN.sub("", statements[0].query, count=1))
        kind = explained[0].type.name if len(explained) == 1 else kind
    if kind != "SELECT":
        raise QueryError(
            f"expected a SELECT, found {kind.replace('_', ' ')}: the history can only be read",
            hint="write 'FROM (PIVOT ...)' for a pivot" if kind == "MULTI" else "",
        )


def _statements(text: str) -> list[Any]:
    duckdb = load_duckdb()
    try:
        return list(duckdb.extract_statements(text))
    except (duckdb.Error, UnicodeError) as error:
        raise query_error(error) from error


def is_about_question(error: BaseException) -> bool:
    """Whether DuckDB's error is about the question: its text, its values, what it would take.

    Anything else is about the file, whose damage shows as errors of several kinds.
    """
    duckdb = load_duckdb()
    return isinstance(
        error,
        duckdb.ProgrammingError
        | duckdb.DataError
        | duckdb.NotSupportedError
        | duckdb.OutOfMemoryException
        | duckdb.InterruptException
        | duckdb.PermissionException,
    ) and not str(error).startswith("Corrupt")


def query_error(error: BaseException) -> QueryError:
    """Say what is wrong with a question."""
    text = str(error).strip()
    first = " ".join(text.partition("\n\nLINE")[0].split())
    found = _MISSING.search(text)
    hint = ""
    if found is not None:
        near = difflib.get_close_matches(found[1].strip('"'), VIEW_NAMES, 1)
        first = f"there is no table {found[1]!r} in the history"
        hint = f"did you mean {near[0]!r}?" if near else _HINT
    elif "file system operations are disabled" in text:
        hint = "questions reach nothing outside the history"
    return QueryError(first, hint=hint)
