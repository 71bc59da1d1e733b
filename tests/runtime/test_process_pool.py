"""Calls in worker processes: what arrives, what survives, what is left behind."""
# ruff: noqa: T201, PLW0108 - tasks print, and lambdas are tasks of a notebook

from __future__ import annotations

import contextlib
import ctypes
import importlib
import math
import operator
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from queue import Queue

import cloudpickle
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from flowbuilder.errors import ExecutorError, RunCancelledError, TaskFailedError, WorkerLostError
from flowbuilder.runtime import worker_output
from flowbuilder.runtime.process_pool import ProcessPool
from flowbuilder.runtime.program import RemoteCall

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and descriptors")

# The workers cannot import this file: its functions travel as code, as those of a notebook do.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
HERE = __name__


class Caller:
    """Submits and waits."""

    def __init__(self, pool):
        self.pool = pool
        self.outcomes = Queue()
        self.printed = []

    def start(self, function, *args, directory="", **kwargs):
        return self.pool.submit(
            RemoteCall(function, args, kwargs, directory),
            done=self.outcomes.put,
            write=lambda stream, text: self.printed.append((stream, text)),
        )

    def next(self):
        return self.outcomes.get(timeout=60)

    def __call__(self, function, *args, **options):
        self.start(function, *args, **options)
        return self.next()

    def text(self, stream="stdout"):
        return "".join(text for name, text in self.printed if name == stream)

    def value(self, function, *args, **options):
        outcome = self(function, *args, **options)
        assert outcome.kind == "ok", outcome
        return outcome.value


@pytest.fixture(scope="module", params=["polled", "threaded"])
def shared_pool(request, tmp_path_factory):
    if request.param == "polled" and os.name != "posix":
        pytest.skip("pipes cannot be polled here")
    pool = ProcessPool(
        1, scratch=tmp_path_factory.mktemp("scratch"), is_threaded=request.param == "threaded"
    )
    yield pool
    pool.close()


@pytest.fixture
def call(shared_pool, monkeypatch):
    # Module-level functions of a test file have no importable name in a worker.
    monkeypatch.delitem(sys.modules, HERE, raising=False)
    return Caller(shared_pool)


@pytest.fixture
def new_pool(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, HERE, raising=False)
    with contextlib.ExitStack() as stack:

        def make(size=1, **options):
            pool = ProcessPool(size, scratch=tmp_path / "scratch", **options)
            stack.callback(pool.close)
            return Caller(pool)

        yield make


def is_running(pid):
    from flowbuilder.runtime.machine import process_start_time

    return process_start_time(pid) is not None


def wait_until(condition, timeout_s=20.0):
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return True
        pause.wait(0.01)
    return False


# What travels


def test_importable_function_travels_by_name(call):
    assert call.value(math.hypot, 3, 4) == 5
    assert call.value(operator.methodcaller("upper"), "a") == "A"


def test_local_function_travels_with_its_closure_and_defaults(call):
    factor = 3

    def scale(x, *, offset=1):
        return x * factor + offset

    assert call.value(scale, 2) == 7
    assert call.value(scale, 2, offset=0) == 6


def test_edited_function_replaces_its_older_version(call):
    def make(n):
        return lambda: n

    assert [call.value(make(n)) for n in (1, 2, 1, 2)] == [1, 2, 1, 2]


def test_code_the_worker_has_forgotten_is_sent_again(call):
    def make(n):
        return lambda: n

    first = make(-1)
    call.value(first)
    for n in range(130):
        call.start(make(n))
    assert [call.next().value for _ in range(130)] == list(range(130))

    assert call.value(first) == -1


