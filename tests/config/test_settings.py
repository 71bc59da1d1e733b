"""Which source wins, and what is said about a wrong value."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from flowbuilder.config import SETTING_NAMES, Settings, load_settings
from flowbuilder.errors import ConfigurationError
from flowbuilder.vocabulary import Durability, ExecutorKind


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for name in SETTING_NAMES:
        monkeypatch.delenv(f"FLOWBUILDER_{name.upper()}", raising=False)
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    project = tmp_path / "project" / "flows"
    project.mkdir(parents=True)
    monkeypatch.chdir(project)
    return project


def write_project(place, text):
    (place.parent / "pyproject.toml").write_text(text)


def write_user(tmp_path, text):
    (tmp_path / "home" / "config.toml").write_text(text)


def test_defaults_need_no_files(place):
    settings = load_settings(place)

    assert settings == Settings(sources=settings.sources)
    assert set(settings.sources) == set(SETTING_NAMES)
    assert set(settings.sources.values()) == {"default"}


def test_nearer_sources_win(place, tmp_path, monkeypatch):
    write_user(
        tmp_path, 'workers = 1\npolicy = "restricted"\ndurability = "none"\nmax_log_bytes = 1'
    )
    write_project(place, '[tool.flowbuilder]\nworkers = 2\ndurability = "task"\nmax-log-bytes = 2')
    monkeypatch.setenv("FLOWBUILDER_WORKERS", "3")
    monkeypatch.setenv("FLOWBUILDER_MAX_LOG_BYTES", "3 KiB")

    settings = load_settings(place / "a.flow.yaml", workers=4, executor=None)

    assert settings.workers == 4
    assert settings.max_log_bytes == 3072
    assert settings.durability is Durability.TASK
    assert settings.policy == "restricted"
    assert settings.executor is ExecutorKind.AUTO
    assert settings.sources["workers"] == "argument"
    assert settings.sources["max_log_bytes"] == "environment variable FLOWBUILDER_MAX_LOG_BYTES"
    assert "pyproject.toml [tool.flowbuilder]" in settings.sources["durability"]
    assert settings.sources["policy"].endswith("config.toml")


def test_only_the_nearest_project_counts(place):
    write_project(place, "[tool.flowbuilder]\nworkers = 2")
    (place / "pyproject.toml").write_text("[project]\nname = 'inner'")

    assert load_settings(place).workers is None
    assert load_settings(place.parent).workers == 2


def test_working_directory_is_the_place_without_another(place):
    write_project(place, "[tool.flowbuilder]\nworkers = 2")

    assert load_settings().workers == 2


def test_paths_in_files_are_relative_to_the_file(place, tmp_path, monkeypatch):
    write_project(place, '[tool.flowbuilder]\ndata-dir = "runs"')
    assert load_settings(place).data_dir == place.parent / "runs"

    monkeypatch.setenv("FLOWBUILDER_DATA_DIR", "here")
    assert load_settings(place).data_dir == Path("here")


def test_pools_are_read_from_tables_and_text(place, monkeypatch):
    write_project(place, "[tool.flowbuilder.pools]\ngpu = 1\ndb = 4")
    assert load_settings(place).pools == {"gpu": 1, "db": 4}

    monkeypatch.setenv("FLOWBUILDER_POOLS", "gpu=2, ")
    assert load_settings(place).pools == {"gpu": 2}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("workers", 0, "whole number from 1"),
        ("workers", True, "whole number"),
        ("workers", 1.5, "whole number"),
        ("workers", "many", "found 'many'"),
        ("workers", "9" * 5000, "whole number"),
        ("durability", "always", "expected one of run, task, none, found 'always'"),
        ("durability", ["run"], "expected one of"),
        ("policy", "", "local, restricted"),
        ("executor", 3, "auto, inline"),
        ("data_dir", "", "expected a path"),
        ("data_dir", "a\0b", "NUL"),
        ("pools", 3, "pools such as"),
        ("pools", {"gpu": 0}, "pool 'gpu'"),
        ("pools", {1: 1}, "pool name"),
        ("pools", "gpu", "pool 'gpu'"),
        ("pools", "=1", "pool name"),
        ("max_log_bytes", "lots", "expected a size"),
        ("max_log_bytes", -1, "expected a size"),
        ("max_log_bytes", float("nan"), "expected a size"),
        ("max_log_bytes", "9" * 60 + "TB", "expected a size"),
        ("flush_interval_s", -1, "duration"),
        ("flush_interval_s", float("inf"), "duration"),
    ],
)
def test_wrong_values_are_named_with_their_source(place, name, value, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_settings(place, **{name: value})

    assert str(caught.value).startswith(f"argument: {name}: ")


def test_wrong_values_of_every_source_are_found(place, tmp_path, monkeypatch):
    write_user(tmp_path, "workers = 0")
    with pytest.raises(ConfigurationError, match=r"config\.toml: workers"):
        load_settings(place)
    write_project(place, "[tool.flowbuilder]\nworkers = 0")
    with pytest.raises(ConfigurationError, match=r"pyproject\.toml \[tool\.flowbuilder\]: workers"):
        load_settings(place)
    monkeypatch.setenv("FLOWBUILDER_WORKERS", "x")
    with pytest.raises(ConfigurationError, match="variable FLOWBUILDER_WORKERS: workers"):
        load_settings(place)


def test_a_value_that_is_overridden_is_not_judged(place, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_WORKERS", "x")

    assert load_settings(place, workers=2).workers == 2


def test_unknown_names_suggest_the_nearest(place, tmp_path, monkeypatch):
    with pytest.raises(
        ConfigurationError, match=r"unknown setting 'worker' .*did you mean 'workers'"
    ):
        load_settings(place, worker=2)
    write_project(place, "[tool.flowbuilder]\nnonsense = 1")
    with pytest.raises(ConfigurationError, match=r"pyproject\.toml.*known settings: data_dir"):
        load_settings(place)
    write_project(place, "[tool.flowbuilder]")
    monkeypatch.setenv("FLOWBUILDER_WORKER", "2")
    with pytest.raises(ConfigurationError, match=r"FLOWBUILDER_WORKER .*did you mean 'workers'"):
        load_settings(place)


def test_variables_of_other_programs_are_left_alone(place, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_IMAGE_TAG", "x")
    monkeypatch.setenv("FLOWBUILDER_WORKERS", "")

    assert load_settings(place).workers is None


@pytest.mark.parametrize(
    "text",
    ["[tool.flowbuilder", "[tool.flowbuilder]\nworkers = 1\nworkers = 2", "tool.flowbuilder = 3"],
)
def test_broken_project_files_are_errors_that_name_them(place, text):
    write_project(place, text)

    with pytest.raises(ConfigurationError, match=r"pyproject\.toml"):
        load_settings(place)


@pytest.mark.parametrize(
    "text", ["[project", "tool = 3", "[tool]\nother = 1\n# flowbuilder", "\ufeff"]
)
def test_project_files_without_our_table_do_no_harm(place, text):
    write_project(place, text)

    assert load_settings(place).workers is None


def test_huge_files_are_refused(place):
    write_project(place, "# flowbuilder\n" + "#" * 5 * 2**20)

    with pytest.raises(ConfigurationError, match="at most 4 MiB"):
        load_settings(place)


def test_settings_are_frozen():
    settings = load_settings()

    with pytest.raises(AttributeError):
        settings.workers = 1
    with pytest.raises(TypeError):
        settings.pools["x"] = 1
    with pytest.raises(TypeError):
        settings.sources["workers"] = "x"


def test_errors_cross_processes(place):
    with pytest.raises(ConfigurationError) as caught:
        load_settings(place, workers=0)

    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
