"""Plans: arrays that agree with the workflow, whatever its shape and selection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.compile.compiler import compile_workflow, validate_workflow
from flowbuilder.definition import read_file, read_workflow
from flowbuilder.errors import CycleError, WorkflowValidationError
from flowbuilder.model import Parameter, TaskSpec, WorkflowSpec
from flowbuilder.vocabulary import Effects, ExecutorKind, JoinRule


@pytest.fixture
def plan(workflow, registry):
    def compiled(*args, options=None, **fields):
        return compile_workflow(workflow(*args, **fields), registry, **(options or {})).plan

    return compiled


def keys(plan, instances=None):
    return [plan.tasks[i].key for i in (range(len(plan)) if instances is None else instances)]


@st.composite
def specs(draw):
    """Workflows without cycles, in any author's order, some of whose tasks are equal and pure."""
    size = draw(st.integers(1, 10))
    names = [f"t{i}" for i in draw(st.permutations(range(size)))]
    tasks = []
    for place, name in enumerate(names):
        chosen = draw(st.sets(st.integers(0, place - 1), max_size=3)) if place else set()
        tasks.append(
            TaskSpec(
                name=name,
                type=draw(st.sampled_from(["work", "pure", "wait"])),
                config={"x": draw(st.integers(0, 1))},
                depends_on=tuple(names[each] for each in sorted(chosen)),
                priority=draw(st.sampled_from([0, 0, 0, 5])),
            )
        )
    return WorkflowSpec(name="w", tasks=tuple(draw(st.permutations(tasks))))


@given(spec=specs())
def test_plan_arrays_agree_with_each_other_and_with_the_workflow(registry, spec):
    compiled = compile_workflow(spec, registry)
    plan = compiled.plan

    size = len(spec.tasks)
    assert sorted(compiled.order) == list(range(size))
    assert all(compiled.instances[flat] == i for i, flat in enumerate(compiled.order))
    written = {task.name: set(task.depends_on) for task in spec.tasks}
    for i in range(size):
        row = list(plan.parents_of(i))
        assert row == sorted(set(row))
        assert all(parent < i for parent in row)
        assert plan.in_degrees[i] == len(row)
        assert all(i in plan.successors_of(parent) for parent in row)
        assert all(plan.ranks[parent] > plan.ranks[i] for parent in row)
        if plan.twins[i] < 0:
            assert {plan.tasks[p].key for p in row} == written[plan.tasks[i].key]
        else:
            assert row == [plan.twins[i]]
    assert len(plan.parents) == len(plan.successors) == plan.parent_offsets[size]
    used = {name for needs in written.values() for name in needs}
    assert set(keys(plan, plan.outputs)) == {task.name for task in spec.tasks} - used
    arrays = (plan.parent_offsets, plan.parents, plan.successor_offsets, plan.successors)
    assert {each.typecode for each in (*arrays, plan.in_degrees, plan.twins)} == {"i"}


@given(spec=specs())
def test_twins_are_equal_in_config_and_in_what_they_wait_for(registry, spec):
    compiled = compile_workflow(spec, registry)
    plan = compiled.plan
    first = [plan.twins[i] if plan.twins[i] >= 0 else i for i in range(len(plan))]

    def meaning(i):
        task = spec.tasks[compiled.order[i]]
        position = {each.name: compiled.instances[n] for n, each in enumerate(spec.tasks)}
        needs = sorted(first[position[name]] for name in task.depends_on)
        return (task.type, task.config["x"], task.priority, needs)

    for i in range(len(plan)):
        if plan.twins[i] >= 0:
            assert first[plan.twins[i]] == plan.twins[i]
            assert meaning(i) == meaning(plan.twins[i])
    pure = [
        str(meaning(i))
        for i in range(len(plan))
        if plan.twins[i] < 0 and plan.tasks[i].type == "pure"
    ]
    assert len(pure) == len(set(pure))


