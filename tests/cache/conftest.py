from __future__ import annotations

import importlib
import linecache
import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from flowbuilder.api.container import close_containers, session_settings


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder, a home and a store of its own."""
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


def forget_modules(folder: Path) -> None:
    for name, module in list(sys.modules.items()):
        places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
        if any(place.startswith(str(folder)) for place in places):
            del sys.modules[name]
    importlib.invalidate_caches()
    linecache.clearcache()


@pytest.fixture
def write_module(place, monkeypatch) -> Iterator[Callable[..., ModuleType]]:
    """Write a module of the project and import it as a new process would."""
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str, name: str = "pipeline", *, then: str = "") -> ModuleType:
        path = Path(place, *name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        forget_modules(place)
        return importlib.import_module(then or name)

    yield write
    forget_modules(place)
