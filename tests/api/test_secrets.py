"""Secret values appear nowhere the engine writes."""

import base64
import urllib.parse

import pytest

import flowbuilder as fb
from flowbuilder.errors import RunError

SECRET = 'p@ss/w"ord\\ü-7f3a9'

FLOW = """
name: secretive
env: [SHOP_TOKEN]
params: {note: {type: string, default: ""}}
secrets: {token: SHOP_TOKEN}
tasks:
  - name: say
    type: script
    config:
      code: |
        import base64, json, logging, os, sys, urllib.parse
        value = os.environ["SHOP_TOKEN"]
        print("plain", value)
        print("quoted", urllib.parse.quote(value), urllib.parse.quote(value, safe=""))
        print("plus", urllib.parse.quote_plus(value))
        print("json", json.dumps(value), json.dumps(value, ensure_ascii=False))
        print("base64", base64.b64encode(value.encode()).decode())
        print("in base64", base64.b64encode(("user:" + value).encode()).decode())
        print("repr", repr(value))
        print("url", f"https://user:{value}@example.org/?t={value}")
        sys.stderr.write(value + "\\n")
        logging.getLogger("x").error("token is %s", value)
        sys.stdout.write(value[:6]); sys.stdout.write(value[6:] + "\\n")
        result = {"deep": ["token " + value], value: 1}
  - name: shell
    type: shell
    config: {argv: [printf, "%s", "${{ secrets.token }}"]}
  - name: fail
    type: script
    depends_on: [say]
    config:
      code: |
        import os
        token = os.environ["SHOP_TOKEN"]
        def deep(value):
            raise ValueError(f"cannot log in with {value}")
        deep(token)
"""


def forms(secret):
    yield secret
    yield urllib.parse.quote(secret)
    yield urllib.parse.quote(secret, safe="")
    yield urllib.parse.quote_plus(secret)
    yield base64.b64encode(secret.encode()).decode().rstrip("=")
    yield repr(secret)[1:-1]


def leaks(text):
    return sorted({form for form in forms(SECRET) if form in text})


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("SHOP_TOKEN", SECRET)
    return fb.loads(FLOW).run(check=False, echo=False, note=f"use {SECRET} please")


def test_logs_hold_no_secret(run):
    text = run.logs()

    assert "plain ***" in text
    assert "token is ***" in text
    assert leaks(text) == []


def test_errors_and_reports_hold_no_secret(run):
    past = fb.last_run()
    shown = [
        str(run.error),
        repr(run),
        run.explain("fail"),
        run.timeline(),
        getattr(run.error, "traceback", ""),
        str([task.error for task in run.task_runs]),
        str([task.error for task in past.task_runs]),
        str(past.summary),
        repr(past),
    ]

    assert "cannot log in with ***" in run.explain("fail")
    assert [leaks(text) for text in shown] == [[]] * len(shown)
    with pytest.raises(RunError) as caught:
        run.raise_for_state()
    assert leaks(str(caught.value)) == []


def test_store_holds_no_secret(run, tmp_path):
    fb.api.container.close_containers() if hasattr(fb, "api") else None
    found = {}
    for path in (tmp_path / ".flowbuilder").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            names = [form for form in forms(SECRET) if form.encode() in data]
            if names:
                found[path.name] = names

    assert found == {}


def test_events_hold_no_secret(run):
    assert leaks(repr(list(run.events()))) == []


def test_values_in_memory_are_the_real_ones(run):
    assert run["shell"] == SECRET
    assert run["say"] == {"deep": [f"token {SECRET}"], SECRET: 1}


def test_missing_secret_is_named_before_anything_runs(monkeypatch):
    monkeypatch.delenv("SHOP_TOKEN", raising=False)

    with pytest.raises(fb.FlowBuilderError, match="SHOP_TOKEN"):
        fb.loads(FLOW.replace("env: [SHOP_TOKEN]\n", "")).run(echo=False, to="shell")