@given(spec=specs(), data=st.data())
def test_plan_to_a_task_is_exactly_its_ancestors(registry, spec, data):
    target = data.draw(st.sampled_from([task.name for task in spec.tasks]))
    needs = {task.name: task.depends_on for task in spec.tasks}
    wanted, stack = {target}, [target]
    while stack:
        fresh = set(needs[stack.pop()]) - wanted
        wanted |= fresh
        stack += fresh

    compiled = compile_workflow(spec, registry, to=target)

    assert set(keys(compiled.plan)) == wanted
    assert compiled.plan.fingerprint == compile_workflow(spec, registry).plan.fingerprint
    assert target in keys(compiled.plan, compiled.plan.outputs)
    gone = {task.name for task, i in zip(spec.tasks, compiled.instances, strict=True) if i < 0}
    assert gone == set(needs) - wanted


@given(spec=specs())
def test_plan_does_not_depend_on_when_it_is_made(registry, spec):
    assert compile_workflow(spec, registry) == compile_workflow(spec, registry)


def test_plan_from_a_task_preloads_what_it_needs(plan):
    made = plan("a -> b -> c, x -> c", options={"from_": "b"})

    assert set(keys(made)) == {"a", "x", "b", "c"}
    assert set(keys(made, made.options["preloaded"])) == {"a", "x"}
    assert all(not made.parents_of(i) for i in made.options["preloaded"])
    assert made.options["from"] == ["b"]


def test_plan_only_runs_what_was_named(plan):
    made = plan("a -> b -> c", options={"only": "b"})

    assert keys(made) == ["a", "b"]
    assert keys(made, made.options["preloaded"]) == ["a"]
    assert keys(made, made.outputs) == ["b"]


def test_plan_id_tells_selections_apart(plan):
    whole, part, other = (plan("a -> b", options=o) for o in ({}, {"to": "a"}, {"only": "a"}))

    assert whole.plan_id == whole.fingerprint == part.fingerprint
    assert len({whole.plan_id, part.plan_id, other.plan_id}) == 3
    assert hash(part) == hash(plan("a -> b", options={"to": ["a"]}))


def test_targets_are_outputs_even_if_others_use_them(plan):
    made = plan("a -> b", options={"to": ["a", "b"]})

    assert keys(made, made.outputs) == ["a", "b"]


def test_priority_is_inherited_and_leads_the_static_order(plan):
    made = plan("a -> b, c -> d", tasks={"d": {"priority": 7, "depends_on": ("c",)}})

    assert keys(made) == ["c", "d", "a", "b"]
    assert made.ranks[1] > made.ranks[2]


def test_durations_of_former_runs_move_the_critical_path(plan):
    graph = "a -> long -> end, a -> b -> c -> end"

    made = plan(graph)
    assert keys(made, made.critical_path) == ["a", "b", "c", "end"]
    slow = {"long": 60.0, "a": 0.1, "b": 0.1, "c": 0.1, "end": 0.1}
    made = plan(graph, options={"durations": slow})
    assert keys(made, made.critical_path) == ["a", "long", "end"]


def test_twin_waits_only_for_its_representative(plan):
    pure = {"type": "pure", "config": {"x": 1}, "join": JoinRule.ALL_SUCCESS}
    made = plan(
        tasks={"r": {}, "a": pure | {"depends_on": ("r",)}, "b": pure | {"depends_on": ("r",)}}
    )

    assert keys(made) == ["r", "a", "b"]
    assert list(made.twins) == [-1, -1, 1]
    assert list(made.parents_of(2)) == [1]
    assert keys(made, made.outputs) == ["a", "b"]


def test_planned_task_carries_the_authors_settings(plan):
    task = {"timeout_s": 3.0, "effects": Effects.EXTERNAL, "when": "params.x", "pool": "p"}
    made = plan(
        tasks={"a": task, "b": {"when": "1 < 2"}, "c": {"type": "fussy"}},
        params=(Parameter(name="x"),),
    )

    a, b, c = made.tasks
    assert (a.timeout_s, a.effects, a.has_condition, a.pool) == (3.0, Effects.EXTERNAL, True, "p")
    assert not b.has_condition
    assert c.effects is Effects.EXTERNAL


