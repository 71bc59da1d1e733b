"""Measures by buffer address which hand-overs copy; `python -m tests.api.copy_matrix` rewrites the
tables in docs/copies.md.
"""

from __future__ import annotations

import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

import flowbuilder as fb
from flowbuilder.tasks.table_buffers import conversion_copies
from flowbuilder.tasks.tables import from_arrow, to_arrow

DOCUMENT = Path(__file__).parents[2] / "docs" / "copies.md"
ROWS = 600_000
LIBRARIES = ("numpy", "pyarrow", "polars", "pandas (numpy)", "pandas (pyarrow)", "DuckDB")
KINDS = (
    "float",
    "int",
    "nullable",
    "bool",
    "string",
    "string_view",
    "timestamp",
    "dictionary",
    "nested",
    "decimal",
)
HAND_OVERS = ("task", "notebook", "sql", "worker", "spilled")
SHARED, NONE = "shared", "-"


def column(kind: str) -> pa.Array:
    """A column of 600,000 rows."""
    numbers = np.arange(ROWS)
    match kind:
        case "float":
            return pa.array(numbers * 1.5)
        case "int":
            return pa.array(numbers)
        case "nullable":
            return pa.array(numbers, mask=numbers % 3 == 0)
        case "bool":
            return pa.array(numbers % 2 == 0)
        case "string" | "string_view":
            texts = pa.array(numbers % 1000).cast(pa.string())
            import pyarrow.compute as pc

            texts = pc.binary_join_element_wise("a text of some length, number", texts, " ")
            return texts if kind == "string" else texts.cast(pa.string_view())
        case "timestamp":
            return pa.array(numbers.astype("datetime64[us]"))
        case "dictionary":
            words = pa.array([f"word {place}" for place in range(100)])
            return pa.DictionaryArray.from_arrays(pa.array((numbers % 100).astype("int32")), words)
        case "nested":
            offsets = pa.array(np.arange(0, 2 * ROWS + 1, 2, dtype="int32"))
            return pa.ListArray.from_arrays(offsets, pa.array(np.arange(2 * ROWS)))
        case "decimal":
            return pa.array(numbers).cast(pa.decimal128(21, 2))
    raise ValueError(kind)


def make(library: str, kind: str) -> Any:
    """A value of a library; None if it has no such columns."""
    array = column(kind)
    table = pa.table({"c": array})
    match library:
        case "pyarrow" | "DuckDB":
            return table
        case "polars":
            return pl.from_arrow(table, rechunk=False)
        case "pandas (pyarrow)":
            return table.to_pandas(types_mapper=pd.ArrowDtype)
        case "pandas (numpy)":
            return None if kind == "string_view" else table.slice(0, rows(kind)).to_pandas()
        case "numpy":
            return make_numpy(kind, array)
    raise ValueError(library)


def rows(kind: str) -> int:
    """Python objects are slow: fewer of them."""
    return 20_000 if kind in {"nested", "decimal"} else ROWS


def make_numpy(kind: str, array: pa.Array) -> Any:
    if kind in {"string_view", "dictionary"}:
        return None
    if kind == "nested":
        return np.arange(2.0 * ROWS).reshape(ROWS, 2)
    if kind == "string":
        return np.array(array.slice(0, 50_000).to_pylist())
    if kind == "decimal":
        return np.array([decimal.Decimal(place) / 4 for place in range(1000)], dtype=object)
    return array.to_numpy(zero_copy_only=False)


def addresses(value: Any) -> list[tuple[int, int]]:
    """Buffers of a value, told without the engine's own way of looking."""
    if isinstance(value, np.ndarray):
        return [(value.__array_interface__["data"][0], value.nbytes)]
    if isinstance(value, pl.DataFrame):
        # Categories are made anew each time; their codes are what is shared.
        codes = value.with_columns(pl.col(pl.Categorical).to_physical())
        value = codes.to_arrow(compat_level=pl.CompatLevel.newest())
    if isinstance(value, pd.DataFrame):
        series = value["c"]
        if isinstance(series.dtype, np.dtype):
            return addresses(series.to_numpy())
        if isinstance(series.dtype, pd.CategoricalDtype):
            words = pa.table({"c": series.cat.categories.array.__arrow_array__()})
            return addresses(series.array.codes) + addresses(words)
        value = pa.table({"c": series.array.__arrow_array__()})
    found: list[tuple[int, int]] = []
    waiting = [chunk for column in value.columns for chunk in column.chunks]
    while waiting:
        chunk = waiting.pop()
        found += [(buffer.address, buffer.size) for buffer in chunk.buffers() if buffer]
        if pa.types.is_dictionary(chunk.type):
            waiting.append(chunk.dictionary)
    return found


def unshared(value: Any, source: list[tuple[int, int]]) -> int:
    """Bytes of a value that lie in no buffer of the source."""
    return sum(
        size
        for address, size in addresses(value)
        if size and not any(start <= address < start + max(length, 1) for start, length in source)
    )


def is_mapped(value: Any) -> bool:
    """Whether all its data lies in mapped files."""
    ranges = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            low, _, high = fields[0].partition("-")
            ranges.append((int(low, 16), int(high, 16)))
    large = [address for address, size in addresses(value) if size > 4096]
    return bool(large) and all(any(low <= place < high for low, high in ranges) for place in large)


