"""Where fields stand."""

from __future__ import annotations

import pickle

import pytest

from flowbuilder.definition.places import YamlSource

TEXT = """\
name: x
tasks:
  - name: a
    type: script
    config:
      code: |
        import os

          indented
        last
      folded: >
        one
        two
      "quoted": "a
        b"
      bare:
    depends_on: [p, q]
    <<: &m {when: yes, env: {A: 1.10}}
  - {name: b, type: t, <<: *m, config: &c {k: v}}
  - name: c
    config: *c
    note: |2-
        two more
      x
"""


@pytest.fixture
def source():
    return YamlSource("f.yaml", TEXT)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ((), "1:1"),
        (("name",), "1:7"),
        (("tasks",), "2:1"),
        (("tasks", 0), "3:5"),
        (("tasks", 0, "type"), "4:11"),
        (("tasks", 0, "config"), "5:5"),
        (("tasks", 0, "config", "code"), "6:13"),
        (("tasks", 0, "config", "bare"), "16:7"),
        (("tasks", 0, "depends_on", 1), "17:21"),
        (("tasks", 0, "when"), "18:19"),
        (("tasks", 1, "name"), "19:12"),
        (("tasks", 1, "env", "A"), "18:33"),
        (("tasks", 2, "config", "k"), "19:47"),
        (("tasks", 1, "missing", "deeper"), "19:5"),
        (("tasks", 9, "name"), "2:1"),
        (("nothing",), "1:1"),
    ],
)
def test_field_is_found_or_the_nearest_one_around_it(source, path, place):
    assert str(source.locate(path)) == f"f.yaml:{place}"


def test_key_is_found(source):
    assert str(source.locate_key(("tasks", 0, "type"))) == "f.yaml:4:5"
    assert str(source.locate_key(("tasks", 0, "depends_on", 0))) == "f.yaml:17:18"


@pytest.mark.parametrize(
    ("path", "line", "place"),
    [
        (("tasks", 0, "config", "code"), 1, "7:9"),
        (("tasks", 0, "config", "code"), 2, "8:1"),
        (("tasks", 0, "config", "code"), 3, "9:9"),
        (("tasks", 0, "config", "code"), 4, "10:9"),
        (("tasks", 0, "config", "folded"), 2, "11:15"),
        (("tasks", 0, "config", "quoted"), 1, "14:17"),
        (("tasks", 2, "note"), 1, "23:7"),
        (("tasks", 2, "note"), 2, "24:7"),
    ],
)
def test_line_of_a_block_is_its_real_line(source, path, line, place):
    assert str(source.locate_line(path, line)) == f"f.yaml:{place}"


def test_line_of_a_block_is_right_with_windows_line_ends():
    source = YamlSource("f.yaml", TEXT.replace("\n", "\r\n"))

    assert str(source.locate_line(("tasks", 0, "config", "code"), 4)) == "f.yaml:10:9"


def test_number_is_given_as_written(source):
    assert source.written(("tasks", 0, "env", "A")) == "1.10"


def test_source_equals_any_other_and_pickles(source):
    copy = pickle.loads(pickle.dumps(source))

    assert copy == source == YamlSource("other", "a: 1")
    assert source == None  # noqa: E711
    assert source != "text"
    assert copy.locate(("name",)) == source.locate(("name",))
