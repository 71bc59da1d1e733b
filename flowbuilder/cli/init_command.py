"""``flowbuilder init``: a new workflow file from a template."""

from __future__ import annotations

import argparse
from pathlib import Path

from flowbuilder.cli.exit_codes import OK
from flowbuilder.errors import FlowBuilderError

__all__ = ["add_arguments", "execute"]

_TEMPLATES = Path(__file__).parent / "templates"


def template_names() -> list[str]:
    """List the templates that ship with the package."""
    return sorted(path.name.removesuffix(".flow.yaml") for path in _TEMPLATES.glob("*.flow.yaml"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "template", nargs="?", default="hello", choices=template_names(), help="default: hello"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="default: TEMPLATE.flow.yaml")
    parser.set_defaults(handler=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    target = Path(arguments.output or f"{arguments.template}.flow.yaml")
    text = (_TEMPLATES / f"{arguments.template}.flow.yaml").read_text(encoding="utf-8")
    try:
        # 'x' never overwrites, whatever happens between looking and writing.
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise FlowBuilderError(
            f"expected to write a new file, found {str(target)!r} already there",
            hint="choose another with -o",
        ) from None
    except OSError as error:
        raise FlowBuilderError(f"cannot write {str(target)!r}: {error.strerror}") from error
    print(f"wrote {target}; run it with: flowbuilder run {target}")
    return OK
