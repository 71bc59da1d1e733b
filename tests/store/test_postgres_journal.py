"""What only the journal on PostgreSQL must survive: a server that goes away, and what it may hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from urllib.parse import quote

import pytest

from flowbuilder.errors import ConfigurationError, RecoveryError, StorageError
from flowbuilder.records import AttemptFinished, RunStateChanged
from flowbuilder.store.postgres_connection import PostgresConnection, connect, parse_address
from flowbuilder.store.postgres_journal import PostgresJournal
from flowbuilder.store.postgres_schema import POSTGRES_SCHEMA_VERSION
from tests.store.postgres_server import PASSWORD, PostgresServer

psycopg = pytest.importorskip("psycopg")


@pytest.fixture
def url(postgres_server):
    return postgres_server.url(schema=f"t_{os.urandom(6).hex()}")


@pytest.fixture
def shared(url):
    opened = PostgresJournal(url, is_owner_alive=lambda _: True)
    yield opened
    opened.close()


@pytest.fixture
def own_server():
    """A server that may be stopped."""
    server = PostgresServer()
    yield server
    server.close()


def begin(journal, make, task_count=3, **header):
    source = make.source()
    run_header = make.header(plan_id=f"plan{task_count}", **header)
    version = make.version(task_count, f"plan{task_count}")
    run = journal.open_run(version, run_header, make.created(), source)
    return run, source, run_header.run_id


def finished(journal, run_id):
    return [e.instance for e in journal.events(run_id) if isinstance(e, AttemptFinished)]


# -- a server that goes away ------------------------------------------------------------------------


def test_restart_of_the_server_is_waited_for(own_server, make):
    journal = PostgresJournal(own_server.url(), is_owner_alive=lambda _: True)
    run, source, run_id = begin(journal, make, 40)
    for i in range(40):
        if i in {10, 30}:
            own_server.stop(signal.SIGINT if i == 10 else signal.SIGQUIT)
        if i in {20, 35}:
            own_server.stop()
        if i in {10, 20, 30, 35}:
            starting = threading.Timer(0.1, own_server.start)
            starting.start()
        source.put(make.block([i]))
        run.sync()

    assert finished(journal, run_id) == list(range(40))
    starting.join()
    journal.close()


def test_reading_goes_on_after_a_restart(own_server, make):
    journal = PostgresJournal(own_server.url(), is_owner_alive=lambda _: True)
    run, _, run_id = begin(journal, make)
    run.sync()
    assert journal.find_run("latest").run_id == run_id
    own_server.stop()
    with pytest.raises(StorageError, match="could not read the journal"):
        journal.list_runs()
    own_server.start()

    assert [summary.run_id for summary in journal.list_runs()] == [run_id]
    journal.close()


def test_batch_of_an_unreachable_server_is_in_doubt_and_written_once_later(own_server, make):
    journal = PostgresJournal(own_server.url(), is_owner_alive=lambda _: True, reconnect_s=0.1)
    run, source, run_id = begin(journal, make)
    run.sync()
    own_server.stop()
    source.put(make.chain(0, 1))
    with pytest.raises(StorageError, match="could not write the journal"):
        run.sync()
    source.put(make.block([1]))
    with pytest.raises(StorageError, match="could not write the journal"):
        run.sync()

    own_server.start()
    source.put(make.block([2]))
    run.sync()
    assert finished(journal, run_id) == [0, 1, 2]
    assert [e.seq for e in journal.events(run_id)] == [0, 1, 2, 3, 4]
    journal.close()


@pytest.mark.parametrize("has_new_run", [True, False])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_lost_answer_to_a_commit_neither_loses_nor_doubles(
    shared, make, monkeypatch, moment, has_new_run
):
    run, source, run_id = begin(shared, make)
    if not has_new_run:
        run.sync()
    source.put(make.chain(0, 3))
    execute = PostgresConnection.execute
    lost = []

    def lose(connection, statement, bindings=None, /):
        if statement != "COMMIT" or lost:
            return execute(connection, statement, bindings)
        lost.append(statement)
        if moment == "after":
            execute(connection, statement, bindings)
        connection.raw.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(PostgresConnection, "execute", lose)
    run.sync()

    assert lost == ["COMMIT"]
    assert finished(shared, run_id) == [0, 1, 2]
    source.put(RunStateChanged(state="succeeded"))
    run.sync()
    assert [e.seq for e in shared.events(run_id)] == list(range(6))


def test_session_that_the_server_ended_while_idle_is_not_noticed(shared, make, postgres_server):
    run, source, run_id = begin(shared, make)
    run.sync()
    shared.list_runs()
    postgres_server.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'journals'"
    )
    source.put(make.chain(0, 3))
    run.sync()

    assert shared.find_run(run_id).counts == {"succeeded": 3}


@pytest.mark.parametrize("offset", range(4))
def test_interrupt_around_any_call_loses_and_doubles_nothing(url, make, offset):
    step = offset * 4 + 1
    PostgresJournal(url).close()
    while interrupted_at(step, url, make):
        step += 16
    assert step > 150, "a commit makes more calls than that"


def interrupted_at(step, url, make) -> bool:
    journal = PostgresJournal(url, is_owner_alive=lambda _: True)
    run, source, run_id = begin(journal, make)
    source.put(make.chain(0, 2))
    calls = 0

    def interrupt(frame, event, _argument):
        nonlocal calls
        if event in {"call", "c_return"} and "/flowbuilder/store/" in frame.f_code.co_filename:
            calls += 1
            if calls == step:
                sys.setprofile(None)
                raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        run.sync()
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)

    source.put(make.block([2]))
    run.sync()
    seqs = [e.seq for e in journal.events(run_id)]
    assert seqs == list(range(len(seqs))), step
    assert finished(journal, run_id) == [0, 1, 2]
    journal.close()
    return calls >= step


# -- several machines -------------------------------------------------------------------------------

WRITER = """
import sys, time
from array import array
from pathlib import Path
from flowbuilder.records import AttemptBlock, RunCreated, RunHeader, VersionHeader
from flowbuilder.store.opening import open_store

