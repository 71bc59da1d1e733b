"""What a dataset or a column may be called, and when two names are the same.

SQL compares names without case (ASCII letters only, in DuckDB), so two names that differ only so
could not both be asked for; datasets are held apart more strictly, by Unicode's rules.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

from flowbuilder.errors import StorageError

__all__ = [
    "check_column_names",
    "check_dataset_name",
    "fold_dataset",
    "fold_identifier",
    "quote_identifier",
    "quote_text",
]

_MAX_CHARACTERS: Final = 200
# Control, format (bidirectional overrides, zero-width), surrogate and separator characters: two
# names that look alike would not be.
_FORBIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_ASCII_LOWER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def check_dataset_name(name: object) -> str:
    """Return the name in its composed Unicode form.

    Raises
    ------
    StorageError
        If it is empty, too long, not a string, or holds characters nobody can see.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > _MAX_CHARACTERS:
        raise StorageError(
            f"expected a name of 1 to {_MAX_CHARACTERS} characters for a dataset,"
            f" found {_shown(name)}",
            hint="use a name such as 'flights'",
        )
    bad = next((char for char in name if unicodedata.category(char) in _FORBIDDEN), None)
    if bad is not None:
        raise StorageError(
            f"expected a dataset's name without control characters, found {bad!a} in {name!a}",
            hint="use letters, digits, '_', '-', '.' or spaces",
        )
    return unicodedata.normalize("NFC", name)


def _shown(name: object) -> str:
    return repr(name[:40]) if isinstance(name, str) else type(name).__name__


def fold_dataset(name: str) -> str:
    """Give what two names of one dataset have in common."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def fold_identifier(name: str) -> str:
    """Give what two spellings of a SQL identifier have in common, as DuckDB compares them."""
    return name.translate(_ASCII_LOWER)


def check_column_names(names: Iterable[str]) -> None:
    """Refuse columns that SQL could not tell apart, or not name at all.

    Raises
    ------
    StorageError
        At the first such column.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not name or "\0" in name:
            raise StorageError(
                f"expected a name for every column, found {name!r}", hint="rename the column"
            )
        other = seen.setdefault(fold_identifier(name), name)
        if other is not name:
            raise StorageError(
                f"expected columns that differ in more than case, found {other!r} and {name!r}",
                hint="rename one: SQL does not tell them apart",
            )
    if not seen:
        raise StorageError("expected a table with columns, found none")


def quote_identifier(name: str) -> str:
    """Write a name so that SQL reads exactly it."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Write a string constant of SQL."""
    return "'" + text.replace("'", "''") + "'"
