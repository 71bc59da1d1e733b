"""The command line in this process or in another one, in a folder of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowbuilder.api.container import close_containers
from flowbuilder.cli.main import main


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory, a home and a runtime folder that nobody else uses."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FLOWBUILDER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    # Socket paths have room for about 100 characters.
    sockets = tempfile.mkdtemp(prefix="fb-")
    monkeypatch.setenv("FLOWBUILDER_RUNTIME_DIR", sockets)
    (tmp_path / ".flowbuilder").mkdir()
    yield tmp_path
    close_containers()
    shutil.rmtree(sockets, ignore_errors=True)


@pytest.fixture
def cli(capfd, monkeypatch):
    """Call the command line in this process: ``cli("run", "a.flow.yaml")``."""

    def call(*arguments):
        capfd.readouterr()
        kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        try:
            code = main([str(argument) for argument in arguments])
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return call


@pytest.fixture
def flow(tmp_path):
    """Write a workflow file: ``flow("name: x ...")``."""

    def write(text, name="a.flow.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


@pytest.fixture
def spawn():
    """Start the command line as a process; it is killed at the end of the test if it still lives."""
    started = []

    def start(*arguments, **options):
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        } | options
        process = subprocess.Popen(
            [sys.executable, "-m", "flowbuilder", *map(str, arguments)], text=True, **options
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def wait_for():
    """Wait until a file has text in it, or a condition holds; no clock is asked more often than needed."""
    import threading

    def wait(condition, *, for_s=20.0):
        pause = threading.Event()
        for _ in range(int(for_s / 0.02)):
            found = (
                condition.read_text()
                if isinstance(condition, Path) and condition.exists()
                else None
            )
            if found or (callable(condition) and condition()):
                return found
            pause.wait(0.02)
        raise AssertionError(f"{condition} did not come true within {for_s:g} s")

    return wait
