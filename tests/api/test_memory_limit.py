"""Outputs in memory stay below the limit; nobody notices but the disk."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowbuilder as fb
from flowbuilder.api.container import container_for
from flowbuilder.errors import FlowBuilderError
from flowbuilder.runtime.footprints import buffers_of, mapped_ranges

ROWS = 500_000
"""4 MB a column."""


def keeper():
    return container_for(None).engine.keeper


def numbers(seed):
    return np.random.default_rng(seed).random(ROWS)


MAKERS = {
    "numpy": numbers,
    "pyarrow": lambda seed: pa.table({"x": numbers(seed), "s": [f"text {seed}"] * ROWS}),
    "polars": lambda seed: pl.DataFrame(
        {"x": numbers(seed), "s": [f"text {seed} long enough"] * ROWS}
    ),
    "pandas": lambda seed: pd.DataFrame({"x": numbers(seed), "i": np.arange(ROWS)}),
    "pandas of arrow": lambda seed: pa.table({"x": numbers(seed)}).to_pandas(
        types_mapper=pd.ArrowDtype
    ),
}


def same(first, second):
    assert type(first) is type(second)
    if isinstance(first, np.ndarray):
        return bool((first == second).all())
    return bool(first.equals(second))


def is_mapped(value):
    ranges = mapped_ranges()
    spans = [span for span in buffers_of(value) if span[1] > 4096]
    return all(any(low <= address < high for low, high in ranges) for address, _ in spans)


def chain(make, count=8):
    """Independent outputs, all of which one task reads in the end."""
    workflow = fb.Workflow("many")

    def source(seed: int):
        return make(seed)

    names = []
    for seed in range(count):
        names.append(f"t{seed}")
        # A thread that stores an output keeps it in memory meanwhile.
        workflow = workflow.add(f"t{seed}", source, config={"seed": seed}, persist="never")
    return workflow, names


@pytest.mark.parametrize("kind", MAKERS)
def test_outputs_above_the_limit_are_spilled_and_come_back_equal(kind):
    fb.configure(memory_limit="40MB")
    make = MAKERS[kind]
    workflow, names = chain(make)

    run = workflow.run()

    stats = keeper().stats()
    assert stats.held_bytes <= stats.limit_bytes == 20_000_000
    assert stats.spilled >= 2
    for seed, name in enumerate(names):
        assert same(run[name], make(seed))
    assert keeper().stats().reloaded == stats.spilled
    assert keeper().stats().held_bytes <= stats.limit_bytes
    if kind != "pandas of arrow":
        assert sum(is_mapped(run[name]) for name in names) == stats.spilled
    assert run[names[0]] is run[names[0]]
    spilled = [edge for edge in run.copies() if "memory_limit" in str(edge)]
    assert len(spilled) == stats.spilled
    assert "mapped again" in str(run.copies())


def test_an_object_somebody_holds_is_still_the_object():
    fb.configure(memory_limit="40MB")
    held = []

    @fb.task
    def first():
        held.append(MAKERS["polars"](1))
        return held[0]

    @fb.task
    def others(seed: int):
        return MAKERS["polars"](seed)

    @fb.workflow
    def flow():
        first()
        for seed in range(2, 8):
            others.named(f"o{seed}")(seed)

    run = flow.run()

    assert keeper().stats().spilled
    assert run["first"] is held[0]


def test_what_tasks_share_is_counted_once():
    fb.configure(memory_limit="40MB")
    workflow = fb.Workflow("views")

    def source():
        return MAKERS["pyarrow"](1).select(["x"])

    def again(table):
        return table.slice(0)

    workflow = workflow.add("t0", source)
    for place in range(1, 15):
        workflow = workflow.add(f"t{place}", again, inputs={"table": f"t{place - 1}"})

    run = workflow.run()

    assert keeper().stats().spilled == 0
    assert keeper().stats().held_bytes <= 20_000_000
    assert run.copies().total_bytes == 0


def test_consumers_get_spilled_values_mapped():
    fb.configure(memory_limit="20MB")
    seen = []

    @fb.task(persist="never")  # a thread that stores it would keep it in memory
    def source(seed: int):
        return MAKERS["pyarrow"](seed).select(["x"])

    @fb.task
    def read(one, two, three, four):
        parts = (one, two, three, four)
        seen.extend(map(is_mapped, parts))
        for seed, part in enumerate(parts):
            assert part.equals(MAKERS["pyarrow"](seed).select(["x"]))
        return sum(part.num_rows for part in parts)

    @fb.workflow
    def flow():
        parts = [source.named(f"s{seed}")(seed) for seed in range(4)]
        return read(*parts)

    run = flow.run()

    assert run["read"] == 4 * ROWS
    assert seen.count(True) == keeper().stats().spilled >= 2


def test_files_go_with_the_run_and_with_the_engine():
    fb.configure(memory_limit="20MB")
    workflow, _ = chain(MAKERS["numpy"])
    run = workflow.run()
    folder = keeper().folder
    assert list(folder.iterdir())

    live = run["t0"]
    del run
    gc.collect()

    assert list(folder.iterdir()) == []
    assert same(live, MAKERS["numpy"](0))
    container_for(None).close()
    assert not folder.exists()


def test_a_run_nobody_asks_drops_what_no_task_needs_any_more():
    """What `flowbuilder run` does: only the run's own outputs are kept."""
    fb.configure(memory_limit="20MB")
    from flowbuilder.api.run_request import RunRequest

    @fb.task
    def source(seed: int, after):
        return MAKERS["numpy"](seed)

    @fb.task
    def count(values):
        return len(values)

    @fb.workflow
    def flow():
        last = None
        for seed in range(6):
            last = count.named(f"c{seed}")(source.named(f"s{seed}")(seed, last))

    run = flow.open_run(RunRequest(keeps_all=False), {})
    run.drive()

    assert keeper().stats().dropped
    assert keeper().stats().spilled == 0
    assert run["c0"] == ROWS
    with pytest.raises(FlowBuilderError, match=r"dropped when memory was short.*memory_limit"):
        run["s0"]


