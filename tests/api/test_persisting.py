"""Which outputs are kept: whatever executed the task, and however small or large they are."""

from __future__ import annotations

import errno

import pytest

import flowbuilder as fb
from flowbuilder.store.disk import Disk, using_disk

LARGE = {
    "bytes": b"b" * 5_000,
    "text": "t" * 5_000,
    "integer": 2**64,
    "surrogate": "\ud800",
    "list": ["l" * 5_000],
}


def give(kind):
    return LARGE[kind]


@pytest.mark.parametrize("kind", sorted(LARGE))
@pytest.mark.parametrize("executor", ["inline", "thread", "auto"])
@pytest.mark.parametrize("durability", ["run", "task"])
def test_output_that_does_not_ride_in_its_record_is_kept(
    tmp_path, monkeypatch, kind, executor, durability
):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    flow = fb.Workflow("keeping", data_dir=tmp_path / "store")
    for name in ("first", "second"):
        flow = flow.add(name, give, config={"kind": kind}, executor=executor, persist="always")

    run = flow.run(echo=False, durability=durability)

    past = fb.run(run.id, data_dir=tmp_path / "store")
    assert past["first"] == past["second"] == LARGE[kind]


class RefusingDisk(Disk):
    def create(self, path):
        if "artifacts" in path.parts:
            raise OSError(errno.ENOSPC, "no space")
        return super().create(path)


@pytest.mark.parametrize("durability", ["run", "task"])
@pytest.mark.parametrize("persist", ["always", "auto"])
def test_output_the_disk_refuses_fails_the_run_only_if_it_was_to_be_kept(
    tmp_path, monkeypatch, persist, durability
):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    flow = fb.Workflow("keeping", data_dir=tmp_path / "store")
    flow = flow.add("first", give, config={"kind": "bytes"}, persist=persist)
    with using_disk(RefusingDisk()):
        run = flow.run(echo=False, check=False, durability=durability)

    assert run["first"] == LARGE["bytes"]
    assert run.state == ("failed" if persist == "always" else "succeeded")
    if persist == "always":
        assert "5 KB needed" in str(run.error)
    else:
        assert "the output is not kept" in run.logs()
    again = flow.run(echo=False)
    assert fb.run(again.id, data_dir=tmp_path / "store")["first"] == LARGE["bytes"]
    if persist == "always":
        resumed = fb.resume(
            run.id, functions={f"{__name__}:give": give}, data_dir=tmp_path / "store"
        )
        assert resumed.state == "succeeded"
        assert fb.run(run.id, data_dir=tmp_path / "store")["first"] == LARGE["bytes"]
