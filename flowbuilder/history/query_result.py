"""The answer to a question: an Arrow table, shown as one."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["QueryResult"]

_MOST_SHOWN: Final = 20
_WIDEST: Final = 40


class QueryResult:
    """Rows and columns, complete in memory.

    Parameters
    ----------
    table : pyarrow.Table
        The answer.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._table.column_names)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples of Python values."""
        columns = [column.to_pylist() for column in self._table.columns]
        return list(zip(*columns, strict=True)) if columns else []

    def arrow(self) -> pa.Table:
        """Give the Arrow table, not a copy."""
        return self._table

    def pl(self) -> pl.DataFrame:
        """Give a polars frame."""
        import polars as pl

        frame = pl.from_arrow(self._table)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def df(self) -> pd.DataFrame:
        """Give a pandas frame."""
        frame: pd.DataFrame = self._table.to_pandas()
        return frame

    def to_dicts(self) -> list[dict[str, Any]]:
        """Give every row as a mapping of column to value."""
        return list(self._table.to_pylist())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Offer the table to any library that reads Arrow."""
        return self._table.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def __repr__(self) -> str:
        return self.to_text(most_rows=_MOST_SHOWN, widest=_WIDEST)

    def to_text(self, *, most_rows: int | None = None, widest: int | None = None) -> str:
        """Draw the table as text.

        Parameters
        ----------
        most_rows : int, optional
            Leave out the rows after so many, and say so.
        widest : int, optional
            Cut values longer than this many characters.
        """
        return "\n".join(self._lines(most_rows, widest))

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._cells(_MOST_SHOWN, _WIDEST)
        )
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<p>{escape(self._count())}</p>"
        )

    def _cells(self, most_rows: int | None, widest: int | None) -> list[list[str]]:
        shown = QueryResult(self._table.slice(0, most_rows))
        return [[_cell(value, widest) for value in row] for row in shown.rows]

    def _lines(self, most_rows: int | None, widest: int | None) -> Iterator[str]:
        cells = self._cells(most_rows, widest)
        columns = self.columns
        widths = [
            max([len(name), *(len(row[place]) for row in cells)])
            for place, name in enumerate(columns)
        ]
        is_number = [_is_number(field.type) for field in self._table.schema]
        for row in ([columns] if columns else []) + cells:
            yield "  ".join(
                text.rjust(width) if right else text.ljust(width)
                for text, width, right in zip(row, widths, is_number, strict=True)
            ).rstrip()
        yield self._count(most_rows)

    def _count(self, most_rows: int | None = _MOST_SHOWN) -> str:
        rows = len(self)
        is_cut = most_rows is not None and rows > most_rows
        more = f", the first {most_rows} shown" if is_cut else ""
        return f"({rows} row{'s' * (rows != 1)}{more})"


def _cell(value: object, widest: int | None) -> str:
    if value is None:
        return "-"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if widest is None or len(text) <= widest else text[: widest - 1] + "…"


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
