"""Cached tasks in runs: what is used again, what is not, and what is said about it."""

from __future__ import annotations

import asyncio
import textwrap
import threading
from pathlib import Path

import pytest

import flowbuilder as fb
from flowbuilder.errors import FlowBuilderError, WorkflowValidationError
from flowbuilder.records import CacheChecked


def note(word):
    # Not a list of this module: that would be a global that changes, and count.
    with Path("calls.txt").open("a") as file:
        file.write(f"{word}\n")


def calls():
    return Path("calls.txt").read_text().split() if Path("calls.txt").exists() else []


def flow(text, **settings):
    return fb.loads(textwrap.dedent(text), **settings)


def states(run):
    return {task.name: task.state for task in run.task_runs}


def reason(run, name):
    return next(task.reason for task in run.task_runs if task.name == name)


@fb.task(cache=True)
def load(n: int = 3):
    note("load")
    return [{"row": row} for row in range(n)]


@fb.task(cache=True)
def clean(rows, limit: float = 0.5):
    note("clean")
    return [row["row"] for row in rows if row["row"] > limit]


@fb.task
def count(rows):
    note("count")
    return len(rows)


@fb.workflow
def daily(n: int = 3, limit: float = 0.5):
    return count(clean(load(n), limit=limit))


def test_second_run_computes_nothing_that_is_cached():
    first = daily.run()
    second = daily.run()

    assert calls() == ["load", "clean", "count", "count"]
    assert states(first)["clean"] == "succeeded"
    assert states(second) == {"load": "cached", "clean": "cached", "count": "succeeded"}
    assert second["clean"] == first["clean"] == [1, 2]
    assert second["count"] == 2


def test_explain_says_why_a_task_ran_or_not():
    first, second, third = daily.run(), daily.run(), daily.run(limit=1.5)

    assert "ran: never cached" in first.explain("clean")
    assert "nothing it depends on changed since its output was kept" in second.explain("clean")
    assert "ran: argument `limit` changed 0.5 -> 1.5" in third.explain("clean")
    assert states(third)["load"] == "cached"


def test_children_check_again_by_what_their_parents_gave():
    daily.run(n=3)
    more = daily.run(n=4)
    assert "ran: argument `n` changed 3 -> 4" in more.explain("load")
    assert "upstream `load as rows` gave other content" in more.explain("clean")


@fb.task(cache=True)
def rounded(x: float):
    note("rounded")
    return round(x)


@fb.task(cache=True)
def half(x):
    note("half")
    return x / 2


@fb.workflow
def early(x: float = 1.0):
    return half(rounded(x))


def test_a_parent_that_ran_and_gave_the_same_leaves_its_children_cached():
    early.run(x=1.1)
    run = early.run(x=1.2)

    assert states(run) == {"rounded": "succeeded", "half": "cached"}


def test_runs_without_look_ups_compute_and_keep():
    daily.run()
    run = daily.run(cache=False)

    assert states(run)["load"] == "succeeded"
    assert "look-ups were switched off" in run.explain("load")
    assert calls().count("load") == 2
    assert fb.cache_stats().stored == 4
    assert states(daily.run())["load"] == "cached"


def test_the_journal_says_the_same_after_the_run():
    daily.run()
    run = daily.run(limit=2.0)
    past = fb.run(run.id)

    assert {task.name: task.reason for task in past.task_runs} == {
        task.name: task.reason for task in run.task_runs
    }
    assert past["load"] == run["load"]
    events = [event for event in past.events() if isinstance(event, CacheChecked)]
    assert [(event.is_hit, event.is_kept) for event in events] == [(True, True), (False, True)]


def test_failed_outputs_are_never_kept():
    @fb.task(cache=True)
    def shaky():
        note("shaky")
        if len(calls()) == 1:
            raise ValueError("no")
        return 1

    flaky = fb.Workflow("flaky").add("shaky", shaky)
    assert states(flaky.run(check=False)) == {"shaky": "failed"}
    assert states(flaky.run()) == {"shaky": "succeeded"}


def test_retries_of_a_cached_task_keep_the_good_one():
    tries = []

    def shaky():
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("no")
        return 1

    flaky = fb.Workflow("flaky").add(
        "shaky", shaky, cache=True, retry={"max_attempts": 3, "delay": 0}
    )
    # `tries` is part of what decides the output: its content changes, so nothing is found.
    assert flaky.run()["shaky"] == 1