def test_class_of_a_notebook_comes_back_as_the_same_class(call):
    class Point:
        def __init__(self, x):
            self.x = x

    back = call.value(lambda p: Point(p.x + 1), Point(1))

    assert isinstance(back, Point)
    assert back.x == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: pa.table({"a": np.arange(50_000)}),
        lambda: pa.table({"a": [1]}),
        lambda: pl.DataFrame({"a": np.arange(50_000), "s": ["text"] * 50_000}),
        lambda: pd.DataFrame({"a": np.arange(50_000), "s": ["text"] * 50_000}),
        lambda: np.arange(50_000),
        lambda: np.arange(5),
        lambda: {"deep": [(pa.table({"a": np.arange(50_000)}),)]},
    ],
    ids=["arrow", "small-arrow", "polars", "pandas", "numpy", "small-numpy", "deep"],
)
def test_tables_go_and_come_back_as_they_were(call, make):
    value = make()

    back = call.value(lambda x: x, value)

    assert type(back) is type(value)
    if isinstance(value, np.ndarray):
        assert np.array_equal(back, value)
    elif isinstance(value, dict):
        assert back["deep"][0][0].equals(value["deep"][0][0])
    else:
        assert back.equals(value)


def test_table_made_by_a_worker_outlives_it(new_pool):
    call = new_pool()
    table = call.value(lambda n: pl.DataFrame({"a": range(n)}), 50_000)

    call.pool.close()

    assert table["a"].sum() == sum(range(50_000))


def test_table_of_one_worker_reaches_another_without_a_copy(new_pool):
    call = new_pool(2)
    table = call.value(lambda n: pa.table({"a": np.arange(n)}), 50_000)

    def place(t):
        address = t["a"].chunk(0).buffers()[1].address
        for line in Path("/proc/self/maps").read_text().splitlines():
            start, end = (int(text, 16) for text in line.split()[0].split("-"))
            if start <= address < end:
                return line.split()[4]
        return None

    if not Path("/proc/self/maps").exists():
        pytest.skip("no list of mappings on this system")
    assert call.value(place, table) == place(table)


def test_nothing_is_left_in_scratch(new_pool, tmp_path):
    memory = tmp_path / "memory"
    memory.mkdir()
    call = new_pool(memory_root=memory)

    def left():
        return [
            path.name
            for root in (memory, tmp_path / "scratch")
            for path in root.rglob("*")
            if path.is_file()
        ]

    table = call.value(lambda t: t, pa.table({"a": np.arange(50_000)}))
    array = call.value(lambda t: t, np.arange(50_000))
    call(lambda t: os._exit(1), pa.table({"a": np.arange(50_000)}))
    call(lambda t: 1 / 0, pa.table({"a": np.arange(50_000)}))

    assert len(left()) == 1
    assert array[-1] == 49_999
    del table
    assert not left()
    call.pool.close()
    assert not list(memory.iterdir())
    assert not list((tmp_path / "scratch").iterdir())


def test_large_globals_are_warned_about_by_name_once(new_pool):
    call = new_pool()
    lookup = list(range(400_000))

    def look(i):
        return lookup[i]

    assert call.value(look, 5) == 5
    assert call.value(look, 6) == 6
    said = call.text("log")
    assert "'lookup' (1," in said
    assert said.count("warning") == 1


# How a call ends


def test_exception_comes_back_with_the_tasks_own_traceback(call):
    def fail():
        raise KeyError("absent")

    outcome = call(fail)

    assert outcome.kind == "error"
    assert isinstance(outcome.error, KeyError)
    assert outcome.error.args == ("absent",)
    assert "in fail" in outcome.traceback
    assert "worker_main" not in outcome.traceback


def test_exception_that_cannot_travel_is_described(call):
    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__("odd")
            self.lock = threading.Lock()

    def fail():
        raise Odd(1, 2)

    outcome = call(fail)

    assert type(outcome.error) is TaskFailedError
    assert outcome.error.error_type.endswith("Odd")
    assert "odd" in str(outcome.error)
    assert "in fail" in outcome.error.traceback


def test_exception_whose_text_fails_is_described(call):
    class Mute(Exception):
        def __str__(self):
            raise ValueError

        def __reduce__(self):
            raise ValueError

    def fail():
        raise Mute

    assert "text cannot be made" in str(call(fail).error)


