"""The command line as processes: interrupts, control from outside, pipes."""

import json
import os
import signal
import subprocess
import sys

import pytest

from flowbuilder.cli.exit_codes import INTERRUPTED

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes of POSIX")

SLEEPS = {
    "shell": "{name: long, type: shell, config: {command: 'echo $$ > begun; exec sleep 60'}}",
    "sleep": "{name: long, type: script, config: {code: \"open('begun', 'w').write('x'); import time; time.sleep(60)\"}}",
    "busy": "{name: long, type: script, config: {code: \"open('begun', 'w').write('x')\\nwhile True: pass\"}}",
    "timer": "{name: long, type: sleep, depends_on: [mark], config: {duration: 60}}",
}
MARK = "{name: mark, type: script, config: {code: \"open('begun', 'w').write('x')\"}}"


def sleeping(flow, kind):
    first = f"  - {MARK}\n" if kind == "timer" else ""
    return flow(f"name: sleeping\ntasks:\n{first}  - {SLEEPS[kind]}\n")


@pytest.mark.parametrize("kind", SLEEPS)
def test_interrupt_cancels_the_run_and_returns_130(cli, flow, spawn, wait_for, tmp_path, kind):
    process = spawn("run", sleeping(flow, kind), "--json")
    begun = wait_for(tmp_path / "begun")

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    document = json.loads(out)
    states = {task["name"]: task["state"] for task in document["tasks"]}
    assert process.returncode == INTERRUPTED
    assert err == ""
    assert document["state"] == "cancelled"
    assert states["long"] == "cancelled"
    assert cli("runs", "show", "latest", "--json").json["state"] == "cancelled"
    if kind == "shell":
        with pytest.raises(ProcessLookupError):
            os.kill(int(begun), 0)


def test_two_interrupts_in_a_row_are_one(flow, spawn, wait_for, tmp_path):
    path = flow("""
        name: stubborn
        tasks:
          - {name: long, type: shell, config: {command: "trap '' INT TERM; echo x > begun; sleep 60 & wait; wait"}}
        """)
    process = spawn("run", path)
    wait_for(tmp_path / "begun")

    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)

    assert process.returncode == INTERRUPTED
    assert "Traceback" not in err


def test_termination_leaves_no_child_behind(flow, spawn, wait_for, tmp_path):
    process = spawn("run", sleeping(flow, "shell"))
    begun = wait_for(tmp_path / "begun")

    process.terminate()
    _, err = process.communicate(timeout=20)

    assert process.returncode == INTERRUPTED
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun), 0)


@pytest.mark.parametrize("executor", ["auto", "thread"])
@pytest.mark.parametrize("kind", ["sleep", "busy", "shell"])
def test_cancel_from_another_process(cli, flow, spawn, wait_for, tmp_path, kind, executor):
    process = spawn("run", sleeping(flow, kind), "--json", "--executor", executor)
    wait_for(tmp_path / "begun")
    wait_for(lambda: cli("runs", "list", "--json").json)

    answer = cli("cancel")

    out, _ = process.communicate(timeout=20)
    assert answer.code == 0
    assert answer.out.startswith("cancelled run ")
    assert json.loads(out)["state"] == "cancelled"
    assert process.returncode == 1
    again = cli("cancel", "latest")
    assert again.code == 1
    assert "which was cancelled" in again.err or "which cancelled" in again.err


@pytest.mark.parametrize("body", ["time.sleep(0.01)", "sum(range(20_000))"], ids=["sleep", "busy"])
def test_pause_and_resume_from_another_process(cli, flow, spawn, wait_for, tmp_path, body):
    loop = f"\n                while not os.path.exists('go'): {body}"
    path = flow(f"""
        name: steps
        tasks:
          - name: one
            type: script
            config:
              code: |
                import os, time
                open('begun', 'w').write('x'){loop}
          - {{name: two, type: script, depends_on: [one], config: {{code: "result = 2"}}}}
        """)
    process = spawn("run", path, "--json")
    wait_for(tmp_path / "begun")

    wait_for(lambda: cli("runs", "list", "--json").json)
    assert cli("pause").out.startswith("paused run ")
    (tmp_path / "go").write_text("")
    wait_for(lambda: cli("runs", "show", "latest", "--json").json["state"] == "paused")
    shown = cli("runs", "show", "latest", "--json").json
    assert {task["name"]: task["state"] for task in shown["tasks"]}["two"] == "pending"
    assert cli("resume", "latest").code == 0

    out, _ = process.communicate(timeout=20)
    assert json.loads(out)["outputs"] == {"two": 2}
    assert process.returncode == 0


