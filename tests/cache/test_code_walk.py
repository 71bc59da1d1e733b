"""What of a function's surroundings decides its fingerprint, and what does not."""

from __future__ import annotations

import functools
import importlib
import sys
import threading

import pytest

from flowbuilder.cache.code_walk import NotYetKnownError
from flowbuilder.cache.parts import UncacheableError
from tests.cache.fingerprints import changes, fingerprint, of_call

BASE = """
    LIMIT = 3

    def helper(x):
        return x + LIMIT

    def clean(rows, factor=2):
        total = 0
        for row in rows:
            total += helper(row) * factor
        return total
"""


def edited(write_module, *pairs, base=BASE):
    text = base
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    before = of_call(write_module(base).clean, rows=[1])
    return changes(before, of_call(write_module(text).clean, rows=[1]))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    def clean", "    # a remark\n\n\n    def clean"),
        ("total = 0", '"""What it does."""\n        total = 0'),
        ("total = 0", "total = (\n            0  # none yet\n        )"),
        ("helper(row) * factor", "(helper( row )) * (factor)"),
        ("x + LIMIT", "(\n            x\n            + LIMIT\n        )"),
        ("    LIMIT = 3", "    UNUSED = 4\n    LIMIT = 3"),
        ("    def helper", "    def unused():\n        return 1\n\n    def helper"),
        ("factor=2):", "factor = 2 ,):"),
    ],
)
def test_comments_formatting_docstrings_and_unused_names_do_not_count(write_module, old, new):
    assert edited(write_module, (old, new)) == ""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("total = 0", "total = 1", "code of `clean` changed at line 8"),
        ("* factor", "- factor", "code of `clean` changed at line 10"),
        ("        return total", "        return -total", "code of `clean` changed at line 11"),
        ("x + LIMIT", "x - LIMIT", "code of `helper` changed at line 5"),
        ("LIMIT = 3", "LIMIT = 4", "global `LIMIT` changed 3 -> 4"),
        ("LIMIT = 3", "LIMIT = 3.0", "global `LIMIT` changed 3 -> 3.0"),
        ("factor=2", "factor=5", "default value `clean.factor` changed 2 -> 5"),
    ],
)
def test_what_decides_the_output_counts_and_is_named(write_module, old, new, words):
    assert edited(write_module, (old, new)) == words


def test_code_in_other_modules_of_the_project_is_followed(write_module):
    write_module(
        "RATE = 2\ndef scale(x):\n    return x * RATE\n", "tools.units", then="tools.units"
    )
    text = "from tools import units\n\ndef clean(x):\n    return units.scale(x)\n"
    before = of_call(write_module(text).clean, x=1)

    after = []
    for edit in (
        "RATE = 3\ndef scale(x):\n    return x * RATE\n",
        "RATE = 2\ndef scale(x):\n    return x / RATE\n",
        "RATE = 2\ndef other():\n    pass\ndef scale(x):\n    return x * RATE\n",
    ):
        write_module(edit, "tools.units", then="tools.units")
        after.append(changes(before, of_call(write_module(text).clean, x=1)))

    assert after == ["global `RATE` changed 2 -> 3", "code of `scale` changed at line 3", ""]


@pytest.mark.parametrize(
    "line",
    [
        "from tools.units import scale",
        "import tools.units as units; scale = units.scale",
        "from tools import units; scale = units.scale",
        "from tools.units import *",
        "import tools.units; scale = getattr(tools.units, 'sca' + 'le')",
    ],
)
def test_imports_inside_functions_are_followed(write_module, line):
    if "*" in line:
        text = f"{line}\n\ndef clean(x):\n    return scale(x)\n"
    else:
        text = f"def clean(x):\n    {line}\n    return scale(x)\n"
    write_module("def scale(x):\n    return x * 2\n", "tools.units", then="tools.units")
    before = of_call(write_module(text).clean, x=1)

    write_module("def scale(x):\n    return x * 3\n", "tools.units", then="tools.units")
    after = of_call(write_module(text).clean, x=1)

    assert changes(before, after) == "code of `scale` changed at line 2"


def test_relative_imports_are_followed(write_module, place):
    write_module("", "tools.__init__", then="tools")
    write_module("def scale(x):\n    return x * 2\n", "tools.units", then="tools.units")
    text = "def clean(x):\n    from .units import scale\n    return scale(x)\n"
    before = of_call(write_module(text, "tools.work", then="tools.work").clean, x=1)

    write_module("def scale(x):\n    return x * 3\n", "tools.units", then="tools.units")
    after = of_call(write_module(text, "tools.work", then="tools.work").clean, x=1)

    assert changes(before, after) == "code of `scale` changed at line 2"


