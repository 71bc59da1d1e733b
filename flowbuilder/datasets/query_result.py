"""The answer to a query: one Arrow table, given as the library the reader uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowbuilder.datasets.arrow_types import is_text
from flowbuilder.datasets.libraries import arrow, library

if TYPE_CHECKING:
    import polars as pl

__all__ = ["QueryResult"]


class QueryResult:
    """Rows of a query, in memory.

    Parameters
    ----------
    table : pyarrow.Table
        As DuckDB gave it: text as string views.
    layouts : mapping of str to pyarrow.DataType
        How the datasets of the query keep their text columns.
    versions : mapping of str to int
        The versions that were read, by dataset.
    used : tuple of str
        In words, how each dataset was read where that was not a plain scan.
    elapsed_s : float
        How long it took.
    """

    def __init__(
        self,
        table: Any,
        *,
        layouts: Mapping[str, Any],
        versions: Mapping[str, int],
        used: tuple[str, ...],
        elapsed_s: float,
    ) -> None:
        self._table = table
        self._layouts = layouts
        self.versions = dict(versions)
        self.used = used
        self.elapsed_s = elapsed_s

    def arrow(self) -> Any:
        """Give an Arrow table.

        Returns
        -------
        pyarrow.Table
            A text column that has the name of a dataset's text column has its layout too: plain,
            large, view or dictionary. Other text is string views.
        """
        return self._with_layouts(only_dictionaries=False)

    def pl(self) -> pl.DataFrame:
        """Give a polars frame; text is shared, dictionaries become categoricals."""
        table = self._with_layouts(only_dictionaries=True)
        return library("polars").from_arrow(table, rechunk=False)  # type: ignore[no-any-return]

    def pandas(self) -> Any:
        """Give a pandas frame with Arrow-backed columns."""
        pandas = library("pandas")
        return self.arrow().to_pandas(types_mapper=pandas.ArrowDtype)

    def rows(self) -> list[dict[str, object]]:
        """Give a list of dicts."""
        return self._table.to_pylist()  # type: ignore[no-any-return]

    def _with_layouts(self, *, only_dictionaries: bool) -> Any:
        table = self._table
        for place, field in enumerate(table.schema):
            layout = self._layouts.get(field.name)
            if layout is None or layout.equals(field.type):
                continue
            if arrow().types.is_duration(layout):
                column = _as_duration(table.column(place), layout)
            elif is_text(field.type) and not arrow().types.is_duration(layout):
                column = _encoded(table.column(place), layout, only_dictionaries=only_dictionaries)
            else:
                continue
            table = table.set_column(place, field.name, column)
        return table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.arrow().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        how = f"; {'; '.join(self.used)}" if self.used else ""
        return (
            f"<QueryResult: {self._table.num_rows:,} rows x {self._table.num_columns} columns in"
            f" {self.elapsed_s * 1000:.1f} ms{how}>\n{self._preview()}"
        )

    def _preview(self) -> str:
        return str(self._table.slice(0, 10).to_string(preview_cols=20))


def _as_duration(column: Any, kind: Any) -> Any:
    """Turn intervals without months and days, which durations are in SQL, back into durations."""
    pa = arrow()
    if not pa.types.is_interval(column.type):
        return column
    chunks = []
    for chunk in column.chunks:
        # Each interval is months and days (4 bytes each), then nanoseconds.
        words = pa.Array.from_buffers(
            pa.int64(), 2 * len(chunk), [None, chunk.buffers()[1]], offset=2 * chunk.offset
        )
        nanos = words.take(pa.array(range(1, 2 * len(chunk), 2), pa.int64()))
        calendar = words.take(pa.array(range(0, 2 * len(chunk), 2), pa.int64()))
        is_null = chunk.is_null()
        if any(
            word
            for word, null in zip(calendar.to_pylist(), is_null.to_pylist(), strict=True)
            if not null
        ):
            return column
        values = library("pyarrow.compute").if_else(is_null, None, nanos)
        chunks.append(values.view(pa.duration("ns")).cast(kind))
    return pa.chunked_array(chunks, type=kind)


def _encoded(column: Any, layout: Any, *, only_dictionaries: bool) -> Any:
    pa = arrow()
    if not pa.types.is_dictionary(layout):
        return column if only_dictionaries else column.cast(layout)
    plain = column.cast(layout.value_type)
    return plain.dictionary_encode().cast(layout)
