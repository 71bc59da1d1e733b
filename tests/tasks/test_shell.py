"""Shell tasks against real processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flowbuilder.errors import AuthorizationError, RunCancelledError, TaskFailedError
from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.runtime.cancel import CancelToken
from flowbuilder.tasks import captured_output, output_pump
from flowbuilder.tasks.captured_output import CapturedOutput, LineForwarder, OutputTooLargeError
from flowbuilder.tasks.process_group import ProcessGroup
from flowbuilder.tasks.shell import ShellTask
from flowbuilder.vocabulary import Effects

pytestmark = pytest.mark.skipif(os.name != "posix", reason="runs /bin/sh")


class Log:
    def __init__(self) -> None:
        self.chunks: list[tuple[str, str]] = []

    def __call__(self, stream: str, text: str) -> None:
        self.chunks.append((stream, text))

    def text(self, stream: str) -> str:
        return "".join(text for name, text in self.chunks if name == stream)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def shell(tmp_path: Path, log: Log) -> Callable[..., object]:
    def run(command: str | None = None, **given: object) -> object:
        fields = {
            name: given.pop(name)
            for name in ("inputs", "env", "policy", "cancel", "params")
            if name in given
        }
        environment = given.pop("variables", None)
        config = dict(given)
        if command is not None:
            config["command"] = command
        if environment is not None:
            config["env"] = environment
        call = TaskCall(
            name="build",
            key="build",
            run_id="r1",
            attempt=2,
            config=config,
            directory=tmp_path,
            scratch=tmp_path / "scratch",
            write=log,
            **fields,
        )
        return ShellTask().run(call)

    return run


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie nobody reaps does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    def wait(condition: Callable[[], bool]) -> None:
        pause = threading.Event()
        for _ in range(1000):
            if condition():
                return
            pause.wait(0.01)
        raise AssertionError("it did not happen within ten seconds")

    return wait


def test_output_is_text_without_its_last_line_break(shell):
    assert shell("echo one; echo two") == "one\ntwo"
    assert shell("printf 'a\\n\\n'") == "a\n"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("text", '{"a": [1]}'),
        ("json", {"a": [1]}),
        ("lines", ['{"a": [1]}']),
        ("bytes", b'{"a": [1]}\n'),
        ("none", None),
    ],
)
def test_output_takes_the_form_that_was_asked_for(shell, output, expected):
    assert shell("""echo '{"a": [1]}'""", output=output) == expected


def test_output_that_is_no_json_fails_with_its_beginning(shell):
    with pytest.raises(TaskFailedError, match=r"expected JSON.*'hello'"):
        shell("printf hello", output="json")


def test_argv_needs_no_shell(shell):
    assert shell(argv=["printf", "%s|%s|%s", "$(id)", "; rm -rf /", 3]) == "$(id)|; rm -rf /|3"


def test_exit_code_fails_with_code_and_last_words(shell):
    with pytest.raises(TaskFailedError) as caught:
        shell("echo working; echo 'no such table' >&2; exit 3")

    assert "exit code 3" in str(caught.value)
    assert "no such table" in str(caught.value)
    assert caught.value.error_type == "exit:3"
    assert caught.value.task == "build"


def test_signal_fails_with_its_name(shell):
    with pytest.raises(TaskFailedError, match="killed by SIGSEGV"):
        shell("kill -SEGV $$")


def test_success_codes_may_be_chosen(shell):
    assert shell("echo found; exit 1", success_codes=[0, 1]) == "found"
    with pytest.raises(TaskFailedError, match="exit code 0"):
        shell("true", success_codes=[1])


def test_absent_program_says_so(shell):
    with pytest.raises(TaskFailedError, match="'no-such-program' could not be started"):
        shell(argv=["no-such-program"])
    with pytest.raises(TaskFailedError, match=r"exit code 127.*is the program installed"):
        shell("no-such-program 2>/dev/null")


def test_stdin_is_closed(shell):
    assert shell("cat; echo end") == "end"


def test_environment_holds_inputs_run_and_own_variables(shell):
    text = shell(
        'echo "$FLOWBUILDER_INPUT_NAME|$FLOWBUILDER_INPUT_COUNT|$FLOWBUILDER_INPUT_TABLE'
        '|$FLOWBUILDER_RUN_ID|$FLOWBUILDER_TASK|$FLOWBUILDER_ATTEMPT|$A|$B|$C"',
        inputs={"name": "$(id)", "count": 3, "table": object()},
        env={"A": "task", "B": "task"},
        variables={"B": 7, "C": True},
    )

    assert text == "$(id)|3||r1|build|2|task|7|true"


def test_streams_arrive_while_the_command_runs(shell, log, tmp_path):
    """The command waits for a file that is only made when its first line arrives."""
    gate = tmp_path / "gate"
    seen: list[str] = []

    def write(stream: str, text: str) -> None:
        seen.append(text)
        gate.touch()

    call = TaskCall(
        name="t",
        key="t",
        run_id="r",
        attempt=1,
        config={"command": "echo first; while ! test -e gate; do sleep 0.01; done; echo second"},
        directory=tmp_path,
        scratch=tmp_path,
        write=write,
    )

    assert ShellTask().run(call) == "first\nsecond"
    assert seen == ["first\n", "second\n"]


def test_stderr_is_logged_apart(shell, log):
    shell("echo out; echo err >&2")

    assert (log.text("stdout"), log.text("stderr")) == ("out\n", "err\n")


def test_bytes_that_are_no_utf8_survive(shell, log):
    command = r"printf 'caf\351 \377\n'"

    assert shell(command) == "caf\ufffd \ufffd"
    assert shell(command, output="bytes") == b"caf\xe9 \xff\n"
    assert shell(command, encoding="latin-1") == "café ÿ"
    assert log.text("stdout").startswith("caf\ufffd")


def test_large_output_is_cut_and_spilled(shell, log, tmp_path):
    text = shell("head -c 300000 /dev/zero | tr '\\0' x", max_output_bytes=4096)

    assert isinstance(text, str)
    assert text.startswith("x" * 4096 + "\n[output cut after 4096 of 300000 bytes")
    (spilled,) = (tmp_path / "scratch").iterdir()
    assert str(spilled) in text
    assert spilled.stat().st_size == 300000
    assert len(log.text("stdout")) < 10_000


def test_large_json_names_the_limit(shell):
    with pytest.raises(TaskFailedError, match=r"at most 4096 bytes.*found 300000"):
        shell("head -c 300000 /dev/zero", output="json", max_output_bytes=4096)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_gigabyte_of_output_does_not_grow_memory(shell):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = shell("head -c 1000000000 /dev/zero", max_output_bytes=65536)

    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert "of 1000000000 bytes" in str(text)
    assert grown_kib < 20_000


def test_endless_output_is_stopped(shell, monkeypatch):
    monkeypatch.setattr("flowbuilder.tasks.captured_output.MAX_SPILL_BYTES", 1_000_000)
    real = CapturedOutput.__init__

    def small(self, limit_bytes, spill_path, *, max_spill_bytes=0):
        real(self, limit_bytes, spill_path, max_spill_bytes=captured_output.MAX_SPILL_BYTES)

    monkeypatch.setattr(CapturedOutput, "__init__", small)
    with pytest.raises(TaskFailedError, match="was stopped"):
        shell("yes")


def test_cwd_is_relative_to_the_workflow(shell, tmp_path):
    (tmp_path / "sub").mkdir()

    assert shell("pwd", cwd="sub") == str((tmp_path / "sub").resolve())
    with pytest.raises(TaskFailedError, match="does not exist"):
        shell("pwd", cwd="absent")


@pytest.mark.parametrize("cwd", ["..", "/", "link"])
def test_restricted_cwd_stays_inside(shell, tmp_path, cwd):
    (tmp_path / "link").symlink_to("/")

    assert shell("pwd", cwd=cwd)
    with pytest.raises(AuthorizationError, match="inside the workflow's folder"):
        shell("pwd", cwd=cwd, policy="restricted")


def cancel_when(token: CancelToken, file: Path) -> threading.Thread:
    def watch() -> None:
        pause = threading.Event()
        while not file.exists():
            pause.wait(0.005)
        token.cancel()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_cancel_ends_the_command_and_its_children(shell, tmp_path, wait_until):
    token = CancelToken()
    watcher = cancel_when(token, tmp_path / "ready")

    with pytest.raises(RunCancelledError):
        shell("sleep 100 & echo $! > child; touch ready; sleep 100", cancel=token)
    watcher.join()

    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not is_alive(child))


def test_cancel_kills_what_ignores_term(shell, tmp_path, monkeypatch, wait_until):
    real = ProcessGroup.__init__
    monkeypatch.setattr(
        ProcessGroup,
        "__init__",
        lambda self, argv, **kwargs: real(self, argv, **{**kwargs, "grace_s": 0.2}),
    )
    token = CancelToken()
    watcher = cancel_when(token, tmp_path / "ready")

    with pytest.raises(RunCancelledError):
        shell(
            "trap '' TERM; echo $$ > child; touch ready; while true; do sleep 0.05; done",
            cancel=token,
        )
    watcher.join()

    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not is_alive(child))


def test_cancelled_before_the_start_runs_nothing(shell, tmp_path):
    token = CancelToken()
    token.cancel()

    with pytest.raises(RunCancelledError):
        shell("touch made", cancel=token)
    assert not (tmp_path / "made").exists()


def test_cancel_after_the_end_signals_nobody(shell, monkeypatch):
    token = CancelToken()
    assert shell("echo done", cancel=token) == "done"

    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("a finished group was signalled"))
    token.cancel()


def test_background_child_does_not_outlive_the_task(shell, tmp_path, wait_until):
    assert shell("sleep 100 > /dev/null 2>&1 & echo $! > child; echo done") == "done"

    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not is_alive(child))


def test_child_that_left_the_group_does_not_hold_the_task(shell, tmp_path):
    """A daemon keeps the pipe open; the task ends all the same."""
    try:
        assert shell("setsid sh -c 'echo $$ > child; exec sleep 100' & sleep 0.2; echo done") == (
            "done"
        )
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_interrupt_kills_the_command(shell, tmp_path, wait_until, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flowbuilder.tasks.command.pump", interrupted)
    started: list[int] = []
    real = ProcessGroup.__init__

    def remember(self, argv, **kwargs):
        real(self, argv, **kwargs)
        started.append(self.process.pid)

    monkeypatch.setattr(ProcessGroup, "__init__", remember)

    with pytest.raises(KeyboardInterrupt):
        shell("sleep 100")
    assert not is_alive(started[0])


@pytest.mark.parametrize("pump", [output_pump.pump_by_selector, output_pump.pump_by_threads])
def test_pumps_agree(pump, tmp_path):
    group = ProcessGroup(
        ["/bin/sh", "-c", "for i in 1 2 3; do echo $i; echo e$i >&2; done"],
        cwd=tmp_path,
        env=dict(os.environ),
    )
    out, err = bytearray(), bytearray()
    assert group.process.stdout is not None
    assert group.process.stderr is not None

    with group.process.stdout as stdout, group.process.stderr as stderr:
        pump(group, {stdout: out.extend, stderr: err.extend}, CancelToken())

    assert group.finish() == 0
    assert (bytes(out), bytes(err)) == (b"1\n2\n3\n", b"e1\ne2\ne3\n")


@pytest.mark.parametrize("pump", [output_pump.pump_by_selector, output_pump.pump_by_threads])
def test_pumps_stop_when_cancelled(pump, tmp_path):
    group = ProcessGroup(["sleep", "100"], cwd=tmp_path, env=dict(os.environ))
    token = CancelToken()
    assert group.process.stdout is not None
    assert group.process.stderr is not None

    def take(_: bytes) -> None:
        raise AssertionError

    timer = threading.Timer(0.05, token.cancel)
    timer.start()
    with group.process.stdout as stdout, group.process.stderr as stderr:
        pump(group, {stdout: take, stderr: take}, token)

    assert group.finish() == -signal.SIGTERM
    timer.join()


def test_pump_works_without_process_handles(shell, monkeypatch):
    monkeypatch.setattr(output_pump, "_open_exit_handle", lambda _pid: None)

    assert shell("echo one; exec >&- 2>&-; sleep 0.1") == "one"


def test_captured_output_refuses_what_is_endless(tmp_path):
    capture = CapturedOutput(10, tmp_path / "a" / "b", max_spill_bytes=100)
    capture.feed(b"x" * 60)

    with pytest.raises(OutputTooLargeError):
        capture.feed(b"x" * 60)
    capture.close()
    assert (tmp_path / "a" / "b").read_bytes() == b"x" * 60


def test_line_forwarder_keeps_characters_whole():
    seen: list[str] = []
    forwarder = LineForwarder(seen.append, "utf-8", limit_bytes=100, tail_chars=4)
    for byte in "né\nab€\ncd".encode():
        forwarder.feed(bytes([byte]))
    forwarder.close()

    assert seen == ["né\n", "ab€\n", "cd"]
    assert forwarder.tail() == "€\ncd"


def test_line_forwarder_stops_at_its_limit_with_one_note():
    seen: list[str] = []
    forwarder = LineForwarder(seen.append, "utf-8", limit_bytes=10)
    for _ in range(100):
        forwarder.feed(b"12345678\n")
    forwarder.close()

    assert "".join(seen).count("not logged") == 1
    assert len("".join(seen)) < 100


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "found neither"),
        ({"command": "x", "argv": ["y"]}, "found both"),
        ({"command": " ${{ params.command }}\n"}, "one word"),
        ({"command": "x", "encoding": "no-such"}, "no-such"),
        ({"command": "x", "encoding": "utf\0"}, "encoding"),
    ],
)
def test_check_finds_mistakes(config, message, tmp_path):
    (finding,) = ShellTask().check(config, tmp_path)

    assert message in finding.message


def test_check_accepts_what_is_right(tmp_path):
    assert list(ShellTask().check({"argv": ["x"]}, tmp_path)) == []
    assert ShellTask().effects({"command": "x"}) is Effects.EXTERNAL


def test_run_imports_no_asyncio():
    import subprocess

    code = (
        "import sys\n"
        "from flowbuilder.plugins.task_type import TaskCall\n"
        "from flowbuilder.tasks.shell import ShellTask\n"
        "call = TaskCall(name='t', key='t', run_id='r', attempt=1, config={'command': 'echo hi'})\n"
        "assert ShellTask().run(call) == 'hi'\n"
        "heavy = {'asyncio', 'httpx', 'rich', 'cel.cel', 'importlib.metadata'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
