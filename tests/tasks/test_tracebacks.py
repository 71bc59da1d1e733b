"""Tracebacks without our frames."""

from __future__ import annotations

import pytest

from flowbuilder.errors import Location, TaskFailedError
from flowbuilder.tasks.tracebacks import MAX_TRACEBACK_CHARS, user_traceback


def caught(function) -> BaseException:
    with pytest.raises(BaseException) as info:  # noqa: PT011
        function()
    return info.value


def code(text: str, name: str):
    namespace: dict[str, object] = {}
    exec(compile(text, name, "exec"), namespace)
    return namespace["f"]


def test_frames_of_internal_folders_are_left_out(tmp_path):
    inner = code("def f(g): return g()", str(tmp_path / "ours" / "a.py"))
    user = code("def f():\n    return 1 / 0", str(tmp_path / "user.py"))

    text, location = user_traceback(caught(lambda: inner(user)), internal=[str(tmp_path / "ours")])

    assert location == Location(str(tmp_path / "user.py"), 2)
    assert "a.py" not in text
    assert text.startswith("Traceback (most recent call last):\n")
    assert text.endswith("ZeroDivisionError: division by zero\n")


def test_folder_of_a_similar_name_is_not_internal(tmp_path):
    user = code("def f(): return 1 / 0", str(tmp_path / "ours_too" / "a.py"))

    _, location = user_traceback(caught(user), internal=[str(tmp_path / "ours")])

    assert location is not None
    assert "ours_too" in location.file


def test_error_without_user_frames_is_one_line():
    def fail() -> None:
        raise TaskFailedError("the command ended with exit code 3")

    text, location = user_traceback(caught(fail), internal=[__file__.rpartition("/")[0]])

    assert text == "flowbuilder.errors.TaskFailedError: the command ended with exit code 3\n"
    assert location is None


def test_own_location_of_an_error_wins():
    place = Location("flow.yaml", 3, 4)

    assert user_traceback(TaskFailedError("x", location=place))[1] == place


def test_causes_and_notes_are_shown(tmp_path):
    name = str(tmp_path / "u.py")
    user = code(
        "def f():\n    try:\n        {}['a']\n    except KeyError as e:\n"
        "        x = ValueError('outer')\n        x.add_note('a note')\n        raise x from e",
        name,
    )

    text, location = user_traceback(caught(user))

    assert "KeyError: 'a'" in text
    assert "direct cause" in text
    assert "a note" in text
    assert location == Location(name, 7)


def test_groups_are_shown(tmp_path):
    user = code(
        "def f(): raise ExceptionGroup('many', [ValueError(1), TypeError(2)])",
        str(tmp_path / "u.py"),
    )

    text, _ = user_traceback(caught(user))

    assert "ValueError: 1" in text
    assert "TypeError: 2" in text


def test_deep_recursion_is_bounded(tmp_path):
    user = code("def f(n=0):\n    return f(n + 1)", str(tmp_path / "u.py"))

    text, location = user_traceback(caught(user))

    assert "RecursionError" in text
    assert len(text) < 10_000
    assert location is not None


def test_long_message_is_cut_in_the_middle():
    text, _ = user_traceback(ValueError("start" + "x" * 10_000_000 + "end"))

    assert len(text) < MAX_TRACEBACK_CHARS + 100
    assert "start" in text
    assert text.endswith("end\n")


def test_circular_causes_end():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first

    assert "first" in user_traceback(first)[0]


def test_error_that_cannot_be_shown_is_still_reported():
    class Rude(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "Rude" in user_traceback(Rude())[0]