class Source:
    is_streaming = False
    records = []
    def take(self):
        taken, self.records = self.records, []
        return taken

opened = open_store(Path(sys.argv[1]), sys.argv[2])
owner = opened.owners.acquire()
count = 100_000
version = VersionHeader(plan_id="p", fingerprint="f", name="w", text="", path="", spec_json=b"{}",
    keys=tuple(f"t{i}" for i in range(count)), parents=((),) * count)
header = RunHeader(run_id=sys.argv[3], plan_id="p", workflow="w", params={}, durability="run")
created = RunCreated(wall_ns=time.time_ns(), monotonic_ns=0, owner=owner.engine_id, host="h", pid=1)
source = Source()
run = opened.journal.open_run(version, header, created, source)
for first in range(0, count, 7):
    rows = array("i", range(first, min(first + 7, count)))
    source.records.append(AttemptBlock(instances=rows, ends_ns=array("q", rows),
        outputs=[i * 3 for i in rows], first_start_ns=0))
    run.sync()
    print(rows[-1] + 1, flush=True)
"""


def test_killed_writer_loses_nothing_it_acknowledged_and_can_be_followed(url, tmp_path, make):
    journal = PostgresJournal(url)
    for number, lines in enumerate((1, 3, 17, 40)):
        run_id = f"run-{number}"
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "elsewhere"), url, run_id],
            stdout=subprocess.PIPE,
        )
        said = [int(process.stdout.readline()) for _ in range(lines)]
        owner = journal.find_run(run_id).owner
        assert journal.owners.is_alive(owner)
        with pytest.raises(RecoveryError, match="is alive in process"):
            journal.adopt_run(run_id, make.created("me"), make.source())
        process.kill()
        said += [int(line) for line in process.stdout.read().split(b"\n")[:-1]]
        process.stdout.close()
        process.wait()
        ended = threading.Event()
        while journal.owners.is_alive(owner):
            assert not ended.wait(0.01)

        saved = journal.load_run(run_id)
        done = saved.states.index("pending")
        assert done >= said[-1]
        assert saved.outputs == {i: i * 3 for i in range(done)}
        assert saved.summary.state == "interrupted"
        source = make.source()
        adopted = journal.adopt_run(run_id, make.created("me"), source)
        source.put(RunStateChanged(state="failed"))
        adopted.sync()
        adopted.close()
    journal.close()


def test_engine_lives_until_it_lets_go(url):
    one, other = PostgresJournal(url), PostgresJournal(url)
    lock = one.owners.acquire()
    second = one.owners.acquire()

    assert other.owners.is_alive(lock.engine_id)
    assert one.owners.is_alive(lock.engine_id)
    lock.release()
    lock.release()
    assert not other.owners.is_alive(lock.engine_id)
    assert other.owners.is_alive(second.engine_id)
    one.close()
    second.release()
    assert not other.owners.is_alive(second.engine_id)
    for nobody in ("", "a" * 65, "'; --", "00"):
        assert not other.owners.is_alive(nobody)
    other.close()


def test_engine_lives_on_after_the_server_restarted(own_server, make):
    one, other = PostgresJournal(own_server.url()), PostgresJournal(own_server.url())
    lock = one.owners.acquire()
    own_server.stop()
    own_server.start()
    assert not other.owners.is_alive(lock.engine_id), "its lock went with the server"

    lock.renew()  # what its thread does every few seconds, and every write

    assert other.owners.is_alive(lock.engine_id)
    one.close()
    other.close()


def test_forked_child_neither_uses_nor_ends_its_parents_session(url, make):
    program = """
