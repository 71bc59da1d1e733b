"""What tasks print and log, also from threads and coroutines, is filed under the task."""

import asyncio
import logging
import os
import sys
import threading
import warnings

import pytest

import flowbuilder as fb


def logs_of(*tasks, **options):
    @fb.workflow
    def flow():
        for task in tasks:
            task()

    return flow.run(echo=False, **options)


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_all_streams_of_a_task_are_captured(executor):
    @fb.task(executor=executor)
    def talk():
        import logging
        import sys

        sys.stdout.write("out\n")
        sys.stderr.write("err\n")
        logging.getLogger("mine").warning("logged %d", 3)

    text = logs_of(talk).logs("talk")

    assert sorted(text.splitlines()) == ["err", "mine: logged 3", "out"]


def test_threads_of_the_only_live_task_are_its_own():
    @fb.task
    def spawn():
        thread = threading.Thread(target=lambda: sys.stdout.write("from a thread\n"))
        thread.start()
        thread.join()

    assert logs_of(spawn).logs("spawn") == "from a thread\n"


def test_concurrent_tasks_do_not_mix():
    barrier = threading.Barrier(2, timeout=20)

    def talker(name):
        def talk():
            for number in range(20):
                barrier.wait()
                sys.stdout.write(f"{name}{number}\n")

        return fb.task(name=name, executor="thread")(talk)

    run = logs_of(talker("a"), talker("b"))

    for name in ("a", "b"):
        assert run.logs(name).split() == [f"{name}{number}" for number in range(20)]


def test_concurrent_coroutines_do_not_mix():
    def talker(name):
        async def talk():
            for number in range(5):
                await asyncio.sleep(0)
                sys.stdout.write(f"{name}{number}\n")

            async def deeper():
                sys.stdout.write(f"{name} deeper\n")

            await asyncio.gather(deeper(), asyncio.to_thread(sys.stdout.write, f"{name} thread\n"))

        return fb.task(name=name)(talk)

    run = logs_of(talker("a"), talker("b"))

    for name in ("a", "b"):
        lines = [*(f"{name}{number}" for number in range(5)), f"{name} deeper", f"{name} thread"]
        assert sorted(run.logs(name).splitlines()) == sorted(lines)


def test_streams_are_as_before_when_runs_are_over(capsys):
    before = sys.stdout, sys.stderr, logging.getLogger().handlers[:]

    @fb.task
    def talk():
        sys.stdout.write("x")

    logs_of(talk)

    assert (sys.stdout, sys.stderr, logging.getLogger().handlers[:]) == before
    assert capsys.readouterr().out == ""


def test_the_main_threads_own_prints_are_not_taken(capsys):
    go = threading.Event()

    @fb.task(executor="thread")
    def wait():
        go.wait(20)

    @fb.workflow
    def flow():
        wait()

    run = flow.start(echo=False)
    sys.stdout.write("mine\n")
    go.set()
    run.wait(20)

    assert run.logs() == ""
    assert capsys.readouterr().out == "mine\n"


def test_warnings_of_a_task_reach_its_log():
    @fb.task(executor="process")
    def warn():
        import warnings

        warnings.warn("careful", stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert "careful" in logs_of(warn).logs("warn")


def test_lone_surrogates_and_nuls_are_kept(capsys):
    @fb.task
    def odd():
        sys.stdout.write("a\0b\n")

    assert logs_of(odd).logs("odd") == "a\0b\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_forked_child_makes_its_own_engine(tmp_path):
    @fb.task
    def one():
        return 1

    @fb.workflow
    def flow():
        one()

    parent = flow.run()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn that this process has threads, which is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:  # pragma: no cover - measured in the parent only
        code = 1
        try:
            run = flow.run(echo=False)
            os.write(writing, f"{run['one']} {run.id != parent.id} {parent['one']}".encode())
            code = 0
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(code)
    os.close(writing)
    told = os.read(reading, 10_000).decode()
    os.close(reading)
    _, status = os.waitpid(child, 0)

    assert (os.waitstatus_to_exitcode(status), told) == (0, "1 True 1")
    assert flow.run()["one"] == 1
    assert len(fb.runs()) == 3
