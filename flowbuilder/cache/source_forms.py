"""Code as a normalised syntax tree: comments, formatting and docstrings do not count.

The text of a file may be newer than the function that runs. So a text counts only if compiling it
gives the very code of the function; else the bytecode, which is always true, is what counts.
"""

from __future__ import annotations

import ast
import copy
import linecache
import warnings
import weakref
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from types import CodeType
from typing import Final

import msgspec

from flowbuilder.cache.bytecode import bytecode_form, shape_of

__all__ = ["CodeForm", "function_form", "script_form"]

_TRANSPARENT_DECORATORS: Final = frozenset({"task", "task_type"})
_BODIES: Final = ("body", "orelse", "finalbody", "handlers", "cases")
_LARGEST_TEXT = 4 * 1024 * 1024
_Lines = tuple[tuple[int, bytes], ...]
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_known: dict[int, tuple[weakref.ref[CodeType], CodeForm]] = {}


class CodeForm(msgspec.Struct, frozen=True):
    """What code does.

    Parameters
    ----------
    digest : bytes
        The same for code that differs only in comments, formatting and docstrings.
    lines : tuple of (int, bytes)
        Line and short digest of each statement.
    """

    digest: bytes
    lines: _Lines


def function_form(code: CodeType) -> CodeForm:
    """Digest a function's own code: without decorators that are a task's, and without defaults,
    whose values count instead.
    """
    found = _known.get(id(code))
    if found is not None and found[0]() is code:
        return found[1]
    node = _true_node(code)
    form = None if node is None else _form_of([_without_surroundings(node)], 0)
    if form is None:
        form = CodeForm(*bytecode_form(code))
    if len(_known) > 10_000:
        _known.clear()
    _known[id(code)] = (weakref.ref(code), form)
    return form


@lru_cache(maxsize=256)
def script_form(text: str) -> CodeForm:
    """Digest the text of a script; one that is not valid Python counts as it stands."""
    tree = _parse(text)
    form = None if tree is None else _form_of(_undocumented(tree.body), 0)
    if form is not None:
        return form
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return CodeForm(digest, ())


def _parse(text: str) -> ast.Module | None:
    if len(text) > _LARGEST_TEXT:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


# -- normal form ---------------------------------------------------------------------------------


def _form_of(body: list[ast.stmt] | list[ast.AST], offset: int) -> CodeForm | None:
    try:
        lines = tuple(_statements(body, offset))
        whole = blake2b(digest_size=16)
        for _, depth, text in lines:
            whole.update(b"%d " % depth)
            whole.update(len(text).to_bytes(8, "little"))
            whole.update(text)
    except (RecursionError, ValueError):  # nested too deeply, or a number too long to print
        return None
    return CodeForm(
        whole.digest(),
        tuple((line, blake2b(text, digest_size=4).digest()) for line, _, text in lines),
    )


def _statements(
    body: list[ast.stmt] | list[ast.AST], depth: int
) -> Iterator[tuple[int, int, bytes]]:
    """Give line, depth and form of every statement, of compound ones the head before the body."""
    for node in body:
        head, blocks = _split(node)
        line = getattr(node, "lineno", 0)
        yield line, depth, ast.dump(head).encode("utf-8", "surrogatepass")
        for name, block in blocks:
            yield line, depth, name.encode()
            yield from _statements(block, depth + 1)


def _split(node: ast.AST) -> tuple[ast.AST, list[tuple[str, list[ast.AST]]]]:
    blocks = [
        (name, block)
        for name in _BODIES
        if isinstance(block := getattr(node, name, None), list) and block
    ]
    if not blocks:
        return node, []
    head = copy.copy(node)
    for name, _ in blocks:
        setattr(head, name, [])
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        blocks = [(name, list(_undocumented(block))) for name, block in blocks]
    return head, blocks


def _undocumented(body: list[ast.stmt] | list[ast.AST]) -> list[ast.AST]:
    match body:
        case [ast.Expr(ast.Constant(str())), *rest]:
            return list(rest) or [ast.Pass()]
    return list(body)


def _without_surroundings(node: _Function) -> ast.AST:
    plain = copy.copy(node)
    plain.args = copy.copy(node.args)
    plain.args.defaults = []
    plain.args.kw_defaults = [None] * len(node.args.kw_defaults)
    if isinstance(plain, ast.FunctionDef | ast.AsyncFunctionDef):
        plain.decorator_list = [each for each in plain.decorator_list if not _is_task(each)]
    return plain


def _is_task(decorator: ast.expr) -> bool:
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in _TRANSPARENT_DECORATORS


# -- finding the text ----------------------------------------------------------------------------


def _true_node(code: CodeType) -> _Function | None:
    """Find the syntax tree a function was compiled from; None if no text is known to be it."""
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename))
    if not text:
        return None
    codes, nodes = _compiled(text, code.co_filename)
    shape = shape_of(code)
    for line, candidate in codes.get(code.co_qualname, ()):
        if candidate == shape:
            found = nodes.get((code.co_qualname, line), [])
            return found[0] if len(found) == 1 else None
    return None


_Codes = dict[str, list[tuple[int, object]]]
_Nodes = dict[tuple[str, int], list[_Function]]


@lru_cache(maxsize=64)
def _compiled(text: str, file: str) -> tuple[_Codes, _Nodes]:
    codes: _Codes = {}
    nodes: _Nodes = {}
    tree = _parse_cell(text)
    if tree is None:
        return codes, nodes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Cells of a notebook may await at the top.
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            top = compile(text, file, "exec", flags=flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return codes, nodes
    waiting = [top]
    while waiting:
        each = waiting.pop()
        codes.setdefault(each.co_qualname, []).append((each.co_firstlineno, shape_of(each)))
        waiting.extend(item for item in each.co_consts if isinstance(item, CodeType))
    _collect(tree, "", nodes)
    return codes, nodes


def _parse_cell(text: str) -> ast.Module | None:
    if len(text) > _LARGEST_TEXT:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            tree = compile(text, "<cell>", "exec", flags=flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree if isinstance(tree, ast.Module) else None


def _collect(root: ast.AST, prefix: str, nodes: _Nodes) -> None:
    waiting: list[tuple[ast.AST, str]] = [(root, prefix)]
    while waiting:
        parent, scope = waiting.pop()
        for node in ast.iter_child_nodes(parent):
            inner = scope
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                nodes.setdefault((scope + node.name, first), []).append(node)
                inner = f"{scope}{node.name}.<locals>."
            elif isinstance(node, ast.Lambda):
                nodes.setdefault((f"{scope}<lambda>", node.lineno), []).append(node)
                inner = f"{scope}<lambda>.<locals>."
            elif isinstance(node, ast.ClassDef):
                inner = f"{scope}{node.name}."
            waiting.append((node, inner))
