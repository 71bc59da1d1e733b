"""HTTP tasks against a real server on the loopback address."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from flowbuilder.errors import AuthorizationError, TaskFailedError, TaskTimeoutError
from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.tasks import http_address
from flowbuilder.tasks.http import HttpTask
from flowbuilder.tasks.http_address import is_public
from flowbuilder.tasks.http_request import shown_url
from flowbuilder.vocabulary import Effects


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, str, dict[str, str], bytes]]] = []
    release: ClassVar[threading.Event] = threading.Event()

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Transfer_Encoding" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append((self.command, self.path, headers, body))
        route = self.path.partition("?")[0].strip("/").partition("/")
        try:
            getattr(self, f"route_{route[0] or 'root'}")(route[2])
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = handle_any

    def route_json(self, _: str) -> None:
        self.reply(200, b'{"rows": [1, 2]}', Content_Type="application/json")

    def route_text(self, _: str) -> None:
        self.reply(200, "café".encode("latin-1"), Content_Type="text/plain; charset=latin-1")

    def route_bytes(self, _: str) -> None:
        self.reply(200, b"\x00\xff", Content_Type="application/octet-stream")

    def route_fake(self, _: str) -> None:
        self.reply(200, b"<html>", Content_Type="application/json")

    def route_status(self, rest: str) -> None:
        self.reply(int(rest), b"token=abc is wrong")

    def route_to(self, rest: str) -> None:
        status, _, target = rest.partition("/")
        self.reply(int(status), Location=target if "://" in target else f"/{target}")

    def route_loop(self, _: str) -> None:
        self.reply(302, Location="/loop")

    def route_gzip(self, _: str) -> None:
        self.reply(200, gzip.compress(b"hello ") + gzip.compress(b"gzip"), Content_Encoding="gzip")

    def route_deflate(self, _: str) -> None:
        self.reply(200, zlib.compress(b"hello deflate"), Content_Encoding="deflate")

    def route_rawdeflate(self, _: str) -> None:
        raw = zlib.compressobj(wbits=-15)
        self.reply(200, raw.compress(b"hello raw") + raw.flush(), Content_Encoding="deflate")

    def route_bomb(self, _: str) -> None:
        self.reply(200, BOMB, Content_Encoding="gzip")

    def route_odd(self, _: str) -> None:
        self.reply(200, b"xyz", Content_Encoding="br")

    def route_damaged(self, _: str) -> None:
        self.reply(200, b"not gzip at all", Content_Encoding="gzip")

    def route_endless(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        block = b"x" * 65536
        while True:
            self.wfile.write(b"10000\r\n" + block + b"\r\n")

    def route_slow(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        for _i in range(100):
            self.wfile.write(b"x")
            self.wfile.flush()
            if self.release.wait(0.05):
                return

    def route_silent(self, _: str) -> None:
        self.release.wait(20)


BOMB = gzip.compress(b"\0" * 50_000_000)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    instance = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    instance.daemon_threads = True
    thread = threading.Thread(target=instance.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{instance.server_address[1]}"
    Handler.release.set()
    instance.shutdown()
    instance.server_close()
    thread.join()


@pytest.fixture
def fetch(server, tmp_path, monkeypatch) -> Iterator[Callable[..., object]]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    Handler.seen.clear()
    Handler.release.clear()

    def run(path: str, *, policy: str = "local", **config: object) -> object:
        url = server + path if path.startswith("/") else path
        call = TaskCall(
            name="fetch",
            key="fetch",
            run_id="r",
            attempt=1,
            config={"url": url, **config},
            directory=tmp_path,
            policy=policy,
        )
        return asyncio.run(HttpTask().run_async(call))

    yield run
    Handler.release.set()


def test_response_is_a_mapping_with_the_body(fetch, server):
    reply = fetch("/json")

    assert reply["status"] == 200
    assert reply["body"] == '{"rows": [1, 2]}'
    assert reply["json"] == {"rows": [1, 2]}
    assert reply["url"] == f"{server}/json"
    assert reply["headers"]["content-type"] == "application/json"
    assert HttpTask().as_input_data(reply) == '{"rows": [1, 2]}'


@pytest.mark.parametrize(
    ("path", "output", "expected"),
    [
        ("/json", "json", {"rows": [1, 2]}),
        ("/json", "text", '{"rows": [1, 2]}'),
        ("/text", "text", "café"),
        ("/text", "bytes", b"caf\xe9"),
        ("/gzip", "text", "hello gzip"),
        ("/deflate", "text", "hello deflate"),
        ("/rawdeflate", "text", "hello raw"),
    ],
)
def test_output_takes_the_form_that_was_asked_for(fetch, path, output, expected):
    assert fetch(path, output=output) == expected


def test_body_that_is_no_text_stays_bytes(fetch):
    assert fetch("/bytes")["body"] == b"\x00\xff"


def test_body_that_only_claims_to_be_json_is_still_given(fetch):
    reply = fetch("/fake")

    assert (reply["body"], "json" in reply) == ("<html>", False)
    with pytest.raises(TaskFailedError, match=r"expected JSON.*<html>"):
        fetch("/fake", output="json")


def test_request_carries_what_was_configured(fetch):
    fetch(
        "/json?a=1",
        method="POST",
        headers={"X-Token": "t"},
        params={"b": [1, True], "c": "x y", "d": None},
        json={"k": "ü"},
    )

    method, path, headers, body = Handler.seen[0]
    assert (method, path) == ("POST", "/json?a=1&b=1&b=true&c=x+y&d=")
    assert (headers["x-token"], headers["content-type"]) == ("t", "application/json")
    assert json.loads(body) == {"k": "ü"}


def test_text_body_is_sent_as_it_is(fetch):
    fetch("/json", method="PUT", body="a=ü", headers={"Content-Type": "text/x"})

    method, _, headers, body = Handler.seen[0]
    assert (method, body, headers["content-type"]) == ("PUT", "a=ü".encode(), "text/x")


def test_failing_status_shows_the_answer_but_no_query(fetch):
    with pytest.raises(TaskFailedError, match="status 404") as caught:
        fetch("/status/404?key=hidden")

    assert "token=abc is wrong" in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert caught.value.error_type == "status:404"


def test_expected_status_may_be_chosen(fetch):
    assert fetch("/status/404", expect=[404])["status"] == 404
    with pytest.raises(TaskFailedError, match="status 200"):
        fetch("/json", expect=[404])


@pytest.mark.parametrize(
    ("status", "method", "arrives_as"),
    [
        (301, "GET", "GET"),
        (302, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
    ],
)
def test_redirects_keep_or_change_the_method(fetch, status, method, arrives_as):
    body = {} if method in ("GET", "HEAD") else {"body": "data"}
    reply = fetch(f"/to/{status}/json", method=method, **body)

    assert reply["url"].endswith("/json")
    arrived, _, _, sent = Handler.seen[-1]
    assert arrived == arrives_as
    assert sent == (b"data" if arrives_as in ("POST", "PUT") else b"")


def test_redirects_to_another_origin_drop_credentials(fetch, server):
    other = server.replace("127.0.0.1", "localhost")
    headers = {"Authorization": "Bearer x", "Cookie": "c", "X-Other": "y"}

    fetch(f"/to/302/{other}/json", headers=headers)
    assert not {"authorization", "cookie"} & set(Handler.seen[-1][2])
    assert Handler.seen[-1][2]["x-other"] == "y"
    fetch("/to/302/json", headers=headers)
    assert Handler.seen[-1][2]["authorization"] == "Bearer x"


def test_redirects_are_bounded(fetch):
    with pytest.raises(TaskFailedError, match="at most 3 redirects"):
        fetch("/loop", follow_redirects=3)
    assert len(Handler.seen) == 4
    assert fetch("/loop", follow_redirects=0)["status"] == 302


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://x/y", "http://u:p@127.0.0.1/"])
def test_redirects_to_other_schemes_are_refused(fetch, target):
    with pytest.raises(TaskFailedError, match="expected a URL"):
        fetch(f"/to/302/{target}")


@pytest.mark.parametrize("path", ["/endless", "/bomb", "/json"])
def test_size_is_limited(fetch, path):
    with pytest.raises(TaskFailedError, match="at most 10 bytes"):
        fetch(path, max_bytes=10)


def test_compressed_body_never_expands_beyond_the_limit(fetch):
    import tracemalloc

    tracemalloc.start()
    try:
        with pytest.raises(TaskFailedError, match="at most 1000000 bytes"):
            fetch("/bomb", max_bytes=1_000_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 10_000_000


@pytest.mark.parametrize("path", ["/odd", "/damaged"])
def test_unreadable_encodings_are_errors(fetch, path):
    with pytest.raises(TaskFailedError, match=r"encoded as|damaged"):
        fetch(path)


@pytest.mark.parametrize("path", ["/slow", "/silent"])
def test_time_is_limited_as_a_whole(fetch, path):
    with pytest.raises(TaskTimeoutError, match="took longer than 300ms"):
        fetch(path, timeout="300ms")


def test_request_can_be_cancelled(fetch, server, tmp_path):
    call = TaskCall(name="f", key="f", run_id="r", attempt=1, config={"url": f"{server}/silent"})

    async def cancel() -> bool:
        task = asyncio.create_task(HttpTask().run_async(call))
        while not Handler.seen:  # noqa: ASYNC110 - another thread fills it
            await asyncio.sleep(0.01)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return True
        return False

    assert asyncio.run(cancel())


def test_refused_connection_says_where(fetch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(TaskFailedError, match=rf"GET 'http://127.0.0.1:{port}/x' failed") as caught:
        fetch(f"http://127.0.0.1:{port}/x")
    assert caught.value.error_type == "ConnectError"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "127.0.0.1/x",
        "http://",
        "http:///x",
        "http://user:hunter2@127.0.0.1/",
        "http://127.0.0.1/\r\nX: y",
        "http://127.0.0.1/a b",
        "http://[::1/",
        "http://127.0.0.1:99999/",
    ],
)
def test_malformed_urls_are_refused(fetch, url):
    with pytest.raises(TaskFailedError, match="expected a URL") as caught:
        HttpTask().run(TaskCall(name="f", key="f", run_id="r", attempt=1, config={"url": url}))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"X": "a\r\nInjected: 1"}, "line break"),
        ({"X": "a\0"}, "line break"),
        ({"X\r\nY": "1"}, "header name"),
        ({"": "1"}, "header name"),
    ],
)
def test_headers_cannot_be_injected(fetch, headers, message):
    with pytest.raises(TaskFailedError, match=message):
        fetch("/json", headers=headers)
    assert Handler.seen == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f.1",
        "0x7f000001",
        "127.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "0.0.0.0",
        "[fe80::1]",
        "[fc00::1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "224.0.0.1",
        "255.255.255.255",
    ],
)
def test_restricted_policy_refuses_private_addresses(fetch, host):
    with pytest.raises(
        (AuthorizationError, TaskFailedError), match=r"not public|was not found|malformed"
    ) as caught:
        fetch(f"http://{host}:1/", policy="restricted")
    assert isinstance(caught.value, AuthorizationError) or host.startswith("0")


def test_restricted_policy_connects_to_the_address_it_checked(fetch, server, monkeypatch):
    """A name that changes its address after the check (DNS rebinding) gains nothing."""
    port = int(server.rpartition(":")[2])
    looked_up: list[str] = []
    real = asyncio.BaseEventLoop.getaddrinfo

    async def resolve(self, host, *args, **kwargs):
        looked_up.append(host)
        if host == "public.test":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        return await real(self, host, *args, **kwargs)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    monkeypatch.setattr(http_address, "is_public", lambda address: address == "127.0.0.1")

    reply = fetch(f"http://public.test:{port}/json", policy="restricted")

    assert reply["status"] == 200
    assert reply["url"] == f"http://public.test:{port}/json"
    assert looked_up.count("public.test") == 1
    assert Handler.seen[-1][2]["host"] == f"public.test:{port}"


def test_restricted_policy_checks_every_redirect(fetch, server, monkeypatch):
    checked: list[str] = []

    def judge(address: str) -> bool:
        checked.append(address)
        return len(checked) == 1

    monkeypatch.setattr(http_address, "is_public", judge)

    with pytest.raises(AuthorizationError):
        fetch(f"/to/302/{server}/json", policy="restricted")
    assert len(checked) == 2
    assert len(Handler.seen) == 1


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("::ffff:10.0.0.1", False),
        ("::127.0.0.1", False),
        ("fe80::1%eth0", False),
        ("nonsense", False),
    ],
)
def test_is_public_judges_wrapped_addresses(address, expected):
    assert is_public(address) is expected


def test_shown_url_hides_what_may_be_secret():
    assert shown_url("https://u:p@h:1/a?k=v#f") == "https://h:1/a?...."
    assert shown_url("http://[::1") == "(malformed URL)"


def test_effects_follow_the_method():
    effects = HttpTask().effects

    assert effects({}) is Effects.NONE
    assert effects({"method": "HEAD"}) is Effects.NONE
    assert effects({"method": "POST"}) is Effects.EXTERNAL
    assert effects({"method": "${{ params.m }}"}) is Effects.EXTERNAL


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"url": "file:///x"}, ("url",)),
        ({"url": "http://u:p@h/"}, ("url",)),
        ({"url": "http://h/", "json": 1, "body": "x"}, ("body",)),
        ({"url": "http://h/", "timeout": "soon"}, ("timeout",)),
    ],
)
def test_check_finds_mistakes_without_a_network(config, path):
    (finding,) = HttpTask().check(config, Path())

    assert finding.path == path


def test_check_leaves_templates_alone():
    config = {"url": "${{ params.url }}", "timeout": "${{ params.t }}"}

    assert list(HttpTask().check(config, Path())) == []
