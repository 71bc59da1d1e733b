"""Facts about the machine, read from fake roots and from the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowbuilder.runtime import machine


@pytest.fixture
def many_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)), raising=False)


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, 16, id="no-cgroup"),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"},
            16,
            id="v2-unlimited",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3, id="v2"
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"},
            2,
            id="v2-fraction",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "5000 100000\n"},
            1,
            id="v2-sliver",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense"}, 16, id="v2-garbage"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "800000 100000",
            },
            2,
            id="v2-ancestor-is-tighter",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/only/on/the/host\n",
                "sys/fs/cgroup/cpu.max": "400000 100000",
            },
            4,
            id="v2-path-of-the-host",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/box\n2:memory:/box\n",
                "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "500000",
                "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000",
            },
            5,
            id="v1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/box\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            16,
            id="v1-unlimited",
        ),
    ],
)
def test_cpu_budget_follows_the_quota(tmp_path, many_processors, files, expected):
    assert machine.cpu_budget(root=write(tmp_path, files)) == expected


def test_cpu_budget_follows_the_affinity_mask(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 5}, raising=False)
    root = write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "900000 100000"})

    assert machine.cpu_budget(root=root) == 2


def test_cpu_budget_without_affinity_counts_processors(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)

    assert machine.cpu_budget(root=tmp_path) == 7


def test_cpu_budget_is_one_where_nothing_is_known(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)

    assert machine.cpu_budget(root=tmp_path) == 1


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1048576\n"}, 1 << 20),
        (
            {
                "proc/self/cgroup": "2:memory:/box\n",
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "2097152",
            },
            2 << 20,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 1 << 30),
        (
            {
                "proc/self/cgroup": "2:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            },
            1 << 30,
        ),
    ],
    ids=["v2", "v1", "v2-unlimited", "v1-unlimited"],
)
def test_memory_limit_is_the_least_of_group_and_machine(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr(machine, "_physical_memory_bytes", lambda: 1 << 30)

    assert machine.memory_limit_bytes(root=write(tmp_path, files)) == expected


def test_memory_limit_is_unknown_where_nothing_says(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sysconf", raising=False)

    assert machine.memory_limit_bytes(root=tmp_path) is None


def test_boot_id_is_the_kernels(tmp_path):
    root = write(tmp_path, {"proc/sys/kernel/random/boot_id": "abc-def\n"})

    assert machine.boot_id(root=root) == "abc-def"


def test_boot_id_without_procfs_is_a_text(tmp_path):
    assert isinstance(machine.boot_id(root=tmp_path), str)


def test_start_time_survives_a_strange_command_name(tmp_path):
    fields = " ".join(["S", *map(str, range(4, 22)), "777", "23"])
    root = write(tmp_path, {"proc/self/stat": "", "proc/42/stat": f"42 (a b) Z) {fields}"})

    assert machine.process_start_time(42, root=root) == "777"
    assert machine.process_start_time(43, root=root) is None


def test_start_time_tells_processes_apart():
    mine = machine.process_start_time(os.getpid())

    assert mine
    assert mine == machine.process_start_time(os.getpid())
    assert machine.is_process_alive(os.getpid(), mine)
    assert not machine.is_process_alive(os.getpid(), f"{mine}1")


def test_start_time_of_the_dead_is_none():
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    start = machine.process_start_time(child.pid)
    child.kill()
    if os.name == "posix":
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert start
    assert not machine.is_process_alive(child.pid, start)
    child.communicate()
    assert not machine.is_process_alive(child.pid, start)


def test_start_time_without_procfs_asks_ps(tmp_path):
    if not Path("/bin/ps").exists():
        pytest.skip("no ps on this machine")
    start = machine.process_start_time(os.getpid(), root=tmp_path)

    assert start
    assert machine.process_start_time(2**22 + 1, root=tmp_path) is None


@pytest.mark.parametrize("pid", [0, -1])
def test_start_time_of_no_process_is_none(pid):
    assert machine.process_start_time(pid) is None
