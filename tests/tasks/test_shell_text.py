"""Templates in shell commands: values reach the shell as variables only."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbuilder.errors import ExpressionError
from flowbuilder.tasks.shell_text import externalise

VALUE = "FLOWBUILDER_VALUE_1"


def run(command: str, value: str) -> str:
    done = subprocess.run(
        ["/bin/sh", "-c", externalise(command).text],
        env={**os.environ, VALUE: value, "FLOWBUILDER_VALUE_2": "two"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return done.stdout.decode()


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("echo ${{ params.x }}", 'echo "${FLOWBUILDER_VALUE_1}"'),
        ('echo "a ${{ params.x }} b"', 'echo "a ${FLOWBUILDER_VALUE_1} b"'),
        ("echo 'a ${{ params.x }} b'", "echo 'a '\"${FLOWBUILDER_VALUE_1}\"' b'"),
        ('echo \\" ${{ params.x }}', 'echo \\" "${FLOWBUILDER_VALUE_1}"'),
        ("echo nothing", "echo nothing"),
        ("echo $${{ literal }}", "echo ${{ literal }}"),
    ],
)
def test_externalise_quotes_by_place(command, text):
    assert externalise(command).text == text


def test_externalise_names_each_value():
    found = externalise("cp ${{ params.a }} ${{ tasks['x-y'].output.path }}")

    assert {name: item.text for name, item in found.values.items()} == {
        "FLOWBUILDER_VALUE_1": "params.a",
        "FLOWBUILDER_VALUE_2": "tasks['x-y'].output.path",
    }


def test_externalise_refuses_platforms_that_expand_text():
    with pytest.raises(ExpressionError, match="not safe"):
        externalise("echo ${{ params.x }}", platform="nt")
    assert externalise("echo hi", platform="nt").text == "echo hi"


@pytest.mark.skipif(os.name != "posix", reason="runs /bin/sh")
@pytest.mark.parametrize(
    "template",
    [
        "printf %s ${{ params.x }}",
        'printf %s "${{ params.x }}"',
        "printf %s '${{ params.x }}'",
        'printf %s "$(printf %s "${{ params.x }}")"',
        "printf %s a${{ params.x }}b",
    ],
)
@settings(max_examples=12, deadline=None)
@given(
    value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
    | st.sampled_from(
        ["$(id)", "`id`", "'; id; '", '"; id; "', "$HOME", "a\\", "*", "-n", "a  b\tc"]
    )
)
def test_no_value_is_ever_parsed(template, value):
    if "$(" in template:
        value = value.rstrip("\n")  # command substitution drops these itself
    expected = f"a{value}b" if "a${{" in template else value

    assert run(template, value) == expected