def test_cancel_of_one_task_lets_the_others_end(cli, flow, spawn, wait_for, tmp_path):
    path = flow("""
        name: two
        tasks:
          - {name: long, type: shell, config: {command: "echo x > begun; sleep 60"}}
          - {name: short, type: script, config: {code: "result = 1"}}
        """)
    process = spawn("run", path, "--json")
    wait_for(tmp_path / "begun")

    assert cli("cancel", "latest", "--task", "nope").code == 1
    assert cli("cancel", "latest", "--task", "long").code == 0

    out, _ = process.communicate(timeout=20)
    states = {task["name"]: task["state"] for task in json.loads(out)["tasks"]}
    assert states == {"long": "cancelled", "short": "succeeded"}


def test_killed_run_is_called_interrupted_and_can_be_resumed(cli, flow, spawn, wait_for, tmp_path):
    path = flow("""
        name: killed
        tasks:
          - {name: done, type: script, config: {code: "result = 5"}}
          - name: long
            type: script
            inputs: {done: done}
            config:
              code: |
                import os, time
                if not os.path.exists('begun'):
                    open('begun', 'w').write('x')
                    time.sleep(60)
                result = done + 1
        """)
    process = spawn("run", path, "--durability", "task")
    wait_for(tmp_path / "begun")
    assert cli("runs", "rm", "latest").code == 1
    process.kill()
    process.wait()

    shown = cli("runs", "show", "latest")
    assert "state     interrupted" in shown.out
    assert f"pid {process.pid}" in shown.out
    refused = cli("cancel", "latest")
    assert refused.code == 1
    assert "is interrupted" in refused.err
    assert "flowbuilder run --resume" in refused.err

    assert cli("run", "--resume", "latest", "--json").json["outputs"] == {"long": 6}
    assert cli("runs", "rm", "latest").out == "removed 1 of 1 run\n"
    assert cli("runs", "list", "--json").json == []


def test_live_run_cannot_be_resumed_elsewhere(cli, flow, spawn, wait_for, tmp_path):
    process = spawn("run", sleeping(flow, "shell"))
    wait_for(tmp_path / "begun")

    answer = cli("run", "--resume", "latest")

    assert answer.code == 1
    assert f"pid {process.pid}" in answer.err


def test_logs_follow_a_live_run_to_its_end(cli, flow, spawn, wait_for, tmp_path):
    path = flow("""
        name: talk
        tasks:
          - name: say
            type: script
            config:
              code: |
                import os, sys, time
                print("one", flush=True)
                open('begun', 'w').write('x')
                while not os.path.exists('go'): time.sleep(0.01)
                print("two", file=sys.stderr)
        """)
    run = spawn("run", path, "--quiet")
    wait_for(tmp_path / "begun")
    logs = spawn("logs", "latest", "-f")

    assert logs.stdout.readline() == "say | one\n"
    (tmp_path / "go").write_text("")
    out, err = logs.communicate(timeout=20)

    assert (out, err) == ("say | two\n", "")
    assert logs.returncode == 0
    run.wait(timeout=20)


def test_logs_follow_ends_by_interrupt_with_130(flow, spawn, wait_for, tmp_path):
    spawn("run", sleeping(flow, "shell"))
    wait_for(tmp_path / "begun")
    logs = spawn("logs", "latest", "-f")
    # It has nothing to print; in this time it is past its start, whatever it does.
    with pytest.raises(subprocess.TimeoutExpired):
        logs.wait(timeout=1.0)

    logs.send_signal(signal.SIGINT)
    _, err = logs.communicate(timeout=20)

    assert logs.returncode == INTERRUPTED
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("command", "code"),
    [("runs events latest", 0), ("run many.flow.yaml", 0), ("run bad.flow.yaml", 1)],
)
def test_reader_that_goes_away_is_no_error(cli, flow, command, code):
    tasks = "".join(
        f"  - {{name: t{number}, type: script, config: {{code: 'result = {number}'}}}}\n"
        for number in range(30)
    )
    flow(f"name: many\ntasks:\n{tasks}", "many.flow.yaml")
    flow(
        f"name: bad\ntasks:\n{tasks}  - {{name: bad, type: shell, config: {{command: 'false'}}}}\n",
        "bad.flow.yaml",
    )
    cli("run", "many.flow.yaml")

    # The pipe is closed before the first byte: the strictest `| head`.
    script = f"{sys.executable} -u -m flowbuilder {command} 2>&1 | true; exit ${{PIPESTATUS[0]}}"
    process = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, timeout=30
    )

    assert process.returncode == code
    assert process.stderr == ""


def test_output_in_a_narrow_encoding_is_escaped(flow):
    path = flow(r"""
        name: narrow
        tasks: [{name: 清洗, type: script, config: {code: "result = 'é\u2713'"}}]
        """)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "flowbuilder", "run", str(path), *arguments],
            capture_output=True,
            env=environment,
            check=True,
            timeout=30,
        ).stdout

    assert b"##|" in run()
    assert json.loads(run("--json").decode("ascii"))["outputs"] == {"清洗": "é✓"}