@pytest.mark.parametrize("code", [0, None, 3, "bye"])
def test_exit_in_a_task_is_an_error_and_not_the_workers_end(call, code):
    before = call.value(os.getpid)

    outcome = call(sys.exit, code)

    assert outcome.kind == "error"
    assert isinstance(outcome.error, TaskFailedError)
    assert f"sys.exit({code!r})" in str(outcome.error)
    assert call.value(os.getpid) == before


@pytest.mark.parametrize(
    "make",
    [lambda: (x for x in "a"), threading.Lock],
    ids=["generator", "lock"],
)
def test_result_that_cannot_be_pickled_is_an_error_that_says_so(call, make):
    outcome = call(lambda: make())

    assert outcome.kind == "error"
    assert "to return something that can be pickled" in str(outcome.error)


def test_argument_that_cannot_be_pickled_is_an_error_that_says_so(call):
    outcome = call(len, (x for x in "a"))

    assert outcome.kind == "error"
    assert "an argument of len" in str(outcome.error)


def test_coroutine_is_refused_without_a_warning(call):
    async def wait():
        pass

    outcome = call(wait)

    assert "coroutine" in str(outcome.error)
    assert call.text("stderr") == ""


def test_missing_directory_is_an_error(call, tmp_path):
    outcome = call(os.getcwd, directory=str(tmp_path / "absent"))

    assert outcome.kind == "error"
    assert "FileNotFoundError" in str(outcome.error)


@posix
@pytest.mark.parametrize(
    ("end", "code", "text"),
    [
        (lambda: os._exit(7), 7, "exited with status 7"),
        (lambda: os._exit(0), 0, "exited with status 0"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL, "SIGKILL"),
        (lambda: os.abort(), -signal.SIGABRT, "SIGABRT"),
        (lambda: ctypes.string_at(0), -signal.SIGSEGV, "SIGSEGV"),
        (lambda: os.closerange(3, 256), 0, "exited with status 0"),
    ],
    ids=["exit", "exit-0", "kill", "abort", "segfault", "closes-everything"],
)
def test_death_of_a_worker_is_reported_and_the_slot_goes_on(call, end, code, text):
    outcome = call(end)

    assert outcome.kind == "lost"
    assert isinstance(outcome.error, WorkerLostError)
    assert outcome.exit_code == code
    assert text in str(outcome.error)
    assert call.value(abs, -1) == 1


@posix
def test_last_words_of_a_crash_are_kept(call):
    def crash():
        print("about to")
        os.write(1, b"raw ")
        ctypes.string_at(0)

    call(crash)

    assert call.text() == "about to\nraw "
    assert "Segmentation fault" in call.text("stderr")
    assert "in crash" in call.text("stderr")


@posix
def test_idle_worker_that_was_killed_is_replaced(call):
    pid = call.value(os.getpid)
    os.kill(pid, signal.SIGKILL)

    assert wait_until(lambda: not call.pool._slots[0].worker.is_alive())
    assert call.value(os.getpid) != pid


@posix
@pytest.mark.parametrize("missing", ["pidfd_open", "waitid", "both"])
def test_death_and_kill_are_noticed_where_the_system_helps_less(new_pool, monkeypatch, missing):
    for name in ("pidfd_open", "waitid") if missing == "both" else (missing,):
        monkeypatch.delattr(os, name, raising=False)
    call = new_pool()

    def die_keeping_the_pipes_open():
        if os.fork() == 0:
            threading.Event().wait(3)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    assert call(die_keeping_the_pipes_open).exit_code == -signal.SIGKILL
    ticket = call.start(block)
    assert wait_until(lambda: call.text() == "started\n")
    ticket.kill()
    assert call.next().kind == "cancelled"
    assert call.value(abs, -1) == 1


# Cancelling


def block():
    print("started", flush=True)
    while True:
        pass