def test_classes_count_with_their_methods_attributes_and_bases(write_module):
    base = """
        class Base:
            def size(self):
                return 1

        class Model(Base):
            RATE = 2

            def run(self, x):
                return x * self.RATE * self.size()

        def clean(x):
            return Model().run(x)
    """
    for old, new, words in [
        ("RATE = 2", "RATE = 3", "`Model.RATE` changed 2 -> 3"),
        ("return 1", "return 2", "code of `Base.size` changed at line 4"),
        ("x * self.RATE", "x + self.RATE", "code of `Model.run` changed at line 10"),
    ]:
        assert edited(write_module, (old, new), base=base) == words


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x: int = 1", "x: int = 2"),
        ("RED = 1", "RED = 5"),
        ("return self.x", "return -self.x"),
        ("return len", "return 1 + len"),
        ("cached(3)", "cached(4)"),
        ("lambda a: a + 1", "lambda a: a + 2"),
        ("partial(int, base=2)", "partial(int, base=3)"),
    ],
)
def test_dataclasses_enums_properties_caches_and_callables_count(write_module, old, new):
    base = """
        import dataclasses, enum, functools

        @dataclasses.dataclass
        class Point:
            x: int = 1

            @property
            def left(self):
                return self.x

        class Colour(enum.Enum):
            RED = 1

        @functools.lru_cache(None)
        def cached(n):
            return len("abc") * n

        FUNCTIONS = {"next": lambda a: a + 1, "read": functools.partial(int, base=2)}

        def clean(x):
            return Point().left, Colour.RED, cached(3), FUNCTIONS
    """
    assert edited(write_module, (old, new), base=base) != ""


def test_closures_and_decorators_count(write_module):
    base = """
        import functools

        def times(n):
            def decorate(function):
                @functools.wraps(function)
                def wrapper(*args):
                    return function(*args) * n
                return wrapper
            return decorate

        @times(2)
        def clean(x):
            return x + 1
    """
    assert "`" in edited(write_module, ("@times(2)", "@times(3)"), base=base)
    assert "at line 14" in edited(write_module, ("x + 1", "x + 2"), base=base)
    assert "at line 8" in edited(write_module, ("* n", "+ n"), base=base)
    assert edited(write_module, ("import functools", "import functools  # wraps"), base=base) == ""


def test_settings_of_a_task_are_not_its_code(write_module):
    base = """
        import flowbuilder as fb

        @fb.task(retries=1)
        def clean(x):
            return x
    """
    assert edited(write_module, ("retries=1", "retries=2"), base=base) == ""
    assert edited(write_module, ("return x", "return -x"), base=base) != ""


def test_running_code_counts_not_a_file_that_was_changed_since(write_module, place):
    module = write_module("def clean(x):\n    return x + 1\n")
    (place / "pipeline.py").write_text("def clean(x):\n    return x + 2\n")
    stale = of_call(module.clean, x=1)
    fresh = of_call(write_module("def clean(x):\n    return x + 2\n").clean, x=1)

    assert stale.key != fresh.key


def test_code_without_a_text_counts_by_its_instructions():
    def make(text):
        space: dict[str, object] = {"__name__": "made_up"}
        exec(text, space)
        return space["clean"]

    before = of_call(make("def clean(x):\n    return x + 1"), x=1)

    same = make("\n\ndef clean(x):\n    'said'\n    # remark\n    return (x +\n 1)")
    assert changes(before, of_call(same, x=1)) == ""
    other = make("def clean(x):\n    return x + 2")
    assert changes(before, of_call(other, x=1)) == "code of `clean` changed at line 2"


def test_two_functions_that_swap_places_are_seen(write_module):
    base = """
        TABLE = {"a": lambda x: x + 1, "b": lambda x: x + 2}

        def clean(x):
            return TABLE["a"](x)
    """
    swapped = ('x + 1, "b": lambda x: x + 2', 'x + 2, "b": lambda x: x + 1')
    assert edited(write_module, swapped, base=base) != ""


