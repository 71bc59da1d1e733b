"""What is left after `kill -9`, and of several processes on one journal. Real processes, real kills."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time

import pytest

from flowbuilder.errors import RecoveryError, StorageError
from flowbuilder.records import WorkflowCreated
from flowbuilder.store import Owners, open_journal
from flowbuilder.vocabulary import RunState

WRITER = """
import sys, time
from array import array
from pathlib import Path
from flowbuilder.records import AttemptBlock, RunCreated, RunHeader, RunStateChanged, VersionHeader
from flowbuilder.store import Owners, open_journal

data_dir, run_id, count, mode = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]

class Source:
    is_streaming = False
    records = []
    def take(self):
        taken, self.records = self.records, []
        return taken

journal = open_journal(data_dir)
lock = Owners(data_dir).acquire()
version = VersionHeader(plan_id="p", fingerprint="f", name="w", text="", path="", spec_json=b"{}",
    keys=tuple(f"t{i}" for i in range(count)), parents=((),) * count)
header = RunHeader(run_id=run_id, plan_id="p", workflow="w", params={}, durability="run")
created = RunCreated(wall_ns=time.time_ns(), monotonic_ns=0, owner=lock.engine_id, host="h", pid=1)
source = Source()
run = journal.open_run(version, header, created, source)
step = 7
for first in range(0, count, step):
    n = min(step, count - first)
    rows = array("i", range(first, first + n))
    source.records.append(AttemptBlock(instances=rows, ends_ns=array("q", rows),
        outputs=[i * 3 for i in rows], first_start_ns=0))
    if mode == "sync":
        run.sync()
        print(first + n, flush=True)
    else:
        run.notify()
source.records.append(RunStateChanged(state="succeeded"))
run.sync()
print("done", flush=True)
if mode != "stay":
    run.close()
    journal.close()
else:
    time.sleep(60)
