"""``flowbuilder tasks``: the task types that can be used here."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from flowbuilder.cli.documents import print_json
from flowbuilder.cli.exit_codes import OK
from flowbuilder.errors import PluginError

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("name", nargs="?", help="show the config of one type")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(handler=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from flowbuilder.config import find_data_dir
    from flowbuilder.tasks import default_registry

    registry = default_registry(find_data_dir(Path.cwd() / "_").parent)
    names = list(registry.names())
    if arguments.name is not None:
        _check_name(arguments.name, names)
        names = [arguments.name]
    described = [registry.describe(name) for name in names]
    if arguments.json:
        print_json([msgspec.structs.asdict(item) for item in described])
        return OK
    width = max((len(item.name) for item in described), default=0)
    for item in described:
        note = f"  [{item.state}: {item.error}]" if item.error else ""
        print(f"{item.name:<{width}}  {item.summary}  ({item.origin}){note}")
        if arguments.name:
            _print_fields(item.schema)
    return OK


def _check_name(name: str, names: list[str]) -> None:
    if name in names:
        return
    import difflib

    near = difflib.get_close_matches(name, names, 1)
    raise PluginError(
        f"expected a task type ({', '.join(names)}), found {name!r}",
        hint=f"did you mean {near[0]!r}?" if near else "",
    )


def _print_fields(schema: object) -> None:
    if not isinstance(schema, dict | type(None)) and not hasattr(schema, "get"):
        return
    properties = schema.get("properties", {}) if schema is not None else {}
    required = set(schema.get("required", ())) if schema is not None else set()
    for name, field in properties.items():
        kind = field.get("type") or (
            "one of " + ", ".join(map(str, field["enum"])) if "enum" in field else ""
        )
        mark = (
            "required"
            if name in required
            else f"default {field['default']!r}"
            if "default" in field
            else "optional"
        )
        print(f"  {name}: {kind} ({mark})  {field.get('description', '')}")
