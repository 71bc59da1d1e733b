"""Owner files and their locks, and what stands in for locks where there are none."""

from __future__ import annotations

import os
import socket

import pytest

from flowbuilder.errors import StorageError
from flowbuilder.store import ownership
from flowbuilder.store.file_locks import LocksUnsupportedError, try_lock, unlock
from flowbuilder.store.ownership import Owner, Owners
from flowbuilder.store.processes import boot_id, is_process_alive, process_start


def test_engine_is_alive_while_it_holds_its_lock(tmp_path):
    owners = Owners(tmp_path)
    lock = owners.acquire()

    assert owners.is_alive(lock.engine_id)
    assert owners.is_alive(lock.engine_id), "looking must not take the lock away"
    found = owners.read(lock.engine_id)
    assert (found.pid, found.host) == (os.getpid(), socket.gethostname())
    lock.release()
    lock.release()

    assert not owners.is_alive(lock.engine_id)
    assert owners.read(lock.engine_id) is None


def test_two_engines_have_two_names(tmp_path):
    owners = Owners(tmp_path)
    one, two = owners.acquire(), owners.acquire()
    one.release()

    assert owners.is_alive(two.engine_id)
    assert not owners.is_alive(one.engine_id)
    two.release()


def test_new_engine_cleans_up_after_killed_ones(tmp_path):
    (tmp_path / "owners").mkdir()
    (tmp_path / "owners" / "killed").write_text("{}")
    os.utime(tmp_path / "owners" / "killed", (1, 1))
    lock = Owners(tmp_path).acquire()

    assert [p.name for p in (tmp_path / "owners").iterdir()] == [lock.engine_id]
    lock.release()


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "a" * 5000, "\0", "nobody"])
def test_nonsense_is_not_alive(tmp_path, name):
    (tmp_path / "owners").mkdir()

    assert not Owners(tmp_path).is_alive(name)
    assert Owners(tmp_path).read(name) is None


def test_memory_owner_is_always_alive():
    owners = Owners(None)
    lock = owners.acquire()

    assert owners.is_alive(lock.engine_id)
    lock.release()


def test_stale_files_are_removed_and_fresh_ones_kept(tmp_path):
    owners = Owners(tmp_path)
    living = owners.acquire()
    for name in ("old", "fresh"):
        (tmp_path / "owners" / name).write_text("{}")
    for name in ("old", living.engine_id):
        os.utime(tmp_path / "owners" / name, (1, 1))

    assert owners.remove_stale() == 1
    assert sorted(p.name for p in (tmp_path / "owners").iterdir()) == sorted(
        ["fresh", living.engine_id]
    )
    living.release()
    assert Owners(tmp_path / "none").remove_stale() == 0


def test_unwritable_place_is_an_error(tmp_path):
    (tmp_path / "owners").write_text("in the way")

    with pytest.raises(StorageError, match="cannot register"):
        Owners(tmp_path).acquire()


def test_unlocked_file_of_a_reused_process_number_is_not_alive(tmp_path):
    write_owner(tmp_path, "old", pid=os.getpid(), process_start=1, is_locked=True)

    assert not Owners(tmp_path).is_alive("old")


def write_owner(folder, name, **fields):
    import msgspec

    (folder / "owners").mkdir(exist_ok=True)
    known = {"engine_id": name, "host": socket.gethostname(), "boot_id": boot_id(), **fields}
    (folder / "owners" / name).write_bytes(msgspec.json.encode(Owner(**known)))


@pytest.mark.parametrize(
    ("fields", "is_alive"),
    [
        ({"pid": os.getpid(), "process_start": process_start(os.getpid())}, True),
        ({"pid": os.getpid(), "process_start": 0}, True),
        ({"pid": 2**22 + 1}, False),
        ({"pid": os.getpid(), "host": "elsewhere"}, True),
        ({"pid": 2**22 + 1, "host": "elsewhere"}, True),
    ],
)
def test_without_locks_the_content_decides(tmp_path, fields, is_alive):
    write_owner(tmp_path, "it", is_locked=False, **fields)

    assert Owners(tmp_path).is_alive("it") is is_alive


@pytest.mark.skipif(not boot_id(), reason="needs a boot id and start times")
def test_without_locks_another_boot_or_start_is_not_alive(tmp_path):
    write_owner(tmp_path, "boot", is_locked=False, pid=os.getpid())
    text = (tmp_path / "owners" / "boot").read_text().replace(boot_id(), "other")
    (tmp_path / "owners" / "boot").write_text(text)
    write_owner(tmp_path, "start", is_locked=False, pid=os.getpid(), process_start=1)

    assert not Owners(tmp_path).is_alive("boot")
    assert not Owners(tmp_path).is_alive("start")


def test_place_without_locks_is_noted_and_judged_by_content(tmp_path, monkeypatch):
    def refuse(descriptor, *, is_shared=False):
        raise LocksUnsupportedError(95, "no locks")

    monkeypatch.setattr(ownership, "try_lock", refuse)
    owners = Owners(tmp_path)
    lock = owners.acquire()

    assert not lock.owner.is_locked
    assert owners.is_alive(lock.engine_id)
    lock.release()
    assert not owners.is_alive(lock.engine_id)


def test_lock_is_exclusive_and_looks_share_it(tmp_path):
    path = tmp_path / "file"
    path.touch()
    one, two, three = (os.open(path, os.O_RDWR) for _ in range(3))

    assert try_lock(one)
    assert not try_lock(two, is_shared=True)
    unlock(one)
    assert try_lock(two, is_shared=True)
    if os.name == "posix":
        assert try_lock(three, is_shared=True)
    assert not try_lock(one)
    for descriptor in (one, two, three):
        os.close(descriptor)


def test_process_facts_have_fallbacks(tmp_path):
    assert boot_id(tmp_path) == ""
    assert process_start(os.getpid(), tmp_path) == 0
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (a) b (c)) " + " ".join(map(str, range(3, 30))))
    assert process_start(7, tmp_path) == 22
    (tmp_path / "7" / "stat").write_text("7 (short")
    assert process_start(7, tmp_path) == 0
    assert is_process_alive(os.getpid())
    assert not is_process_alive(2**22 + 1)
    assert not is_process_alive(0)
