"""Every public name is documented, and truthfully."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "flowbuilder").rglob("*.py"))
SECTIONS = (
    "Parameters",
    "Returns",
    "Raises",
    "Yields",
    "Notes",
    "References",
    "Examples",
    "See Also",
    "Attributes",
)


def public(path: Path) -> Iterator[tuple[str, ast.AST]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            for item in node.body:
                if isinstance(
                    item, ast.FunctionDef | ast.AsyncFunctionDef
                ) and not item.name.startswith("_"):
                    yield f"{node.name}.{item.name}", item
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
            "_"
        ):
            yield node.name, node


def documented_parameters(docstring: str) -> list[str]:
    section = re.search(
        rf"^Parameters\n-+\n(.*?)(?=^(?:{'|'.join(SECTIONS)})\n-+\n|\Z)",
        docstring,
        re.MULTILINE | re.DOTALL,
    )
    if not section:
        return []
    heads = re.findall(r"^(\S.*)$", section[1], re.MULTILINE)
    return [
        name.strip().lstrip("*") for head in heads for name in head.partition(" :")[0].split(",")
    ]


def accepted_parameters(node: ast.AST, *, is_method: bool = False) -> set[str]:
    if isinstance(node, ast.ClassDef):
        fields = {
            i.target.id
            for i in node.body
            if isinstance(i, ast.AnnAssign) and isinstance(i.target, ast.Name)
        }
        starts = [i for i in node.body if isinstance(i, ast.FunctionDef) and i.name == "__init__"]
        return fields.union(*(accepted_parameters(start, is_method=True) for start in starts))
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    listed = [
        *node.args.posonlyargs,
        *node.args.args,
        *node.args.kwonlyargs,
        node.args.vararg,
        node.args.kwarg,
    ]
    named = [argument.arg for argument in listed if argument]
    return set(named[1:] if is_method and named[:1] in (["self"], ["cls"]) else named)


def problems(check: Callable[[Path], Iterable[str]]) -> str:
    return "\n".join(
        f"{path.relative_to(ROOT)}: {what}" for path in MODULES for what in check(path)
    )


def test_every_public_name_has_a_docstring():
    def missing(path: Path) -> Iterator[str]:
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))):
            yield "the module"
        for name, node in public(path):
            if not is_overload(node) and not ast.get_docstring(node):
                yield name

    assert not problems(missing)


def test_documented_parameters_exist():
    def unknown(path: Path) -> Iterator[str]:
        for name, node in public(path):
            listed = set(documented_parameters(ast.get_docstring(node) or ""))
            for parameter in sorted(listed - accepted_parameters(node, is_method="." in name)):
                yield f"{name} documents {parameter!r}, which it does not accept"

    assert not problems(unknown)


def test_parameters_sections_of_functions_are_complete():
    # A class may list only those of its fields whose names do not say what they are, and what a
    # decorator decorates (positional only) needs no words.
    def left_out(path: Path) -> Iterator[str]:
        for name, node in public(path):
            listed = set(documented_parameters(ast.get_docstring(node) or ""))
            if listed and not isinstance(node, ast.ClassDef):
                decorated = {argument.arg for argument in node.args.posonlyargs}
                accepted = accepted_parameters(node, is_method="." in name) - decorated
                for parameter in sorted(accepted - listed):
                    yield f"{name} leaves out {parameter!r}"

    assert not problems(left_out)


def is_overload(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any("overload" in ast.dump(d) or "setter" in ast.dump(d) for d in decorators)
