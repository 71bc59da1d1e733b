"""Routing of printed text at its edges: other engines, other streams, forks, the end."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from flowbuilder.records import LogChunk
from flowbuilder.runtime.engine import Engine, EngineOptions
from flowbuilder.runtime.program import Program
from flowbuilder.testing import plan_of
from flowbuilder.vocabulary import RunState

THREAD = {"executor": "thread"}


def texts(run):
    """Give recorded text by (task, stream)."""
    found = {}
    for piece in run.recorder.take():
        if isinstance(piece, LogChunk):
            key = run.plan.tasks[piece.instance].key if piece.instance >= 0 else ""
            found[key, piece.stream] = found.get((key, piece.stream), "") + piece.text
    return found


@pytest.fixture
def other_bench(bench, tmp_path):
    engine = Engine(None, None, EngineOptions(engine_id="other", workers=2, scratch=tmp_path))
    yield type(bench)(engine)
    engine.close()


def held(bench, go, **options):
    """Start a run whose task prints before and after ``go``; wait until it has printed."""
    begun = threading.Event()

    def body():
        sys.stdout.write("before\n")
        begun.set()
        go.wait(20)
        sys.stdout.write("after\n")

    run = bench.start(plan_of("a", a=THREAD), {"a": body}, **options)
    assert begun.wait(20)
    return run


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_engines_record_each_text_once(bench, other_bench, first_to_end, capsys):
    before = sys.stdout, sys.stderr
    go = [threading.Event(), threading.Event()]
    runs = [held(bench, go[0], echo=True), held(other_bench, go[1], echo=True)]

    for number in (first_to_end, 1 - first_to_end):
        go[number].set()
        assert runs[number].wait(20)

    for run in runs:
        assert texts(run) == {("a", "stdout"): "before\nafter\n"}
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "before\n" * 2 + "after\n" * 2


def test_nested_run_has_its_own_text(bench):
    inner = []

    def outer():
        sys.stdout.write("outer 1\n")
        inner.append(bench.run(plan_of("x"), {"x": lambda: sys.stdout.write("inner\n")}))
        sys.stdout.write("outer 2\n")

    run = bench.run(plan_of("a"), {"a": outer})

    assert texts(run) == {("a", "stdout"): "outer 1\nouter 2\n"}
    assert texts(inner[0]) == {("x", "stdout"): "inner\n"}


def test_stream_replaced_within_a_task_is_the_users(bench):
    mine = io.StringIO()

    def body():
        sys.stdout.write("1")
        with contextlib.redirect_stdout(mine):
            sys.stdout.write("2")
        sys.stdout.write("3")

    run = bench.run(plan_of("a"), {"a": body})

    assert mine.getvalue() == "2"
    assert texts(run) == {("a", "stdout"): "13"}


def test_stream_replaced_across_the_end_of_a_run_does_no_harm(bench):
    before = sys.stdout
    go = threading.Event()
    run = held(bench, go)
    redirected = contextlib.redirect_stdout(io.StringIO())
    with redirected:
        go.set()
        assert run.wait(20)
    # Now the proxy of the ended run stands in ``sys.stdout`` again.
    try:
        again = bench.run(plan_of("b"), {"b": lambda: sys.stdout.write("once\n")}, echo=True)

        assert texts(again) == {("b", "stdout"): "once\n"}
    finally:
        sys.stdout = before


def test_users_tee_around_the_proxy_records_once(bench):
    before = sys.stdout
    go = threading.Event()
    holding = held(bench, go)

    class Tee:
        def __init__(self, stream):
            self.stream = stream

        def write(self, text):
            return self.stream.write(text)

        def flush(self):
            """Do nothing."""

    try:
        sys.stdout = Tee(sys.stdout)
        go.set()
        assert holding.wait(20)
        run = bench.run(plan_of("b"), {"b": lambda: sys.stdout.write("once\n")}, echo=True)

        assert texts(run) == {("b", "stdout"): "once\n"}
    finally:
        sys.stdout = before


@pytest.mark.parametrize("value", [b"bytes", 3, None])
def test_writing_what_is_not_text_is_an_error_and_not_recorded(bench, value):
    run = bench.run(plan_of("a"), {"a": lambda: sys.stdout.write(value)})

    assert run.failures[0].error_type == "TypeError"
    assert texts(run) == {}


def test_stream_that_is_broken_fails_no_task(bench, monkeypatch):
    class Closed(io.StringIO):
        def write(self, _text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    run = bench.run(plan_of("a"), {"a": lambda: sys.stdout.write("kept\n")}, echo=True)

    assert run.finished is RunState.SUCCEEDED
    assert texts(run) == {("a", "stdout"): "kept\n"}


def test_proxy_is_otherwise_the_stream_it_wraps(bench):
    seen = {}

    def body():
        seen.update(encoding=sys.stdout.encoding, is_tty=sys.stdout.isatty())
        sys.stdout.writelines(["a\n", "b\n"])
        sys.stdout.flush()

    wrapped = sys.stdout
    run = bench.run(plan_of("a"), {"a": body})

    assert seen == {"encoding": wrapped.encoding, "is_tty": wrapped.isatty()}
    assert texts(run) == {("a", "stdout"): "a\nb\n"}


def test_thread_of_an_inline_task_is_attributed_to_it(bench):
    def body():
        thread = threading.Thread(target=sys.stdout.write, args=("mine\n",))
        thread.start()
        thread.join()

    run = bench.run(plan_of("a"), {"a": body})

    assert texts(run) == {("a", "stdout"): "mine\n"}


def test_thread_among_several_tasks_is_attributed_to_the_run(bench):
    begun, go = threading.Barrier(3, timeout=20), threading.Event()

    def body():
        begun.wait()
        go.wait(20)

    run = bench.start(plan_of("a, b", a=THREAD, b=THREAD), {"a": body, "b": body})
    begun.wait()
    thread = threading.Thread(target=sys.stdout.write, args=("somebody\n",))
    thread.start()
    thread.join()
    go.set()

    assert run.wait(20)
    assert texts(run) == {("", "stdout"): "somebody\n"}


def test_printing_from_foreign_threads_registers_no_threads(bench):
    import _thread

    def body():
        for _ in range(20):
            done = threading.Event()
            _thread.start_new_thread(lambda done=done: sys.stdout.write("x") and done.set(), ())
            assert done.wait(20)

    before = len(threading.enumerate())
    run = bench.run(plan_of("a"), {"a": body})

    assert texts(run) == {("a", "stdout"): "x" * 20}
    assert len(threading.enumerate()) <= before + 1


def test_logging_goes_to_the_task_and_to_other_handlers(bench):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("mine")
    logger.addHandler(handler)
    try:
        run = bench.run(plan_of("a"), {"a": lambda: logger.warning("careful %d", 7)})
    finally:
        logger.removeHandler(handler)

    assert texts(run) == {("a", "log"): "mine: careful 7\n"}
    assert stream.getvalue() == "careful 7\n"


def test_log_record_that_cannot_be_formatted_fails_no_task(bench, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger = logging.getLogger("mine")

    run = bench.run(plan_of("a"), {"a": lambda: logger.warning("%d", "x")})

    assert run.finished is RunState.SUCCEEDED


def test_endless_output_is_bounded(bench):
    def body():
        for _ in range(100):
            sys.stdout.write("x" * 100)

    run = bench.run(plan_of("a"), {"a": body}, max_log_bytes=1_000)
    text = texts(run)["a", "stdout"]

    assert text.startswith("x" * 1_000 + "\n... ")
    assert len(text) < 1_100


def test_text_after_the_end_of_the_run_goes_where_it_would(bench, capsys):
    release, printed = threading.Event(), threading.Event()

    def body():
        release.wait(20)
        sys.stdout.write("late\n")
        printed.set()

    run = bench.run(plan_of("a", a={"executor": "thread", "timeout_s": 0.05}), {"a": body})
    run.recorder.take()
    release.set()

    assert printed.wait(20)
    assert texts(run) == {}
    assert capsys.readouterr().out in {"late\n", ""}


def test_captured_text_is_given_back_to_the_body(bench):
    def body(context):
        sys.stdout.write("one\n")
        sys.stderr.write("two\n")
        return context.captured_stdout()

    run = bench.run(plan_of("a"), {"a": Program(call=body, code_key="b")})

    assert run.values == ["one\n"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_forked_child_of_a_task_can_print(bench):
    """Its parent may hold every lock there is at that moment."""
    pids = []

    def body():
        run.recorder.log_lock.acquire()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                sys.stdout.write("child\n")
                os._exit(7)
            pids.append(pid)
        finally:
            run.recorder.log_lock.release()

    run = bench.open(plan_of("a"), {"a": body})
    bench.engine.run(run)
    alarm = threading.Timer(10, lambda: os.kill(pids[0], 9))
    alarm.start()
    _, status = os.waitpid(pids[0], 0)
    alarm.cancel()

    assert os.waitstatus_to_exitcode(status) == 7


SCRIPTS = {
    "unconfigured logging": (
        (
            "run = bench.open(plan_of('a'), {'a': lambda: logging.getLogger('x').warning('inside')})\n"
            "bench.engine.run(run)\n"
            "go = threading.Event()\n"
            "run = bench.start(plan_of('a', a={'executor': 'thread'}), {'a': lambda: go.wait(20)})\n"
            "while not run.in_flight: run.wait(0.001)\n"
            "logging.getLogger('x').warning('outside')\n"
            "go.set(); run.wait(20)\n"
        ),
        "",
        "inside\noutside\n",
    ),
    "quiet run": (
        (
            "run = bench.open(plan_of('a'), {'a': lambda: logging.getLogger('x').warning('inside')},"
            " echo=False)\nbench.engine.run(run)\n"
        ),
        "",
        "",
    ),
    "printing while the interpreter ends": (
        (
            "def forever():\n"
            "    while True: print('.', end='', file=sys.stderr)\n"
            "run = bench.start(plan_of('a', a={'executor': 'thread'}), {'a': forever}, echo=False)\n"
            "atexit.register(print, 'bye')\n"
            "print('end')\n"
        ),
        "end\nbye\n",
        "",
    ),
    "no streams": (
        (
            "sys.stdout = sys.stderr = None\n"
            "run = bench.open(plan_of('a'), {'a': lambda: print('x')})\n"
            "bench.engine.run(run)\n"
            "assert run.finished == 'succeeded'\n"
        ),
        "",
        "",
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_process_of_its_own(name, tmp_path):
    body, out, err = SCRIPTS[name]
    here = Path(__file__).parent
    head = (
        "import atexit, logging, sys, threading\n"
        f"sys.path.insert(0, {str(here)!r})\n"
        "from pathlib import Path\n"
        "from conftest import Bench\n"
        "from flowbuilder.runtime.engine import Engine, EngineOptions\n"
        "from flowbuilder.testing import plan_of\n"
        "bench = Bench(Engine(None, None, EngineOptions(engine_id='x', workers=2,"
        f" scratch=Path({str(tmp_path)!r}))))\n"
        "start, opened = bench.start, bench.open\n"
        "bench.open = lambda *a, **k: opened(*a, **{'echo': True, **k})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + body], capture_output=True, text=True, check=False, timeout=30
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, out, err)
