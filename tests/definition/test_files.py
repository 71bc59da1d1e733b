"""Workflow files on disk."""

from __future__ import annotations

import os
import sys

import pytest

from flowbuilder.definition import Limits, read_file
from flowbuilder.errors import WorkflowError

TEXT = "name: x\ntasks: [{name: a, type: t}]\n"


def test_file_is_read_with_its_folder(tmp_path):
    (tmp_path / "a.flow.yaml").write_text(TEXT)

    spec = read_file(tmp_path / "a.flow.yaml").require()
    assert spec.directory == str(tmp_path)
    assert spec.source.file == str(tmp_path / "a.flow.yaml")


def test_file_is_shown_as_given(tmp_path, monkeypatch):
    (tmp_path / "a.flow.yaml").write_text(TEXT + "foo: 1\n")
    monkeypatch.chdir(tmp_path)

    (found,) = read_file("a.flow.yaml").problems
    assert str(found.location) == "a.flow.yaml:3:1"


def test_missing_file_is_named_with_a_near_one(tmp_path):
    (tmp_path / "pipeline.flow.yaml").write_text(TEXT)

    with pytest.raises(
        WorkflowError, match=r"no file .*pipelin\.flow.*did you mean .*pipeline\.flow\.yaml"
    ):
        read_file(tmp_path / "pipelin.flow.yaml")
    with pytest.raises(WorkflowError, match="no folder"):
        read_file(tmp_path / "x" / "y")


def test_folder_is_refused_with_a_file_in_it(tmp_path):
    (tmp_path / "a.flow.yaml").write_text(TEXT)

    with pytest.raises(WorkflowError, match=r"folder .*a\.flow\.yaml"):
        read_file(tmp_path)


def test_path_that_cannot_be_one_is_refused():
    with pytest.raises(WorkflowError, match="cannot be read"):
        read_file("a\0b")


@pytest.mark.skipif(sys.platform == "win32", reason="no FIFOs")
def test_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "p")

    with pytest.raises(WorkflowError, match="pipe"):
        read_file(tmp_path / "p")


def test_large_file_is_not_read_whole(tmp_path):
    with (tmp_path / "big").open("wb") as file:
        file.truncate(1 << 33)

    (found,) = read_file(tmp_path / "big", limits=Limits(max_bytes=1000)).problems
    assert "at most 1,000 bytes" in found.message
