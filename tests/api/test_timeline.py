"""The timeline as text."""

from __future__ import annotations

from flowbuilder.api.task_run import TaskRun, timeline_text


def task(name, state="succeeded", **fields):
    defaults = {
        "type": "python",
        "attempt": 1,
        "started_at": None,
        "duration_s": None,
        "cached": False,
        "reason": "",
        "error": "",
    }
    return TaskRun(name=name, state=state, **{**defaults, **fields})


def ran(name, offset_s, duration_s, **fields):
    started = "2026-01-01T00:00:00+00:00"
    return task(name, started_at=started, offset_s=offset_s, duration_s=duration_s, **fields)


def test_bars_stand_where_tasks_ran():
    first, second, axis = timeline_text([ran("b", 1.0, 1.0), ran("a", 0.0, 1.0)], bar="#").split(
        "\n"
    )

    assert first.startswith("a  │#")
    assert second.index("#") > first.rindex("#")
    assert axis.endswith("2.0s")


def test_task_kept_by_a_resume_says_so():
    text = timeline_text([task("kept"), ran("again", 0.0, 1.0, attempt=2)])

    assert "kept from before" in text
    assert "ok, attempt 2" in text


def test_longest_tasks_are_shown_of_many():
    tasks = [ran(f"t{i}", i, 0.1) for i in range(99)] + [ran("long", 0, 50.0)]
    text = timeline_text(tasks, most=5)

    assert "long" in text
    assert "... and 95 more tasks" in text