import os, sys
from flowbuilder.errors import StorageError
from flowbuilder.store.postgres_journal import PostgresJournal
journal = PostgresJournal(sys.argv[1])
lock = journal.owners.acquire()
journal.list_runs()
child = os.fork()
if child == 0:
    try:
        journal.list_runs()
    except StorageError as error:
        print("child:", error.message, flush=True)
    journal.close()
    lock.release()
    sys.exit(0)
os.waitpid(child, 0)
print(journal.owners.is_alive(lock.engine_id), journal.list_runs(), flush=True)
other = PostgresJournal(sys.argv[1])
print(other.owners.is_alive(lock.engine_id), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, url],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines() == [
        "child: the journal was opened by the process this one was forked from",
        "True []",
        "True",
    ]


def test_hung_writer_is_ended_by_the_server(url):
    connection = connect(parse_address(url))
    settings = "idle_in_transaction_session_timeout", "lock_timeout", "synchronous_commit"

    found = [next(connection.execute("SELECT current_setting(?)", (n,)))[0] for n in settings]

    assert found == ["1min", "30s", "on"]
    connection.close()


def test_commits_reach_the_disk_whatever_the_default_of_the_server(postgres_server, url):
    postgres_server.execute("ALTER DATABASE journals SET synchronous_commit = off")
    try:
        connection = connect(parse_address(url))
        ((found,),) = connection.execute("SELECT current_setting('synchronous_commit')")
        connection.close()
    finally:
        postgres_server.execute("ALTER DATABASE journals RESET synchronous_commit")

    assert found == "on"


# -- opening ----------------------------------------------------------------------------------------


def secret_url(server, password):
    return server.url().replace("tester@", f"guarded:{quote(password, safe='')}@")


def test_wrong_password_is_an_error_that_does_not_show_it(postgres_server):
    PostgresJournal(secret_url(postgres_server, PASSWORD)).close()
    wrong = os.urandom(6).hex()
    with pytest.raises(StorageError, match="could not open the journal") as caught:
        PostgresJournal(secret_url(postgres_server, wrong))

    assert wrong not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "password" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:hunter2@[::1/db",
        "postgresql://user:hunter2@host/db?nonsense=1",
        "postgresql://user:hunter2@host/db?schema=A-B",
        "postgresql://user:hunter2@host/db?schema=",
        "postgresql://user:hunter2%zz@host/db",
    ],
)
def test_what_is_no_address_is_refused_without_showing_the_password(text):
    with pytest.raises(ConfigurationError) as caught:
        parse_address(text)

    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_address_keeps_what_is_not_ours():
    found = parse_address("postgresql://u:p%2F@h:1,i:2/d?schema=team_a&sslmode=require")

    assert found.conninfo == "postgresql://u:p%2F@h:1,i:2/d?sslmode=require"
    assert found.schema == "team_a"
    assert found.shown == "postgresql://u:***@h:1,i:2/d?schema=team_a&sslmode=require"


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE TABLE {0}.meta (a int)", "another program's tables"),
        ("CREATE TABLE {0}.users (a int)", "another program's tables"),
    ],
)
def test_schema_of_another_program_is_refused(postgres_server, url, statement, named):
    schema = parse_address(url).schema
    postgres_server.execute(f"CREATE SCHEMA {schema}", "journals")
    postgres_server.execute(statement.format(schema), "journals")

    with pytest.raises(StorageError, match=named):
        PostgresJournal(url)
    tables = postgres_server.execute(
        f"SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}'", "journals"
    )
    assert tables == [(1,)]


