"""Scripts: namespace, output, and errors that point at lines of the workflow file."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flowbuilder.errors import Location, TaskFailedError
from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.tasks.script import ScriptTask
from flowbuilder.tasks.tracebacks import user_traceback

FILE = "flows/pipeline.flow.yaml"


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., object]:
    """Run code that stands at line 14 of a workflow file."""

    def run(
        code: str, *, first_line: int = 14, language: str = "python", **fields: object
    ) -> object:
        call = make_call(tmp_path, code, first_line, language, **fields)
        call.captured_stdout = lambda: capsys.readouterr().out
        return ScriptTask().run(call)

    return run


def make_call(
    directory: Path, code: str, first_line: int, language: str, **fields: object
) -> TaskCall:
    options = fields.pop("options", {})
    return TaskCall(
        name="process",
        key="process",
        run_id="r",
        attempt=1,
        config={"language": language, "code": code, **options},
        directory=directory,
        scratch=directory / "scratch",
        locate=lambda _path, line: Location(FILE, first_line + line - 1, 9),
        **fields,
    )


def test_output_is_result_if_set(script):
    assert script("result = {'count': 3}\nprint('ignored')") == {"count": 3}
    assert script("result = None\nprint('ignored')") is None


def test_output_is_what_was_printed_otherwise(script):
    assert script("print('a')\nprint('b')") == "a\nb"
    assert script("import sys; sys.stdout.write('c')") == "c"
    assert script("x = 1") == ""


def test_namespace_offers_inputs_params_and_ports(script):
    rows = [1, 2]
    code = "result = (inputs['rows'] is rows, params['n'], input_data, __name__)"

    result = script(code, inputs={"rows": rows}, params={"n": 5}, input_data=lambda: "text")

    assert result == (True, 5, "text", "__flow__")


def test_port_never_hides_reserved_names(script):
    inputs = {"result": 1, "params": 2, "inputs": 3, "input_data": 4}

    assert script("print(sorted(inputs), params, input_data)", inputs=inputs) == (
        "['input_data', 'inputs', 'params', 'result'] {} None"
    )


def test_input_data_is_fetched_only_if_mentioned(script):
    def fetch() -> object:
        raise AssertionError

    assert script("result = 1", input_data=fetch) == 1
    with pytest.raises(AssertionError):
        script("input_data", input_data=fetch)


def test_names_are_global_to_functions_and_comprehensions(script):
    code = "import math\nn = 3\ndef area(r):\n    return [math.floor(r) * n for _ in range(2)]\nresult = area(2.5)"

    assert script(code) == [6, 6]


def test_scripts_share_nothing(script):
    script("leaked = 1")

    with pytest.raises(NameError):
        script("leaked")


def test_dataclass_with_text_annotations_works(script):
    code = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Row:\n    n: int = 2\nresult = Row().n"
    )

    assert script(code) == 2


@pytest.mark.parametrize(
    "code", ["import sys; sys.exit()", "import sys; sys.exit(0)", "raise SystemExit"]
)
def test_exit_without_a_code_ends_early(script, code):
    assert script(f"result = 1\n{code}\nresult = 2") == 1


@pytest.mark.parametrize("argument", ["1", "'bad input'"])
def test_exit_with_a_code_fails_at_its_line(script, argument):
    with pytest.raises(TaskFailedError, match=r"sys\.exit") as caught:
        script(f"import sys\nsys.exit({argument})")

    assert caught.value.location == Location(FILE, 15)


def test_error_points_at_the_yaml_line(script):
    code = "import json\ndata = json.loads('[1]')\nwhen = datetime.now()\n"

    with pytest.raises(NameError) as caught:
        script(code)
    text, location = user_traceback(caught.value)

    assert location == Location(FILE, 16)
    assert f'File "{FILE}", line 16, in <module>' in text
    assert "    when = datetime.now()" in text
    assert "from datetime import datetime" in text
    assert "script_body" not in text


def test_error_inside_a_library_still_points_at_the_script(script):
    with pytest.raises(TypeError) as caught:
        script("import json\n\njson.dumps({'at': object()})")
    text, location = user_traceback(caught.value)

    assert location == Location(FILE, 16)
    assert "json/encoder.py" in text.replace(os.sep, "/")


def test_syntax_error_points_at_the_yaml_line(script):
    with pytest.raises(SyntaxError) as caught:
        script("x = 1\ny = = 2\n")
    text, location = user_traceback(caught.value)

    assert location is not None
    assert (location.file, location.line) == (FILE, 15)
    assert "y = = 2" in text


def test_text_whose_lines_do_not_follow_keeps_its_own_numbers(tmp_path):
    """A folded or quoted scalar: every line is located at the scalar."""
    call = make_call(tmp_path, "x = 1\ny = 2\n1 / 0", 14, "python")
    call.locate = lambda _path, _line: Location(FILE, 14)

    with pytest.raises(ZeroDivisionError) as caught:
        ScriptTask().run(call)
    text, location = user_traceback(caught.value)

    assert location == Location("<code of task process>", 3)
    assert "1 / 0" in text


def test_values_of_variables_are_not_shown(script):
    with pytest.raises(ValueError, match="no") as caught:
        script("password = 'hunter' + '2'\nraise ValueError('no')")

    assert "hunter2" not in user_traceback(caught.value)[0]


def test_remote_call_pickles_and_captures_print(tmp_path, capsys):
    code = "print('seen')\nprint(params['n'] + inputs['a'] + len(input_data))"
    call = make_call(
        tmp_path, code, 3, "python", params={"n": 1}, inputs={"a": 2}, input_data=lambda: "abc"
    )

    remote = pickle.loads(pickle.dumps(ScriptTask().remote(call)))
    before = sys.stdout
    output = remote.function(*remote.args, **remote.kwargs)

    assert output == "seen\n6"
    assert capsys.readouterr().out == "seen\n6\n"
    assert sys.stdout is before


def test_bash_cannot_leave(tmp_path):
    assert not ScriptTask().can_leave({"language": "bash"})
    assert ScriptTask().can_leave({"code": "1"})


bash = pytest.mark.skipif(os.name != "posix", reason="runs bash")


@bash
def test_bash_prints_its_output(script):
    code = "for x in a b; do echo $x; done\n[[ -n $FLOWBUILDER_PARAM_LIMIT ]] && echo $FLOWBUILDER_PARAM_LIMIT"

    assert script(code, language="bash", params={"limit": 5, "frame": object()}) == "a\nb\n5"


@bash
def test_bash_stops_at_the_first_failing_command(script):
    with pytest.raises(TaskFailedError, match="exit code 1"):
        script("false | cat\necho reached", language="bash")


@bash
def test_bash_takes_code_longer_than_an_argument(script):
    code = "# " + "x" * 300_000 + "\necho done"

    assert script(code, language="bash") == "done"


@bash
def test_bash_leaves_templates_alone(script):
    assert script("cat <<'END'\n${{ params.x }}\nEND", language="bash") == "${{ params.x }}"


def findings(config: dict[str, object]) -> list[tuple[str, object, str]]:
    found = ScriptTask().check(config, Path())
    return [(item.message, item.line, item.severity) for item in found]


def test_check_finds_syntax_errors_with_their_line():
    ((message, line, severity),) = findings({"code": "x = 1\nif x\n    pass\n"})

    assert "not valid Python" in message
    assert (line, severity) == (2, "error")


@pytest.mark.parametrize("code", ["(" * 5000, "x = '\0'", "def f():\n", "'''", "\ud800"])
def test_check_survives_any_text(code):
    ((message, line, _),) = findings({"code": code})

    assert "not valid Python" in message
    assert isinstance(line, int)
    assert 1 <= line <= code.count("\n") + 1


def test_check_warns_of_templates():
    ((message, line, severity),) = findings({"code": "x = 1\ny = '${{ params.x }}'"})

    assert "no meaning inside code" in message
    assert (line, severity) == (2, "warning")


def test_check_reads_no_bash_and_refuses_its_settings_on_python():
    assert findings({"language": "bash", "code": "if [ -f x ]; then", "cwd": "."}) == []
    assert [item[0] for item in findings({"code": "1", "cwd": "."})] == [
        "'cwd' is not for Python code"
    ]


def test_check_inputs_warns_of_hidden_ports():
    found = list(ScriptTask().check_inputs({"code": ""}, ["rows", "result"], Path()))

    assert [item.severity for item in found] == ["warning"]
    assert "'result'" in found[0].message


def test_script_imports_modules_beside_the_workflow(tmp_path, monkeypatch):
    """Whatever ran before it: a `python` task would have made the folder importable."""
    import sys

    import flowbuilder as fb

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "script_neighbour.py").write_text("ANSWER = 42\n")
    (tmp_path / "s.flow.yaml").write_text(
        "name: s\ntasks:\n  - name: a\n    type: script\n"
        "    config: {code: 'import script_neighbour; result = script_neighbour.ANSWER'}\n"
    )

    run = fb.load(tmp_path / "s.flow.yaml", data_dir=tmp_path / "store").run()

    assert run["a"] == 42
    sys.modules.pop("script_neighbour")
