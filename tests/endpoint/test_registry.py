"""Which engines live here, and where they register."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from flowbuilder.endpoint import registry, runtime_folder
from flowbuilder.endpoint.registry import (
    describe_process,
    find_engines,
    find_owner,
    jupyter_kernel_id,
    register,
    unregister,
)
from flowbuilder.errors import EndpointError

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")


@pytest.fixture
def folder(tmp_path):
    return runtime_folder.private_folder(tmp_path / "run")


def test_registered_engine_is_found_by_store_and_id(folder, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    mine = describe_process("a", data_dir=str(store), project="/p")
    other = describe_process("b", data_dir="/elsewhere")
    nowhere = describe_process("c")
    for entry in (other, nowhere, mine):
        register(entry, folder)

    assert [entry.engine_id for entry in find_engines(folders=[folder])] == ["a", "b", "c"]
    assert find_engines(store, folders=[folder]) == [mine]
    assert find_engines(Path.cwd(), folders=[folder]) == []
    assert find_owner(store, "a", folders=[folder]) == mine
    assert find_owner(store, "b", folders=[folder]) is None
    assert find_owner(None, "b", folders=[folder]) == other


def test_store_is_found_through_a_link(folder, tmp_path):
    (tmp_path / "store").mkdir()
    link = tmp_path / "link"
    try:
        link.symlink_to(tmp_path / "store")
    except OSError:
        pytest.skip("no links here")
    register(describe_process("a", data_dir=str(tmp_path / "store")), folder)

    assert len(find_engines(link, folders=[folder])) == 1


def test_entry_names_this_process():
    entry = describe_process("a")

    assert entry.pid == os.getpid()
    assert entry.start_time
    assert entry.host
    assert not entry.is_stale


@pytest.mark.parametrize(
    ("changes", "is_stale"),
    [
        ({}, False),
        ({"start_time": "1"}, True),
        ({"pid": 2**22 + 5}, True),
        ({"boot_id": "earlier"}, True),
        ({"host": "elsewhere", "pid": 2**22 + 5}, False),
    ],
    ids=["alive", "pid-used-again", "no-process", "earlier-boot", "other-machine"],
)
def test_stale_entry_is_removed_with_its_socket(folder, changes, is_stale):
    socket = folder / "x.sock"
    token = folder / "x.token"
    entry = msgspec.structs.replace(
        describe_process("a"), socket=str(socket), token_file=str(token), **changes
    )
    for path in (socket, token):
        path.write_text("")
    register(entry, folder)

    assert bool(find_engines(folders=[folder])) is not is_stale
    assert socket.exists() is token.exists() is not is_stale


def test_stale_entry_cannot_have_other_files_removed(folder, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("")
    register(
        msgspec.structs.replace(describe_process("a"), start_time="1", socket=str(precious)), folder
    )
    sly = str(folder / ".." / "precious")
    register(msgspec.structs.replace(describe_process("b"), start_time="1", token_file=sly), folder)

    assert find_engines(folders=[folder]) == []
    assert precious.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"engine_id": "a", "pid": "x"}',
        '{"engine_id": "../a", "pid": 1}',
        "\xff",
        "[" * 100_000,
    ],
    ids=["empty", "half", "list", "nothing", "types", "name", "bytes", "deep"],
)
def test_entry_that_cannot_be_read_is_passed_over(folder, text):
    register(describe_process("good"), folder)
    (folder / "engines" / "a.json").write_bytes(text.encode("latin-1"))

    assert [entry.engine_id for entry in find_engines(folders=[folder])] == ["good"]


def test_entry_of_a_newer_version_is_read(folder):
    path = register(describe_process("a"), folder)
    path.write_text(path.read_text().replace("{", '{"from_the_future": [1],', 1))

    assert [entry.engine_id for entry in find_engines(folders=[folder])] == ["a"]


def test_folder_that_does_not_exist_has_no_engines(tmp_path):
    assert find_engines(folders=[tmp_path / "absent"]) == []


def test_unregistering_twice_is_no_error(folder):
    entry = describe_process("a")
    register(entry, folder)

    unregister(entry, folder)
    unregister(entry, folder)

    assert find_engines(folders=[folder]) == []


def test_registration_leaves_no_draft(folder):
    register(describe_process("a"), folder)
    register(describe_process("a"), folder)

    assert [path.name for path in (folder / "engines").iterdir()] == ["a.json"]


def test_kernel_id_comes_from_the_connection_file(monkeypatch):
    class Application:
        @staticmethod
        def initialized():
            return True

        @staticmethod
        def instance():
            return SimpleNamespace(connection_file="/run/jupyter/kernel-1234-ab.json")

    monkeypatch.setitem(
        sys.modules, "ipykernel.kernelapp", SimpleNamespace(IPKernelApp=Application)
    )

    assert jupyter_kernel_id() == "1234-ab"


@pytest.mark.parametrize("module", [None, SimpleNamespace(), SimpleNamespace(IPKernelApp=object())])
def test_kernel_id_outside_jupyter_is_empty(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", module)

    assert jupyter_kernel_id() == ""


# The runtime folder


@posix
def test_open_folder_of_ours_is_closed_to_others(tmp_path):
    (tmp_path / "run").mkdir(mode=0o777)
    (tmp_path / "run").chmod(0o777)

    folder = runtime_folder.private_folder(tmp_path / "run")

    assert folder.stat().st_mode & 0o777 == 0o700


@posix
def test_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 4242)

    with pytest.raises(EndpointError, match="owned by user"):
        runtime_folder.private_folder(tmp_path / "run")


@posix
def test_link_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "target")

    with pytest.raises(EndpointError, match="something else"):
        runtime_folder.private_folder(tmp_path / "run")


def test_folder_is_the_chosen_one(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_RUNTIME_DIR", str(tmp_path / "deep" / "chosen"))

    assert runtime_folder.runtime_folder() == tmp_path / "deep" / "chosen"
    assert runtime_folder.runtime_folders() == [tmp_path / "deep" / "chosen"]


def test_folder_is_in_the_users_runtime_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("FLOWBUILDER_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    assert runtime_folder.runtime_folder() == tmp_path / "flowbuilder"


def test_folder_is_temporary_where_the_users_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("FLOWBUILDER_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "absent"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 12345, raising=False)
    monkeypatch.setattr(runtime_folder, "private_folder", lambda path: path)

    assert runtime_folder.runtime_folder() == tmp_path / "flowbuilder-12345"


def test_engine_of_a_service_is_found_from_a_terminal(tmp_path, monkeypatch):
    # The kernel had no XDG_RUNTIME_DIR, the terminal has one.
    monkeypatch.delenv("FLOWBUILDER_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    folder = runtime_folder.private_folder(runtime_folder.runtime_folders()[-1])
    register(describe_process("kernel-engine"), folder)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "user"))

    assert "kernel-engine" in [entry.engine_id for entry in find_engines()]


def test_registry_imports_nothing_heavy():
    code = (
        "import sys, flowbuilder.endpoint.server, flowbuilder.endpoint.client\n"
        "print(sorted({'numpy','pyarrow','asyncio','ipykernel','tornado','httpx','cloudpickle'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"


def test_private_file_replaces_an_older_one(tmp_path):
    path = tmp_path / "token"
    path.write_text("old and longer")

    registry.write_private(path, b"new")

    assert path.read_bytes() == b"new"
