"""``flowbuilder store check`` and ``store backup``: what they print, return and leave behind."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from flowbuilder.api.container import close_containers

FLOW = """
name: kept
tasks:
  - name: make
    type: script
    persist: always
    config: {language: python, code: "result = list(range(5000))"}
"""


@pytest.fixture
def store(place, cli):
    (place / "kept.flow.yaml").write_text(FLOW)
    assert cli("run", "kept.flow.yaml").code == 0
    return place / ".flowbuilder"


def output_of(store):
    (path,) = [path for path in (store / "artifacts").rglob("*-*") if path.is_file()]
    return path


def test_sound_store_is_called_sound(store, cli):
    answer = cli("store", "check")
    assert answer.code == 0
    assert "nothing is wrong: 1 runs" in answer.out

    document = cli("store", "check", "--json").json
    assert document["is_sound"] is True
    assert document["findings"] == []
    assert document["counts"]["outputs"] == 1


def test_damage_is_said_with_what_to_do(store, cli):
    path = output_of(store)
    content = path.read_bytes()
    path.write_bytes(b"?" + content[1:])

    answer = cli("store", "check")
    assert answer.code == 1
    assert "error: the stored output artifacts/" in answer.out
    assert "(restore it from a backup" in answer.out
    assert cli("store", "check", "--quick").code == 0, "its size is right"
    (finding,) = cli("store", "check", "--json").json["findings"]
    assert (finding["severity"], finding["subject"]) == ("error", "output")
    assert finding["path"].startswith("artifacts/")


@pytest.mark.parametrize("how", [(), ("--copy",)])
def test_backup_is_a_store_that_commands_read(store, place, cli, how):
    answer = cli("store", "backup", place / "copy", *how)

    assert answer.code == 0, answer.err
    assert "1 runs, 1 outputs" in answer.out
    assert output_of(place / "copy").stat().st_nlink == (1 if how else 2)
    assert cli("store", "check", "--data-dir", place / "copy").code == 0
    listed = cli("runs", "list", "--json", "--data-dir", place / "copy").json
    assert listed == cli("runs", "list", "--json").json
    again = cli("store", "backup", place / "copy")
    assert again.code == 1
    assert "expected a new folder" in again.err


def test_restored_store_goes_on(store, place, cli):
    assert cli("store", "backup", place / "copy").code == 0
    close_containers()
    shutil.rmtree(store)
    shutil.copytree(place / "copy", store)

    assert cli("run", "kept.flow.yaml").code == 0
    assert len(cli("runs", "list", "--json").json) == 2
    assert cli("store", "check").code == 0


def test_backup_tells_what_is_lost(store, place, cli):
    output_of(store).unlink()

    answer = cli("store", "backup", place / "copy")

    assert answer.code == 1
    assert "it was lost before" in answer.out


def test_without_a_store_there_is_nothing_to_check(place, cli):
    shutil.rmtree(place / ".flowbuilder")
    answer = cli("store", "check")

    assert answer.code == 1
    assert "no runs are recorded" in answer.err


@pytest.fixture
def pruned(store, cli, monkeypatch):
    """A store whose only run was moved into a closed month."""
    later = time.time_ns() + 90 * 86_400 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    monkeypatch.setattr(time, "time", lambda: later / 1e9)
    answer = cli("store", "prune")
    assert answer.code == 0, answer.err
    assert "1 of 1 run moved" in answer.out
    return store


def test_closed_months_and_their_outputs_are_part_of_a_backup(pruned, place, cli):
    old = 1_000_000_000
    os.utime(output_of(pruned), (old, old))
    answer = cli("store", "check")
    assert answer.code == 0
    assert "belongs to no record" not in answer.out

    assert cli("store", "backup", place / "copy").code == 0

    assert output_of(place / "copy").read_bytes() == output_of(pruned).read_bytes()
    shown = cli("runs", "show", "latest", "--json", "--data-dir", place / "copy")
    assert shown.json["state"] == "succeeded"


def test_damage_of_a_closed_month_is_said(pruned, cli):
    (facts,) = (pruned / "months").rglob("facts*")
    facts.write_bytes(facts.read_bytes()[:-1])

    (finding,) = cli("store", "check", "--json").json["findings"]

    assert finding["subject"] == "month"
    assert "damaged" in finding["message"]


@pytest.fixture
def dataset(store):
    pytest.importorskip("pyarrow")
    import flowbuilder as fb

    numbers = fb.store().dataset("numbers")
    for part in range(3):
        numbers.append({"n": list(range(part * 100, part * 100 + 100))})
    return store


def test_datasets_are_part_of_a_backup(dataset, place, cli):
    import flowbuilder as fb

    assert cli("store", "check").code == 0
    answer = cli("store", "backup", place / "copy")

    assert answer.code == 0, answer.err
    copied = fb.store(data_dir=place / "copy")
    assert copied.query("SELECT sum(n) AS total FROM numbers").arrow().to_pylist() == [
        {"total": sum(range(300))}
    ]
    copied.close()
    assert cli("store", "check", "--data-dir", place / "copy").code == 0


@pytest.mark.parametrize("damage", ["flip", "gone"])
def test_damage_of_a_dataset_is_said_and_the_rest_is_backed_up(dataset, place, cli, damage):
    path = min((dataset / "datasets").rglob("*.parquet"))
    content = path.read_bytes()
    path.unlink()
    if damage == "flip":
        path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])

    (finding,) = cli("store", "check", "--json").json["findings"]
    answer = cli("store", "backup", place / "copy")

    assert finding["subject"] == "dataset"
    assert "numbers" in finding["message"]
    assert answer.code == 1
    assert "lost before" in answer.out
    assert len(list((place / "copy" / "datasets").rglob("*.parquet"))) == 2 + (damage == "flip")
