"""Entry point: find the command, run it, turn errors into messages and exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from flowbuilder.cli.exit_codes import FAILED, INTERRUPTED, INVALID, OK
from flowbuilder.cli.screen import make_printable, whole_pipe
from flowbuilder.cli.start_up import begin_start_up, leave_rest
from flowbuilder.errors import (
    ConfigurationError,
    FlowBuilderError,
    InternalError,
    WorkflowError,
    WorkflowValidationError,
)

__all__ = ["main"]

_COMMANDS = {
    "run": ("run", "run a workflow, or resume a run"),
    "validate": ("validate", "find everything wrong with workflow files, without running them"),
    "plan": ("plan", "explain what a run would do"),
    "runs": ("runs", "list, show and remove recorded runs"),
    "logs": ("logs", "show what tasks printed"),
    "sql": ("sql", "ask everything that was recorded, in SQL"),
    "search": ("search", "find a text in workflows, runs, logs and errors"),
    "cache": ("cache", "list, forget and count kept outputs of cached tasks"),
    "cancel": ("control", "cancel a run that is alive"),
    "pause": ("control", "let nothing new start in a run that is alive"),
    "resume": ("control", "let a paused run go on"),
    "store": ("store", "look after what is recorded"),
    "init": ("init", "write a new workflow file from a template"),
    "schema": ("schema", "print the JSON Schema of workflow files, for editors"),
    "tasks": ("tasks", "list the task types that can be used here"),
    "trust": ("trust", "allow the project plugins of a folder to be loaded"),
    "doctor": ("doctor", "check this installation and show the places it uses"),
    "version": ("version", "print the version"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        0 success, 1 the run failed, 2 invalid workflow or usage, 130 interrupted.
    """
    if argv is not None:
        return _main(argv)
    begin_start_up()
    try:
        return _main(sys.argv[1:])
    finally:
        leave_rest()


def _main(argv: Sequence[str]) -> int:
    make_printable()
    with whole_pipe():
        return _run(list(argv))


def _run(arguments: list[str]) -> int:
    parsed = None
    try:
        parsed = _parse(arguments)
        return int(parsed.handler(parsed))
    except SystemExit as end:
        # The parser has printed what it had to say.
        return end.code if isinstance(end.code, int) else INVALID
    except KeyboardInterrupt:
        return INTERRUPTED
    except FlowBuilderError as error:
        if getattr(parsed, "json", False):
            from flowbuilder.cli.documents import error_document, print_json

            print_json(error_document(error))
        print_error(error)
        return INVALID if isinstance(error, WorkflowError | ConfigurationError) else FAILED


def print_error(error: FlowBuilderError) -> None:
    """Print an error for people, on stderr."""
    from flowbuilder.api.display_text import visible_text

    sys.stdout.flush()
    if isinstance(error, WorkflowValidationError):
        lines = [str(problem) for problem in error.problems]
    else:
        lines = [f"flowbuilder: {error}"]
    if isinstance(error, InternalError):
        lines.append("This is a bug in FlowBuilder; please report it with the message above.")
    print(visible_text("\n".join(lines)), file=sys.stderr)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="flowbuilder",
        description="Jupyter-native workflows: one file, no server, every run recorded.",
        epilog="Exit codes: 0 success, 1 the run failed, 2 invalid workflow or usage,"
        " 130 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    # Only the parser of the command in use is built: the others cost time at every start.
    wanted = next((word for word in arguments if not word.startswith("-")), "")
    if wanted and wanted not in _COMMANDS:
        import difflib

        near = difflib.get_close_matches(wanted, _COMMANDS, 1)
        raise ConfigurationError(
            f"expected a command, found {wanted!r}",
            hint=f"did you mean {near[0]!r}?" if near else "'flowbuilder --help' lists them",
        )
    for name, (module, summary) in _COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            allow_abbrev=False,
        )
        if name == wanted:
            import_module(f"flowbuilder.cli.{module}_command").add_arguments(sub)
    parsed = parser.parse_args(arguments)
    if parsed.version:
        from flowbuilder._version import __version__

        print(__version__)
        raise SystemExit(OK)
    if not parsed.command:
        parser.print_help()
        raise SystemExit(INVALID)
    return parsed
