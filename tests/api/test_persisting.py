"""Which outputs are kept: whatever executed the task, and however small or large they are."""

from __future__ import annotations

import pytest

import flowbuilder as fb

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