def look(value: Any) -> tuple[list[tuple[int, int]], bool]:
    """What a consumer sees of its input."""
    return addresses(value), is_mapped(value)


def hand_over(library: str, kind: str) -> dict[str, str]:
    """Try all ways out of one task."""
    kept: list[Any] = []

    def source() -> Any:
        if not kept:
            kept.append(make(library, kind))
        return kept[0]

    value = source()
    if value is None:
        return dict.fromkeys(HAND_OVERS, NONE)
    flow = fb.Workflow("matrix").add("source", source, executor="inline")
    flow = flow.add("task", look, inputs={"value": "source"}, executor="inline")
    flow = flow.add("worker", look, inputs={"value": "source"}, executor="process")
    run = flow.run()
    origin = addresses(value)
    seen, _ = run["task"]
    moved = sum(size for address, size in seen if not _inside(address, origin))
    _, mapped = run["worker"]
    how = str(run.copies().between("source", "worker"))
    return {
        "task": SHARED if not moved else f"copied {moved}",
        "notebook": SHARED if run["source"] is value else "another object",
        "sql": into_sql(library, value),
        "worker": ("1 copy, mapped" if mapped else "1 copy, read back")
        if "file" in how
        else "pickled",
        "spilled": spilled(value),
    }


def _inside(address: int, spans: list[tuple[int, int]]) -> bool:
    return any(start <= address < start + max(length, 1) for start, length in spans)


def into_sql(library: str, value: Any) -> str:
    """What DuckDB is given to scan, and whether the engine counts it right."""
    given = {"c": value} if library == "numpy" else value
    table = to_arrow(given, "value")
    copied = unshared(table, addresses(value))
    counted = conversion_copies(given, table)
    assert bool(copied) == bool(counted), (library, copied, counted)
    if not copied:
        return SHARED
    total = sum(size for _, size in addresses(table))
    assert 0.9 * copied <= sum(counted.values()) <= 1.1 * copied + 4096
    share = "all" if copied > 0.9 * total else "bitmap"
    return f"{share}: {next(iter(counted))}"


def spilled(value: Any) -> str:
    """Whether a value that went to a file comes back mapped."""
    import tempfile

    from flowbuilder.runtime.table_transport import export_table, import_table

    with tempfile.TemporaryDirectory() as folder:
        ref = export_table(value, Path(folder))
        if ref is None or not ref.path:
            return "stays"
        back = import_table(ref, keep=True)
        return "1 copy, mapped" if is_mapped(back) else "1 copy, read back"


def after_sql(kind: str, output: str) -> str:
    """What is copied once DuckDB has given its result away."""
    fb_table = pa.table({"c": column(kind).slice(0, 300_000)})
    flow = fb.Workflow("out").add("source", lambda: fb_table, executor="inline")
    flow = flow.add("rows", "sql", config={"query": "select * from source", "output": output})
    run = flow.run()
    assert "DuckDB copies its results" in str(run.copies().between("rows", "rows"))
    return _conversion(kind, output)


def _conversion(kind: str, output: str) -> str:
    from flowbuilder.tasks.sql_database import SqlPlace, open_cursor

    with open_cursor(SqlPlace("local", "", 0, output == "polars"), is_private=True) as cursor:
        cursor.register("t", pa.table({"c": column(kind).slice(0, 300_000)}))
        table = cursor.sql("from t").to_arrow_table()
        found = from_arrow(table, output)
        copied = unshared(found, addresses(table))
    total = sum(size for _, size in addresses(found))
    if copied < 0.02 * total:
        return SHARED
    return "all" if copied > 0.9 * total else f"{round(100 * copied / total, -1):.0f} %"


def tables() -> str:
    """Both tables as Markdown."""
    lines = ["| From | Column | " + " | ".join(HAND_OVERS) + " |"]
    lines.append("| --- | --- |" + " --- |" * len(HAND_OVERS))
    for library in LIBRARIES:
        for kind in KINDS:
            if library == "DuckDB" and kind == "string_view":
                continue
            cells = hand_over(library, kind)
            if set(cells.values()) != {NONE}:
                row = " | ".join(cells[name] for name in HAND_OVERS)
                lines.append(f"| {library} | {kind} | {row} |")
    outputs = ("arrow", "polars", "pandas")
    lines += ["", "| Result column | " + " | ".join(f"`{name}`" for name in outputs) + " |"]
    lines.append("| --- |" + " --- |" * len(outputs))
    for kind in KINDS:
        if kind != "string_view":
            row = " | ".join(after_sql(kind, output) for output in outputs)
            lines.append(f"| {kind} | {row} |")
    return "\n".join(lines) + "\n"


BEGIN, END = "<!-- begin: measured -->\n", "<!-- end: measured -->\n"


def written() -> str:
    """The tables as the document has them."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return text.partition(BEGIN)[2].partition(END)[0].strip() + "\n"


def rewrite() -> None:
    """Measure and put the tables into the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{tables()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    import tempfile

    fb.configure(data_dir=tempfile.mkdtemp())
    rewrite()
