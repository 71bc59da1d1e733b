"""Opening a store: where, with which library, and what happens where that is not possible."""

from __future__ import annotations

import os
import threading
import warnings

import apsw
import pytest

from flowbuilder.errors import ConfigurationError, StorageError
from flowbuilder.store import opening
from flowbuilder.store.connection import check_library
from flowbuilder.store.filesystems import network_filesystem
from flowbuilder.store.opening import open_journal
from flowbuilder.store.schema import MIGRATIONS, SCHEMA_MAJOR, SCHEMA_VERSION


def begin(journal, make, run_id="run-a"):
    source = make.source()
    return journal.open_run(make.version(), make.header(run_id), make.created(), source), source


@pytest.mark.parametrize("version", ["3.7.0", "3.40.1", "3.44.5", "3.49.9", "3.50.6", "3.51.2"])
def test_library_that_can_lose_commits_is_refused(version):
    with pytest.raises(StorageError, match=rf"found {version}"):
        check_library(version)


@pytest.mark.parametrize("version", ["3.6.23", "3.44.6", "3.50.7", "3.51.3", "3.54.1", "4.0.0"])
def test_safe_library_is_accepted(version):
    check_library(version)


def test_unsafe_library_keeps_the_journal_shut(tmp_path, monkeypatch):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.40.1")

    with pytest.raises(StorageError, match=r"3\.40\.1"):
        open_journal(tmp_path)


def test_new_store_is_private_and_ignored_by_git(tmp_path):
    data_dir = tmp_path / "a" / ".flowbuilder"
    open_journal(data_dir).close()

    assert (data_dir / ".gitignore").read_text() == "*\n"
    assert (data_dir / "journal.db").is_file()
    if os.name == "posix":
        assert data_dir.stat().st_mode & 0o077 == 0


def test_journal_has_the_settings_it_needs(tmp_path):
    journal = open_journal(tmp_path)
    connection = journal.connection

    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2
    assert connection.pragma("wal_autocheckpoint") == 0
    assert (
        connection.pragma("user_version") == SCHEMA_VERSION == SCHEMA_MAJOR * 1000 + len(MIGRATIONS)
    )
    journal.close()


def test_processes_may_create_one_store_at_once(tmp_path):
    failures = []

    def create() -> None:
        try:
            open_journal(tmp_path / "store").close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_journal_of_a_newer_major_version_is_read_only(tmp_path, make):
    journal = open_journal(tmp_path)
    run, source = begin(journal, make)
    source.put(make.chain(0, 3))
    run.sync()
    run.close()
    journal.close()
    set_version(tmp_path, (SCHEMA_MAJOR + 1) * 1000 + 1)

    journal = open_journal(tmp_path)

    assert not journal.is_writable
    assert journal.find_run("run-a").counts == {"succeeded": 3}
    for write in (
        lambda: begin(journal, make, "run-b"),
        lambda: journal.remove_runs(["run-a"]),
        lambda: journal.adopt_run("run-a", make.created(), make.source()),
    ):
        with pytest.raises(StorageError, match="made by a newer version"):
            write()
    journal.close()


def test_journal_of_a_newer_minor_version_is_written(tmp_path, make):
    open_journal(tmp_path).close()
    set_version(tmp_path, SCHEMA_VERSION + 7)

    journal = open_journal(tmp_path)
    run, _ = begin(journal, make)
    run.sync()

    assert journal.is_writable
    assert journal.connection.pragma("user_version") == SCHEMA_VERSION + 7
    journal.close()


def set_version(data_dir, version):
    connection = apsw.Connection(str(data_dir / "journal.db"))
    connection.pragma("user_version", version)
    connection.close()


def test_failed_migration_changes_nothing(tmp_path, monkeypatch):
    open_journal(tmp_path).close()
    from flowbuilder.store import schema

    broken = (*MIGRATIONS, "CREATE TABLE extra (a); INSERT INTO nowhere VALUES (1);")
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    with pytest.raises(StorageError, match="no such table: nowhere"):
        open_journal(tmp_path)
    monkeypatch.undo()

    connection = apsw.Connection(str(tmp_path / "journal.db"))
    assert connection.pragma("user_version") == SCHEMA_VERSION
    assert not connection.table_exists("main", "extra")
    connection.close()


def test_migrations_run_in_order_from_where_the_journal_stands(tmp_path, monkeypatch):
    open_journal(tmp_path).close()
    from flowbuilder.store import schema

    more = (*MIGRATIONS, "CREATE TABLE extra (a)", "INSERT INTO extra VALUES (1)")
    monkeypatch.setattr(schema, "MIGRATIONS", more)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 2)

    journal = open_journal(tmp_path)

    assert list(journal.connection.execute("SELECT a FROM extra")) == [(1,)]
    journal.close()


