"""What compiled code says of itself: whether two are the same, and which names it looks up."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from hashlib import blake2b
from types import CodeType

import msgspec

__all__ = ["Import", "Load", "References", "bytecode_form", "references_of", "shape_of"]

_FILLERS = frozenset({"NOP", "CACHE", "EXTENDED_ARG", "RESUME", "PRECALL"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_GLOBALS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_LOCALS = frozenset(
    {
        *("LOAD_FAST", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW"),
        "LOAD_FROM_DICT_OR_DEREF",
    }
)
_BETWEEN_IMPORT_AND_STORE = frozenset({"IMPORT_FROM", "SWAP", "POP_TOP", "ROT_TWO", "COPY"})


class Import(msgspec.Struct, frozen=True):
    """One ``import`` inside code: ``from module import name`` or ``import module as alias``."""

    level: int
    module: str
    name: str = ""
    """What is imported from the module; empty for the module itself."""
    alias: str = ""
    """The variable an ``import module`` sets."""


class Load(msgspec.Struct, frozen=True):
    """A variable that is read, with the attributes taken from it at once (``np.linalg.norm``)."""

    name: str
    chain: tuple[str, ...] = ()
    is_global: bool = True


class References(msgspec.Struct, frozen=True):
    """What code looks up outside itself, that of the functions inside it included."""

    loads: tuple[Load, ...]
    imports: tuple[Import, ...]


def references_of(code: CodeType) -> References:
    """List what code looks up by name.

    Names that are looked up by text (``getattr(module, name)``) cannot be seen; whoever hands out a
    whole module gives a `Load` without a chain.
    """
    loads: dict[Load, None] = {}
    imports: dict[Import, None] = {}
    for each in _nested(code):
        steps = [step for step in dis.get_instructions(each) if step.opname not in _FILLERS]
        for position, step in enumerate(steps):
            if step.opname in _GLOBALS or step.opname in _LOCALS:
                chain = _chain(steps, position + 1)
                loads[Load(str(step.argval), chain, step.opname in _GLOBALS)] = None
            elif step.opname == "IMPORT_NAME":
                imports.update(dict.fromkeys(_imports(steps, position)))
    return References(tuple(loads), tuple(imports))


def _nested(code: CodeType) -> Iterator[CodeType]:
    waiting = [code]
    while waiting:
        each = waiting.pop()
        yield each
        waiting.extend(item for item in each.co_consts if isinstance(item, CodeType))


def _chain(steps: list[dis.Instruction], position: int) -> tuple[str, ...]:
    found: list[str] = []
    for step in steps[position:]:
        if step.opname not in _ATTRIBUTES:
            break
        found.append(str(step.argval))
    return tuple(found)


def _imports(steps: list[dis.Instruction], position: int) -> Iterator[Import]:
    module = str(steps[position].argval)
    names, level = steps[position - 1].argval, steps[position - 2].argval
    level = level if isinstance(level, int) else 0
    if isinstance(names, tuple):
        for name in names:
            yield Import(level, module, name=str(name))
        return
    takes_inner = False
    for step in steps[position + 1 :]:
        if step.opname in _BETWEEN_IMPORT_AND_STORE:
            takes_inner = takes_inner or step.opname == "IMPORT_FROM"
            continue
        alias = str(step.argval) if step.opname.startswith("STORE_") else ""
        # `import a.b` sets `a`; `import a.b as c` sets `c` to the inner module.
        bound = module if takes_inner else module.partition(".")[0]
        if bound != module:
            yield Import(level, module)  # loads the inner module, which makes it an attribute
        yield Import(level, bound, alias=alias)
        return


def shape_of(code: CodeType) -> object:
    """Give a value that is equal for code that does the same, wherever it stands."""
    return (
        code.co_name,
        code.co_code,
        code.co_flags,
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_exceptiontable,
        tuple(map(_constant, code.co_consts)),
    )


def bytecode_form(code: CodeType) -> tuple[bytes, tuple[tuple[int, bytes], ...]]:
    """Digest code of which no text is known; its docstring does not count.

    Returns
    -------
    digest : bytes
        Of the instructions, those of functions inside included.
    lines : tuple of (int, bytes)
        Line and short digest of the instructions of each line.
    """
    whole = blake2b(digest_size=16)
    by_line: dict[int, list[bytes]] = {}
    for each in _nested(code):
        steps = [step for step in dis.get_instructions(each) if step.opname not in _FILLERS]
        places = {step.offset: index for index, step in enumerate(steps)}
        head = (each.co_name, each.co_argcount, each.co_kwonlyargcount, each.co_varnames)
        whole.update(repr((head, each.co_flags)).encode("utf-8", "surrogatepass"))
        for step in steps:
            value = _operand(step, places)
            text = f"{step.opname} {value}\n".encode("utf-8", "surrogatepass")
            whole.update(text)
            line = step.positions.lineno if step.positions else None
            by_line.setdefault(line or 0, []).append(text)
    lines = tuple(
        (line, blake2b(b"".join(texts), digest_size=4).digest())
        for line, texts in sorted(by_line.items())
    )
    return whole.digest(), lines


def _operand(step: dis.Instruction, places: dict[int, int]) -> str:
    if step.opcode in dis.hasjrel or step.opcode in dis.hasjabs:
        target = step.argval
        # Jumps to a filler go on behind it.
        later = [place for offset, place in places.items() if offset >= target]
        return str(min(later, default=-1))
    if isinstance(step.argval, CodeType):
        return step.argval.co_name
    return repr(_constant(step.argval))


def _constant(value: object) -> object:
    if isinstance(value, CodeType):
        return shape_of(value)
    if isinstance(value, tuple):
        return ("tuple", *map(_constant, value))
    if isinstance(value, frozenset):
        return ("frozenset", *sorted(repr(_constant(item)) for item in value))
    return (type(value).__name__, repr(value))
