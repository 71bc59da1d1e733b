"""Recovery: what a resume keeps, runs again, and asks about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.errors import RecoveryError, StorageError
from flowbuilder.records import ArtifactStored, RunHeader, VersionHeader
from flowbuilder.runtime.recovery import plan_recovery
from flowbuilder.store.ports import RunSummary, SavedRun
from flowbuilder.testing import plan_of
from flowbuilder.testing.plans import plan_from_parents
from flowbuilder.vocabulary import Effects, RunState, TaskState

DONE = {TaskState.SUCCEEDED, TaskState.CACHED}
STORED = object()


def saved_of(plan, states, *, outputs=None, artifacts=(), started=(), attempts=None, **counts):
    """Records of a run: ``outputs`` by instance, ``artifacts`` and ``started`` as instances."""
    size = len(plan)
    return SavedRun(
        summary=RunSummary(
            run_id="r",
            workflow="test",
            fingerprint="f",
            plan_id=plan.plan_id,
            state=RunState.INTERRUPTED,
            started_wall_ns=0,
            duration_s=0.0,
            counts={},
            task_count=size,
        ),
        version=VersionHeader(
            plan_id=plan.plan_id,
            fingerprint="f",
            name="test",
            text="",
            path="",
            spec_json=b"{}",
            keys=tuple(task.key for task in plan.tasks),
            parents=(),
        ),
        header=RunHeader(
            run_id="r", plan_id=plan.plan_id, workflow="test", params={}, durability="run"
        ),
        states=[TaskState(state) for state in states],
        attempts=attempts or [int(state not in {"pending", "skipped"}) for state in states],
        outputs=dict(outputs or {}),
        artifacts={instance: artifact(instance) for instance in artifacts},
        started=set(started),
        **counts,
    )


def artifact(instance, *, is_readable=True):
    return ArtifactStored(
        instance=instance,
        attempt=1,
        name="x",
        format="bytes",
        path="readable" if is_readable else "damaged",
        size_bytes=1,
        digest="",
    )


def load(stored):
    if stored.path == "damaged":
        raise StorageError("damaged")
    return STORED


def recover(plan, saved, assume=None):
    return plan_recovery(plan, saved, load=load, assume=assume)


# -- single facts


def test_settled_tasks_stay_and_the_rest_runs():
    plan = plan_of("a -> b -> c")

    found = recover(plan, saved_of(plan, ["succeeded", "failed", "skipped"], outputs={0: 7}))

    assert found.keep == {0: 7}
    assert found.states == {0: TaskState.SUCCEEDED}
    assert found.rerun == {
        1: "it failed",
        2: "it was skipped, and what it waits for runs again",
    }


def test_skip_by_a_condition_stands():
    plan = plan_of("a -> b, a -> c")

    found = recover(plan, saved_of(plan, ["succeeded", "skipped", "pending"], outputs={0: 1}))

    assert found.states[1] is TaskState.SKIPPED
    assert list(found.rerun) == [2]


def test_volatile_output_is_made_again_only_if_somebody_needs_it():
    plan = plan_of("a -> b, c -> d")
    states = {"a": "succeeded", "b": "pending", "c": "succeeded", "d": "succeeded"}

    found = recover(plan, saved_of(plan, [states[task.key] for task in plan.tasks]))

    again = {plan.tasks[instance].key: why for instance, why in found.rerun.items()}
    assert again == {
        "a": "its output was not kept, and b needs it",
        "b": "it has not run yet",
    }
    assert found.keep == {}


def test_volatile_chain_goes_back_to_the_first_kept_output():
    plan = plan_of("a -> b -> c -> d")

    found = recover(
        plan, saved_of(plan, ["succeeded"] * 3 + ["failed"], outputs={0: 1}, artifacts=())
    )

    assert sorted(found.rerun) == [1, 2, 3]


@pytest.mark.parametrize("is_readable", [True, False])
def test_damaged_artifact_counts_as_absent(is_readable):
    plan = plan_of("a -> b")
    saved = saved_of(plan, ["succeeded", "pending"])
    saved.artifacts[0] = artifact(0, is_readable=is_readable)

    found = recover(plan, saved)

    assert (0 in found.rerun) is not is_readable
    assert (found.keep.get(0) is STORED) is is_readable


@pytest.mark.parametrize("assume", [None, "done", "rerun"])
def test_external_task_that_started_is_never_repeated_unasked(assume):
    plan = plan_of("a -> b", a={"effects": "external"})

    found = recover(plan, saved_of(plan, ["running", "pending"], started={0}), assume)

    assert bool(found.unknown) is (assume is None)
    assert (0 in found.rerun) is (assume != "done")
    assert (0 in found.assumed) is (assume == "done")
    if assume == "done":
        assert found.states[0] is TaskState.SUCCEEDED
        assert found.keep == {0: None}


def test_external_task_that_never_started_runs_without_a_question():
    plan = plan_of("a -> b", b={"effects": "external"})

    found = recover(plan, saved_of(plan, ["succeeded", "pending"], outputs={0: 1}))

    assert not found.unknown
    assert list(found.rerun) == [1]


def test_assuming_done_gives_no_output_to_others_that_lost_theirs():
    plan = plan_of("a, b -> c", b={"effects": "external"})
    by_key = {"a": "succeeded", "b": "running", "c": "pending"}
    place = {task.key: instance for instance, task in enumerate(plan.tasks)}

    found = recover(
        plan,
        saved_of(plan, [by_key[task.key] for task in plan.tasks], started={place["b"]}),
        "done",
    )

    assert found.keep == {place["b"]: None}


def test_twin_shares_the_kept_output_of_the_other():
    plan = plan_of("a -> b -> c")
    plan.twins[1] = 0

    found = recover(plan, saved_of(plan, ["succeeded", "cached", "pending"], artifacts=[0]))

    assert list(found.rerun) == [2]
    assert found.keep[1] is STORED


def test_attempts_cut_short_do_not_count_and_failures_go_on_counting():
    plan = plan_of("cut, failed, fresh, waiting")
    place = {task.key: instance for instance, task in enumerate(plan.tasks)}
    states = {"cut": "running", "failed": "failed", "fresh": "pending", "waiting": "waiting"}
    attempts = {"cut": 5, "failed": 3, "fresh": 0, "waiting": 2}

    found = recover(
        plan,
        saved_of(
            plan,
            [states[task.key] for task in plan.tasks],
            attempts=[attempts[task.key] for task in plan.tasks],
            started={place["cut"]},
            # Two real failures among five attempts: the others ended with their process.
            failures={place["cut"]: 2, place["failed"]: 3, place["waiting"]: 2},
        ),
    )

    assert found.bases == {place["cut"]: 3, place["failed"]: 3, place["waiting"]: 0}


def test_records_of_another_plan_are_refused():
    plan = plan_of("a -> b")

    with pytest.raises(RecoveryError, match="expected records of 1 tasks, found 2"):
        recover(plan_of("a"), saved_of(plan, ["pending", "pending"]))


def test_lines_name_what_runs_again_and_bound_the_rest():
    plan = plan_from_parents([f"t{number}" for number in range(100)], [[]] * 100)
    saved = saved_of(plan, ["failed"] * 50 + ["pending"] * 49 + ["succeeded"], outputs={99: 1})

    lines = recover(plan, saved).lines(plan)

    assert lines[0] == "1 of 100 tasks is settled and will not run again, 99 will run"
    assert lines[1] == "  t0: it failed"
    assert lines[31] == "  and 20 more that ran before"
    assert lines[32].startswith("  for the first time: t50, t51")
    assert lines[32].endswith(" and 19 more")
    assert len(lines) == 33


def test_preloaded_output_that_is_gone_is_fetched_again_and_never_executed():
    plan = plan_of("a -> b", a={"effects": "external"})
    plan = type(plan)(
        **{name: getattr(plan, name) for name in plan.__struct_fields__ if name != "options"},
        options={"preloaded": [0]},
    )

    lost = recover(plan, saved_of(plan, ["cached", "pending"]))
    never_written = recover(plan, saved_of(plan, ["pending", "pending"]))

    for found in (lost, never_written):
        assert found.refill == (0,)
        assert list(found.rerun) == [1]
        assert not found.unknown


# -- random records of random graphs

STATES = ["pending", "running", "waiting", "succeeded", "failed", "skipped", "cancelled", "cached"]


@st.composite
def recorded_runs(draw):
    size = draw(st.integers(1, 12))
    parents = [
        sorted(draw(st.sets(st.integers(0, child - 1), max_size=3))) if child else []
        for child in range(size)
    ]
    names = [f"t{number}" for number in range(size)]
    tasks = {name: {"effects": draw(st.sampled_from(list(Effects)))} for name in names}
    plan = plan_from_parents(names, parents, tasks)
    states = [draw(st.sampled_from(STATES)) for _ in names]
    done = [instance for instance, state in enumerate(states) if state in DONE]
    kept = {
        instance: draw(st.sampled_from(["small", "file", "damaged", "gone"])) for instance in done
    }
    saved = saved_of(
        plan,
        states,
        outputs={instance: instance for instance, how in kept.items() if how == "small"},
        started=[instance for instance, state in enumerate(states) if state == "running"],
    )
    for instance, how in kept.items():
        if how in {"file", "damaged"}:
            saved.artifacts[instance] = artifact(instance, is_readable=how == "file")
    return plan, saved, kept


@given(recorded_runs(), st.sampled_from([None, "done", "rerun"]))
def test_recovery_invariants(case, assume):
    plan, saved, kept = case

    found = recover(plan, saved, assume)

    again = set(found.rerun)
    assert again | found.states.keys() == set(range(len(plan)))
    assert not again & found.states.keys()
    for instance, state in enumerate(saved.states):
        is_external = plan.tasks[instance].effects is Effects.EXTERNAL
        needers = [child for child in plan.successors_of(instance) if child in again]
        if kept.get(instance) in {"small", "file"}:
            assert instance in found.keep, "settled tasks never run again"
        elif state in DONE:
            is_assumed = is_external and assume == "done"
            assert (instance in again) is (bool(needers) and not is_assumed)
        elif state is not TaskState.SKIPPED:
            is_cut = instance in saved.started and is_external
            assert (instance in again) is not (is_cut and assume == "done")
        if instance in again:
            for parent in plan.parents_of(instance):
                has_failed = found.states.get(parent) is TaskState.SKIPPED
                assert parent in found.keep or parent in again or has_failed
    may_have_happened = {
        instance
        for instance in again
        if plan.tasks[instance].effects is Effects.EXTERNAL
        and (instance in saved.started or saved.states[instance] in DONE)
    }
    assert found.unknown.keys() == (may_have_happened if assume is None else set())
    assert not may_have_happened or assume != "done"


@given(recorded_runs())
def test_recovery_is_the_same_however_often_it_is_planned(case):
    plan, saved, _ = case

    assert recover(plan, saved) == recover(plan, saved)


@pytest.mark.parametrize(
    ("persist", "effects", "runs"),
    [
        ("always", "idempotent", True),
        ("always", "external", False),
        ("auto", "idempotent", False),
    ],
)
def test_output_that_is_to_be_kept_and_is_not_there_is_made_again(persist, effects, runs):
    plan = plan_of("a -> b", a={"persist": persist, "effects": effects})

    found = recover(plan, saved_of(plan, ["succeeded", "succeeded"], outputs={1: 5}))

    assert list(found.rerun) == ([0] if runs else [])