def test_kill_ends_a_running_call_and_only_it(new_pool, tmp_path):
    call = new_pool(2)
    gate = tmp_path / "gate"

    def wait_for(path):
        pause = threading.Event()
        while not Path(path).exists():
            pause.wait(0.01)
        return "unharmed"

    other = Caller(call.pool)
    other.start(wait_for, str(gate))
    ticket = call.start(block)
    assert wait_until(lambda: call.text() == "started\n")

    ticket.kill("timeout")
    ticket.kill("again")
    outcome = call.next()
    gate.touch()

    assert outcome.kind == "cancelled"
    assert outcome.reason == "timeout"
    assert isinstance(outcome.error, RunCancelledError)
    assert other.next().value == "unharmed"
    assert call.value(abs, -2) == 2


def test_kill_takes_a_waiting_call_from_the_queue(new_pool):
    call = new_pool(1)
    waiting = Caller(call.pool)
    running = call.start(block)
    ticket = waiting.start(print, "never")

    ticket.kill()
    outcome = waiting.next()
    running.kill()

    assert outcome.kind == "cancelled"
    assert call.next().kind == "cancelled"
    assert waiting.text() == ""


def test_ten_thousand_waiting_calls_are_killed_at_once(new_pool):
    call = new_pool(1)
    running = call.start(block)
    tickets = [call.start(print, n) for n in range(10_000)]

    for ticket in tickets:
        ticket.kill()
    running.kill()

    assert {call.next().kind for _ in range(10_001)} == {"cancelled"}
    assert call.value(abs, -1) == 1
    assert "0" not in call.text()


def test_kill_after_the_end_does_nothing(call):
    ticket = call.start(os.getpid)
    pid = call.next().value

    ticket.kill()

    assert call.value(os.getpid) == pid
    assert call.outcomes.empty()


def test_kill_at_any_moment_gives_exactly_one_outcome(new_pool):
    call = new_pool(2)
    pause = threading.Event()
    for n in range(60):
        ticket = call.start(operator.add, n, 1)
        if n % 3:
            pause.wait((n % 7) * 0.0001)
        ticket.kill()

    kinds = {call.next().kind for _ in range(60)}

    assert kinds <= {"ok", "cancelled"}
    assert call.value(operator.add, 1, 1) == 2
    assert call.outcomes.empty()


@posix
def test_kill_takes_the_tasks_children_along(new_pool):
    call = new_pool()

    def spawn():
        child = subprocess.Popen(
            [sys.executable, "-c", "import threading; threading.Event().wait()"]
        )
        print(child.pid, flush=True)
        child.wait()

    ticket = call.start(spawn)
    assert wait_until(lambda: call.text().endswith("\n"))
    child = int(call.text())
    ticket.kill()

    assert call.next().kind == "cancelled"
    assert wait_until(lambda: not is_running(child))


# Output


def test_output_is_streamed_while_the_call_runs(new_pool):
    call = new_pool()

    ticket = call.start(block)

    assert wait_until(lambda: call.text() == "started\n")
    ticket.kill()


def test_output_from_c_and_children_is_captured(call):
    def chatter():
        print("python")
        ctypes.CDLL(None).printf(b"c\n")
        os.write(2, b"descriptor\n")
        os.system("echo shell")

    call.value(chatter)

    assert sorted(call.text().split()) == ["c", "python", "shell"]
    assert call.text("stderr") == "descriptor\n"


def test_garbage_on_the_streams_does_not_reach_the_protocol(call):
    def litter():
        for fd in (1, 2):
            os.write(fd, os.urandom(300_000))
        return "fine"

    assert call.value(litter) == "fine"
    assert len(call.text()) > 100_000


def test_output_is_decoded_across_chunks(call):
    text = "äöü€😀" * 40_000

    call.value(lambda: print(text, end=""))

    assert call.text() == text


def test_output_goes_to_the_call_that_printed_it(call):
    texts = []
    for n in range(20):
        call.printed = []
        call.value(lambda n=n: print(n, end=""))
        texts.append(call.text())

    assert texts == [str(n) for n in range(20)]


def test_writer_that_fails_harms_nobody(new_pool, caplog):
    call = new_pool()
    outcomes = Queue()

    def broken(_stream, _text):
        raise ValueError("full")

    call.pool.submit(RemoteCall(print, ("x",)), done=outcomes.put, write=broken)

    assert outcomes.get(timeout=30).kind == "ok"
    assert "could not be passed on" in caplog.text


