"""From what decides an output to its fingerprint."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Final

import msgspec

from flowbuilder.cache.code_walk import CodeWalk
from flowbuilder.cache.file_hashes import FileHashes, expand_files
from flowbuilder.cache.origins import library_version
from flowbuilder.cache.parts import Fingerprint, Part, UncacheableError
from flowbuilder.cache.source_forms import CodeForm, script_form
from flowbuilder.cache.subject import Subject
from flowbuilder.cache.values import ValueHash, shown_value

__all__ = ["Declared", "fingerprint_of"]

_WORDS: Final[Mapping[str, str]] = {
    "argument": "argument `{}`",
    "attribute": "`{}`",
    "closure": "closure value `{}`",
    "default": "default value `{}`",
    "global": "global `{}`",
    "input": "the output of `{}`",
    "param": "parameter `{}`",
}


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What the author and the engine add to what the task type tells.

    Parameters
    ----------
    task_type : str
        Name of the type.
    env : sequence of str
        Environment variables whose values count.
    version : str
        The author's own version of the task; another one forgets what was kept.
    salt : bytes
        Key of the user, mixed into every digest of a value: where secrets may be among them,
        nobody without it can try candidates against a digest.
    redact : callable
        Takes secrets out of text that is kept for comparisons.
    shows_values : bool
        Whether values are kept in words for comparisons; those of inputs never are.
    may_import : bool
        Whether modules of the project may be imported now.
    """

    task_type: str
    env: tuple[str, ...] = ()
    version: str = ""
    salt: bytes = b""
    redact: Callable[[str], str] | None = None
    shows_values: bool = True
    may_import: bool = True


def fingerprint_of(subject: Subject, declared: Declared, files: FileHashes) -> Fingerprint:
    """Fingerprint an attempt.

    Parameters
    ----------
    subject : Subject
        What the task type says.
    declared : Declared
        What is added to it.
    files : FileHashes
        Hashes the files.

    Raises
    ------
    UncacheableError
        If something that decides the output cannot be compared.
    NotYetKnownError
        If ``may_import`` forbids what would be needed.

    Notes
    -----
    Tables are hashed at memory speed; code is parsed once per version, references are followed
    each time, because globals may change.
    """
    return _Builder(declared, files).build(subject)


class _Builder:
    def __init__(self, declared: Declared, files: FileHashes) -> None:
        self._declared = declared
        self._files = files
        self._parts: dict[tuple[str, str], Part] = {}
        self._libraries: set[str] = set()
        self._walk = CodeWalk(
            self._add_code,
            self.add_value,
            self._libraries.add,
            may_import=declared.may_import,
        )
        self._values = ValueHash(self._walk.visit)

    def build(self, subject: Subject) -> Fingerprint:
        if subject.function is not None:
            self._walk.visit(subject.function)
        if subject.script:
            self._add_script(subject.script, subject.first_line - 1)
        for kind, values in (
            ("argument", subject.arguments),
            ("input", subject.inputs),
            ("param", subject.params),
        ):
            for name in values:
                self.add_value(kind, name, values[name])
        self._add_files(subject)
        self._add_environment()
        self._add_text("type", self._declared.task_type, _flowbuilder_version())
        self._add_text("library", "python", platform.python_version())
        self._add_text("version", "version", self._declared.version)
        for library in sorted({*self._libraries, *subject.libraries}):
            self._add_text("library", library, library_version(library))
        return Fingerprint.of(self._parts.values())

    def add_value(self, kind: str, name: str, value: object) -> None:
        """Add a value; what is wrong with it is said with its name."""
        try:
            digest = self._values.digest(value)
        except UncacheableError as error:
            reason = error.reason
            if reason.startswith(("is ", "has ", "contains ")):
                reason = f"{_WORDS.get(kind, '{}').format(name)} {reason}"
            raise UncacheableError(reason) from error
        self._add(Part(kind, name, self._salted(digest), self._shown(kind, value)))

    def _shown(self, kind: str, value: object) -> str:
        if kind == "input" or not self._declared.shows_values:
            return ""
        text, redact = shown_value(value), self._declared.redact
        return text if redact is None or redact(text) == text else ""

    def _salted(self, digest: bytes) -> bytes:
        if not self._declared.salt:
            return digest
        return blake2b(digest, digest_size=16, key=self._declared.salt).digest()

    def _add(self, part: Part) -> str:
        """Add a part under a unique name; the same one twice is one."""
        name, number = part.name, 1
        while (known := self._parts.get((part.kind, name))) is not None:
            if known.digest == part.digest and part.kind != "code":
                return name
            number += 1
            name = f"{part.name}#{number}"
        self._parts[part.kind, name] = msgspec.structs.replace(part, name=name)
        return name

    def _add_code(self, name: str, form: CodeForm) -> str:
        return self._add(Part("code", name, form.digest, "", form.lines))

    def _add_script(self, text: str, lines_before: int) -> None:
        form = script_form(text)
        lines = tuple((line + lines_before, digest) for line, digest in form.lines)
        self._add_code("script", CodeForm(form.digest, lines))
        try:
            code = compile(text, "<script>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return  # the task will say so itself
        self._walk.follow_script(code)

    def _add_files(self, subject: Subject) -> None:
        for name, path in expand_files(subject.files):
            self._add(Part("file", name, self._files.digest(path)))

    def _add_environment(self) -> None:
        for name in self._declared.env:
            value = os.environ.get(name)
            text = "" if value is None else f"={value}"
            self._add(Part("env", name, self._salted(_digest(text))))

    def _add_text(self, kind: str, name: str, text: str) -> None:
        self._add(Part(kind, name, _digest(text), text))


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _flowbuilder_version() -> str:
    from flowbuilder._version import __version__

    return __version__
