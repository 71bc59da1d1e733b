"""Everything a function's result may depend on besides its arguments: its code, defaults, closure
and globals, and those of what it calls in the project's own modules.

Libraries count by their version. What cannot be seen: names looked up by computed text, files and
services the code reads without saying so, and libraries changed at run time.
"""

from __future__ import annotations

import builtins
import enum
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final

from flowbuilder.cache.bytecode import Import, References, references_of
from flowbuilder.cache.origins import find_module_file, is_own, is_own_file, library_of
from flowbuilder.cache.parts import UncacheableError
from flowbuilder.cache.source_forms import CodeForm, function_form

__all__ = ["CodeWalk", "NotYetKnownError"]

_DYNAMIC: Final = frozenset({"eval", "exec", "globals", "__import__"})
_MISSING: Final = object()
_DESCRIPTORS: Final = (
    MemberDescriptorType,
    GetSetDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
_SKIPPED_ATTRIBUTES: Final = frozenset(
    {
        *("__doc__", "__module__", "__qualname__", "__dict__", "__weakref__", "__annotations__"),
        *("__firstlineno__", "__static_attributes__", "__annotate__", "__annotate_func__"),
        *("__annotations_cache__", "__dataclass_fields__", "__orig_bases__", "__parameters__"),
        *("__type_params__", "_abc_impl", "__slotnames__", "__struct_config__", "__classcell__"),
    }
)


class NotYetKnownError(Exception):
    """A module would have to be imported first, which is not allowed here."""


class CodeWalk:
    """Follows references from functions, classes and modules; adds a part for each thing found.

    Parameters
    ----------
    add_code : callable
        ``add_code(name, form)`` adds a part and gives its unique name.
    add_value : callable
        ``add_value(kind, name, value)`` adds a part.
    add_library : callable
        Takes the name of a library.
    may_import : bool
        Whether own modules that code imports when it runs may be imported now.
    """

    def __init__(
        self,
        add_code: Callable[[str, CodeForm], str],
        add_value: Callable[[str, str, object], None],
        add_library: Callable[[str], None],
        *,
        may_import: bool = True,
    ) -> None:
        self._add_code = add_code
        self._add_value = add_value
        self._add_library = add_library
        self._may_import = may_import
        self._names: dict[int, bytes] = {}
        self._alive: list[object] = []
        """Visited objects, so that no id is used again."""
        self._globals: set[tuple[int, str]] = set()

    def visit(self, thing: object) -> bytes:
        """Follow a function, class, module or wrapper; give bytes that name it.

        Raises
        ------
        UncacheableError
            If something it depends on cannot be compared.
        NotYetKnownError
            If a module would have to be imported.
        """
        thing = getattr(thing, "__flowbuilder_function__", thing)
        known = self._names.get(id(thing))
        if known is not None:
            return known
        self._alive.append(thing)
        if isinstance(thing, FunctionType):
            return self._visit_function(thing)
        if isinstance(thing, type):
            return self._visit_class(thing)
        if isinstance(thing, ModuleType):
            return self._visit_module(thing)
        if isinstance(thing, MethodType):
            return self._visit_method(thing)
        if isinstance(thing, BuiltinFunctionType):
            return self._visit_builtin(thing)
        return self._visit_wrapper(thing)

    def follow_script(self, code: CodeType) -> None:
        """Follow what a script imports; its other names are its own."""
        references = references_of(code)
        self._follow_imports(references, {}, "a script")

    # -- functions -------------------------------------------------------------------------------

    def _visit_function(self, function: FunctionType) -> bytes:
        module = str(function.__globals__.get("__name__", ""))
        label = f"{module}:{function.__qualname__}"
        if not is_own(module) and not _is_own_code(function.__code__, module):
            return self._visit_library_function(function, module, label)
        self._names[id(function)] = label.encode()
        name = self._add_code(label, function_form(function.__code__))
        self._names[id(function)] = name.encode()
        for parameter, value in _defaults(function):
            self._add_value("default", f"{name}.{parameter}", value)
        for variable, value in _closure(function):
            self._add_value("closure", f"{name}.{variable}", value)
        self._follow(references_of(function.__code__), function, name)
        return name.encode()

    def _visit_library_function(self, function: FunctionType, module: str, label: str) -> bytes:
        self._names[id(function)] = label.encode()
        self._note_library(module)
        wrapped = function.__dict__.get("__wrapped__")
        if wrapped is not None:
            self.visit(wrapped)
        for variable, value in _closure(function):
            try:
                self._add_value("closure", f"{label}.{variable}", value)
            except UncacheableError:
                continue  # the library's own bookkeeping, which its version stands for
        return label.encode()

    def _follow(self, references: References, function: FunctionType, name: str) -> None:
        space = function.__globals__
        aliases = {each.alias for each in references.imports if each.alias}
        for load in references.loads:
            if load.is_global and (load.name not in aliases or load.name in space):
                self._follow_global(space, load.name, load.chain)
        package = str(space.get("__package__") or "")
        self._follow_imports(references, {"package": package}, name)

    def _follow_global(self, space: dict[str, Any], name: str, chain: tuple[str, ...]) -> None:
        value = space.get(name, _MISSING)
        module = str(space.get("__name__", ""))
        if value is _MISSING:
            if name in _DYNAMIC and hasattr(builtins, name):
                owner = sys.modules.get(module)
                if owner is not None and owner.__dict__ is space:
                    self.visit(owner)
            elif not hasattr(builtins, name) and (id(space), name) not in self._globals:
                self._globals.add((id(space), name))
                self._add_value("global", f"{module}.{name}", "(not defined)")
            return
        if isinstance(value, ModuleType):
            self._follow_module(value, chain)
            return
        if (id(space), name) in self._globals:
            return
        self._globals.add((id(space), name))
        if isinstance(value, FunctionType | type) or hasattr(value, "__flowbuilder_function__"):
            # Named in the global's part, so that assigning another function is seen.
            self._add_value("global", f"{module}.{name}", value)
            return
        self._add_value("global", f"{module}.{name}", value)

    def _follow_module(self, module: ModuleType, chain: tuple[str, ...]) -> None:
        """Follow ``module.a.b``: what is used of an own module, or the version of a library."""
        for position, attribute in enumerate(chain):
            if not is_own(module.__name__):
                self._note_library(module.__name__)
                return
            value = module.__dict__.get(attribute, _MISSING)
            if not isinstance(value, ModuleType):
                self._follow_global(module.__dict__, attribute, chain[position + 1 :])
                return
            module = value
        self.visit(module)

    def _follow_imports(self, references: References, context: dict[str, str], name: str) -> None:
        for each in references.imports:
            module = self._load(each, context.get("package", ""), name)
            if module is None:
                continue
            if each.name == "*":
                self.visit(module)
            elif each.name:
                self._follow_module(module, (each.name,))
            elif each.alias:
                uses = [load.chain for load in references.loads if load.name == each.alias]
                for chain in uses:
                    self._follow_module(module, chain)

    def _load(self, each: Import, package: str, name: str) -> ModuleType | None:
        """Give the module an import means; None for libraries and what cannot be found."""
        full = each.module
        if each.level:
            try:
                full = importlib.util.resolve_name("." * each.level + each.module, package)
            except (ImportError, ValueError):
                return None
        found = sys.modules.get(full)
        if found is None or getattr(found.__spec__, "_initializing", False):
            # Another thread may be half way through: importing it again waits for the rest.
            found = self._import(full, name)
        if found is None or not is_own(full):
            self._note_library(full)
            return None
        if each.name and each.name not in found.__dict__:
            inner = sys.modules.get(f"{full}.{each.name}") or self._import(
                f"{full}.{each.name}", name
            )
            if inner is not None:
                setattr(found, each.name, inner)
        return found

    def _import(self, full: str, name: str) -> ModuleType | None:
        file = find_module_file(full)
        if file is None or not is_own_file(str(file), has_spec=True):
            return None
        if library_of(full) in {"", "flowbuilder"}:
            return None
        if not self._may_import:
            raise NotYetKnownError(full)
        try:
            return importlib.import_module(full)
        except Exception as error:
            raise UncacheableError(
                f"{name} imports {full!r}, which raised {type(error).__name__}: {error}"
            ) from error

    def _note_library(self, module: str) -> None:
        library = library_of(module)
        if library:
            self._add_library(library)

    # -- classes, modules, wrappers --------------------------------------------------------------

    def _visit_class(self, cls: type) -> bytes:
        label = f"{cls.__module__}:{cls.__qualname__}"
        self._names[id(cls)] = label.encode()
        if not is_own(cls.__module__):
            self._note_library(cls.__module__)
            return label.encode()
        for base in cls.__bases__:
            self.visit(base)
        if type(cls) is not type:
            self.visit(type(cls))
        if isinstance(cls, enum.EnumMeta):
            members: list[object] = [(name, cls[name].value) for name in cls.__members__]
            self._add_value("attribute", f"{label}.members", members)
        if hasattr(cls, "__struct_defaults__"):  # of msgspec, which keeps them outside vars()
            fields = (cls.__struct_fields__, cls.__struct_defaults__)  # type: ignore[attr-defined]
            self._add_value("attribute", f"{label}.fields", fields)
        if hasattr(cls, "__pydantic_fields__"):
            self._add_value("attribute", f"{label}.fields", repr(cls.__pydantic_fields__))
        for name, value in sorted(vars(cls).items()):
            if name in _SKIPPED_ATTRIBUTES or name.startswith("__pydantic_"):
                continue
            if isinstance(cls, enum.EnumMeta) and not isinstance(value, FunctionType):
                continue
            self._visit_attribute(f"{label}.{name}", value)
        return label.encode()

    def _visit_attribute(self, label: str, value: object) -> None:
        if isinstance(value, _DESCRIPTORS):
            return
        if isinstance(value, staticmethod | classmethod):
            self.visit(value.__func__)
        elif isinstance(value, property):
            for accessor in (value.fget, value.fset, value.fdel):
                if accessor is not None:
                    self.visit(accessor)
        elif isinstance(value, FunctionType):
            self.visit(value)
        elif type(value).__name__ == "cached_property":
            self.visit(value.func)  # type: ignore[attr-defined]
        else:
            self._add_value("attribute", label, value)

    def _visit_module(self, module: ModuleType) -> bytes:
        label = f"module {module.__name__}"
        self._names[id(module)] = label.encode()
        if not is_own(module.__name__):
            self._note_library(module.__name__)
            return label.encode()
        for name in sorted(module.__dict__):
            if not (name.startswith("__") and name.endswith("__")):
                self._follow_global(module.__dict__, name, ())
        return label.encode()

    def _visit_method(self, method: MethodType) -> bytes:
        name = self.visit(method.__func__)
        self._add_value("closure", f"{name.decode()}.self", method.__self__)
        return b"method " + name

    def _visit_builtin(self, function: BuiltinFunctionType) -> bytes:
        owner: object = function.__self__
        module: object = function.__module__  # None for methods of values
        label = f"{module}:{function.__qualname__}"
        self._names[id(function)] = label.encode()
        if isinstance(module, str):
            self._note_library(module)
        elif owner is not None and not isinstance(owner, ModuleType | type):
            self._add_value("closure", f"{label}.self", owner)
        return label.encode()

    def _visit_wrapper(self, wrapper: Any) -> bytes:
        """Follow ``functools.lru_cache`` and its kin: objects around a function."""
        kind = type(wrapper)
        self._names[id(wrapper)] = b"..."
        if not hasattr(wrapper, "__wrapped__"):  # any other callable: what pickling would store
            name = f"{kind.__module__}:{kind.__qualname__}"
            self._names[id(wrapper)] = name.encode()
            self._add_value("closure", f"{name}.self", wrapper)
            return name.encode()
        label = self.visit(kind) + b" of " + self.visit(wrapper.__wrapped__)
        options = getattr(wrapper, "targetoptions", None)  # how numba compiles
        if isinstance(options, dict):
            self._add_value("closure", f"{label.decode()}.options", options)
        self._names[id(wrapper)] = label
        return label


def _is_own_code(code: CodeType, module: str) -> bool:
    """Whether a function without a module of its own (made by ``exec``) is the project's."""
    return module not in sys.modules and not code.co_filename.startswith("<frozen")


def _defaults(function: FunctionType) -> Iterator[tuple[str, object]]:
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    values = function.__defaults__ or ()
    yield from zip(positional[len(positional) - len(values) :], values, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def _closure(function: FunctionType) -> Iterator[tuple[str, object]]:
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            yield name, "(empty)"