def test_executor_of_the_caller_is_part_of_the_plan(plan):
    made = plan("a", options={"executor": ExecutorKind.THREAD})

    assert made.tasks[0].executor is ExecutorKind.THREAD
    assert made.options == {"executor": "thread"}
    assert made.plan_id != made.fingerprint


@pytest.mark.parametrize("graph", ["a -> b -> c -> a", "a -> b -> a"])
def test_cycles_are_shown_by_name(plan, graph):
    with pytest.raises(CycleError) as caught:
        plan(graph)

    assert caught.value.cycle[0] == caught.value.cycle[-1]
    assert set(caught.value.cycle) == set(graph.replace(" ", "").split("->"))


def test_a_task_that_waits_for_itself_is_refused(plan):
    with pytest.raises((CycleError, WorkflowValidationError), match="a"):
        plan(tasks={"a": {"depends_on": ("a",)}})


def test_a_cycle_of_a_hundred_thousand_is_reported(registry):
    size = 100_000
    tasks = tuple(
        TaskSpec(name=f"t{i}", type="work", depends_on=(f"t{(i + 1) % size}",)) for i in range(size)
    )

    with pytest.raises(CycleError) as caught:
        compile_workflow(WorkflowSpec(name="w", tasks=tasks), registry)

    assert len(caught.value.cycle) == size + 1
    assert len(str(caught.value)) < 300


def test_other_problems_come_with_the_cycle(plan):
    with pytest.raises(WorkflowValidationError) as caught:
        plan("a -> b -> a", tasks={"c": {"type": "no_such_type"}})

    assert len([each for each in caught.value.problems if each.severity == "error"]) == 2


def test_an_empty_workflow_has_an_empty_plan(plan):
    made = plan()

    assert len(made) == 0
    assert made.critical_path == ()
    assert list(made.parent_offsets) == list(made.successor_offsets) == [0]


def test_a_text_without_tasks_is_refused_when_read():
    reading = read_workflow("name: w\ntasks: []\n")

    assert [problem.severity for problem in reading.problems] == ["error"]


def test_a_task_named_twice_as_parent_counts_once(plan):
    made = plan(tasks={"a": {}, "b": {"depends_on": ("a", "a")}})

    assert list(made.in_degrees) == [0, 1]


def shape(tasks):
    return WorkflowSpec(name="w", tasks=tuple(TaskSpec(type="work", **task) for task in tasks))


def test_chain_of_a_hundred_thousand(registry):
    size = 100_000
    spec = shape({"name": f"t{i}", "depends_on": (f"t{i - 1}",) if i else ()} for i in range(size))

    plan = compile_workflow(spec, registry).plan

    assert plan.critical_path == tuple(range(size))
    assert plan.ranks[0] == size


def test_diamond_of_ten_thousand(registry):
    middle = tuple(f"m{i}" for i in range(10_000))
    spec = shape(
        [
            {"name": "end", "depends_on": middle},
            *({"name": name, "depends_on": ("start",)} for name in middle),
            {"name": "start"},
        ]
    )

    plan = compile_workflow(spec, registry).plan

    assert plan.tasks[0].key == "start"
    assert plan.tasks[-1].key == "end"
    assert len(plan.parents) == 20_000
    assert len(plan.critical_path) == 3


def test_all_to_all_of_a_thousand(registry):
    left = tuple(f"a{i}" for i in range(1000))
    spec = shape(
        [{"name": name} for name in left]
        + [{"name": f"b{i}", "depends_on": left} for i in range(1000)]
    )

    plan = compile_workflow(spec, registry).plan

    assert len(plan.parents) == 1_000_000
    assert set(plan.in_degrees) == {0, 1000}


def test_disconnected_tasks_are_all_outputs(plan):
    made = plan("a, b, c -> d")

    assert sorted(keys(made, made.outputs)) == ["a", "b", "d"]


