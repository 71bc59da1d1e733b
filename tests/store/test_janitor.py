"""What killed processes leave is removed, what living ones write is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from flowbuilder.store.janitor import (
    PARTIAL_FOLDER,
    sweep_partial,
    sweep_scratch,
    temporary_folder,
)
from flowbuilder.store.local_artifacts import LocalArtifactStore
from flowbuilder.store.ownership import Owners

WRITER = """
import sys
from pathlib import Path
from flowbuilder.store.artifact_files import write_file

def fill(sink):
    sink.write(b"half of it")
    print("half", flush=True)
    sys.stdin.readline()
    sink.write(b" and the rest")

folder = Path(sys.argv[1])
write_file(folder / "run-1" / "x.bin", 1000, fill, partial=folder / ".partial")
print("done", flush=True)
"""

ENGINE = """
import sys
from pathlib import Path
from flowbuilder.store.janitor import temporary_folder
from flowbuilder.store.ownership import Owners

store = Path(sys.argv[1])
lock = Owners(store).acquire()
folder = temporary_folder(store / "scratch", lock.engine_id)
folder.mkdir(parents=True)
(folder / "spilled.arrow").write_bytes(bytes(10_000))
print(lock.engine_id, flush=True)
sys.stdin.readline()
"""


def start(code, place):
    return subprocess.Popen(
        [sys.executable, "-c", code, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def age(folder):
    for path in folder.iterdir():
        os.utime(path, (time.time() - 10,) * 2)


def test_a_file_that_is_being_written_stays_and_is_finished(tmp_path):
    process = start(WRITER, tmp_path)
    assert process.stdout.readline() == "half\n"
    age(tmp_path / PARTIAL_FOLDER)

    swept = sweep_partial(tmp_path)

    assert swept.count == 0
    assert process.communicate("\n")[0] == "done\n"
    assert (tmp_path / "run-1" / "x.bin").read_bytes() == b"half of it and the rest"
    assert list((tmp_path / PARTIAL_FOLDER).iterdir()) == []


def test_a_file_a_killed_process_was_writing_is_removed(tmp_path):
    process = start(WRITER, tmp_path)
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.communicate()
    age(tmp_path / PARTIAL_FOLDER)

    swept = sweep_partial(tmp_path)

    assert (swept.count, swept.size_bytes) == (1, 10)
    assert list((tmp_path / PARTIAL_FOLDER).iterdir()) == []
    assert not (tmp_path / "run-1" / "x.bin").exists()


def test_a_folder_of_a_living_engine_stays_until_it_is_killed(tmp_path):
    process = start(ENGINE, tmp_path)
    engine_id = process.stdout.readline().strip()
    folder = temporary_folder(tmp_path / "scratch", engine_id)
    owners = Owners(tmp_path)

    assert sweep_scratch(tmp_path / "scratch", owners.is_alive).count == 0
    assert folder.is_dir()
    process.kill()
    process.communicate()
    swept = sweep_scratch(tmp_path / "scratch", owners.is_alive)

    assert (swept.count, swept.size_bytes) == (1, 10_000)
    assert not folder.exists()


def test_other_things_in_the_folder_stay(tmp_path):
    scratch = tmp_path / "scratch"
    others = [
        scratch / "0199-run",
        scratch / "engine-a b",
        scratch / "engine-../x",
        scratch / "engine-",
    ]
    for other in others:
        other.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    if os.name == "posix":
        (scratch / "engine-00aa").symlink_to(outside)

    assert sweep_scratch(scratch, lambda _id: False).count == 0
    assert all(other.exists() for other in [*others, outside])


def test_where_there_is_nothing_nothing_is_made(tmp_path):
    assert sweep_scratch(tmp_path / "scratch", lambda _id: False).count == 0
    assert sweep_partial(tmp_path / "artifacts").count == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [b"x" * 100, {"a": 1}])
def test_stored_outputs_pass_through_the_folder_and_leave_it_empty(tmp_path, value):
    store = LocalArtifactStore(tmp_path)

    artifact = store.save("run-1", 1, 1, "a", value)

    assert store.load(artifact) == value
    assert list((store.folder / PARTIAL_FOLDER).iterdir()) == []
    assert store.size_bytes() == artifact.size_bytes
