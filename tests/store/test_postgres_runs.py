"""Whole workflows with their journal on PostgreSQL and their outputs in a bucket: two machines, one store."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = "import sys; from flowbuilder.cli.main import main; sys.exit(main())"

FLOW = """
name: shared
tasks:
  - name: numbers
    type: script
    persist: always
    config: {language: python, code: "result = list(range(5000))"}
  - name: total
    type: script
    depends_on: [numbers]
    inputs: {numbers: numbers}
    config:
      language: python
      code: |
        from pathlib import Path
        if not Path("ready").exists():
            raise RuntimeError("not ready")
        result = sum(inputs["numbers"])
"""


@pytest.fixture
def machine(tmp_path, postgres_server, object_url, object_variables):
    """Run the command line as on a machine of its own: other folders, same user's key."""
    url = postgres_server.url(schema=f"t_{os.urandom(6).hex()}")

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "shared.flow.yaml").write_text(FLOW)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("FLOWBUILDER_")},
            **object_variables,
            "FLOWBUILDER_ARTIFACTS": object_url,
            "FLOWBUILDER_DATA_DIR": str(folder / "store"),
            "FLOWBUILDER_HOME": str(tmp_path / "home"),
            "FLOWBUILDER_JOURNAL": url,
        }
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_run_that_failed_on_one_machine_is_resumed_on_another(machine, tmp_path):
    assert machine("one", "runs", "list").stdout.startswith("no runs")
    failed = machine("one", "run", "shared.flow.yaml")
    assert failed.returncode == 1, failed.stderr
    assert "not ready" in failed.stdout + failed.stderr
    assert not (tmp_path / "one" / "store" / "journal.db").exists()

    listed = machine("two", "runs", "list")
    assert "shared" in listed.stdout, listed.stderr
    (tmp_path / "two" / "ready").touch()
    resumed = machine("two", "run", "--resume", "latest")

    assert resumed.returncode == 0, resumed.stderr
    shown = machine("one", "runs", "show", "latest")
    assert "succeeded" in shown.stdout
    lines = machine("one", "runs", "events", "latest").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    finished = [e["task"] for e in events if e["kind"] == "attempt_finished"]
    assert sorted(finished) == ["numbers", "total", "total"], "what was settled did not run again"
    assert {e["path"] for e in events if e["kind"] == "artifact"}
    doctor = machine("one", "doctor")
    assert "postgresql://tester@" in doctor.stdout, doctor.stderr
