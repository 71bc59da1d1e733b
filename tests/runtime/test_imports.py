"""What a run imports: nothing heavy that none of its tasks uses."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

HEAVY = {"numpy", "numba", "pyarrow", "polars", "pandas", "duckdb", "llvmlite", "scipy"}

SHELL = """
name: shell-only
tasks:
  - name: one
    type: shell
    config: {command: "echo one"}
  - name: two
    type: shell
    depends_on: [one]
    config: {command: "echo two"}
    timeout: 20
    retry: {max_attempts: 2}
"""
SCRIPT = """
name: script-only
tasks:
  - name: one
    type: script
    config:
      language: python
      code: |
        print("one")
        result = {"n": 1}
  - name: two
    type: script
    inputs: {n: one.n}
    config: {language: python, code: "result = inputs['n'] + 1"}
  - name: three
    type: script
    depends_on: [two]
    config: {language: bash, code: "echo three"}
"""
HTTP = """
name: http-only
tasks:
  - name: fetch
    type: http
    config: {url: "URL"}
  - name: use
    type: script
    inputs: {body: fetch}
    config: {language: python, code: "result = len(str(inputs['body']))"}
"""
SLEEP = """
name: sleep-only
tasks:
  - name: nap
    type: sleep
    config: {duration: 0.01}
"""

RUN = """
import json, sys
import flowbuilder as fb
fb.configure(data_dir=sys.argv[2])
run = getattr(fb.load(sys.argv[1]), sys.argv[3])()
assert run.wait(30)
print(json.dumps([str(run.state), sorted(sys.modules)]))
"""


def imported(text, tmp_path, way="run"):
    """Run a workflow in a process of its own; give the top-level modules it imported."""
    flow = tmp_path / "flow.flow.yaml"
    flow.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(flow), str(tmp_path / "store"), way],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    state, modules = json.loads(done.stdout.splitlines()[-1])
    assert state == "succeeded"
    return {name.partition(".")[0] for name in modules}


@pytest.fixture
def url():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"a": 1}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Be quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/data.json"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("way", ["run", "start"])
@pytest.mark.parametrize("text", [SHELL, SCRIPT, SLEEP], ids=["shell", "script", "sleep"])
def test_runs_of_shell_and_script_import_nothing_heavy_and_no_loop(text, way, tmp_path):
    modules = imported(text, tmp_path, way)

    assert not modules & (HEAVY | {"asyncio", "httpx", "rich", "cel", "multiprocessing"})


def test_http_imports_no_numbers(url, tmp_path):
    modules = imported(HTTP.replace("URL", url), tmp_path)

    assert not modules & (HEAVY | {"cel"})
    assert "asyncio" in modules
