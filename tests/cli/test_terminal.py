"""What a person sees on a terminal: a pseudo-terminal with a small model of its screen."""

import os
import re

import pytest

from flowbuilder.api.display_text import cell_width, fit_cells, one_line, visible_text
from flowbuilder.cli.log_text import LogPrinter
from flowbuilder.records import LogChunk

pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

SLOW = """
    name: slow
    tasks:
      - {name: first, type: shell, config: {command: "sleep 0.7"}}
      - {name: second, type: script, depends_on: [first], config: {code: "result = 1"}}
    """


class Screen:
    """Enough of a terminal to replay what rich and we print: text, lines, up, erase, colours."""

    _TOKEN = re.compile(r"\x1b\[\??([0-9;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]")

    def __init__(self):
        self.lines, self.row, self.column = [""], 0, 0
        self.was_live = False

    def feed(self, text):
        position = 0
        for token in self._TOKEN.finditer(text):
            assert token.start() == position, f"unknown sequence {text[position : position + 12]!r}"
            position = token.end()
            self._apply(token)
        return self

    def _apply(self, token):
        character, number, command = token.group(), token[1], token[2]
        if character == "\n":
            self.row += 1
            if self.row == len(self.lines):
                self.lines.append("")
        elif character == "\r":
            self.column = 0
        elif command == "A":
            self.row = max(0, self.row - int(number or 1))
        elif command == "K":
            self.lines[self.row] = "" if number == "2" else self.lines[self.row][: self.column]
        elif command in {"m", "h", "l"}:
            self.was_live = self.was_live or command == "l"
        else:
            assert command is None, f"unexpected {character!r}"
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self.lines).strip("\n")


@pytest.fixture
def terminal(spawn):
    """Run the command line on a pseudo-terminal; give all it wrote and its exit code."""

    def run(*arguments, columns=100, rows=30, **environment):
        leader, follower = pty.openpty()
        termios.tcsetwinsize(follower, (rows, columns)) if hasattr(
            termios, "tcsetwinsize"
        ) else None
        environment = {**os.environ, "TERM": "xterm-256color", **environment}
        environment.update(COLUMNS=str(columns), LINES=str(rows))
        process = spawn(*arguments, stdout=follower, stderr=follower, env=environment)
        os.close(follower)
        parts = []
        while True:
            try:
                part = os.read(leader, 65_536)
            except OSError:
                break
            if not part:
                break
            parts.append(part)
        os.close(leader)
        return b"".join(parts).decode(), process.wait(20)

    return run


def test_short_run_shows_no_live_view(terminal, flow):
    written, code = terminal(
        "run", flow("name: x\ntasks:\n  - {name: a, type: script, config: {code: 'result = 1'}}\n")
    )

    assert code == 0
    assert "\x1b" not in written


@pytest.mark.parametrize("columns", [100, 44])
def test_live_view_appears_and_leaves_nothing_behind(terminal, flow, columns):
    path = flow(SLOW)
    written, code = terminal("run", path, columns=columns)

    screen = Screen().feed(written)
    assert code == 0
    assert "0/2" in written
    assert "▶" in written
    assert screen.was_live
    assert "▶" not in screen.text
    assert "0/2" not in screen.text
    assert screen.text.startswith("first ")
    assert all(len(line) <= columns for line in screen.text.splitlines()[:3])


def test_live_view_is_not_taken_for_output_of_the_run(terminal, cli, flow):
    terminal("run", flow(SLOW))

    assert cli("logs", "latest").out == ""


def test_quiet_and_json_show_no_live_view(terminal, flow):
    path = flow(SLOW)

    assert terminal("run", path, "--quiet")[0] == ""
    assert "\x1b" not in terminal("run", path, "--json")[0]


def test_dumb_terminal_gets_no_escape_sequences(terminal, flow):
    written, code = terminal("run", flow(SLOW), TERM="dumb")

    assert code == 0
    assert "\x1b" not in written


def test_lines_replace_the_live_view_where_nobody_watches(spawn, flow):
    process = spawn("run", flow(SLOW))

    _, err = process.communicate(timeout=20)

    assert re.fullmatch(r"succeeded +\d+ms  first\nsucceeded +\d+[um]s  second\n", err)


def chunk(text, instance=0, stream="stdout"):
    return LogChunk(
        instance=instance, attempt=1, stream=stream, text=text, level="", time_ns=0, seq=0
    )


def printed(*chunks, task=None, **options):
    import io

    out = io.StringIO()
    printer = LogPrinter(out, ("a", "b"), task, **{"is_terminal": False} | options)
    for item in chunks:
        printer.show(item)
    printer.end()
    return out.getvalue()


def test_logs_of_one_task_are_written_byte_for_byte_to_a_file():
    text = "50%\r100%\n\x1b[2Jend"

    assert printed(chunk(text), chunk("other", 1), task="a") == text


def test_logs_of_all_tasks_are_joined_to_whole_lines():
    chunks = (
        chunk("one"),
        chunk("from b\n", 1),
        chunk(" line\ntail"),
        chunk("err\n", stream="stderr"),
    )

    assert printed(*chunks) == "b | from b\na | one line\na | err\na | tail\n"


def test_logs_on_a_terminal_keep_colours_and_show_other_sequences():
    text = "\x1b[31mred\x1b[0m \x1b[2J\x1b]0;title\x07\rover\n"

    shown = printed(chunk(text), is_terminal=True)

    assert shown == "a | \x1b[31mred\x1b[0m \\x1b[2J\\x1b]0;title\\x07\x1b[0m\na | over\n"
    assert "\x1b" not in printed(chunk(text), is_terminal=True, has_colour=False)


def test_log_text_cannot_pretend_to_be_another_tasks_line():
    assert printed(chunk("x\nb | forged\r\nb | more\n")) == "a | x\na | b | forged\na | b | more\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 清", "plain ü 清"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb\u200b\ufeff", "a\\u202eb\\u200b\\ufeff"),
        ("\ud800", "\\ud800"),
    ],
)
def test_one_line_shows_what_it_cannot_print(text, shown):
    assert one_line(text) == shown


def test_visible_text_keeps_lines():
    assert visible_text("a\r\n\tb\rc") == "a\n\tb\\rc"


def test_cells_count_what_a_terminal_draws():
    assert cell_width("清洗") == 4
    assert cell_width("e\u0301") == 1
    assert fit_cells("清洗数据", 6) == "清洗… "
    assert fit_cells("ab", 4) == "ab  "
    assert cell_width(fit_cells("清" * 50, 9)) == 9