def test_cancelled_outputs_are_never_kept():
    started, go_on = threading.Event(), threading.Event()

    @fb.task(cache={"version": "1"}, executor="thread")
    def slow():
        return wait_for(started, go_on)

    work = fb.Workflow("work").add("slow", slow)
    run = work.start()
    assert started.wait(20)
    run.cancel()
    go_on.set()
    run.wait(20)

    assert fb.cache_stats().stored == 0


def wait_for(started, go_on):
    started.set()
    go_on.wait(20)
    return 1


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_every_executor_finds_what_another_kept(executor, write_module):
    module = write_module("def double(n):\n    return [n, n]\n")
    work = fb.Workflow("work").add("double", module.double, config={"n": 3}, cache=True)

    first = work.run(executor=executor)
    second = work.run(executor="thread")
    third = work.run(executor=executor)

    assert first["double"] == second["double"] == third["double"] == [3, 3]
    assert [states(run)["double"] for run in (first, second, third)] == [
        "succeeded",
        "cached",
        "cached",
    ]


def test_coroutines_are_cached():
    @fb.task(cache=True)
    async def fetch(n: int):
        note("fetch")
        await asyncio.sleep(0)
        return n * 2

    work = fb.Workflow("work").add("fetch", fetch, config={"n": 4})

    assert work.run()["fetch"] == 8
    run = work.run()
    assert (run["fetch"], states(run), calls()) == (8, {"fetch": "cached"}, ["fetch"])


def test_equal_tasks_of_one_run_are_computed_once():
    def slow(n):
        note("slow")
        return threading.Event().wait(0.05) or n

    work = fb.Workflow("work")
    for number in range(6):
        work = work.add(f"t{number}", slow, config={"n": 1}, cache=True, executor="thread")
    run = work.run()

    assert calls() == ["slow"]
    assert sorted(states(run).values()) == ["cached"] * 5 + ["succeeded"]


def test_a_run_inside_a_cached_task_that_wants_the_same_does_not_wait_for_itself():
    def inner(depth):
        note("inner")
        if depth == len(calls()):
            return work.run()["inner"]
        return depth

    work = fb.Workflow("work").add("inner", inner, config={"depth": 1}, cache=True)

    assert work.run()["inner"] == 1
    assert calls() == ["inner", "inner"]


def test_results_that_cannot_be_stored_are_not_kept_and_it_is_said():
    def numbers():
        return (number for number in range(3))

    work = fb.Workflow("work").add("numbers", numbers, cache=True)
    run = work.run()

    assert list(run["numbers"]) == [0, 1, 2]
    assert "its output is not kept: it cannot be stored" in run.explain("numbers")
    assert states(work.run())["numbers"] == "succeeded"


def test_what_cannot_be_compared_runs_uncached_with_a_reason():
    handle = open(__file__)  # noqa: SIM115, PTH123

    def peek():
        return handle.name

    work = fb.Workflow("work").add("peek", peek, cache=True)
    run = work.run()
    handle.close()

    assert "ran: not cached: closure value" in run.explain("peek")
    assert "_io.TextIOWrapper" in run.explain("peek")


SCRIPT = """
    name: work
    params: {{scale: {{default: 2}}, other: {{default: 1}}}}
    tasks:
      - name: rows
        type: script
        cache: {cache}
        config:
          code: |
            # the rows
            result = [params["scale"]] * 3
      - name: total
        type: sql
        cache: true
        inputs: {{rows: table}}
        config: {{query: "select sum(x) as s from rows", output: rows}}
      - name: table
        type: script
        inputs: {{rows: rows}}
        config:
          code: |
            import pyarrow as pa
            result = pa.table({{"x": rows}})
"""


def test_scripts_and_queries_depend_on_what_they_use():
    work = flow(SCRIPT.format(cache="true"))

    first, second = work.run(), work.run(other=5)
    assert first["total"] == second["total"] == [{"s": 6}]
    assert states(second) == {"rows": "cached", "table": "succeeded", "total": "cached"}
    third = work.run(scale=3)
    assert "ran: parameter `scale` changed 2 -> 3" in third.explain("rows")
    assert "ran: upstream `table as rows` gave other content" in third.explain("total")
    again = flow(SCRIPT.format(cache="true").replace("# the rows", "# all rows\n            "))
    assert states(again.run())["rows"] == "cached"


