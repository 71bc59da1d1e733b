"""What narrows a query never changes its answer: against a plain scan of the same rows."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbuilder.datasets import Store
from flowbuilder.datasets.filters import filters_of
from flowbuilder.datasets.query_text import read_query

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("small", pa.int8()),
        ("f", pa.float64()),
        ("g", pa.float32()),
        ("s", pa.string_view()),
        ("d", pa.date32()),
        ("ts", pa.timestamp("us")),
        ("nested", pa.struct([("id", pa.int64())])),
    ]
)


def _at(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC).replace(tzinfo=None)


def conditions(
    store: Store, text: str, params: object = None
) -> dict[str, list[tuple[object, object]]]:
    with store._session.cursor() as cursor:
        query = read_query(store._session, cursor, text)
    mentions = query.mentions_of("t")
    if len(mentions) != 1 or not query.is_transparent:
        return {}
    if query.has_bare_limit and not mentions[0].is_scan:
        return {}
    found = filters_of(mentions[0], SCHEMA, params)  # type: ignore[arg-type]
    return {each.column: [(r.low, r.high) for r in each.ranges] for each in found}


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM t WHERE id = 5",
        "SELECT * FROM t WHERE 5 = t.id AND f > random()",
        "SELECT * FROM t AS x WHERE x.ID BETWEEN 4 AND 6",
        "SELECT * FROM t JOIN u ON t.id = u.id WHERE t.id = 5",
        "WITH c AS (SELECT * FROM t WHERE id IN (5, 6)) SELECT * FROM c, c d",
        "SELECT (SELECT max(f) FROM t WHERE id = 5) FROM u",
        "SELECT id + 1 AS other FROM t WHERE id = 5.0 UNION SELECT 1",
        "FROM t WHERE id = 5 LIMIT 3",
        "SELECT s, count(*) AS n FROM t WHERE id = 5 GROUP BY s ORDER BY n LIMIT 1",
    ],
)
def test_a_condition_every_row_must_meet_is_understood(store: Store, text: str):
    assert "id" in conditions(store, text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM t WHERE id = 5 OR f = 1",
        "SELECT * FROM t WHERE NOT id = 5",
        "SELECT * FROM t WHERE id <> 5",
        "SELECT * FROM t WHERE id = '5'",
        "SELECT * FROM t WHERE s = 5",
        "SELECT * FROM t WHERE s COLLATE NOCASE = 'a'",
        "SELECT * FROM t WHERE lower(s) = 'a'",
        "SELECT * FROM t WHERE f = 'nan'::DOUBLE",
        "SELECT * FROM t WHERE id = NULL",
        "SELECT * FROM t WHERE id IS NULL",
        "SELECT * FROM t WHERE id + 1 = 5",
        "SELECT * FROM t WHERE id = 2 + 3",
        "SELECT * FROM t WHERE nested.id = 5",
        "SELECT * FROM t WHERE d = DATE '2026-01-01 12:00'",
        "SELECT * FROM t WHERE ts = 'yesterday'",
        "SELECT * FROM t WHERE ts > TIMESTAMPTZ '2026-01-01 00:00:00+05'",
        "SELECT * FROM t(a) WHERE id = 5",
        "SELECT id + 1 AS id FROM t WHERE id = 5",
        "SELECT * FROM t TABLESAMPLE 10% WHERE id = 5",
        "SELECT * FROM t WHERE id = 5 USING SAMPLE 10%",
        "SELECT * FROM t LEFT JOIN u ON t.id = u.id WHERE t.id = 5",
        "SELECT * FROM u ANTI JOIN t ON t.id = u.id WHERE u.id = 5",
        "SELECT * FROM t ASOF JOIN u ON t.id >= u.id WHERE t.id = 5",
        "SELECT * FROM t JOIN u USING (id) WHERE id = 5",
        "SELECT * FROM t, u WHERE id = 5",
        "SELECT * FROM t POSITIONAL JOIN u WHERE t.id = 5",
        "SELECT * FROM t WHERE id = 5 UNION ALL SELECT * FROM t",
        "SELECT * FROM t a, t b WHERE a.id = 5",
        "SELECT *, (SELECT count(*) FROM query_table('t')) FROM t WHERE id = 5",
        "SELECT *, (SELECT 1 FROM query('FROM t')) FROM t WHERE id = 5",
        "SELECT * FROM (SELECT * FROM t) WHERE id = 5",
        "SELECT count(*) FILTER (id = 5) FROM t",
        "SELECT max(id) FROM t HAVING max(id) = 5",
        "SELECT * FROM t QUALIFY id = 5",
        "SELECT * FROM t WHERE id IN (SELECT 5)",
        "SELECT t.id FROM t JOIN u ON t.id = u.id WHERE t.id = 5 LIMIT 1",
        "SELECT s, count(*) FROM t WHERE id = 5 GROUP BY s LIMIT 1",
        "SELECT DISTINCT s FROM t WHERE id = 5 LIMIT 1",
        "WITH c AS (SELECT * FROM t WHERE id = 5) SELECT * FROM c LIMIT 1",
        "SELECT * FROM (SELECT * FROM t WHERE id = 5 LIMIT 1)",
        "SELECT * FROM t WHERE id = $missing",
    ],
)
def test_any_doubt_means_no_range(store: Store, text: str):
    found = conditions(store, text)

    assert "id" not in found
    assert not found


def test_parameters_count_with_the_type_they_are_bound_with(store: Store):
    text = "SELECT * FROM t WHERE id = $a AND s = $b AND ts >= $c AND d < $d AND f <= $e"
    values = {"a": 5, "b": "x", "c": _at(2026, 1, 1), "d": dt.date(2026, 1, 2), "e": 0.5}

    assert set(conditions(store, text, values)) == {"id", "s", "ts", "d", "f"}
    assert not conditions(store, text, {"a": "5", "b": 5, "c": "2026", "d": True, "e": None})
    assert set(conditions(store, "SELECT * FROM t WHERE id = ?", [7])) == {"id"}


NUMBERS = ["0", "1", "-1", "5", "0.1", "1e0", "2.5", "16777217", "16777216e0", "9007199254740993",
           "9007199254740992.0e0", "9223372036854775807", "-128", "127.4", "1e30", "-0.0"]  # fmt: skip
STAMPS = [
    "'2026-01-01'",
    "DATE '2026-01-01'",
    "TIMESTAMP '2026-01-01 12:00:00.000001'",
    "'2026-01-02 00:00:00'",
]
TEXTS = ["''", "'a'", "'é'", "'ab'", "'Z'", "'😀'"]
VALUES = {
    "id": st.sampled_from([0, 1, -1, 5, 2**53, 2**53 + 1, 2**63 - 1, 2**24 + 1]),
    "small": st.integers(-128, 127),
    "f": st.sampled_from([0.0, -0.0, 0.1, 1.0, 2.5, float("nan"), float("inf"), -float("inf"), 2.0**53, 1e30]),
    "g": st.sampled_from([0.0, -0.0, 0.1, 1.0, 2.5, float("nan"), float("inf"), 2.0**24]),
    "s": st.sampled_from(["", "a", "ab", "é", "Z", "😀", "e\u0301", "a\0"]),
    "d": st.sampled_from([dt.date(2025, 12, 31), dt.date(2026, 1, 1), dt.date(2026, 1, 2)]),
    "ts": st.sampled_from(
        [_at(2026, 1, 1), _at(2026, 1, 1, 12, 0, 0, 1), _at(2026, 1, 2), _at(1960, 1, 1)]
    ),
}  # fmt: skip
CONSTANTS = {
    "id": NUMBERS,
    "small": NUMBERS,
    "f": NUMBERS,
    "g": NUMBERS,
    "s": TEXTS,
    "d": STAMPS,
    "ts": STAMPS,
}


@st.composite
def predicates(draw: st.DrawFn) -> str:
    column = draw(st.sampled_from(sorted(CONSTANTS)))
    constant = st.sampled_from(CONSTANTS[column])
    shape = draw(
        st.sampled_from(["=", "<", "<=", ">", ">=", "between", "in", "not in", "mirrored"])
    )
    if shape == "between":
        return f"{column} BETWEEN {draw(constant)} AND {draw(constant)}"
    if shape.endswith("in"):
        values = ", ".join(draw(st.lists(constant, min_size=1, max_size=3)))
        return f"{column} {shape.upper()} ({values})"
    if shape == "mirrored":
        return f"{draw(constant)} {draw(st.sampled_from(['=', '<', '>=']))} {column}"
    return f"{column} {shape} {draw(constant)}"


QUERIES = [
    "SELECT * FROM t WHERE {p} AND {q}",
    "SELECT * FROM t WHERE {p} OR {q}",
    "SELECT * FROM t AS x WHERE {p} LIMIT 3",
    "SELECT count(*), min(id), list(small ORDER BY small) FROM t WHERE {p}",
    "SELECT id, row_number() OVER () FROM t WHERE {p} QUALIFY row_number() OVER () < 4",
    "WITH c AS (SELECT * FROM t WHERE {p}) SELECT * FROM c WHERE {q}",
    "SELECT x.id, y.k FROM t x JOIN other y ON x.id = y.k WHERE x.{p} ORDER BY ALL",
    "SELECT DISTINCT s FROM t WHERE {p} ORDER BY s LIMIT 2",
]


def rows() -> st.SearchStrategy[list[dict[str, object]]]:
    row = st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()})
    return st.lists(row, min_size=1, max_size=12)


def outcome(ask: object) -> object:
    """Rows, with NaN made comparable; an error counts as one whatever its words."""
    try:
        table = ask()  # type: ignore[operator]
    except Exception:
        return "error"
    return [tuple(repr(value) for value in row.values()) for row in table.to_pylist()]


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(rows(), min_size=1, max_size=4),
    asked=st.lists(
        st.tuples(st.sampled_from(QUERIES), predicates(), predicates()), min_size=1, max_size=12
    ),
)
def test_skipping_files_never_changes_an_answer(parts, asked):
    schema = pa.schema([field for field in SCHEMA if field.name in VALUES])
    other = pa.table({"k": [0, 1, 5, 2**53]})
    with (
        tempfile.TemporaryDirectory() as folder,
        Store(Path(folder)) as store,
        duckdb.connect() as plain,
    ):
        for part in parts:
            store["t"].append(pa.Table.from_pylist(part, schema=schema))
        plain.execute("SET TimeZone = 'UTC'").fetchall()
        plain.register(
            "t", pa.Table.from_pylist([row for part in parts for row in part], schema=schema)
        )
        plain.register("other", other)
        for shape, p, q in asked:
            text = shape.format(p=p, q=q)
            expected = outcome(lambda text=text: plain.sql(text).to_arrow_table())
            assert (
                outcome(lambda text=text: store.query(text, tables={"other": other}).arrow())
                == expected
            ), text