def test_receiver_that_fails_harms_nobody(new_pool, caplog):
    call = new_pool()

    def broken(_outcome):
        raise ValueError("full")

    call.pool.submit(RemoteCall(abs, (1,)), done=broken, write=print)

    assert call.value(abs, -1) == 1
    assert "could not be delivered" in caplog.text


@pytest.mark.parametrize("cut", range(1, 28, 3))
def test_marker_is_found_however_it_is_cut(cut):
    read, write = os.pipe()
    other_read, other_write = os.pipe()
    tap = worker_output.ThreadedTap((read, other_read))
    printed = []
    tap.begin(lambda stream, text: printed.append((stream, text)))
    data = b"before" + tap.marker

    os.write(write, data[:cut])
    os.write(other_write, tap.marker)
    os.write(write, data[cut:])
    tap.finish()

    assert "".join(text for _, text in printed) == "before"
    for fd in (write, other_write):
        os.close(fd)


# The state a call finds


def test_call_finds_the_engines_path_directory_and_environment(call, tmp_path, monkeypatch):
    (tmp_path / "fresh_module.py").write_text("VALUE = 41\ndef answer():\n    return VALUE + 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOW_TEST_SETTING", "on")
    module = importlib.import_module("fresh_module")

    assert call.value(module.answer) == 42
    assert call.value(os.getcwd) == str(tmp_path)
    assert call.value(os.getenv, "FLOW_TEST_SETTING") == "on"
    monkeypatch.delenv("FLOW_TEST_SETTING")
    assert call.value(os.getenv, "FLOW_TEST_SETTING") is None


