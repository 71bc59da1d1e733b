"""Sends cases to processes that fork one process for each, and adds up what the judges say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SERVERS = 2


class Server:
    """A process of `sweep_server`."""

    def __init__(self, folder):
        folder.mkdir()
        self.stderr = (folder / "stderr").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "sweep_server.py")],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env={
                **os.environ,
                "FLOWBUILDER_HOME": str(folder / "home"),
                "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
            },
        )

    def ask(self, case):
        self.process.stdin.write((json.dumps(case) + "\n").encode())
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the server died in {case}"
        return json.loads(line)

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.stderr.close()


class Sweep:
    """Plays cases and collects the answers."""

    def __init__(self, folder):
        self.folder = folder
        self.servers = [Server(folder / f"server{number}") for number in range(SERVERS)]
        self.number = 0

    def calls(self, **case):
        """Count the calls of each kind in a life without a fault."""
        (answer,) = self.play([{"kind": "none", "at": -1, "steps": None, **case}])
        assert "problem" not in answer, answer["problem"]
        return answer["calls"]

    def play(self, cases):
        placed = []
        for case in cases:
            placed.append({**case, "folder": str(self.folder / f"case{self.number}")})
            self.number += 1

        def share(number):
            return [
                (place, self.servers[number].ask(placed[place]))
                for place in range(number, len(placed), SERVERS)
            ]

        with ThreadPoolExecutor(SERVERS) as pool:
            pairs = [pair for pairs in pool.map(share, range(SERVERS)) for pair in pairs]
        return [answer for _, answer in sorted(pairs, key=lambda pair: pair[0])]

    def judge(self, cases):
        """Play cases; fail with the first problems, else add up what was found."""
        answers = self.play(cases)
        problems = [
            f"{ {k: case[k] for k in ('kind', 'at', 'steps')} }: {answer['problem']}"
            for case, answer in zip(cases, answers, strict=True)
            if "problem" in answer
        ]
        assert not problems, f"{len(problems)} of {len(cases)}:\n" + "\n".join(problems[:4])
        counts = Counter()
        for answer in answers:
            counts.update(answer["counts"])
            counts["struck"] += bool(answer["where"])
        return counts

    def end(self):
        for server in self.servers:
            server.end()


@pytest.fixture
def sweep(tmp_path):
    found = Sweep(tmp_path)
    yield found
    found.end()
