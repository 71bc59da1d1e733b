"""Expressions in workflows: ``${{ }}`` and ``when:``, bounded and free of side effects."""

from flowbuilder.expressions.expression import Expression, parse_expression, read_expression
from flowbuilder.expressions.interpolation import OPENING, parse_text, render_text, to_text
from flowbuilder.expressions.paths import follow, format_path
from flowbuilder.expressions.scope import ROOTS, RUN_FIELDS, TASK_FIELDS, Scope
from flowbuilder.expressions.spelling import nearest, spelling_hint
from flowbuilder.expressions.tables import is_table, table_facts
from flowbuilder.expressions.template import (
    Template,
    fold_template,
    holds_template,
    parse_template,
    read_template,
    template_problems,
)

__all__ = [
    "OPENING",
    "ROOTS",
    "RUN_FIELDS",
    "TASK_FIELDS",
    "Expression",
    "Scope",
    "Template",
    "fold_template",
    "follow",
    "format_path",
    "holds_template",
    "is_table",
    "nearest",
    "parse_expression",
    "parse_template",
    "parse_text",
    "read_expression",
    "read_template",
    "render_text",
    "spelling_hint",
    "table_facts",
    "template_problems",
    "to_text",
]
