"""The list of trusted directories."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from flowbuilder.errors import PluginError
from flowbuilder.plugins.trust import distrust, is_trusted, trust, trusted_directories


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / "sub").mkdir(parents=True)
    return tmp_path / "project"


def test_trust_is_given_and_taken(project):
    assert not is_trusted(project)
    assert trusted_directories() == []

    assert trust(project) == project.resolve()

    assert is_trusted(project)
    assert trusted_directories() == [project.resolve()]
    assert distrust(project)
    assert not is_trusted(project)
    assert not distrust(project)


def test_trust_is_keyed_by_the_resolved_path(project, tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to(project)
    trust(link)

    monkeypatch.chdir(project)
    assert is_trusted(project)
    assert is_trusted(Path())
    link.unlink()
    link.symlink_to(tmp_path)
    assert not is_trusted(link), "the link leads elsewhere now"


def test_trust_is_not_inherited(project):
    trust(project)

    assert not is_trusted(project / "sub")
    assert not is_trusted(project.parent)


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_entries_are_private(project, home):
    trust(project)

    (entry,) = (home / "trusted").iterdir()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "trusted").stat().st_mode) == 0o700


def test_only_directories_can_be_trusted(project):
    (project / "file").touch()
    for path in (project / "file", project / "absent"):
        with pytest.raises(PluginError, match="expected a directory"):
            trust(path)


def test_entry_that_names_another_directory_gives_no_trust(project, home):
    trust(project)
    (entry,) = (home / "trusted").iterdir()
    entry.write_bytes(b"/somewhere/else")

    assert not is_trusted(project)


def test_home_that_cannot_be_written_is_an_error(project, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "file" / "home"))

    with pytest.raises(Exception, match="FLOWBUILDER_HOME"):
        trust(project)
    assert not is_trusted(project)


def test_failed_write_leaves_nothing_behind(project, home, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(PluginError, match="disk full"):
        trust(project)
    assert list((home / "trusted").iterdir()) == []
    assert trusted_directories() == []