def test_missing_database_and_wrong_encoding_are_named(postgres_server):
    with pytest.raises(StorageError, match="could not open") as caught:
        PostgresJournal(postgres_server.url(database="nowhere"))
    assert "the database exists" in caught.value.hint
    postgres_server.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(StorageError, match="encoded in UTF8"):
        PostgresJournal(postgres_server.url(database="latin"))


def test_user_who_may_create_nothing_is_told(postgres_server):
    postgres_server.execute("CREATE ROLE guest LOGIN")
    with pytest.raises(StorageError, match="permission denied") as caught:
        PostgresJournal(postgres_server.url(user="guest", schema="of_guest"))
    assert "needs CREATE" in caught.value.hint


def test_journal_of_a_newer_major_version_is_read_not_written(shared, url, make):
    run, source, run_id = begin(shared, make)
    source.put(make.chain(0, 3))
    run.sync()
    connection = connect(parse_address(url))
    newer = str(POSTGRES_SCHEMA_VERSION + 1000)
    connection.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (newer,))
    connection.close()

    reader = PostgresJournal(url, is_owner_alive=lambda _: True)

    assert reader.find_run(run_id).counts == {"succeeded": 3}
    assert not reader.is_writable
    with pytest.raises(StorageError, match="newer version"):
        begin(reader, make)
    reader.close()


def test_many_who_open_a_new_journal_at_once_all_succeed(url, make):
    start = threading.Barrier(6)
    opened, errors = [], []

    def work():
        start.wait()
        try:
            opened.append(PostgresJournal(url, is_owner_alive=lambda _: True))
        except StorageError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    for journal in opened:
        begin(journal, make)[0].sync()
    assert len(opened[0].list_runs()) == 6
    for journal in opened:
        journal.close()


def test_without_its_driver_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(StorageError, match="needs the package psycopg") as caught:
        PostgresJournal("postgresql://host/db")
    assert "flowbuilder[postgres]" in caught.value.hint


def test_local_journals_do_not_import_the_driver(tmp_path):
    program = (
        "import sys; from pathlib import Path; from flowbuilder.store.opening import open_store;"
        "open_store(Path(sys.argv[1])); print('psycopg' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=True
    )

    assert done.stdout.strip() == b"False"


def test_record_too_large_for_any_database_fails_its_run_only(shared, make, monkeypatch):
    from flowbuilder.store import postgres_writer

    monkeypatch.setattr(postgres_writer, "_MAX_BODY_BYTES", 10_000)
    bad, bad_source, _ = begin(shared, make)
    good, good_source, good_id = begin(shared, make)
    bad_source.put(make.block([0], outputs=["x" * 20_000]))
    good_source.put(make.chain(0, 3))
    bad.notify()
    good.sync()

    with pytest.raises(StorageError, match="takes 20"):
        bad.sync()
    assert shared.find_run(good_id).counts == {"succeeded": 3}


def test_large_batches_go_in_several_statements(shared, make, monkeypatch):
    from flowbuilder.store import postgres_writer

    monkeypatch.setattr(postgres_writer, "_STATEMENT_BYTES", 1000)
    run, source, run_id = begin(shared, make, 300)
    for i in range(300):
        source.put(make.block([i], outputs=["y" * 100]))
    run.sync()

    assert shared.load_run(run_id).outputs == dict.fromkeys(range(300), "y" * 100)
