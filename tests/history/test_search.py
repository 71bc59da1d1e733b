"""Finding texts: what is found, what is not, and that the index can always be made again."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbuilder.errors import QueryError, StorageError
from flowbuilder.history.pruning import prune
from flowbuilder.history.search import Search
from flowbuilder.history.search_query import parse_search
from flowbuilder.history.search_text import read_snippet, segment
from tests.history.conftest import DAY, MAY, Store


@pytest.fixture
def find(store):
    folder = store.folder / "history"
    search = Search(store.journal, store.months, folder)
    yield search.search
    search.close()


def told(hits):
    return [(hit.kind, hit.workflow, hit.task, hit.run_id) for hit in hits]


def test_every_kind_is_found_with_run_task_and_time(store, find):
    run = store.run(workflow="etl", city="Reykjavik")
    run.logged(1, "loaded 17 rows\n").failed(1, message="no column 'amount'").ended(
        "failed", "task 'clean' failed"
    )

    (log,) = find("loaded rows")
    assert (log.kind, log.workflow, log.task, log.attempt) == ("log", "etl", "clean", 1)
    assert log.run_id == run.run_id
    assert log.time_ns == MAY + 1_007_000_000
    assert log.marked() == "«loaded» 17 «rows»"
    (error,) = find("amount")
    assert (error.kind, error.task) == ("error", "clean")
    assert told(find("reykjavik")) == [("run", "etl", "", run.run_id)]
    assert told(find("plan kind:workflow")) == [("workflow", "etl", "", run.run_id)]
    assert told(find('"clean failed"')) == [("error", "etl", "", run.run_id)]


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ("user_id", True),
        ("user", True),
        ("USER_ID", True),
        ("KeyError", True),
        ("keyerr*", True),
        ("keyerr", False),
        ("pandas.DataFrame", True),
        ("DataFrame.pandas", False),
        ('"connection refused"', True),
        ('"refused connection"', False),
        ("refused connection", True),
        ("refused -connection", False),
        ("refused -timeout", True),
        ("nothing OR refused", True),
        ("nothing OR neither", False),
        ("nothing OR refused user", True),
        ("nothing OR refused missing", False),
        ("数据", True),
        ("数据清洗", True),
        ("清数", False),
        ("失败", True),
        ("cafe", True),
        ("café", True),
        ("0.97", True),
        ("/var/log/app.log", True),
        ("http://127.0.0.1:8000/data", True),
        ("read_csv('x.csv')", True),
        ("load数据", True),
        ("カタカナ", True),
        ("한국", True),
        ("'; DROP TABLE documents; --", False),
        ('NEAR("user" "id")', False),
        ("text:user", False),
        ("col^umn", False),
        ("AND", False),
        ("NOT user", False),
    ],
)
def test_words_of_many_kinds(store, find, query, is_found):
    text = (
        "KeyError: 'user_id' in pandas.DataFrame; connection refused by http://127.0.0.1:8000/data."
        " 数据清洗失败 café loss=0.97 at /var/log/app.log read_csv('x.csv') load数据 カタカナ 한국어"
    )
    store.run().logged(0, text).ended()

    assert bool(find(query)) == is_found


def test_match_is_marked_in_the_text_as_it_was(store, find):
    store.run().logged(0, "前面 数据清洗 后面 user_id\tand\nmore").ended()

    (hit,) = find("数据清洗")
    assert [hit.text[start:stop] for start, stop in hit.marks] == ["数据清洗"]
    (hit,) = find("user_id more")
    assert hit.text == "前面 数据清洗 后面 user_id and more"
    assert "«数据清洗»" in repr(find("数据清洗"))
    assert "<mark>数据清洗</mark>" in find("数据清洗")._repr_html_()


def test_filters(store, find):
    etl = (
        store.run(workflow="etl").logged(2, "word a").logged(3, "word b").logged(1, "word").ended()
    )
    store.run(workflow="other").logged(2, "word").failed(2, message="word").ended("failed", "x")

    assert len(find("word")) == 5
    assert len(find("word workflow:etl")) == 3
    assert len(find("word task:part")) == 4
    assert [hit.task for hit in find("word task:part[1]")] == ["part[1]"]
    assert len(find("word kind:error")) == 1
    assert len(find(f"word run:{etl.run_id[-8:]}")) == 3
    assert len(find("kind:run")) == 2
    assert len(find(f"kind:workflow run:{etl.run_id[-8:]}")) == 1
    assert len(find("word", limit=2)) == 2


def test_newest_comes_first(store, find):
    runs = [store.run().logged(0, f"word {place}").ended() for place in range(5)]

    assert [hit.run_id for hit in find("word")] == [run.run_id for run in reversed(runs)]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "expected something to search for"),
        ("   ", "expected something to search for"),
        ('"open', "quote at character 1 is never closed"),
        ('word "open', "quote at character 6 is never closed"),
        ("OR", "on both sides of OR"),
        ("a OR", "on both sides of OR"),
        ("a OR OR b", "on both sides of OR"),
        ("-only", "found only what to leave out"),
        ("kind:nothing", "expected a kind"),
        ("kind:eror x", "did you mean 'error'"),
        ("->", "expected a word"),
        ("***", "expected a word"),
        ("_", "expected a word"),
        ("x" * 5000, "at most 4096 characters"),
        ("x " * 100, "at most 64 words"),
    ],
)
def test_bad_search_is_a_clear_error(find, query, message):
    with pytest.raises(QueryError, match=message):
        find(query)


def test_bad_limit_is_a_clear_error(find):
    with pytest.raises(QueryError, match="at least 1"):
        find("x", limit=0)


@pytest.fixture(scope="module")
def one_store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("one"))
    store.run(a="b").logged(0, "some words are here").ended()
    search = Search(store.journal, store.months, None)
    yield search
    search.close()
    store.close()


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters() | st.sampled_from('"*-:()^ORANDNT \u200b\x02'), max_size=30))
def test_any_text_is_a_search_or_a_clear_error(one_store, text):
    try:
        hits = one_store.search(text)
    except QueryError:
        return
    assert all(hit.run_id for hit in hits)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_text_is_found_by_its_words(text):
    shown = read_snippet(segment(text)).text

    assert shown.replace(" ", "") == "".join(
        c for c in text if not c.isspace() and c not in "\x00\x02\x03\u200b"
    )


def test_workflow_text_is_found_once_and_belongs_to_its_newest_run(store, find):
    first = store.run(workflow="etl").ended()
    second = store.run(workflow="etl").ended()

    assert told(find("plan kind:workflow")) == [("workflow", "etl", "", second.run_id)]
    store.journal.remove_runs([second.run_id])
    assert told(find("plan kind:workflow")) == [("workflow", "etl", "", first.run_id)]
    store.journal.remove_runs([first.run_id])
    assert not find("plan")


def test_removed_run_is_not_found(store, find):
    gone = store.run().logged(0, "word").ended()
    store.run().logged(0, "word").ended()
    assert len(find("word")) == 2

    store.journal.remove_runs([gone.run_id])

    assert len(find("word")) == 1


def test_pruned_run_is_still_found_also_by_a_new_index(store, find):
    run = store.run().logged(0, "word 数据").failed(1, message="word").ended("failed", "word")
    before = find("word")
    prune(store.journal, store.months, now_ns=MAY + 70 * DAY)

    assert list(find("word")) == list(before)
    again = Search(store.journal, store.months, None)
    assert list(again.search("word")) == list(before)
    assert {hit.run_id for hit in again.search("数据")} == {run.run_id}
    again.close()


def test_index_grows_with_a_running_run(store, find):
    run = store.run().logged(0, "first word\n").sync()
    assert len(find("word")) == 1

    run.logged(0, "second word").ended()

    assert [hit.text for hit in find("word")] == ["second word", "first word"]


@pytest.mark.parametrize("seed", range(6))
def test_damaged_index_is_made_again_or_says_the_same(store, find, seed):
    for place in range(40):
        store.run().logged(0, f"word {place} " * 20).ended()
    before = list(find("word"))
    path = store.folder / "history" / "search.db"
    content = bytearray(path.read_bytes())
    generator = random.Random(seed)
    if seed == 0:
        content = content[: len(content) // 2]
    elif seed == 1:
        content = bytearray(b"rubbish" * 1000)
    else:
        for _ in range(200):
            content[generator.randrange(len(content))] ^= 0xFF
    path.write_bytes(content)

    assert list(find("word")) == before


def test_leftovers_of_a_killed_process_do_no_harm(store, find):
    store.run().logged(0, "word").ended()
    find("word")
    (store.folder / "history" / "search.db-journal").write_bytes(b"\x00" * 100)

    assert len(find("word")) == 1


def test_threads_and_indexes_at_once(store):
    found = []

    def look():
        search = Search(store.journal, store.months, store.folder / "history")
        found.extend(len(search.search("word", limit=1000)) for _ in range(5))
        search.close()

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        store.run().logged(0, "word").ended()
    for thread in threads:
        thread.join()

    final = Search(store.journal, store.months, store.folder / "history")
    assert len(final.search("word", limit=1000)) == 30
    assert max(found) <= 30
    final.check()


def test_place_that_cannot_be_written_is_no_obstacle(store, find):
    store.run().logged(0, "word").ended()
    (store.folder / "history" / "search.lock").mkdir()

    assert len(find("word")) == 1


def test_damaged_journal_is_named(store, find):
    import apsw

    run = store.run().logged(0, "hello").ended()
    connection = apsw.Connection(str(store.folder / "journal.db"))
    connection.execute("UPDATE journal SET body = x'00' WHERE kind = 'log'")
    connection.close()

    with pytest.raises(StorageError, match=run.run_id):
        find("hello")


def test_parse_quotes_everything():
    assert parse_search('a "b c" d* -e').expression == '(("a") AND ("b c") AND ("d"*)) NOT ("e")'


def test_pieces_of_a_line_are_found_as_one(store, find):
    run = store.run().logged(0, "数").logged(1, "another ").sync()
    find("数")
    run.logged(0, "据 con").logged(1, "task\n").sync()
    find("数据")
    run.logged(0, "nection\n").logged(0, "next line\n").ended()

    assert [hit.text for hit in find("connection")] == ["数据 connection"]
    assert [hit.text for hit in find("数据")] == ["数据 connection"]
    assert not find("nection*")
    assert [hit.text for hit in find("task -plan")] == ["another task"]
    again = Search(store.journal, store.months, None)
    assert again.search("line OR connection OR task") == find("line OR connection OR task")
    again.check()
    again.close()