def test_no_room_on_disk_leaves_outputs_in_memory(monkeypatch, caplog):
    import shutil

    fb.configure(memory_limit="20MB")
    workflow, names = chain(MAKERS["numpy"], 4)
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=0))

    run = workflow.run()

    assert keeper().stats().spilled == 0
    assert "stay in memory above the limit" in caplog.text
    assert all(same(run[name], numbers(seed)) for seed, name in enumerate(names))


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_whatever_is_asked_in_whatever_order_is_equal(data):
    fb.configure(memory_limit="24MB")
    kinds = data.draw(st.lists(st.sampled_from(sorted(MAKERS)), min_size=2, max_size=7))
    workflow = fb.Workflow("mixed")

    def source(kind: str, seed: int):
        return MAKERS[kind](seed)

    for place, kind in enumerate(kinds):
        workflow = workflow.add(f"t{place}", source, config={"kind": kind, "seed": place})
    run = workflow.run()
    held = {}
    for place in data.draw(st.lists(st.integers(0, len(kinds) - 1), max_size=12)):
        value = run[f"t{place}"]
        assert same(value, MAKERS[kinds[place]](place))
        if place in held and data.draw(st.booleans()):
            del held[place]
        else:
            assert value is held.setdefault(place, value)
    del held


KILLED = """
import sys, numpy as np, flowbuilder as fb
fb.configure(memory_limit="20MB")
def source(seed: int):
    return np.random.default_rng(seed).random(500_000)
def last(data):
    print("spilled", flush=True)
    sys.stdin.read()
flow = fb.Workflow("killed")
for seed in range(6):
    flow = flow.add(f"t{seed}", source, config={"seed": seed})
flow = flow.add("last", last, inputs={"data": "t5"}, depends_on=[f"t{n}" for n in range(5)], executor="inline")
flow.run()
"""


def test_what_a_killed_process_spilled_is_removed_by_the_next(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    process = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "spilled\n"
        scratch = tmp_path / ".flowbuilder" / "scratch"
        (folder,) = scratch.glob("engine-*")
        assert any(folder.iterdir())
        container_for(None)
        assert any(folder.iterdir())  # its owner lives
    finally:
        process.send_signal(signal.SIGKILL) if os.name == "posix" else process.kill()
        process.communicate()
    container_for(None).close()

    fb.configure(workers=3)
    container_for(None)

    assert not folder.exists()


def test_doctor_says_what_it_removed(tmp_path, capsys):
    from flowbuilder.cli.main import main

    left = tmp_path / ".flowbuilder" / "scratch" / "engine-00ff"
    left.mkdir(parents=True)
    (left / "x.arrow").write_bytes(bytes(5000))
    partial = tmp_path / ".flowbuilder" / "artifacts" / ".partial"
    partial.mkdir(parents=True)
    (partial / ".half").write_bytes(b"half")
    os.utime(partial / ".half", (1, 1))

    main(["doctor"])

    assert "removed 2 leftovers" in capsys.readouterr().out
    assert not left.exists()
    assert not list(partial.iterdir())