def test_version_forgets_and_ttl_expires(monkeypatch):
    from flowbuilder.cache import task_cache

    flow(SCRIPT.format(cache='{version: "1", ttl: 1h}')).run()
    run = flow(SCRIPT.format(cache='{version: "2", ttl: 1h}')).run()
    assert "ran: the cache version changed 1 -> 2" in run.explain("rows")

    now = task_cache.time.time_ns()
    monkeypatch.setattr(task_cache.time, "time_ns", lambda: now + int(3.5 * 3600e9))
    run = flow(SCRIPT.format(cache='{version: "2", ttl: 1h}')).run()
    assert "ran: its kept output expired 2h30m ago" in run.explain("rows")
    monkeypatch.setattr(task_cache.time, "time_ns", lambda: now - int(3600e9))
    run = flow(SCRIPT.format(cache='{version: "2", ttl: 1h}')).run()
    assert "dated in the future" in run.explain("rows")


def test_files_and_variables_count_if_declared(place, monkeypatch):
    text = """
        name: work
        tasks:
          - name: lines
            type: shell
            effects: idempotent
            cache: {files: [data.txt, "parts/*.txt"], env: [FLAVOUR]}
            config: {command: "cat data.txt parts/*.txt; echo $FLAVOUR"}
    """
    (place / "parts").mkdir()
    (place / "data.txt").write_text("one\n")
    (place / "parts" / "a.txt").write_text("two\n")
    monkeypatch.setenv("FLAVOUR", "sweet")
    work = flow(text)

    def outcome():
        run = work.run()
        return states(run)["lines"], run["lines"], reason(run, "lines")

    assert outcome()[:2] == ("succeeded", "one\ntwo\nsweet")
    assert outcome()[0] == "cached"
    (place / "data.txt").write_text("six\n")
    state, output, why = outcome()
    assert (state, output, why) == ("succeeded", "six\ntwo\nsweet", "file `data.txt` changed")
    (place / "parts" / "b.txt").write_text("new\n")
    assert outcome()[2] == "file `b.txt` is new"
    monkeypatch.setenv("FLAVOUR", "sour")
    state, output, why = outcome()
    assert why == "environment variable `FLAVOUR` changed"
    assert outcome()[0] == "cached"
    (place / "data.txt").unlink()
    assert outcome()[2] == "file `data.txt` changed"


def test_read_tasks_depend_on_the_content_of_files(place):
    text = """
        name: work
        tasks:
          - {name: rows, type: read, cache: true, config: {path: "*.csv", output: rows}}
    """
    (place / "a.csv").write_text("x\n1\n")
    work = flow(text)
    work.run()
    assert states(work.run()) == {"rows": "cached"}
    (place / "a.csv").write_text("x\n2\n")
    run = work.run()
    assert run["rows"] == [{"x": 2}]
    assert reason(run, "rows") == "file `a.csv` changed"
    (place / "b.csv").write_text("x\n3\n")
    assert work.run()["rows"] == [{"x": 2}, {"x": 3}]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("type: shell, config: {command: ls}", "has effects outside"),
        ("type: shell, effects: none, config: {command: ls}", "which files a command reads"),
        ("type: write, inputs: {data: a}, config: {path: x.csv}", "does not say what decides"),
        ("type: http, config: {url: 'http://localhost/'}", "what a server would answer"),
        ("type: http, effects: none, config: {url: 'http://localhost/', method: POST}", "GET"),
        ("type: sleep, config: {seconds: 1}", "does not say what decides its output"),
        ("type: sql, config: {query: \"from 'a.csv'\"}", "the query reads files"),
        ("type: sql, config: {query: \"from read_csv('a.csv')\"}", "the query reads files"),
        ("type: script, config: {language: bash, code: ls}", "which files a command reads"),
    ],
)  # fmt: skip
def test_caches_that_cannot_be_meant_are_errors(task, words):
    text = f"""
        name: work
        tasks:
          - {{name: a, type: script, config: {{code: "result = 1"}}}}
          - {{name: b, cache: true, {task}}}
    """
    problems = [str(problem) for problem in flow(text).validate() if problem.severity == "error"]

    assert any(words in problem for problem in problems), problems
    with pytest.raises(WorkflowValidationError):
        flow(text).run()


def test_secrets_neither_reach_the_cache_nor_are_they_guessable(place, monkeypatch):
    monkeypatch.setenv("TOKEN", "hunter2secret")
    text = """
        name: work
        secrets: {token: TOKEN}
        tasks:
          - name: shown
            type: script
            cache: true
            config: {code: "import os; result = 'token ' + os.environ['TOKEN']"}
          - name: used
            type: script
            cache: true
            inputs: {shown: shown}
            config: {code: "result = len(shown)"}
    """
    run = flow(text).run()

    assert "its output is not kept: it holds a secret" in run.explain("shown")
    stored = b"".join(
        path.read_bytes() for path in (place / ".flowbuilder").rglob("*") if path.is_file()
    )
    assert b"hunter2secret" not in stored


