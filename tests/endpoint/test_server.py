"""The endpoint from both ends: what it answers, whom it refuses, what it survives."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowbuilder.endpoint import server as server_module
from flowbuilder.endpoint.client import EndpointClient, connect
from flowbuilder.endpoint.frames import PROTOCOL
from flowbuilder.endpoint.registry import find_engines
from flowbuilder.endpoint.server import MAX_CONNECTIONS, EndpointServer
from flowbuilder.errors import EndpointError, RecoveryError

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions and signals")


class FakeHost:
    """An engine with one run, ``r``."""

    def __init__(self):
        self.calls = []

    def hello(self):
        return {"runs": ["r"]}

    def start(self, request):
        self.calls.append(("start", request))
        return {"run_id": "r2"}

    def cancel(self, run, task):
        if run != "r":
            raise RecoveryError(f"no run {run!r} here", hint="see 'runs list'")
        self.calls.append(("cancel", run, task))
        return {"state": "cancelled"}

    def pause(self, run):
        self.calls.append(("pause", run))
        return {"state": "paused"}

    def resume(self, run):
        self.calls.append(("resume", run))
        return {"state": "running"}

    def variables(self):
        return [{"name": "table", "rows": 3}]

    def page(self, request):
        return bytes(int(request["size"]))

    def inspect(self, run):
        if run == "bug":
            raise ZeroDivisionError("oops")
        return {"odd": object()} if run == "odd" else {"tasks": [1, None, {"a": 1.5}]}


@pytest.fixture
def runtime():
    # The path of a Unix socket is short, and pytest's own folders are not.
    folder = Path(tempfile.mkdtemp(prefix="fb-"))
    yield folder / "run"
    shutil.rmtree(folder)


@pytest.fixture(params=["unix", "tcp"])
def server(request, runtime):
    if request.param == "unix" and not hasattr(socket, "AF_UNIX"):
        pytest.skip("no Unix sockets here")
    host = FakeHost()
    info = {"engine_id": "e-1", "project": "/p", "data_dir": str(runtime)}
    with EndpointServer(host, folder=runtime, info=info, is_tcp=request.param == "tcp") as server:
        server.host = host
        yield server


@pytest.fixture
def client(server):
    with connect(server.entry) as client:
        yield client


def raw_connection(entry):
    if not entry.socket:
        return socket.create_connection(("127.0.0.1", entry.port), 5)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(entry.socket)
    return connection


def ask_raw(connection, data):
    connection.sendall(struct.pack(">I", len(data)) + data)
    return read_raw(connection)


def read_raw(connection):
    (length,) = struct.unpack(">I", connection.recv(4, socket.MSG_WAITALL))
    return msgspec.msgpack.decode(connection.recv(length, socket.MSG_WAITALL))


def greeting(entry, **changes):
    token = Path(entry.token_file).read_text() if entry.token_file else ""
    params = {"protocol": PROTOCOL, "version": "1", "token": token, **changes}
    return msgspec.msgpack.encode({"method": "hello", "id": 7, "params": params})


def test_every_method_reaches_the_engine(server, client):
    host = server.host

    assert client.info["runs"] == ["r"]
    assert client.hello()["pid"] == os.getpid()
    assert client.hello()["engine_id"] == "e-1"
    assert client.start({"flow": "a.yaml", "params": {"n": 1}}) == {"run_id": "r2"}
    assert client.cancel("r") == {"state": "cancelled"}
    assert client.cancel("r", "outer/inner[3]") == {"state": "cancelled"}
    assert client.pause("r") == {"state": "paused"}
    assert client.resume("r") == {"state": "running"}
    assert client.variables() == [{"name": "table", "rows": 3}]
    assert client.inspect("r") == {"tasks": [1, None, {"a": 1.5}]}
    assert host.calls == [
        ("start", {"flow": "a.yaml", "params": {"n": 1}}),
        ("cancel", "r", None),
        ("cancel", "r", "outer/inner[3]"),
        ("pause", "r"),
        ("resume", "r"),
    ]


@pytest.mark.parametrize("size", [0, 1, 20_000_000])
def test_page_is_bytes_of_any_size(client, size):
    assert client.page({"size": size}) == bytes(size)


def test_refusal_of_the_engine_is_its_sentence(client):
    with pytest.raises(EndpointError, match=r"no run 'x' here \(see 'runs list'\)"):
        client.cancel("x")
    assert client.cancel("r") == {"state": "cancelled"}


@pytest.mark.parametrize("run", ["bug", "odd"])
def test_bug_of_the_engine_is_an_answer(client, caplog, run):
    with pytest.raises(EndpointError, match="the engine failed at 'inspect'"):
        client.inspect(run)
    assert client.inspect("r")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"method": "eval", "params": {"code": "1"}}, "unknown-method"),
        ({"method": "__class__"}, "unknown-method"),
        ({"method": "x" * 100_000}, "unknown-method"),
        ({"method": "cancel"}, "malformed"),
        ({"method": "cancel", "params": {"run": 5}}, "malformed"),
        ({"method": "cancel", "params": {"run": "r", "task": ["a"]}}, "malformed"),
        ({"method": "start", "params": {"request": "text"}}, "malformed"),
        ({"method": "cancel", "params": [1]}, "malformed"),
        ({"method": 5}, "malformed"),
        ({}, "malformed"),
        ([], "malformed"),
        (None, "malformed"),
    ],
)
def test_wrong_request_is_answered_and_the_connection_stays(server, message, code):
    with raw_connection(server.entry) as connection:
        assert "error" not in ask_raw(connection, greeting(server.entry))

        answer = ask_raw(connection, msgspec.msgpack.encode(message))

        assert answer["code"] == code
        assert answer["error"]
        assert len(answer["error"]) < 1000
        assert (
            ask_raw(connection, msgspec.msgpack.encode({"method": "variables", "id": 9}))["id"] == 9
        )


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\x81\xa6method\xa2\xff\xfe",
     b"\x82\xa6method\xa5hello\xa6params\x81\xa1a" + b"\x91" * 300_000],
    ids=["empty", "reserved", "deep", "huge-array", "not-utf8", "deep-params"],
)  # fmt: skip
def test_malformed_message_is_answered(server, client, data):
    with raw_connection(server.entry) as connection:
        ask_raw(connection, greeting(server.entry))

        assert ask_raw(connection, data)["code"] == "malformed"

    assert client.hello()


def test_oversized_frame_is_refused_before_it_is_read(server, client):
    with raw_connection(server.entry) as connection:
        ask_raw(connection, greeting(server.entry))
        connection.sendall(struct.pack(">I", 16 * 1024 * 1024 + 1))

        answer = read_raw(connection)

        assert "at most 16,777,216 bytes" in answer["error"]
        assert connection.recv(1) == b""
    assert client.hello()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"protocol": PROTOCOL + 1}, "install the same version"),
        ({"protocol": "1"}, "wrong arguments"),
        ({"protocol": 0, "version": "v" * 10_000}, "install the same version"),
    ],
)
def test_other_version_is_turned_away(server, changes, text):
    with raw_connection(server.entry) as connection:
        answer = ask_raw(connection, greeting(server.entry, **changes))

        assert text in answer["error"]
        assert len(answer["error"]) < 1000
        assert connection.recv(1) == b""


def test_nothing_is_done_before_the_greeting(server):
    with raw_connection(server.entry) as connection:
        request = {"method": "cancel", "params": {"run": "r"}}

        assert ask_raw(connection, msgspec.msgpack.encode(request))["code"] in (
            "refused",
            "malformed",
        )
        assert connection.recv(1) == b""
    assert server.host.calls == []


@pytest.mark.parametrize("token", ["", "0" * 64, "é"])
def test_client_on_a_port_needs_the_token(runtime, token):
    with EndpointServer(FakeHost(), folder=runtime, info={"engine_id": "e"}, is_tcp=True) as server:
        assert server.entry.socket == ""
        with raw_connection(server.entry) as connection:
            answer = ask_raw(connection, greeting(server.entry, token=token))
            assert "expected the token" in answer["error"]
        Path(server.entry.token_file).write_text(token, "utf-8")
        with pytest.raises(EndpointError):
            connect(server.entry)


@posix
def test_only_the_owner_may_enter_and_read(server, runtime):
    def mode(path):
        return stat.S_IMODE(Path(path).stat().st_mode)

    assert mode(runtime) == mode(runtime / "engines") == 0o700
    assert mode(runtime / "engines" / "e-1.json") == 0o600
    assert mode(server.entry.socket or server.entry.token_file) == 0o600


@posix
def test_peer_of_another_user_is_turned_away(runtime):
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    with EndpointServer(FakeHost(), folder=runtime, info={"engine_id": "e"}) as server:
        # Past the folder's permissions on purpose: what remains is the kernel's word.
        for path, mode in (
            (runtime.parent, 0o755),
            (runtime, 0o755),
            (Path(server.entry.socket), 0o666),
        ):
            path.chmod(mode)
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                os.setuid(65534)
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(5)
                    connection.connect(server.entry.socket)
                    code = 0 if read_raw(connection)["code"] == "refused" else 2
            os._exit(code)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with connect(server.entry) as client:
            assert client.hello()


def test_peer_the_kernel_names_as_another_user_is_turned_away(runtime, monkeypatch):
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("no Unix sockets here")
    with EndpointServer(FakeHost(), folder=runtime, info={"engine_id": "e"}) as server:
        monkeypatch.setattr("flowbuilder.endpoint.listener.peer_uid", lambda _connection: 4242)

        with pytest.raises(EndpointError):
            connect(server.entry)


def test_connections_are_bounded_and_come_free_again(server):
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            stack.enter_context(connect(server.entry))
        with raw_connection(server.entry) as connection:
            assert read_raw(connection)["code"] == "busy"
    for _ in range(200):
        with contextlib.suppress(EndpointError), connect(server.entry) as client:
            assert client.hello()
            return
    pytest.fail("no connection came free")


def test_slow_client_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(server_module, "_PATIENCE_S", 0.05)
    with raw_connection(server.entry) as connection:
        connection.sendall(b"\x00")

        assert connection.recv(1) == b""


def test_silent_client_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(server_module, "_HELLO_WAIT_S", 0.05)
    with raw_connection(server.entry) as connection:
        assert connection.recv(1) == b""


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    chunks=st.lists(st.binary(max_size=200), max_size=5),
    is_framed=st.booleans(),
    is_greeted=st.booleans(),
)
def test_noise_never_harms_the_endpoint(server, chunks, is_framed, is_greeted):
    with raw_connection(server.entry) as connection:
        if is_greeted:
            ask_raw(connection, greeting(server.entry))
        with contextlib.suppress(OSError):
            for chunk in chunks:
                connection.sendall(struct.pack(">I", len(chunk)) + chunk if is_framed else chunk)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    with connect(server.entry) as client:
        assert client.inspect("r")
    assert server.host.calls == []


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=st.dictionaries(st.text(), json_like, max_size=4))
def test_request_arrives_as_it_was_sent(server, client, request):
    client.start(request)

    assert server.host.calls.pop() == ("start", request)


def test_client_is_shared_by_threads(client):
    answers = []

    def ask():
        answers.extend(client.page({"size": size}) == bytes(size) for size in range(50))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [True] * 400


def test_close_takes_everything_away(runtime):
    server = EndpointServer(FakeHost(), folder=runtime, info={"engine_id": "e"})
    server.start()
    server.start()
    client = connect(server.entry, timeout_s=5)

    server.close()
    server.close()

    assert [path for path in runtime.rglob("*") if not path.is_dir()] == []
    with pytest.raises(EndpointError, match="pid"):
        client.hello()
    with pytest.raises(EndpointError, match="connect again"):
        client.hello()
    with pytest.raises(EndpointError, match="pid"):
        connect(server.entry)


def test_path_too_long_for_a_socket_falls_back_to_a_port(tmp_path):
    folder = tmp_path / ("long" * 30)
    with EndpointServer(FakeHost(), folder=folder, info={"engine_id": "e"}) as server:
        assert server.entry.port
        with connect("e", folders=[folder]) as client:
            assert client.hello()


def test_engine_that_does_not_answer_is_given_up(runtime):
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("no Unix sockets here")
    with (
        EndpointServer(FakeHost(), folder=runtime, info={"engine_id": "e"}) as server,
        socket.socket(socket.AF_UNIX) as mute,
    ):
        path = str(runtime / "mute.sock")
        mute.bind(path)
        mute.listen()
        entry = msgspec.structs.replace(server.entry, socket=path)

        with pytest.raises(EndpointError, match="no answer in time"):
            EndpointClient(entry, timeout_s=0.05)


def test_unusable_folder_is_an_endpoint_error(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(EndpointError):
        EndpointServer(FakeHost(), folder=tmp_path / "file", info={"engine_id": "e"}).start()


@pytest.mark.parametrize("engine_id", ["", "../x", "a/b", "a" * 65, ".hidden", "a\n"])
def test_engine_id_that_is_no_file_name_is_refused(tmp_path, engine_id):
    with pytest.raises(EndpointError, match="engine id"):
        EndpointServer(FakeHost(), folder=tmp_path, info={"engine_id": engine_id})


ENGINE = """
import sys, time
from pathlib import Path
from flowbuilder.endpoint.server import EndpointServer

