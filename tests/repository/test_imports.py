"""What importing FlowBuilder brings along: as good as nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

HEAVY = ("numpy", "pyarrow", "polars", "pandas", "duckdb", "numba", "dask", "tornado", "ipywidgets", "httpx", "rich",
         "asyncio", "cel", "cel.cel", "sklearn", "IPython")  # fmt: skip
LAYERS_OF_PLANNING = (
    "flowbuilder.definition",
    "flowbuilder.compile",
    "flowbuilder.model",
    "flowbuilder.plugins",
)


def heavy_after(code: str) -> list[str]:
    show = f"import sys; {code}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_import_brings_nothing_heavy():
    assert heavy_after("import flowbuilder") == []


def test_public_names_bring_nothing_heavy():
    assert heavy_after("from flowbuilder import *") == []


@pytest.mark.parametrize("package", LAYERS_OF_PLANNING)
def test_planning_brings_nothing_heavy(package: str):
    assert heavy_after(f"import {package}") == []


def test_every_public_name_can_be_had():
    flowbuilder = importlib.import_module("flowbuilder")

    assert list(flowbuilder.__all__) == sorted(flowbuilder.__all__)
    for name in flowbuilder.__all__:
        assert getattr(flowbuilder, name) is not None
    assert set(flowbuilder.__all__) <= set(dir(flowbuilder))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = flowbuilder.nothing_of_the_kind
