"""An engine without a journal, and one call that runs a plan on it."""

from __future__ import annotations

import pytest

from flowbuilder.ids import new_run_id
from flowbuilder.records import RunHeader, VersionHeader
from flowbuilder.runtime.engine import Engine, EngineOptions
from flowbuilder.runtime.live_run import RunOptions
from flowbuilder.testing import bind
from flowbuilder.vocabulary import Durability

VERSION = VersionHeader(
    plan_id="plan",
    fingerprint="f",
    name="test",
    text="",
    path="",
    spec_json=b"{}",
    keys=(),
    parents=(),
)


class Bench:
    """Runs plans and keeps the engine."""

    def __init__(self, engine):
        self.engine = engine

    def open(self, plan, bodies=None, *, params=None, **options):
        options.setdefault("durability", Durability.NONE)
        options.setdefault("echo", False)
        header = RunHeader(
            run_id=new_run_id(),
            plan_id=plan.plan_id,
            workflow="test",
            params={},
            durability=str(options["durability"]),
        )
        return self.engine.open(
            bind(plan, bodies), VERSION, header, params or {}, RunOptions(**options)
        )

    def run(self, plan, bodies=None, **options):
        run = self.open(plan, bodies, **options)
        self.engine.run(run)
        return run

    def start(self, plan, bodies=None, **options):
        run = self.open(plan, bodies, **options)
        self.engine.start(run)
        return run


@pytest.fixture
def bench(tmp_path):
    engine = Engine(
        None,
        None,
        EngineOptions(engine_id="test", workers=2, scratch=tmp_path, pools={"db": 1, "wide": 3}),
    )
    yield Bench(engine)
    engine.close()


@pytest.fixture(params=["caller", "shared"])
def execute(bench, request):
    """Run a plan to its end, on the caller's thread and on the engine's."""

    def execute(plan, bodies=None, **options):
        run = bench.open(plan, bodies, **options)
        if request.param == "caller":
            bench.engine.run(run)
        else:
            bench.engine.start(run)
            assert run.wait(20)
        return run

    return execute