@pytest.mark.parametrize(
    "content", [b"not a database" * 1000, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_file_that_is_no_journal_is_refused_and_kept(tmp_path, content):
    (tmp_path / "journal.db").write_bytes(content)

    with pytest.raises(StorageError, match="could not open"):
        open_journal(tmp_path)
    assert (tmp_path / "journal.db").read_bytes() == content


def test_database_of_another_program_is_refused_and_kept(tmp_path):
    connection = apsw.Connection(str(tmp_path / "journal.db"))
    connection.execute("CREATE TABLE precious (a)")
    connection.close()

    with pytest.raises(StorageError, match="another program's database"):
        open_journal(tmp_path)


def test_directory_in_the_journals_place_is_refused(tmp_path):
    (tmp_path / "journal.db").mkdir()

    with pytest.raises(StorageError, match="could not open"):
        open_journal(tmp_path)


def test_file_in_the_stores_place_is_refused(tmp_path):
    (tmp_path / "store").touch()

    with pytest.raises(ConfigurationError, match="found a file"):
        open_journal(tmp_path / "store")


def test_parent_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match="could not open"):
        open_journal(tmp_path / "file" / "store")


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("has_journal", [False, True])
def test_read_only_place_gives_a_journal_in_memory_and_one_warning(tmp_path, has_journal):
    data_dir = tmp_path / "store"
    data_dir.mkdir()
    if has_journal:
        open_journal(data_dir).close()
        (data_dir / "journal.db").chmod(0o444)
    data_dir.chmod(0o555)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)

    said = as_nobody(lambda: open_and_describe(data_dir))

    assert said.startswith("None 1 "), said
    assert "kept in memory only" in said


def open_and_describe(data_dir) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        journal = open_journal(data_dir)
    return f"{journal.path} {len(caught)} {caught[0].message if caught else ''}"


def as_nobody(describe) -> str:
    """Call in a forked child that is not root, to whom nothing would be read-only."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            said = describe()
        except BaseException as error:
            said = repr(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    said = os.read(reader, 4096).decode()
    os.close(reader)
    return said


def test_forbidden_place_is_told_from_other_failures(tmp_path, monkeypatch, make):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(opening, "prepare_data_dir", refuse)
    with pytest.warns(RuntimeWarning, match="kept in memory") as caught:
        journal = open_journal(tmp_path)

    assert len(caught) == 1
    run, source = begin(journal, make)
    source.put(make.chain(0, 3))
    run.sync()
    assert journal.find_run("latest").counts == {"succeeded": 3}
    journal.close()


def test_network_file_system_gets_a_rollback_journal_and_a_warning(tmp_path, monkeypatch, make):
    monkeypatch.setattr(opening, "network_filesystem", lambda _: "nfs4")
    with pytest.warns(RuntimeWarning, match=r"network file system \(nfs4\)"):
        journal = open_journal(tmp_path)
    run, source = begin(journal, make)
    source.put(make.chain(0, 3))
    run.sync()

    assert journal.connection.pragma("journal_mode") == "truncate"
    assert not (tmp_path / "journal.db-wal").exists()
    assert journal.find_run("latest").counts == {"succeeded": 3}
    journal.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        journal = open_journal(tmp_path)
    assert journal.find_run("latest").counts == {"succeeded": 3}
    journal.close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", ""),
        ("/srv/me/x", "nfs4"),
        ("/srv", "nfs4"),
        ("/srvs/x", ""),
        ("/srv/me/local/x", ""),
        ("/mnt/a b/x", "cifs"),
        ("/mnt/ssh", "fuse.sshfs"),
    ],
)
def test_network_file_systems_are_found_by_their_mount(tmp_path, path, kind, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\n"
        "server:/srv /srv nfs4 rw 0 0\n"
        "/dev/sdb /srv/me/local ext4 rw 0 0\n"
        "//s/share /mnt/a\\040b cifs rw 0 0\n"
        "me@host: /mnt/ssh fuse.sshfs rw 0 0\n"
        "broken line\n\n"
    )
    monkeypatch.setattr(os.path, "realpath", str)

    assert network_filesystem(path, mounts) == kind


def test_without_a_table_of_mounts_everything_is_local(tmp_path):
    assert network_filesystem(tmp_path, tmp_path / "none") == ""
