"""A disk that is really full: a small file system in memory, filled to the brim."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from contextlib import suppress

import pytest

import flowbuilder as fb
from flowbuilder.api.container import close_containers
from flowbuilder.errors import FlowBuilderError, StorageError
from flowbuilder.vocabulary import RunState


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A file system of 6 MB, and a ballast in it that can be thrown off."""
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs the right to mount")
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount here")
    yield Disk(place)
    with suppress(FlowBuilderError):
        close_containers()
    subprocess.run(["umount", "-l", str(place)], check=False)


class Disk:
    def __init__(self, place):
        self.place, self.store, self.ballast = place, place / "store", place / "ballast"

    def fill(self, leave):
        free = shutil.disk_usage(self.place).free
        with self.ballast.open("wb") as file:
            file.write(bytes(max(0, free - leave)))

    def empty(self):
        self.ballast.unlink()


def small(by=1):
    return by


def noise(size):
    return random.Random(0).randbytes(size)


def talk(size):
    for _ in range(size // 40_000):
        sys.stdout.write(random.Random(0).randbytes(20_000).hex() + "\n")


def flow_of(disk, function, *, leave, **fields):
    flow = fb.Workflow("filling", data_dir=disk.store)
    flow = flow.add("fill", disk.fill, config={"leave": leave}, executor="inline")
    return flow.add("big", function, config={"size": 2_000_000}, depends_on="fill", **fields)


@pytest.mark.parametrize("durability", ["run", "task"])
@pytest.mark.parametrize(
    ("function", "fields"), [(noise, {"persist": "always"}), (talk, {})], ids=["output", "journal"]
)
def test_run_fails_cleanly_and_the_process_goes_on(disk, function, fields, durability, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_MAX_LOG_BYTES", "64MiB")
    before = fb.Workflow("before", data_dir=disk.store).add("a", small).run(echo=False)

    run = flow_of(disk, function, leave=100_000, **fields).run(
        check=False, echo=False, durability=durability
    )

    assert run.state is RunState.FAILED
    with pytest.raises(StorageError) as caught:
        run.raise_for_state()
    told = str(caught.value)
    assert "needed" in told
    assert " free" in told
    assert str(disk.store) in told
    assert fb.run(before.id, data_dir=disk.store)["a"] == 1, "readable while the disk is full"

    disk.empty()
    after = fb.Workflow("after", data_dir=disk.store).add("a", small).run(echo=False)

    past = {run.id: run.state for run in fb.runs(data_dir=disk.store)}
    assert past[before.id] == past[after.id] == RunState.SUCCEEDED
    assert past.get(run.id) in {None, RunState.FAILED}
    report = fb.check_store(data_dir=disk.store)
    assert report.is_sound, report.errors