"""


def start(data_dir, run_id: str, count: int, mode: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(data_dir), run_id, str(count), mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def end(process: subprocess.Popen) -> None:
    process.stdout.close()
    process.stderr.close()
    process.wait()


def kill_after(process: subprocess.Popen, lines: int, delay_s: float) -> int:
    """Read acknowledgements until there are enough, wait a little more, kill; return the last one."""
    acknowledged = 0
    deadline = time.monotonic() + 30
    while lines > 0:
        ready, _, _ = select.select([process.stdout], [], [], deadline - time.monotonic())
        assert ready, process.stderr.read()
        line = process.stdout.readline().strip()
        assert line, process.stderr.read()
        lines -= 1
        acknowledged = int(line)
    select.select([], [], [], delay_s)
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split(b"\n")
    complete = [int(line) for line in rest[:-1] if line != b"done"]
    return max([acknowledged, *complete])


def dies(owners, engine_id):
    """Wait a moment: a child lets go of the lock it inherited only once it runs."""
    deadline = time.monotonic() + 5
    while owners.is_alive(engine_id) and time.monotonic() < deadline:
        select.select([], [], [], 0.01)
    return not owners.is_alive(engine_id)


@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_killed_writer_loses_nothing_it_acknowledged(tmp_path):
    rng = random.Random(7)
    data_dir = tmp_path / "store"
    for number in range(20):
        run_id = f"run-{number}"
        process = start(data_dir, run_id, 100_000, "sync")
        acknowledged = kill_after(process, rng.randrange(1, 60), rng.random() * 0.003)
        end(process)

        journal = open_journal(data_dir)
        saved = journal.load_run(run_id)
        done = saved.states.index("pending")
        assert done >= acknowledged
        assert saved.outputs == {i: i * 3 for i in range(done)}
        assert set(saved.states[done:]) == {"pending"}
        assert [e.seq for e in journal.events(run_id)] == list(range(saved.summary.last_seq + 1))
        assert saved.summary.state is RunState.INTERRUPTED
        journal.close()


@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_killed_owner_is_gone_and_its_run_can_be_adopted_once(tmp_path, make):
    data_dir = tmp_path / "store"
    process = start(data_dir, "run-a", 30, "stay")
    while process.stdout.readline() != b"done\n":
        assert process.poll() is None, process.stderr.read()
    journal = open_journal(data_dir)
    owner = journal.find_run("run-a").owner
    owners = Owners(data_dir)
    assert owners.is_alive(owner)
    assert owners.read(owner).pid == process.pid
    end_as_failed(data_dir, journal, make)
    with pytest.raises(RecoveryError):
        journal.adopt_run("run-b", make.created("me"), make.source())

    process.kill()
    end(process)

    assert dies(owners, owner)
    assert journal.find_run("run-b").state is RunState.INTERRUPTED
    journal.adopt_run("run-b", make.created("me"), make.source()).close()
    journal.close()


def end_as_failed(data_dir, journal, make) -> None:
    """Record an unfinished run in the name of the other process."""
    owner = journal.find_run("run-a").owner
    source = make.source()
    run = journal.open_run(make.version(), make.header("run-b"), make.created(owner), source)
    run.sync()
    run.close()


def test_three_processes_write_one_journal(tmp_path):
    data_dir = tmp_path / "store"
    processes = [start(data_dir, f"run-{n}", 700, "sync") for n in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert out.endswith(b"done\n"), err

    journal = open_journal(data_dir)
    for number in range(3):
        saved = journal.load_run(f"run-{number}")
        assert saved.summary.state is RunState.SUCCEEDED
        assert saved.outputs == {i: i * 3 for i in range(700)}
    events, pos = [], 0
    while (page := journal.tail(pos)).events:
        events += page.events
        pos = page.next_pos
    first_seen = [event for event in events if isinstance(event, WorkflowCreated)]
    assert len(events) - len(first_seen) == 3 * (700 + 2)
    # Processes that begin with a new version at the same moment all see it for the first time.
    assert 1 <= len(first_seen) <= 3
    journal.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_child_touches_nothing(tmp_path, make):
    data_dir = tmp_path / "store"
    journal = open_journal(data_dir)
    lock = Owners(data_dir).acquire()
    source = make.source()
    header = make.header()
    run = journal.open_run(make.version(), header, make.created(lock.engine_id), source)
    source.put(make.chain(0, 1))
    run.sync()
    source.put(make.chain(1, 1))
    run.notify()
    reader, writer = os.pipe()

    child = os.fork()
    if child == 0:
        answers = []
        for use in (run.sync, journal.list_runs, lambda: journal.find_run("latest")):
            try:
                use()
                answers.append("worked")
            except StorageError as error:
                answers.append("forked" if "forked" in str(error) else str(error))
        run.notify()
        run.close()
        journal.close()
        again = open_journal(data_dir)
        answers.append(again.find_run("latest").run_id)
        again.close()
        os.write(writer, "|".join(answers).encode())
        os._exit(0)
    os.close(writer)
    answers = os.read(reader, 4096).decode()
    os.close(reader)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert answers == f"forked|forked|forked|{header.run_id}"
    assert Owners(data_dir).is_alive(lock.engine_id)
    source.put(make.block([2]))
    run.sync()
    assert journal.load_run(header.run_id).summary.counts == {"succeeded": 3}
    journal.close()
    lock.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_child_does_not_keep_its_parents_lock(tmp_path):
    program = """
import os, sys, time
from pathlib import Path
from flowbuilder.store import Owners
lock = Owners(Path(sys.argv[1])).acquire()
child = os.fork()
if child == 0:
    time.sleep(60)
print(lock.engine_id, child, flush=True)
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)], stdout=subprocess.PIPE
    )
    engine_id, child = process.stdout.readline().decode().split()
    owners = Owners(tmp_path)
    try:
        assert owners.is_alive(engine_id)
        process.kill()
        process.wait()
        assert dies(owners, engine_id)
    finally:
        os.kill(int(child), signal.SIGKILL)
        process.stdout.close()