class Custom:
    def __init__(self, rows):
        self.rows = rows

    def __eq__(self, other):
        return self.rows == other.rows

    def __hash__(self):
        return 1


def make(kind):
    values = list(range(5_000))
    if kind == "arrow":
        import pyarrow as pa

        return pa.table({"x": values})
    if kind == "polars":
        import polars as pl

        return pl.DataFrame({"x": values})
    if kind == "numpy":
        import numpy as np

        return np.arange(5_000)
    return {"custom": Custom(values)}


@pytest.mark.parametrize("kind", ["arrow", "polars", "numpy", "custom"])
def test_large_outputs_come_back_equal_and_the_same_type(kind):
    work = fb.Workflow("work").add("make", make, config={"kind": kind}, cache=True)

    first, second = work.run()["make"], work.run()

    assert states(second) == {"make": "cached"}, second.explain("make")
    found = second["make"]
    assert type(found) is type(first)
    if kind == "polars":
        assert found.equals(first)
    else:
        assert (found == first).all() if kind == "numpy" else found == first


def test_encrypted_outputs_are_kept_encrypted(place):
    pytest.importorskip("cryptography")
    text = """
        name: work
        tasks:
          - name: hidden
            type: script
            cache: true
            encrypt: true
            config: {code: "result = 'a very private ' + 'text'"}
          - name: shown
            type: script
            cache: true
            inputs: {hidden: hidden}
            config: {code: "result = len(hidden)"}
    """
    work = flow(text)
    first, second = work.run(), work.run()

    assert states(second) == {"hidden": "cached", "shown": "cached"}, second.explain("hidden")
    assert second["hidden"] == first["hidden"] == "a very private text"
    stored = [path.read_bytes() for path in (place / ".flowbuilder").rglob("*") if path.is_file()]
    assert not any(b"a very private text" in data for data in stored)


def test_a_damaged_output_is_computed_again(place):
    def big():
        return "x" * 100_000

    work = fb.Workflow("work").add("big", big, cache=True)
    work.run()
    (file,) = (place / ".flowbuilder" / "cache" / "artifacts").glob("*/*.*")
    data = bytearray(file.read_bytes())
    data[50_000] ^= 1
    file.chmod(0o600)
    file.write_bytes(data)

    run = work.run()
    assert run["big"] == "x" * 100_000
    assert "its kept output could not be used" in run.explain("big")
    assert states(work.run()) == {"big": "cached"}
    assert fb.cache_stats().damaged == 1


def test_resume_uses_the_cache_for_what_it_runs_again():
    tries = []

    @fb.task
    def fail_once(x):
        if not tries:
            tries.append(1)
            raise ValueError("no")
        return x

    work = fb.Workflow("work").add("load", load).add("late", fail_once, inputs={"x": "load"})
    failed = work.run(check=False)
    again = failed.retry_failed()

    assert again["late"] == [{"row": 0}, {"row": 1}, {"row": 2}]
    assert calls() == ["load"]


def test_clear_and_stats():
    daily.run()
    daily.run()
    stats = fb.cache_stats()

    assert (stats.entries, stats.hits, stats.misses, stats.stored) == (2, 2, 2, 2)
    assert stats.hit_rate == 0.5
    assert fb.clear_cache("daily/load") == 1
    assert states(daily.run())["load"] == "succeeded"
    assert fb.clear_cache() == 2
    assert fb.cache_stats().entries == 0
    with pytest.raises(FlowBuilderError, match="no cached task"):
        fb.clear_cache("daily/nothing")


def test_yaml_and_python_mean_the_same():
    text = """
        name: work
        tasks:
          - {name: load, type: python, cache: {ttl: 1h, files: [b, a], env: [X]},
             config: {function: "m:load"}}
    """

    def load():
        return 1

    load.__module__, load.__qualname__ = "m", "load"
    decorated = fb.task(cache={"ttl": 3600, "files": ["a", "b"], "env": "X"})(load)
    work = fb.Workflow("work").add("load", decorated)

    assert flow(text).fingerprint == work.fingerprint
    assert flow(text.replace("1h", "2h")).fingerprint != work.fingerprint
    assert fb.loads(work.to_yaml()).fingerprint == work.fingerprint
    plain = flow(text.replace("{ttl: 1h, files: [b, a], env: [X]}", "false"))
    assert "cache" not in plain.to_yaml()
