"""The compiled half of the CEL package, alone or beside the whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

USE = "from flowbuilder.expressions.cel_library import cel_library; ours = cel_library()"
WHOLE = "import cel"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_library_brings_no_command_line():
    shown = "print(ours.compile('1 + 2').execute({}), *sys.modules)"

    value, *modules = run(f"import sys; {USE}; {shown}").stdout.split()

    assert value == "3"
    assert "cel.cel" in modules
    assert not {"typer", "prompt_toolkit", "pygments", "rich", "cel"} & set(modules)


@pytest.mark.parametrize("order", [(USE, WHOLE), (WHOLE, USE)], ids=["before", "after"])
def test_library_and_package_are_one(order):
    done = run("; ".join([*order, "print(cel.compile is ours.compile, cel.evaluate('1 + 1'))"]))

    assert done.stdout.split() == ["True", "2"]


def test_threads_get_one_library():
    code = """
import threading
from flowbuilder.expressions.cel_library import cel_library
found, start = [], threading.Barrier(8)
def work():
    start.wait()
    found.append(cel_library())
threads = [threading.Thread(target=work) for _ in range(8)]
[each.start() for each in threads]
[each.join() for each in threads]
print(len(found), len(set(map(id, found))))
"""

    assert run(code).stdout.split() == ["8", "1"]


def test_missing_package_is_reported_as_missing():
    code = f"""
import sys
sys.modules["cel"] = None
try:
    {USE}
except ModuleNotFoundError as error:
    print(error.name)
"""

    assert run(code).stdout.strip() == "cel"
