"""The text of a workflow: read, described as JSON Schema, and written."""

from flowbuilder.definition.files import read_file
from flowbuilder.definition.limits import Limits
from flowbuilder.definition.places import YamlSource
from flowbuilder.definition.reader import read_tree, read_workflow
from flowbuilder.definition.reading import Reading
from flowbuilder.definition.schema import workflow_schema
from flowbuilder.definition.selectors import format_selector, parse_selector
from flowbuilder.definition.writer import write_workflow

__all__ = [
    "Limits",
    "Reading",
    "YamlSource",
    "format_selector",
    "parse_selector",
    "read_file",
    "read_tree",
    "read_workflow",
    "workflow_schema",
    "write_workflow",
]
