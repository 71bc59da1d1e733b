"""Several processes on one store: writers, readers, a vacuum, and `kill -9` at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flowbuilder.datasets import Store

WRITER = """
import sys
from pathlib import Path
from flowbuilder.datasets import Store

store, who, count = Store(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
for number in range(count):
    store["t"].append({"who": [who] * 10, "number": [number] * 10, "n": list(range(10))})
    print(number, flush=True)
    if number % 7 == 6:
        store["t"].compact(target_rows=200)
store.close()
"""

READER = """
import sys
from pathlib import Path
from flowbuilder.datasets import Store

store = Store(Path(sys.argv[1]))
print("ready", flush=True)
looks = 0
while True:
    with store["t"].snapshot() as snapshot:
        table = snapshot.arrow()
        assert table.num_rows == snapshot.num_rows, (table.num_rows, snapshot)
        again = snapshot.arrow()
        assert table.equals(again)
        ask = "SELECT count(*) AS n, sum(n)::BIGINT AS total FROM t"
        found = store.query(ask, tables={"t": snapshot}).rows()[0] if not looks % 3 else None
        assert found is None or found["n"] * 9 == (found["total"] or 0) * 2, found
    looks += 1
    print(looks, flush=True)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "ready\n", (line, process.stderr.read() if process.stderr else "")
    return process


def stop(process: subprocess.Popen[str]) -> tuple[str, str]:
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    return process.communicate()


def rows_by_append(store: Store) -> dict[tuple[int, int], int]:
    found = store.query("SELECT who, number, count(*) AS n FROM t GROUP BY ALL").rows()
    return {(int(str(r["who"])), int(str(r["number"]))): int(str(r["n"])) for r in found}


def test_writers_and_readers_of_several_processes_agree(tmp_path: Path):
    with Store(tmp_path) as store:
        store["t"].append({"who": [0] * 10, "number": [0] * 10, "n": list(range(10))})
        readers = [start(READER, tmp_path) for _ in range(2)]
        writers = [start(WRITER, tmp_path, who, 12) for who in (1, 2)]
        while any(writer.poll() is None for writer in writers):
            store["t"].vacuum(keep=2)
            for writer in writers:  # one line each: the pipes stay empty, the loop not busy
                assert writer.stdout is not None
                writer.stdout.readline()

        for writer in writers:
            _, err = writer.communicate()
            assert writer.returncode == 0, err
        for reader in readers:
            assert reader.stdout is not None
            assert reader.poll() is None, stop(reader)[1]
            assert int(reader.stdout.readline()) >= 1
            stop(reader)
        expected = {(who, number) for who in (1, 2) for number in range(12)} | {(0, 0)}
        assert rows_by_append(store) == dict.fromkeys(expected, 10)
        store["t"].vacuum(keep=1)
        kept = {file.body.name for file in store["t"].snapshot().manifest.files}
        on_disk = {path.name for path in (tmp_path / "datasets" / "1").glob("*.parquet")}
        assert on_disk == kept


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_writer_loses_nothing_it_was_told_of(tmp_path: Path, seed: int):
    choose = random.Random(seed)
    acknowledged = -1
    wanted = choose.randrange(3, 20)
    process = start(WRITER, tmp_path, 1, 1000)
    assert process.stdout is not None
    while acknowledged < wanted:
        acknowledged = int(process.stdout.readline())
    # Inside the next change: while a file is being written, or wherever it happens to be.
    folder = tmp_path / "datasets" / "1"
    while seed % 2 and not any(folder.glob("*.tmp")):
        pass
    out, err = stop(process)
    assert not err, err
    told = [acknowledged, *map(int, out.split())]

    with Store(tmp_path) as store:
        found = rows_by_append(store)
        assert set(found.values()) == {10}
        assert set(range(max(told) + 1)) <= {number for _, number in found}
        assert len(found) <= max(told) + 2
        assert store.check() == []
        store["t"].append({"who": [2], "number": [0], "n": [0]})
        store["t"].vacuum(keep=1)
        store.clean(grace_s=0)
        kept = {file.body.name for file in store["t"].snapshot().manifest.files}
        files = {path.name for path in (tmp_path / "datasets" / "1").rglob("*") if path.is_file()}
        assert files == kept


def test_files_of_a_living_writer_are_no_orphans(tmp_path: Path, store: Store):
    process = start(
        "import sys; from pathlib import Path; from flowbuilder.datasets import Store\n"
        "store = Store(Path(sys.argv[1])); store['t'].append({'a': [1]})\n"
        "name = store._parts.pins.owner_id() + '.0123456789abcdef.parquet.tmp'\n"
        "(Path(sys.argv[1]) / 'datasets' / '1' / name).write_bytes(b'x')\n"
        "print('ready', flush=True); sys.stdin.read()",
        tmp_path,
    )

    assert store.clean(grace_s=0) == 0
    stop(process)
    assert store.clean(grace_s=3600) == 0
    assert store.clean(grace_s=0) == 1
    assert store["t"].arrow().num_rows == 1


def test_a_full_disk_leaves_the_dataset_as_it_was(store: Store, monkeypatch: pytest.MonkeyPatch):
    import errno

    from flowbuilder.errors import StorageError

    store["t"].append({"a": [1]})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(StorageError, match="nothing was changed") as caught:
            store["t"].append({"a": [2]})

    assert "free some space" in caught.value.hint
    assert store["t"].arrow().to_pylist() == [{"a": 1}]
    assert not [p for p in store.folder.rglob("*") if p.name.endswith((".tmp", "orphan"))]
    assert len(list(store.folder.rglob("*.parquet"))) == 1


def test_a_forked_child_leaves_its_parents_store_alone(store: Store):
    store["t"].append({"a": [1]})
    snapshot = store["t"].snapshot()
    child = os.fork()
    if child == 0:
        try:
            del snapshot
            store["t"]
        except BaseException:
            os._exit(3)  # the closed catalogue refuses
        os._exit(0)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    store["t"].append({"a": [2]})
    store["t"].vacuum(keep=1)
    assert snapshot.arrow().to_pylist() == [{"a": 1}]
