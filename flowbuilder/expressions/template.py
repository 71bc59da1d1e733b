"""Templates: config trees whose texts may hold ``${{ expression }}``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from flowbuilder.errors import ExpressionError
from flowbuilder.expressions.interpolation import OPENING
from flowbuilder.expressions.scope import Scope
from flowbuilder.expressions.template_nodes import Constant, Node, Reading, Site, SitePath

__all__ = [
    "Template",
    "fold_template",
    "holds_template",
    "parse_template",
    "read_template",
    "template_problems",
]


class Template:
    """A compiled config tree. Immutable and thread-safe.

    Parameters
    ----------
    node : node
        The compiled root.
    sites : tuple of Site
        Its expressions and where they stand.
    """

    __slots__ = ("_node", "references", "sites")

    def __init__(self, node: Node, sites: tuple[Site, ...]) -> None:
        self._node = node
        self.sites = sites
        self.references: frozenset[tuple[str, ...]] = frozenset().union(
            *(expression.references for _, expression in sites)
        )
        """Paths its expressions mention."""

    @property
    def is_constant(self) -> bool:
        """Whether it mentions nothing, so that it always renders the same."""
        return not self.references

    def render(self, scope: Scope) -> object:
        """Put values in place of expressions.

        Parameters
        ----------
        scope : Scope
            Gives the roots their values.

        Returns
        -------
        object
            The tree; parts without expressions are the original objects.

        Raises
        ------
        ExpressionError
            If an expression fails, or its value has no text form where text is needed.
        """
        return self._node.render(scope)


def parse_template(value: object, *, raw: Collection[str] = ()) -> Template:
    """Compile a config tree.

    Parameters
    ----------
    value : object
        Mappings, sequences and scalars. A text that is nothing but one ``${{ expression }}``
        (white space around it aside) becomes the expression's value; other texts stay texts, with
        values written into them. ``$${{`` stands for a literal ``${{``.
    raw : collection of str
        Top-level keys whose values are left as written.

    Returns
    -------
    Template
        Ready to render.

    Raises
    ------
    ExpressionError
        The first problem, if there is one.
    """
    template, problems = read_template(value, raw=raw)
    for _, expression in template.sites if not problems else ():
        expression.verify()
    if problems:
        raise problems[0][1]
    return template


def template_problems(
    value: object, *, raw: Collection[str] = ()
) -> list[tuple[SitePath, ExpressionError]]:
    """List everything wrong with the expressions of a config tree.

    Parameters
    ----------
    value : object
        A config tree.
    raw : collection of str
        Top-level keys whose values are left as written.

    Returns
    -------
    list of (path, ExpressionError)
        In the order of the tree.
    """
    template, problems = read_template(value, raw=raw)
    for path, expression in template.sites:
        try:
            expression.verify()
        except ExpressionError as error:
            problems.append((path, error))
    return problems


def read_template(
    value: object, *, raw: Collection[str] = ()
) -> tuple[Template, list[tuple[SitePath, ExpressionError]]]:
    """Read a config tree without asking CEL, keeping what can be read.

    Parameters
    ----------
    value : object
        A config tree.
    raw : collection of str
        Top-level keys whose values are left as written.

    Returns
    -------
    template : Template
        Its ``sites`` and ``references`` are those of the expressions that could be read.
    problems : list of (path, ExpressionError)
        The others.
    """
    if not holds_template(value):
        return Template(Constant(value), ()), []
    reading = Reading(raw)
    node = reading.node(value, ())
    return Template(node, tuple(reading.sites)), reading.problems


def holds_template(value: object) -> bool:
    """Tell whether ``${{`` occurs anywhere in a config tree; about 1 us, safe for cyclic ones."""
    seen: set[int] = set()
    pending = [value]
    for item in pending:  # grows while it is walked
        kind = type(item)
        if kind is str:
            if OPENING in item:  # type: ignore[operator]
                return True
        elif kind is int or kind is float or kind is bool or item is None:
            continue
        elif kind is dict or isinstance(item, Mapping):
            if id(item) not in seen:
                seen.add(id(item))
                pending.extend(item)  # type: ignore[arg-type]
                pending.extend(item.values())  # type: ignore[attr-defined]
        elif isinstance(item, list | tuple):
            if id(item) not in seen:
                seen.add(id(item))
                pending.extend(item)
        elif isinstance(item, str) and OPENING in item:
            return True
    return False


def fold_template(template: Template) -> Template:
    """Evaluate a template that mentions nothing once and for all.

    Parameters
    ----------
    template : Template
        Any template.

    Returns
    -------
    Template
        One that only hands out its value; the same object if it mentions something.

    Raises
    ------
    ExpressionError
        If a constant expression fails.
    """
    if not template.is_constant or not template.sites:
        return template
    return Template(Constant(template.render(_NoScope())), ())


class _NoScope:
    def root(self, name: str) -> Mapping[str, object]:
        raise AssertionError(f"a constant expression asked for {name}")