def test_parts_of_a_sub_workflow_can_be_selected(tmp_path, registry):
    (tmp_path / "w.yaml").write_text(
        "name: w\n"
        "tasks:\n"
        "  - {name: load, type: work}\n"
        "  - name: sub\n"
        "    type: workflow\n"
        "    inputs: {raw: load}\n"
        "    priority: 4\n"
        "    config:\n"
        "      tasks:\n"
        "        - {name: one, type: work}\n"
        "        - {name: two, type: work, depends_on: one, config: {x: '${{ params.raw }}'}}\n"
        "  - {name: end, type: work, inputs: {x: sub}}\n"
    )
    spec = read_file(tmp_path / "w.yaml").spec

    def made(**options):
        plan = compile_workflow(spec, registry, **options).plan
        return set(keys(plan)), set(keys(plan, plan.options.get("preloaded", ())))

    inside = {"sub/(enter)", "sub/one", "sub/two", "sub"}
    assert made() == ({"load", "end", *inside}, set())
    assert made(to="sub") == ({"load", *inside}, set())
    assert made(to="sub/one") == ({"load", "sub/(enter)", "sub/one"}, set())
    assert made(only="sub") == ({"load", *inside}, {"load"})
    assert made(from_="sub/two") == (inside | {"end"}, {"sub/(enter)", "sub/one"})
    plan = compile_workflow(spec, registry).plan
    assert {task.key: task.priority for task in plan.tasks}["sub/one"] == 0
    assert plan.ranks[keys(plan).index("sub/one")] > plan.ranks[keys(plan).index("end")]


def test_equal_copies_of_a_pure_sub_workflow_run_once(tmp_path, registry):
    (tmp_path / "part.yaml").write_text(
        "name: part\n"
        "params: {n: {type: integer}}\n"
        "tasks:\n"
        "  - {name: one, type: pure, config: {n: '${{ params.n }}'}}\n"
        "  - {name: two, type: pure, inputs: {x: one}}\n"
    )
    copies = [("a", 1), ("b", 1), ("c", 2)]
    (tmp_path / "w.yaml").write_text(
        "name: w\ntasks:\n"
        + "".join(
            f"  - {{name: {name}, type: workflow, config: {{file: part.yaml, params: {{n: {n}}}}}}}\n"
            for name, n in copies
        )
    )

    plan = compile_workflow(read_file(tmp_path / "w.yaml").spec, registry).plan

    named = keys(plan)
    twins = {named[i]: named[twin] for i, twin in enumerate(plan.twins) if twin >= 0}
    assert twins == {"b/(enter)": "a/(enter)", "b/one": "a/one", "b/two": "a/two", "b": "a"}


def test_validation_reports_the_workflow_and_what_it_includes_at_once(tmp_path, registry):
    (tmp_path / "part.yaml").write_text("name: p\ntasks: [{name: x, type: nonsense}]\n")
    (tmp_path / "w.yaml").write_text(
        "name: w\n"
        "tasks:\n"
        "  - {name: a, type: work, depends_on: zzz}\n"
        "  - {name: b, type: workflow, config: {file: part.yaml}}\n"
        "  - {name: c, type: workflow, config: {file: part.yaml}}\n"
    )
    spec = read_file(tmp_path / "w.yaml").spec

    problems = validate_workflow(spec, registry)

    assert [problem.code for problem in problems] == ["unknown-task", "unknown-task-type"]
    assert problems[1].location.file.endswith("part.yaml")
    with pytest.raises(WorkflowValidationError) as caught:
        compile_workflow(spec, registry)
    assert caught.value.problems == problems


def test_validation_of_a_sound_workflow_finds_nothing(workflow, registry):
    assert validate_workflow(workflow("a -> b"), registry) == ()


def test_cycle_in_an_included_file_is_placed_there(tmp_path, registry):
    (tmp_path / "part.yaml").write_text(
        "name: p\ntasks:\n"
        "  - {name: x, type: work, depends_on: y}\n"
        "  - {name: y, type: work, depends_on: x}\n"
    )
    (tmp_path / "w.yaml").write_text(
        "name: w\ntasks: [{name: b, type: workflow, config: {file: part.yaml}}]\n"
    )

    with pytest.raises(WorkflowValidationError) as caught:
        compile_workflow(read_file(tmp_path / "w.yaml").spec, registry)

    (problem,) = caught.value.problems
    assert problem.code == "cycle"
    assert problem.location.line == 3
