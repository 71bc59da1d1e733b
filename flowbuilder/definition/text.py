"""From bytes to text: encodings, forbidden characters, and the lines people count."""

from __future__ import annotations

import re
from bisect import bisect_right

from flowbuilder.definition.limits import Limits
from flowbuilder.errors import Location, WorkflowSyntaxError

__all__ = ["Lines", "decode_text"]

# The complement of what YAML allows (and U+FEFF): the allowed set itself takes 5 ms to compile.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufffe\uffff]"
)
_BREAK = re.compile(r"\r\n|\r|\n")
_BOM = "\ufeff"


class Lines:
    """Where the lines of a text start. Only CR, LF and CRLF break lines, as in every editor.

    Parameters
    ----------
    text : str
        The whole text.
    """

    __slots__ = ("_starts", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(match.end() for match in _BREAK.finditer(text))]

    def __len__(self) -> int:
        return len(self._starts)

    def location(self, file: str, offset: int) -> Location:
        """Turn an offset in code points into a 1-based line and column."""
        line = bisect_right(self._starts, offset)
        return Location(file, line, offset - self._starts[line - 1] + 1)

    def line(self, number: int) -> str:
        """Give a line (1-based) without its break; empty past the end."""
        if not 1 <= number <= len(self._starts):
            return ""
        end = self._starts[number] if number < len(self._starts) else len(self._text)
        return self._text[self._starts[number - 1] : end].rstrip("\r\n")


def decode_text(text: str | bytes, *, file: str, limits: Limits) -> str:
    """Decode a workflow file and make sure YAML can read every character.

    Parameters
    ----------
    text : str or bytes
        UTF-8, or UTF-16 with a byte order mark.
    file : str
        For the error.
    limits : Limits
        ``max_bytes`` counts.

    Returns
    -------
    str
        The text without its byte order mark.

    Raises
    ------
    WorkflowSyntaxError
        If it is too large, in another encoding, or holds control characters or lone surrogates.
    """
    if len(text) > limits.max_bytes:
        raise _too_large(file, limits)
    decoded = _decode(text, file) if isinstance(text, bytes) else text
    decoded = decoded.removeprefix(_BOM)
    found = _FORBIDDEN.search(decoded)
    if found:
        raise WorkflowSyntaxError(
            f"expected readable text, found the character {_name(found.group())}",
            location=Lines(decoded).location(file, found.start()),
            hint=_hint(found.group()),
        )
    if not decoded.isascii() and len(decoded.encode()) > limits.max_bytes:
        raise _too_large(file, limits)
    return decoded


def _decode(data: bytes, file: str) -> str:
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise WorkflowSyntaxError(
            "expected UTF-8, found UTF-32", location=Location(file, 1), hint="save it as UTF-8"
        )
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(encoding, errors="replace")
        raise WorkflowSyntaxError(
            f"expected {encoding.upper()}, found the byte 0x{data[error.start]:02x}",
            location=Lines(before).location(file, len(before)),
            hint="save the file as UTF-8",
        ) from None


def _too_large(file: str, limits: Limits) -> WorkflowSyntaxError:
    return WorkflowSyntaxError(
        f"expected a workflow of at most {limits.max_bytes:,} bytes, found a larger one",
        location=Location(file, 1),
        hint="keep data in files of its own and read it with a task",
    )


def _name(character: str) -> str:
    code = ord(character)
    if code == 0:
        return "NUL (U+0000)"
    return f"U+{code:04X}" + (" (a lone surrogate)" if 0xD800 <= code <= 0xDFFF else "")


def _hint(character: str) -> str:
    if character == "\0":
        return "the file is binary or UTF-16 without a byte order mark; save it as UTF-8"
    if character == _BOM:
        return "remove the invisible byte order mark in the middle of the file"
    return "write it as an escape in double quotes, such as " + r'"\x1b"'
