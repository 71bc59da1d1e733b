"""What only an object store does: copies, retries, refusals, and the setting that leads there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import flowbuilder as fb
from flowbuilder.errors import ConfigurationError, StorageError
from flowbuilder.store.artifact_opening import open_artifacts
from flowbuilder.store.local_artifacts import LocalArtifactStore
from flowbuilder.store.object_artifacts import ObjectArtifactStore
from flowbuilder.store.object_client import ObjectClient, ObjectLimits
from tests.store.artifact_places import ObjectPlace

QUICK = ObjectLimits(connect_timeout_s=1, request_timeout_s=2, retry_timeout_s=3, max_retries=2)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))


@pytest.fixture
def place(object_url, tmp_path):
    return ObjectPlace(object_url, tmp_path)


def open_quickly(url, folder):
    return ObjectArtifactStore(ObjectClient(url, QUICK), LocalArtifactStore, folder)


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_damaged_copy_is_fetched_again(place):
    store = place.open()
    artifact = store.save("run-1", 0, 1, "output", b"x" * 100)
    (copy,) = files_below(place.newest_data_dir)
    copy.write_bytes(b"y" * 100)

    assert store.load(artifact) == b"x" * 100
    assert copy.read_bytes() == b"x" * 100


def test_copies_are_bounded_and_the_least_used_go_first(place):
    store = place.open(cache_bytes=10_000)
    saved = [store.save("run-1", n, 1, "output", bytes([n]) * 4000) for n in range(2)]
    newest = time.time_ns()
    for age, path in enumerate(files_below(place.newest_data_dir)):
        os.utime(path, ns=(newest, newest - 10**12 * (age + 1)))
    store.load(saved[0])  # used: the other one is the older now
    saved.append(store.save("run-1", 2, 1, "output", b"\2" * 4000))

    kept = {path.read_bytes()[0] for path in files_below(place.newest_data_dir)}
    assert kept == {0, 2}
    for number, artifact in enumerate(saved):
        assert store.load(artifact) == bytes([number]) * 4000
    assert len(place.paths()) == 3


def test_table_mapped_from_a_copy_outlives_it(place):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"a": range(10_000)})
    artifact = place.open().save("run-1", 0, 1, "output", table)

    found = place.open().load(artifact)
    for path in files_below(place.newest_data_dir):
        path.unlink()

    assert found.equals(table)


def test_dead_server_is_an_error_within_bounds(place, monkeypatch, tmp_path):
    artifact = place.open().save("run-1", 0, 1, "output", b"x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store = open_quickly(place.url, tmp_path / "copies")
    began = time.monotonic()

    with pytest.raises(StorageError, match="could not store an output in s3://"):
        store.save("run-1", 1, 1, "output", b"x")
    with pytest.raises(StorageError, match="could not look at"):
        store.load(artifact)
    with pytest.raises(StorageError, match="could not list"):
        store.remove_run("run-1")
    assert time.monotonic() - began < 20
    assert files_below(tmp_path / "copies") == [], "what was not stored leaves no copy"


def test_missing_bucket_is_named(place, tmp_path):
    store = open_quickly("s3://flowbuilder-nowhere/x", tmp_path / "copies")

    with pytest.raises(StorageError, match="there is no such bucket") as caught:
        store.save("run-1", 0, 1, "output", b"x")
    assert "create it" in caught.value.hint


class Moody(BaseHTTPRequestHandler):
    """Answers every other request with an error of the server."""

    requests: list[str]
    objects: dict[str, bytes]

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.refuses():
            return
        self.objects[self.path] = content
        self.answer(200, b"", etag='"1"')

    def do_HEAD(self):
        if not self.refuses():
            self.answer(200, b"", length=len(self.objects[self.path]))

    def do_GET(self):
        if not self.refuses():
            content = self.objects[self.path]
            last = len(content) - 1
            self.answer(206, content, range_=f"bytes 0-{last}/{len(content)}")

    def refuses(self):
        self.requests.append(self.command)
        if len(self.requests) % 2:
            self.answer(503, b"")
            return True
        return False

    def answer(self, status, content, *, length=None, range_="", etag='"1"'):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.send_header("ETag", etag)
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        if range_:
            self.send_header("Content-Range", range_)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def test_errors_of_the_server_are_tried_again(object_url, monkeypatch, tmp_path):
    handler = type("Handler", (Moody,), {"requests": [], "objects": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        store = open_quickly(object_url, tmp_path / "one")
        artifact = store.save("run-1", 0, 1, "output", b"x" * 1000)
        found = open_quickly(object_url, tmp_path / "two").load(artifact)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert found == b"x" * 1000
    assert handler.requests == ["PUT", "PUT", "HEAD", "HEAD", "GET", "GET"]


def test_plain_http_needs_to_be_meant(place, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    store = open_quickly(place.url, tmp_path / "copies")

    with pytest.raises(StorageError) as caught:
        store.save("run-1", 0, 1, "output", b"x")
    assert "AWS_ALLOW_HTTP" in caught.value.hint


def test_inspection_tells_what_is_wrong(place):
    store = place.open()
    artifact = store.save("run-1", 0, 1, "output", b"abc")
    assert store.inspect(artifact) == ""
    place.write(artifact.path, b"abd")
    assert store.inspect(artifact, with_content=False) == ""
    assert "digest" in store.inspect(artifact)
    place.write(artifact.path, b"ab")
    assert "2 bytes instead of 3" in store.inspect(artifact, with_content=False)
    place.write(artifact.path, None)
    assert "missing" in store.inspect(artifact)


def test_schemes_nobody_serves_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="found 'ftp'"):
        open_artifacts("ftp://host/x", tmp_path)


def test_opening_an_object_store_imports_its_library_and_local_ones_do_not(tmp_path, object_url):
    program = (
        "import sys; from pathlib import Path;"
        "from flowbuilder.store.artifact_opening import open_artifacts;"
        "open_artifacts('', Path(sys.argv[1])); open_artifacts('file:///x', Path(sys.argv[1]));"
        "print('obstore' in sys.modules);"
        "open_artifacts(sys.argv[2], Path(sys.argv[1])); print('obstore' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), object_url], capture_output=True, check=True
    )

    assert done.stdout.split() == [b"False", b"True"]


FLOW = """
name: stored
tasks:
  - name: make
    type: script
    persist: always
    config: {language: python, code: "result = list(range(5000))"}
  - name: use
    type: script
    depends_on: [make]
    inputs: {numbers: make}
    config: {language: python, code: "result = sum(inputs['numbers'])"}
"""


def test_runs_keep_their_outputs_where_the_setting_says(place, tmp_path, monkeypatch):
    from flowbuilder.api.container import close_containers

    (tmp_path / "stored.flow.yaml").write_text(FLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWBUILDER_DATA_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("FLOWBUILDER_ARTIFACTS", place.url)
    run = fb.load(tmp_path / "stored.flow.yaml").run()
    assert run["use"] == sum(range(5000))
    close_containers()

    past = fb.run("latest")
    assert past["make"] == list(range(5000))
    assert place.paths() != set()
    assert not (tmp_path / "store" / "artifacts").exists()
    close_containers()