def test_edited_module_is_read_again(call, tmp_path, monkeypatch):
    path = tmp_path / "edited_module.py"
    path.write_text("def answer():\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("edited_module")
    first = call.value(module.answer)
    path.write_text("def answer():\n    return 1 + 1\n")
    importlib.reload(module)

    assert [first, call.value(module.answer)] == [1, 2]


def test_call_starts_in_its_directory_whatever_the_last_one_did(call, tmp_path):
    def wreck():
        os.chdir("/")
        os.environ["LEFT"] = "1"
        os.environ.pop("PATH")
        sys.stdout = None

    before = call.value(os.getenv, "PATH")
    call.value(wreck)

    assert call.value(os.getcwd, directory=str(tmp_path)) == str(tmp_path)
    assert call.value(os.getenv, "LEFT") is None
    assert call.value(os.getenv, "PATH") == before
    call.printed = []
    call.value(print, "still")
    assert call.text() == "still\n"


def test_libraries_of_a_worker_use_one_thread(call):
    assert call.value(os.getenv, "OMP_NUM_THREADS") == "1"
    assert call.value(pl.thread_pool_size) == 1


def test_standard_input_is_empty(call):
    assert call.value(lambda: sys.stdin.read()) == ""


@posix
def test_child_that_a_task_forks_and_forgets_speaks_to_nobody(call):
    def fork():
        return os.fork()

    child = call.value(fork)

    assert child > 0
    assert wait_until(lambda: not is_running(child))
    assert [call.value(abs, -n) for n in range(5)] == list(range(5))


# The pool


def test_pool_makes_nothing_before_the_first_call(tmp_path):
    before = threading.active_count()

    pool = ProcessPool(4, scratch=tmp_path / "scratch")

    assert not (tmp_path / "scratch").exists()
    assert threading.active_count() == before
    assert pool.worker_pids() == ()
    pool.close()


def test_pool_grows_only_while_all_workers_are_busy(new_pool):
    call = new_pool(3)

    pids = {call.value(os.getpid) for _ in range(10)}
    tickets = [call.start(block) for _ in range(5)]
    assert wait_until(lambda: call.text().count("started") == 3)

    assert len(pids) == 1
    assert len(call.pool.worker_pids()) == 3
    for ticket in tickets:
        ticket.kill()
    assert [call.next().kind for _ in range(5)] == ["cancelled"] * 5


def test_close_ends_everything_and_reports_every_call(new_pool):
    call = new_pool(2)
    for _ in range(4):
        call.start(block)
    assert wait_until(lambda: call.text().count("started") == 2)
    pids = call.pool.worker_pids()

    call.pool.close()
    call.pool.close()

    assert sorted(call.next().kind for _ in range(4)) == ["cancelled"] * 4
    assert not any(is_running(pid) for pid in pids)
    with pytest.raises(ExecutorError, match="closed"):
        call.start(abs, 1)


def test_pool_of_nobody_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        ProcessPool(0, scratch=tmp_path)


def test_interpreter_that_does_not_start_is_reported(new_pool, monkeypatch, tmp_path):
    call = new_pool()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    assert isinstance(call(abs, 1).error, OSError)

    monkeypatch.undo()
    assert call.value(abs, -1) == 1


def test_worker_that_cannot_import_us_says_why(new_pool, monkeypatch, tmp_path):
    call = new_pool()
    (tmp_path / "flowbuilder").mkdir()
    (tmp_path / "flowbuilder" / "__init__.py").write_text("raise RuntimeError('broken install')")
    monkeypatch.syspath_prepend(str(tmp_path))

    outcome = call(abs, 1)

    assert outcome.kind == "lost"
    assert "broken install" in str(outcome.error)


@posix
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_cannot_use_the_pool_nor_harm_it(new_pool):
    call = new_pool()
    table = call.value(lambda n: pa.table({"a": np.arange(n)}), 50_000)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            del table
            call.start(abs, 1)
        except ExecutorError:
            code = 0
            call.pool.close()
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert call.value(lambda t: t.num_rows, table) == 50_000


SCRIPT = """
import os, signal, sys, threading
from pathlib import Path
from flowbuilder.runtime.process_pool import ProcessPool
from flowbuilder.runtime.program import RemoteCall

def body(x):
    print(os.getpid(), flush=True)
    while x == "loop":
        pass
    return helper(x)

def helper(x):
    return x * 2

over = threading.Event()
outcomes = []
scratch = Path(sys.argv[1])
pool = ProcessPool(1, scratch=scratch, memory_root=scratch / "absent")
ticket = pool.submit(
    RemoteCall(body, (sys.argv[2],)),
    done=lambda outcome: (outcomes.append(outcome), over.set()),
    write=lambda stream, text: print(text, end="", flush=True),
)
over.wait()
print(outcomes[0].value)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return [sys.executable, str(path), str(tmp_path / "scratch")]


def test_script_needs_no_main_guard_and_leaves_nothing(script, tmp_path):
    said = subprocess.run([*script, "ab"], capture_output=True, text=True, timeout=60, check=True)

    assert said.stdout.splitlines()[-1] == "abab"
    assert said.stderr == ""
    assert not list((tmp_path / "scratch").iterdir())


@posix
def test_worker_dies_with_its_engine_in_the_middle_of_a_task(script, tmp_path):
    engine = subprocess.Popen([*script, "loop"], stdout=subprocess.PIPE, text=True)
    worker = int(engine.stdout.readline())

    engine.kill()
    engine.communicate()

    assert wait_until(lambda: not is_running(worker))
    left = list((tmp_path / "scratch").iterdir())
    pool = ProcessPool(1, scratch=tmp_path / "scratch")
    call = Caller(pool)
    call.value(abs, 1)
    assert not any(path.exists() for path in left)
    pool.close()


@posix
def test_worker_dies_with_its_engine_where_the_system_sends_no_signal(script):
    # The lifeline alone, as on macOS.
    hook = "import flowbuilder.runtime.worker_process as w\nw._BOOT = 'import sys; sys.platform = \"other\"\\n' + w._BOOT\n"
    source = Path(script[1])
    source.write_text(hook + source.read_text())
    engine = subprocess.Popen([*script, "loop"], stdout=subprocess.PIPE, text=True)
    worker = int(engine.stdout.readline())

    engine.kill()
    engine.communicate()

    assert wait_until(lambda: not is_running(worker))
