"""``flowbuilder schema``: the JSON Schema of workflow files, for editors."""

from __future__ import annotations

import argparse
import json

from flowbuilder.cli.exit_codes import OK

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.set_defaults(handler=execute)


def execute(_arguments: argparse.Namespace) -> int:
    """Run the command."""
    from pathlib import Path

    from flowbuilder.config import find_data_dir
    from flowbuilder.definition import workflow_schema
    from flowbuilder.tasks import default_registry

    registry = default_registry(find_data_dir(Path.cwd() / "_").parent)
    schemas = {
        name: kind.schema for name in registry.names() if (kind := registry.find(name)) is not None
    }
    print(json.dumps(workflow_schema(schemas), indent=2, ensure_ascii=False))
    return OK