def test_recursive_functions_and_modules_come_to_an_end(write_module):
    base = """
        import sys
        this = sys.modules[__name__]

        def even(n):
            return n == 0 or clean(n - 1)

        def clean(n):
            return n != 0 and even(n - 1) and this
    """
    assert edited(write_module, ("n == 0", "n == 1"), base=base) != ""


def test_libraries_count_by_their_version(write_module, monkeypatch):
    from flowbuilder.cache import fingerprinting

    text = "import numpy as np\n\ndef clean(x):\n    return np.sum(x)\n"
    before = of_call(write_module(text).clean, x=1)
    assert "numpy" in {part.name for part in before.parts if part.kind == "library"}

    monkeypatch.setattr(fingerprinting, "library_version", lambda _name: "99.0")
    assert "the version of `numpy` changed" in changes(
        before, of_call(write_module(text).clean, x=1)
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("THING = open(__file__)", "global `pipeline.THING` is a _io.TextIOWrapper"),
        ("THING = iter([1])", "global `pipeline.THING`"),
        ("import socket; THING = socket.socket()", "is a socket.socket"),
        ("THING = []; THING.append(THING)", "global `pipeline.THING` contains itself"),
    ],
)
def test_what_cannot_be_compared_is_a_reason(write_module, line, words):
    module = write_module(f"{line}\n\ndef clean(x):\n    return THING\n")

    with pytest.raises(UncacheableError) as caught:
        of_call(module.clean, x=1)

    assert words in caught.value.reason
    if hasattr(module.THING, "close"):
        module.THING.close()


def test_locks_and_loggers_do_not_count(write_module):
    module = write_module(
        "import logging, threading\nLOG = logging.getLogger('x')\nLOCK = threading.Lock()\n"
        "def clean(x):\n    with LOCK:\n        LOG.info('x')\n    return x\n"
    )

    assert of_call(module.clean, x=1).key == of_call(module.clean, x=1).key


def test_code_that_evaluates_text_depends_on_its_whole_module(write_module):
    base = "LIMIT = 3\n\ndef clean(x):\n    return eval('LIMIT')\n"

    assert edited(write_module, ("LIMIT = 3", "LIMIT = 4"), base=base) == (
        "global `LIMIT` changed 3 -> 4"
    )


def test_scripts_count_without_comments_and_with_what_they_import(write_module):
    script = "import pipeline\nresult = pipeline.scale(x)\n"
    write_module("def scale(x):\n    return x * 2\n")
    before = fingerprint(script=script)

    commented = fingerprint(script="# twice\nimport pipeline\n\nresult = pipeline.scale( x )\n")
    assert changes(before, commented) == ""
    assert changes(before, fingerprint(script=script + "\nresult += 1")) == (
        "the script changed at line 4"
    )
    write_module("def scale(x):\n    return x * 3\n")
    assert changes(before, fingerprint(script=script)) == "code of `scale` changed at line 2"


def test_nothing_is_imported_where_that_is_forbidden(write_module, place):
    (place / "effects.py").write_text("open('touched', 'w').close()\n")

    with pytest.raises(NotYetKnownError):
        fingerprint(script="import effects", may_import=False)

    assert not (place / "touched").exists()


def test_methods_of_objects_count_with_the_object(write_module):
    module = write_module(
        "class Model:\n    def __init__(self, rate):\n        self.rate = rate\n"
        "    def run(self, x):\n        return x * self.rate\n"
    )

    first = of_call(module.Model(1).run, x=1)
    assert first.key == of_call(module.Model(1).run, x=1).key
    assert first.key != of_call(module.Model(2).run, x=1).key
    assert first.key != of_call(functools.partial(module.Model(1).run, 3), x=1).key


def test_a_module_another_thread_is_importing_is_waited_for(write_module, place):
    write_module("", "gate")
    module = sys.modules["gate"]
    module.begun, module.go_on = threading.Event(), threading.Event()
    (place / "slow.py").write_text(
        "import gate\ngate.begun.set()\ngate.go_on.wait(20)\ndef scale(x):\n    return x * 2\n"
    )
    importer = threading.Thread(target=importlib.import_module, args=("slow",))
    importer.start()
    assert module.begun.wait(20)
    releaser = threading.Timer(0.05, module.go_on.set)
    releaser.start()

    during = fingerprint(script="from slow import scale\nresult = scale(1)")
    importer.join()
    releaser.join()

    assert during.key == fingerprint(script="from slow import scale\nresult = scale(1)").key
    assert "slow:scale" in {part.name for part in during.parts if part.kind == "code"}