class Host:
    def hello(self): return {}
    def inspect(self, run): return {"run": run}

server = EndpointServer(Host(), folder=Path(sys.argv[1]), info={"engine_id": "other", "data_dir": sys.argv[1]})
server.start()
print("ready", flush=True)
if sys.argv[2] == "sleep":
    time.sleep(1000)
elif sys.argv[2] == "hog":
    n = 0
    while True:
        n += 1
elif sys.argv[2] == "fork":
    import os
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    print("forked", flush=True)
    time.sleep(1000)
"""


@pytest.fixture
def engine(runtime):
    started = []

    def start(mode):
        arguments = [sys.executable, "-W", "ignore", "-c", ENGINE, str(runtime), mode]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("mode", ["sleep", "hog"])
def test_engine_answers_within_a_second_while_its_main_thread_is_busy(engine, runtime, mode):
    process = engine(mode)

    with connect("other", folders=[runtime], timeout_s=1) as client:
        assert client.hello()["pid"] == process.pid
        assert [client.inspect(str(n)) for n in range(3)] == [
            {"run": "0"},
            {"run": "1"},
            {"run": "2"},
        ]


def test_killed_engine_is_cleaned_away_by_the_next_reader(engine, runtime):
    process = engine("sleep")
    (alive,) = find_engines(runtime, folders=[runtime])
    process.kill()
    process.wait()
    left = [path for path in runtime.rglob("*") if not path.is_dir()]

    assert alive.pid == process.pid
    assert len(left) == 2
    assert find_engines(folders=[runtime]) == []
    assert [path for path in runtime.rglob("*") if not path.is_dir()] == []
    with pytest.raises(EndpointError, match="live engine 'other'"):
        connect("other", folders=[runtime])
    with pytest.raises(EndpointError):
        connect(alive)


def test_engine_that_ends_leaves_nothing(engine, runtime):
    process = engine("end")
    process.communicate()

    assert process.returncode == 0
    assert [path for path in runtime.rglob("*") if not path.is_dir()] == []


@posix
def test_forked_child_does_not_answer_for_its_parent(engine, runtime):
    process = engine("fork")
    assert process.stdout.readline() == b"forked\n"
    (entry,) = find_engines(folders=[runtime])
    with connect(entry) as client:
        assert client.hello()
    process.kill()
    process.wait()

    # Which of the two depends on how far the system is with closing the socket.
    with pytest.raises(EndpointError, match=r"refused|reset by peer"):
        connect(entry, timeout_s=5)
