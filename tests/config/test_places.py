"""Where runs are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowbuilder.config import find_data_dir, flowbuilder_home, prepare_data_dir, prepare_home
from flowbuilder.errors import ConfigurationError


@pytest.fixture
def home(tmp_path, monkeypatch):
    home = tmp_path / "top" / "home"
    (home / "work" / "flows").mkdir(parents=True)
    monkeypatch.setattr(Path, "home", lambda: home)
    return home


def flow(home):
    return home / "work" / "flows" / "a.flow.yaml"


def test_nothing_around_means_beside_the_file(home):
    assert find_data_dir(flow(home)) == home / "work" / "flows" / ".flowbuilder"


def test_without_a_file_the_working_directory_counts(home, monkeypatch):
    monkeypatch.chdir(home / "work")

    assert find_data_dir() == home / "work" / ".flowbuilder"


@pytest.mark.parametrize("marker", ["pyproject.toml", ".git"])
def test_nearest_project_is_the_place(home, marker):
    (home / "work" / marker).touch()
    (home / ".git").mkdir()

    assert find_data_dir(flow(home)) == home / "work" / ".flowbuilder"


def test_existing_store_wins_over_a_nearer_project(home):
    (home / "work" / "flows" / "pyproject.toml").touch()
    (home / "work" / ".flowbuilder").mkdir()
    (home / ".flowbuilder").mkdir()

    assert find_data_dir(flow(home)) == home / "work" / ".flowbuilder"


def test_home_is_the_top(home):
    (home.parent / ".flowbuilder").mkdir()
    (home.parent / ".git").mkdir()

    assert find_data_dir(flow(home)) == home / "work" / "flows" / ".flowbuilder"
    (home / ".git").mkdir()
    assert find_data_dir(flow(home)) == home / ".flowbuilder"


def test_outside_home_the_search_goes_to_the_root(home, tmp_path):
    (tmp_path / "other" / "deep").mkdir(parents=True)
    (tmp_path / "other" / ".git").mkdir()

    found = find_data_dir(tmp_path / "other" / "deep" / "a.flow.yaml")

    assert found == tmp_path / "other" / ".flowbuilder"


def test_server_root_is_a_top_too(home):
    (home / ".flowbuilder").mkdir()

    found = find_data_dir(flow(home), root=home / "work")

    assert found == home / "work" / "flows" / ".flowbuilder"


def test_file_named_like_a_store_is_no_store(home):
    (home / "work" / ".flowbuilder").touch()

    assert find_data_dir(flow(home)) == home / "work" / "flows" / ".flowbuilder"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs users")
def test_store_of_another_user_attracts_nothing(home, monkeypatch):
    (home / "work" / ".flowbuilder").mkdir()
    owner = (home / "work" / ".flowbuilder").stat().st_uid
    if owner == 0:
        os.chown(home / "work" / ".flowbuilder", 4242, 4242)
        owner = 4242
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert find_data_dir(flow(home)) == home / "work" / "flows" / ".flowbuilder"

    monkeypatch.setattr(os, "geteuid", lambda: owner)
    assert find_data_dir(flow(home)) == home / "work" / ".flowbuilder"


def test_linked_file_belongs_where_it_really_is(home, tmp_path):
    (home / "work" / ".git").mkdir()
    flow(home).touch()
    link = tmp_path / "link.flow.yaml"
    link.symlink_to(flow(home))

    assert find_data_dir(link) == home / "work" / ".flowbuilder"


def test_explicit_directory_is_the_store_itself(home, monkeypatch):
    monkeypatch.chdir(home)

    assert find_data_dir(flow(home), Path("x")) == home / "x"
    assert find_data_dir(None, home / "y") == home / "y"


def test_missing_home_does_no_harm(home, monkeypatch):
    def refuse():
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", refuse)

    assert find_data_dir(flow(home)).name == ".flowbuilder"


def test_finding_creates_nothing(home):
    find_data_dir(flow(home))

    assert list((home / "work" / "flows").iterdir()) == []


def test_prepared_directory_is_private_and_ignored(tmp_path):
    path = prepare_data_dir(tmp_path / "a" / ".flowbuilder")

    assert (path / ".gitignore").read_text() == "*\n"
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o700


def test_preparing_again_keeps_what_the_user_changed(tmp_path):
    path = prepare_data_dir(tmp_path / "x")
    (path / ".gitignore").write_text("mine")
    path.chmod(0o750)
    prepare_data_dir(path)

    assert (path / ".gitignore").read_text() == "mine"
    assert path.stat().st_mode & 0o777 == 0o750


def test_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "x").touch()

    with pytest.raises(ConfigurationError, match="found a file"):
        prepare_data_dir(tmp_path / "x")


def test_user_folder_follows_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "fb"))

    assert flowbuilder_home() == tmp_path / "fb"
    assert not (tmp_path / "fb").exists()
    assert prepare_home() == tmp_path / "fb"
    assert (tmp_path / "fb").stat().st_mode & 0o077 == 0 or os.name != "posix"


def test_relative_user_folder_is_refused(monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_HOME", "here")

    with pytest.raises(ConfigurationError, match="absolute path"):
        flowbuilder_home()


def test_user_folder_has_a_default(monkeypatch):
    monkeypatch.delenv("FLOWBUILDER_HOME", raising=False)

    assert flowbuilder_home().is_absolute()
    assert flowbuilder_home().name == "flowbuilder"
