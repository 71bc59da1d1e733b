"""SIGKILL at random moments over random graphs: what was settled is never executed again."""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")


def test_a_few_kills(kill_chains):
    counts = kill_chains([(1, 8, "plain", 0.45), (2, 8, "plain", 0.45), (3, 4, "processes", 0.8)])

    assert counts["kills"] == 20
    assert counts["runs"] > 5
    assert counts["reruns"] > 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_hundred_kills(kill_chains):
    chains = [(100 + number, 14, "plain", 0.4) for number in range(12)]
    chains += [(200 + number, 8, "processes", 0.8) for number in range(4)]

    counts = kill_chains(chains)

    assert counts["kills"] == 200
    # What it is when nothing else disturbs is measured in test_loss.
    assert counts["oldest_lost_us"] < 1_000_000
    assert counts["runs"] > 50
    assert counts["reruns"] > 0
