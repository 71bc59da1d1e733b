"""What a SQL text mentions."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowbuilder.tasks.sql_names import sql_outline
from flowbuilder.tasks.sql_tokens import TokenKind, sql_tokens

NAME = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).map(lambda text: f"t_{text}")
SPACE = st.sampled_from(
    ["-- from hidden\n", "/* from hidden /* join hidden */ */", "--\n", " ", "\n"]
)
TEXT = st.sampled_from(
    ["'from hidden'", "$q$ from hidden $q$", "e'\\' from hidden'", '"from hidden"']
)


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("select * from a", ["a"]),
        ("FROM a SELECT x, b", ["a"]),
        (
            "from a, b join c using (x), lateral (select * from d) e where y in (select z from f)",
            list("abcdf"),
        ),
        (
            "select * from a left join b on a.x = b.x and a.y in [b.y, c] asof join d using (t)",
            ["a", "b", "d"],
        ),
        ('select * from "two words" q, "say ""hi"""', ["two words", 'say "hi"']),
        ("select * from Flights join flights on true", ["Flights"]),
        ("select * from f: flights", ["flights"]),
        ("select * from 航班", ["航班"]),
        ("describe a; summarize b; table c", ["a", "b", "c"]),
        ("copy a to 'x.csv'", ["a"]),
        ("pivot a on b, c using sum(d)", ["a"]),
        ("(select * from a) union all (table b)", ["a", "b"]),
        ("select extract(hour from ts), trim(both from name), substring(x from y) from a", ["a"]),
        ("select x is distinct from y, x is not distinct from z from a", ["a"]),
        ("select cast(x as timestamp with time zone) from a", ["a"]),
        ("select * from range(3), unnest([1]), main.a, 'file.csv', read_csv('x')", []),
        ("select e'it\\'s from b' from a", ["a"]),
        ("select 'it''s from b' from a", ["a"]),
        ("select $tag$ from b $tag$, $$ from c $$ from a", ["a"]),
        ("select 1 -- from b\n from a /* from c /* from d */ from e */", ["a"]),
        ("explain with x as (from a) from x", ["a"]),
    ],
)
def test_outline_names_tables_in_table_position(query, tables):
    assert list(sql_outline(query).tables) == tables


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("with a as (select 1) select * from a", []),
        ("with a as (select * from a) select * from a", ["a"]),
        ("with a as (from b), b as (from a) select * from a, b", ["b"]),
        ("with recursive t(n) as (select 1 union all select n + 1 from t where n < 9) from t", []),
        ("with a(x) as materialized (from c), b as not materialized (from a) from a, b", ["c"]),
        ("select * from (with a as (select 1) from a) x, a", ["a"]),
        ("select (with a as (select 1) from a), b.x from b", ["b"]),
        ("with a as (with b as (select 1) from b) select * from a, b", ["b"]),
        ('with "A" as (select 1) select * from a', []),
        ("with a as (select 1) from a; from a", ["a"]),
        ("create temp table s as select * from a; from s", ["a"]),
        ("create or replace table a as from a; from a", ["a"]),
        ("create table if not exists s (x int); insert into s from b; from s", ["b"]),
    ],
)
def test_outline_leaves_out_what_the_text_defines(query, tables):
    assert list(sql_outline(query).tables) == tables


@given(name=NAME, other=NAME, space=SPACE, text=TEXT)
def test_outline_sees_through_comments_and_strings(name, other, space, text):
    query = f'select{space}{text}, *{space}from{space}{name} join{space}"{other}"{space}on {text}'

    assert {table.casefold() for table in sql_outline(query).tables} == {name, other}


@given(name=NAME, other=NAME)
def test_outline_shadows_a_name_only_where_it_is_defined(name, other):
    inner = f"(with {name} as (select 1) select * from {name}, {other}_x)"

    assert sql_outline(f"select * from {inner} i").tables == (f"{other}_x",)
    assert set(sql_outline(f"select * from {inner} i, {name}").tables) == {f"{other}_x", name}


PIECES = st.sampled_from(
    ["select", "from", "with", "recursive", "as", "join", "create", "table", "a", '"', "'", "$", "$q$", "$q",
     "(", ")", "[", "]", ",", ";", ".", ":", "::", "--", "/*", "*/", "\\", "\n", "?", "1", "e'", "é", "\0"]
)  # fmt: skip


@given(
    st.lists(PIECES, max_size=40).map(" ".join)
    | st.lists(PIECES, max_size=40).map("".join)
    | st.text()
)
@example("create")
@example("with recursive")
@example("from a.")
def test_outline_never_fails(text):
    outline = sql_outline(text)

    assert len({table.casefold() for table in outline.tables}) == len(outline.tables)
    assert sql_outline(text) == outline


@given(st.text(alphabet="ab'\"$/*-\\\n ;", max_size=60))
def test_tokens_keep_order_and_lines(text):
    tokens = list(sql_tokens(text))

    lines = [token.line for token in tokens]
    assert lines == sorted(lines)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines)


@given(st.text(max_size=30), st.text(max_size=30))
def test_tokens_read_back_quoted_text(name, value):
    quoted_name, quoted_value = name.replace('"', '""'), value.replace("'", "''")

    tokens = list(sql_tokens(f"\"{quoted_name}\" '{quoted_value}'"))

    assert [(token.kind, token.text) for token in tokens] == [
        (TokenKind.QUOTED, name),
        (TokenKind.STRING, value),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "$a" * 50_000,
        "/*" * 50_000,
        "'" * 100_001,
        "(from a " * 20_000,
        "e'" + "\\" * 100_001,
    ],
)
@pytest.mark.timeout(10)
def test_outline_takes_hostile_text_in_linear_time(text):
    assert sql_outline(text).statements <= 1


def test_outline_lists_parameters_with_their_lines():
    outline = sql_outline("select $lo,\n $hi, '$no', $lo, $$ $no $$\n where ? = $1")

    assert outline.parameters == (("lo", 1), ("hi", 2), ("?", 3), ("$1", 3))


@pytest.mark.parametrize(
    ("query", "is_contained", "ends_in_query"),
    [
        ("select 1", True, True),
        ("with a as (select 1) from a", True, True),
        ("create table t as select 1; select * from t;", True, True),
        ("create table t as select 1", True, False),
        ("copy (select 1) to 'x.csv'", False, False),
        ("attach 'x.db' as x; select 1", False, True),
        ("install httpfs; load httpfs; select 1", False, True),
        ("create persistent secret s (type s3)", False, False),
        ("nonsense", False, False),
    ],
)
def test_outline_tells_queries_from_effects(query, is_contained, ends_in_query):
    outline = sql_outline(query)

    assert (outline.is_contained, outline.ends_in_query) == (is_contained, ends_in_query)
