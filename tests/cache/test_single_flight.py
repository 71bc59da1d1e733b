"""One computation at a time: threads, processes, killed holders, cancelled waiters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flowbuilder.cache.single_flight import SingleFlight
from flowbuilder.cache.task_cache import CacheRequest, Flight, Hit, TaskCache
from tests.cache.fingerprints import fingerprint

ROOT = Path(__file__).parents[2]


class Worker:
    def __init__(self, store, name="a"):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.cache.flight_worker", str(store), name],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self):
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def say(self, text):
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def worker(place):
    made = []

    def start(*names):
        made.append(Worker(place / ".flowbuilder", *names))
        assert made[-1].hear() == "asking"
        return made[-1]

    yield start
    for each in made:
        each.end()


def request(name="a"):
    return CacheRequest(task="work/task", fingerprint=fingerprint(arguments={"name": name}))


@pytest.fixture
def cache(place):
    made = TaskCache(place / ".flowbuilder")
    yield made
    made.close()


def test_one_process_computes_and_the_others_take_its_output(worker):
    first = worker()
    assert first.hear() == "computing"
    others = [worker(), worker()]

    first.say("seven")

    assert first.hear() == "stored"
    assert [other.hear() for other in others] == ["hit seven", "hit seven"]


def test_a_waiter_takes_over_when_the_holder_is_killed(worker, cache):
    first = worker()
    assert first.hear() == "computing"
    second = worker()
    assert cache.begin(request()) is None

    first.process.send_signal(signal.SIGKILL)

    assert second.hear() == "computing"
    second.say("eight")
    assert second.hear() == "stored"
    found = cache.wait(request(), lambda: None)
    assert isinstance(found, Hit)
    assert found.value == "eight"


def test_a_holder_killed_again_and_again_leaves_nothing_behind(worker, cache):
    for _ in range(5):
        holder = worker()
        assert holder.hear() == "computing"
        holder.process.send_signal(signal.SIGKILL)
        holder.process.wait()

    found = cache.wait(request(), lambda: None)
    assert isinstance(found, Flight)
    assert found.store("nine", 1) == ""
    found.release()
    assert not list((cache.folder / "locks").iterdir())
    assert cache.stats().entries == 1


def test_other_keys_do_not_wait(worker, cache):
    holder = worker("a")
    assert holder.hear() == "computing"

    assert isinstance(cache.begin(request("b")), Flight)


def test_a_waiter_can_be_cancelled(cache):
    flight = cache.begin(request())
    assert isinstance(flight, Flight)
    looks = []

    def check():
        looks.append(1)
        if len(looks) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.wait(request(), check)

    flight.release()
    assert isinstance(cache.begin(request()), Flight)


def test_threads_share_one_computation(cache):
    computed, results = [], []

    def work():
        found = cache.wait(request(), lambda: None)
        if isinstance(found, Flight):
            computed.append(1)
            found.store("ten", 1)
            found.release()
            results.append("ten")
        else:
            results.append(found.value)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (computed, results) == ([1], ["ten"] * 8)


def test_released_without_an_output_the_next_one_computes(cache):
    first = cache.begin(request())
    first.release()
    first.release()
    second = cache.begin(request())

    assert isinstance(second, Flight)
    assert cache.begin(request()) is None


def test_a_lock_file_removed_by_its_holder_is_not_taken_for_the_next(tmp_path):
    folder = tmp_path / "locks"
    one, two = SingleFlight(folder), SingleFlight(folder)
    held = one.try_hold("k")
    assert two.try_hold("k") is None
    held.release()
    again = two.try_hold("k")

    assert again is not None
    assert one.try_hold("k") is None
    again.release()
    assert not list(folder.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_hold_its_parents_lock(tmp_path):
    one = SingleFlight(tmp_path)
    held = one.try_hold("k")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent says so
        os._exit(0)
    os.close(reader)
    held.release()

    again = SingleFlight(tmp_path).try_hold("k")
    os.close(writer)
    os.waitpid(child, 0)
    assert again is not None
    again.release()


def test_without_a_folder_threads_still_exclude_each_other():
    flights = SingleFlight(None)
    held = flights.try_hold("k")

    assert flights.try_hold("k") is None
    held.release()
    assert flights.try_hold("k") is not None
