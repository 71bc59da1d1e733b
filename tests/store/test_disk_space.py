"""What a full disk is told to need, for journal and outputs, on a disk that refuses to write."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import apsw
import pytest

from flowbuilder.errors import StorageError
from flowbuilder.store import Owners, open_journal
from flowbuilder.store.connection import storage_error, storage_errors
from flowbuilder.store.disk import Disk, current_disk, using_disk
from flowbuilder.store.disk_space import free_bytes, is_out_of_space, space_error
from flowbuilder.store.local_artifacts import LocalArtifactStore


class FullDisk(Disk):
    """Takes no bytes."""

    def write(self, descriptor, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_disk_is_the_real_one_outside_the_block():
    real, other = current_disk(), FullDisk()
    with using_disk(other):
        assert current_disk() is other
    assert current_disk() is real


def test_output_that_does_not_fit_says_how_much_it_takes_and_where(tmp_path):
    store = LocalArtifactStore(tmp_path)
    with using_disk(FullDisk()), pytest.raises(StorageError) as caught:
        store.save("run", 0, 1, "a", b"x" * 5_000_000)

    told = str(caught.value)
    assert "5.0 MB needed" in told
    assert str(tmp_path / "artifacts" / "run") in told
    assert "free at least 5.0 MB" in told
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_more_than_there_is_says_how_much_is_missing(tmp_path):
    free = free_bytes(tmp_path)

    told = str(space_error("write the journal", tmp_path / "journal.db", free + 7_000_000))

    assert " free)" in told
    assert "free at least 7." in told or "free at least 6." in told


def test_free_space_of_a_place_that_is_not_there_is_that_of_its_folder(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") > 0


@pytest.mark.parametrize(("code", "is_full"), [("ENOSPC", True), ("EDQUOT", True), ("EIO", False)])
def test_full_quota_counts_as_full_disk(code, is_full):
    assert is_out_of_space(OSError(getattr(errno, code), "")) is is_full


def test_full_journal_says_how_much_its_batch_takes(tmp_path):
    error = storage_error("write", tmp_path / "journal.db", apsw.FullError("full"), 3_000_000)

    assert "3.0 MB needed" in error.message
    assert str(tmp_path / "journal.db") in error.message


def test_damaged_text_is_an_error_of_the_store():
    with pytest.raises(StorageError, match="damaged"), storage_errors("read", Path("j.db")):
        b"\xb3".decode()


def test_owner_that_cannot_be_registered_says_so(tmp_path):
    with (
        using_disk(FullDisk()),
        pytest.raises(StorageError, match=r"register this process in .* needed"),
    ):
        Owners(tmp_path).acquire()
    assert list((tmp_path / "owners").iterdir()) == []


def test_run_that_is_not_on_disk_yet_is_not_called_unknown(tmp_path, make):
    journal = open_journal(tmp_path / "store")
    run = journal.open_run(make.version(), make.header("r1"), make.created("me"), make.source())
    journal.connection.pragma("query_only", 1)
    with pytest.raises(StorageError):
        run.sync()

    with pytest.raises(StorageError, match="could not write"):
        journal.find_run("r1")

    journal.connection.pragma("query_only", 0)
    assert journal.find_run("r1").run_id == "r1"
    journal.close()
