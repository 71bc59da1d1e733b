"""A folder, a home and a store of its own for every test."""

import os
import shutil
import tempfile

import pytest

from flowbuilder.api.container import close_containers, session_settings


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FLOWBUILDER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    sockets = tempfile.mkdtemp(prefix="fb-")
    monkeypatch.setenv("FLOWBUILDER_RUNTIME_DIR", sockets)
    (tmp_path / ".flowbuilder").mkdir()
    yield tmp_path
    close_containers()
    session_settings.clear()
    shutil.rmtree(sockets, ignore_errors=True)
