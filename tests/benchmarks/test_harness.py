"""The harness: definitions, statistics, one real sample, verdicts and the page they are written to."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.definition import (
    Benchmark,
    Column,
    DefinitionError,
    Entrant,
    Expectation,
    load_benchmarks,
)
from benchmarks.judgement import judge
from benchmarks.measurement import Measured, SampleError, measure, take_sample
from benchmarks.memory import anonymous_bytes
from benchmarks.report import README, render, splice
from benchmarks.statistics import percentile, ratios, summarise


def benchmark(**changes: object) -> Benchmark:
    settings: dict[str, object] = {
        "name": "tiny",
        "title": "Tiny",
        "question": "How much?",
        "analysis": "Read it so.",
        "workload": "graph",
        "mode": "in-process",
        "floor": "bare loop",
        "columns": (Column(metric="per_task_ns", title="us/task", scale=1e-3),),
        "entrants": (
            Entrant(label="bare loop", subject="loop"),
            Entrant(label="again", subject="loop"),
        ),
        "expectations": (
            Expectation(entrant="again", metric="per_task_ns", versus="bare loop", at_most=2.0),
        ),
        "params": {"shape": "chain", "tasks": 50},
        "variants": {"": {}},
        "rounds": 2,
    }
    return Benchmark(**{**settings, **changes})


def measured(**samples: list[float]) -> Measured:
    by_entrant = {name.replace("_", " "): {"per_task_ns": v} for name, v in samples.items()}
    return Measured("tiny", 2, is_quick=False, samples={"": by_entrant})


def test_percentile_is_nearest_rank():
    values = list(range(1, 101))

    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1.0) == 100
    assert percentile([7.0], 0.5) == 7.0


def test_summary_is_robust_to_one_outlier():
    summary = summarise([1.0, 1.2, 0.9, 1.1, 50.0])

    assert (summary.median, summary.minimum, summary.n) == (1.1, 0.9, 5)
    assert summary.mad < 0.3


def test_summary_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one value"):
        summarise([])


def test_ratios_pair_the_samples_of_a_round():
    assert ratios([2.0, 40.0], [1.0, 10.0]) == [2.0, 4.0]


def test_every_definition_is_complete_and_has_its_place_in_the_readme():
    page = README.read_text(encoding="utf-8")

    for definition in load_benchmarks():
        assert definition.expectations, f"{definition.name} expects nothing"
        assert definition.question.endswith("?")
        splice(page, definition.name, "command", "body")


def test_definition_with_an_unknown_entrant_is_refused(tmp_path: Path):
    source = next(iter(sorted((README.parent / "definitions").glob("*.toml")))).read_text()
    (tmp_path / "bad.toml").write_text(source.replace('entrant = "hamilton"', 'entrant = "nobody"'))

    with pytest.raises(DefinitionError, match=r"bad\.toml: no entrant is called 'nobody'"):
        load_benchmarks(tmp_path)


def test_definition_with_an_unknown_field_is_refused(tmp_path: Path):
    source = next(iter(sorted((README.parent / "definitions").glob("*.toml")))).read_text()
    (tmp_path / "bad.toml").write_text('colour = "red"\n' + source)

    with pytest.raises(DefinitionError, match="colour"):
        load_benchmarks(tmp_path)


def test_the_more_particular_parameter_wins():
    definition = benchmark(
        params={"tasks": 1, "width": 1, "repeat": 1},
        quick={"tasks": 5, "width": 5, "repeat": 5},
        variants={"wide": {"width": 9}},
        entrants=(
            Entrant(label="bare loop", subject="loop", params={"tasks": 3}),
            Entrant(label="again", subject="loop", quick={"width": 7}),
        ),
        expectations=(),
    )
    loop, again = definition.entrants

    def found(entrant: Entrant, *, is_quick: bool) -> tuple[object, ...]:
        merged = definition.parameters(entrant, "wide", is_quick=is_quick)
        return merged["tasks"], merged["width"], merged["repeat"]

    assert found(loop, is_quick=False) == (3, 9, 1)
    assert found(loop, is_quick=True) == (3, 9, 5)
    assert found(again, is_quick=True) == (5, 7, 5)


def test_measure_takes_every_round_in_processes_of_their_own():
    lines: list[str] = []

    found = measure(benchmark(), is_quick=False, report=lines.append)

    samples = found.samples[""]
    assert {name: len(metrics["per_task_ns"]) for name, metrics in samples.items()} == {
        "bare loop": 2,
        "again": 2,
    }
    assert all(value > 0 for metrics in samples.values() for value in metrics["per_task_ns"])
    assert lines == ["tiny round 1/2", "tiny round 2/2"]


def test_measure_leaves_out_an_entrant_that_fails_and_says_why():
    definition = benchmark(
        entrants=(
            Entrant(label="bare loop", subject="loop"),
            Entrant(label="again", subject="loop", params={"shape": "circle"}),
        ),
        rounds=1,
    )

    found = measure(definition, is_quick=False)

    assert "again" not in found.samples[""]
    assert "found 'circle'" in found.failures["again"]
    [verdict] = judge(definition, found)
    assert (verdict.word, verdict.is_tolerated) == ("not measured", False)
    assert "found 'circle'" in verdict.reason


def test_sample_that_takes_too_long_is_stopped():
    definition = benchmark(params={"shape": "chain", "tasks": 10**7}, timeout_s=0.2)

    with pytest.raises(SampleError, match="longer than"):
        take_sample(definition, definition.entrants[0], "", is_quick=False)


@pytest.mark.parametrize(
    ("again", "word", "is_tolerated"),
    [(1.9, "met", True), (2.2, "within tolerance", True), (2.4, "missed", False)],
)
def test_verdict_follows_bound_and_tolerance(again: float, word: str, is_tolerated: bool):
    found = measured(bare_loop=[100.0, 200.0], again=[100 * again, 200 * again])

    [verdict] = judge(benchmark(), found)

    assert (verdict.word, verdict.is_tolerated) == (word, is_tolerated)
    assert verdict.wanted == "again: per_task_ns <= 2 x bare loop"


def test_verdict_at_least_turns_the_comparison_round():
    expectation = Expectation(
        entrant="again", metric="per_task_ns", versus="bare loop", at_least=10.0
    )
    definition = benchmark(expectations=(expectation,))

    assert judge(definition, measured(bare_loop=[1.0], again=[12.0]))[0].word == "met"
    assert judge(definition, measured(bare_loop=[1.0], again=[9.0]))[0].word == "within tolerance"
    assert judge(definition, measured(bare_loop=[1.0], again=[2.0]))[0].word == "missed"


def test_report_shows_medians_ratio_and_verdict():
    text = render(benchmark(), measured(bare_loop=[1000.0, 3000.0], again=[1500.0, 4500.0]))

    assert "| bare loop | 2 | 1 | 1 | 1 | 2 |" in text
    assert "| again | 3 | 1.5 | 1.5 | 1.5 | 2 |" in text
    assert "- met: again: per_task_ns <= 2 x bare loop; found 1.5" in text


def test_report_marks_what_is_missed():
    text = render(benchmark(), measured(bare_loop=[1.0], again=[9.0]))

    assert "- **missed**: again" in text


def test_splice_replaces_only_its_own_section():
    page = "a\n<!-- results: x -->\nold\n<!-- end: x -->\nb\n<!-- results: y -->\n<!-- end: y -->\n"

    new = splice(page, "x", "the command", r"table \1")

    assert new.startswith("a\n<!-- results: x -->\n```\nthe command\n```\n\ntable \\1\n<!-- end: x")
    assert new.endswith("b\n<!-- results: y -->\n<!-- end: y -->\n")
    assert splice(new, "x", "the command", r"table \1") == new


def test_splice_without_markers_is_an_error():
    with pytest.raises(ValueError, match="results: z"):
        splice("text", "z", "command", "body")


def test_anonymous_memory_is_read_where_the_system_tells():
    before = anonymous_bytes()
    if before == 0:
        pytest.skip("this system does not tell")
    # Pages of its own, because memory the process holds already would not show.
    block = mmap.mmap(-1, 20_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block[:] = bytes([1]) * 20_000_000

    assert anonymous_bytes() - before > 15_000_000
    block.close()
    assert anonymous_bytes(2**22 + 1) == 0


def test_command_names_unknown_benchmarks(capsys: pytest.CaptureFixture[str]):
    assert main(["run", "--only", "nothing"]) == 2
    assert "noop-tasks" in capsys.readouterr().err


def test_command_lists_the_questions():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "list"],
        cwd=README.parents[1],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.count("?") >= 6
