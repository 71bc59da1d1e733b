"""What ``plan`` says of the cache, and that it neither runs nor imports anything for it."""

from __future__ import annotations

import sys

import flowbuilder as fb

TEXT = """
name: work
params: {scale: {default: 2}, needed: {type: integer}}
tasks:
  - {name: rows, type: read, cache: true, config: {path: data.csv, output: rows}}
  - name: total
    type: script
    cache: true
    inputs: {rows: rows}
    config: {code: "result = sum(row['x'] for row in rows) * params['scale']"}
  - name: made
    type: python
    cache: true
    config: {function: "touching:make"}
  - name: after
    type: script
    cache: true
    inputs: {made: made}
    config: {code: "result = made"}
  - {name: asks, type: script, cache: true, config: {code: "result = params['needed']"}}
  - {name: imports, type: script, cache: true, config: {code: "import touching; result = 1"}}
  - {name: plain, type: script, config: {code: "result = 1"}}
"""


def forecast(place):
    steps = fb.load(place / "work.flow.yaml").plan().steps
    return {step.task: step.cache for step in steps}


def test_plan_says_what_would_be_skipped_and_what_nobody_knows(place, monkeypatch):
    monkeypatch.syspath_prepend(place)
    (place / "data.csv").write_text("x\n1\n2\n")
    (place / "touching.py").write_text("open('touched', 'w').close()\ndef make():\n    return 1\n")
    (place / "work.flow.yaml").write_text(TEXT)

    before = forecast(place)
    assert before["rows"] == "would run: never cached"
    assert not (place / ".flowbuilder" / "cache").exists()
    fb.load(place / "work.flow.yaml").run(needed=5)
    (place / "touched").unlink()
    del sys.modules["touching"]
    after = forecast(place)

    assert after["rows"].startswith("would be skipped: kept ")
    assert after["total"].startswith("would be skipped: kept ")
    assert after["made"] == "unknown until it runs: its function is not imported to plan"
    assert after["after"] == "unknown until it runs: it depends on the output of 'made'"
    assert after["asks"].startswith("unknown until it runs: ")
    assert after["imports"] == "unknown until it runs: module 'touching' is not imported to plan"
    assert after["plain"] == ""
    assert not (place / "touched").exists()
    assert "touching" not in sys.modules

    (place / "data.csv").write_text("x\n1\n3\n")
    changed = forecast(place)
    assert changed["rows"] == "would run: file `data.csv` changed"
    assert changed["total"] == "unknown until it runs: it depends on the output of 'rows'"
    text = fb.load(place / "work.flow.yaml").plan().to_text()
    assert "would run: rows; unknown until it runs: total" in text
