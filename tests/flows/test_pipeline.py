"""The three-task example: as its design wrote it, and corrected."""

import asyncio
import functools
import http.server
import json
import threading
from pathlib import Path

import pytest

from flowbuilder.definition import read_file
from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.tasks import default_registry

ORIGINAL = Path(__file__).with_name("pipeline-original.flow.yaml")
FOLDER = Path(__file__).parents[2] / "notebooks" / "flows"


def make_call(task, directory, **call):
    config = dict(task.config)
    return TaskCall(
        **{
            "name": task.name,
            "key": task.name,
            "run_id": "r",
            "attempt": 1,
            "config": config,
            "directory": directory,
            **call,
        }
    )


@pytest.fixture
def url():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=FOLDER)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/data.json"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "path", [ORIGINAL, FOLDER / "pipeline.flow.yaml"], ids=["original", "corrected"]
)
def test_pipeline_is_a_valid_workflow(path):
    reading = read_file(path)

    assert [str(problem) for problem in reading.problems] == []
    assert [task.type for task in reading.spec.tasks] == ["http", "script", "shell"]


def test_original_script_names_what_it_forgot_to_import(tmp_path):
    task = read_file(ORIGINAL).spec.tasks[1]
    call = make_call(task, tmp_path, input_data=lambda: "[1, 2]", upstream={"fetch_data": "[1, 2]"})

    with pytest.raises(Exception, match="name 'datetime' is not defined"):
        default_registry().find("script").run(call)


def test_corrected_pipeline_fetches_and_counts(url, tmp_path):
    fetch, process, notify = read_file(FOLDER / "pipeline.flow.yaml").spec.tasks
    registry = default_registry()
    http_type = registry.find("http")

    fetched = asyncio.run(
        http_type.run_async(make_call(fetch, tmp_path, config={**fetch.config, "url": url}))
    )
    text = http_type.as_input_data(fetched)
    result = registry.find("script").run(make_call(process, tmp_path, input_data=lambda: text))
    said = registry.find("shell").run(make_call(notify, tmp_path))

    assert result == {"count": len(json.loads((FOLDER / "data.json").read_text()))}
    assert said.strip() == "done"
