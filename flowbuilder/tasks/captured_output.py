"""What a command wrote: the beginning in memory, the rest in a file, lines passed on at once."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from io import BufferedWriter
from pathlib import Path

__all__ = ["MAX_SPILL_BYTES", "CapturedOutput", "LineForwarder", "OutputTooLargeError"]

MAX_SPILL_BYTES = 4 * 1024**3
"""A command that writes more than this is stopped: an endless writer must not fill the disk."""

_LONGEST_LINE = 65_536


class OutputTooLargeError(Exception):
    """A command wrote more than may be kept."""


class CapturedOutput:
    """Bytes of one stream, at most ``limit_bytes`` of them in memory.

    Parameters
    ----------
    limit_bytes : int
        What is kept in memory.
    spill_path : Path or None
        The file that gets everything once the limit is passed; its folder is made then. None allows
        no more than the limit.
    max_spill_bytes : int
        Size at which `OutputTooLargeError` is raised.
    """

    __slots__ = ("_file", "_head", "_limit", "_max", "path", "size_bytes")

    def __init__(
        self, limit_bytes: int, spill_path: Path | None, *, max_spill_bytes: int = MAX_SPILL_BYTES
    ) -> None:
        self.path = spill_path
        self.size_bytes = 0
        self._limit = limit_bytes
        self._max = limit_bytes if spill_path is None else max_spill_bytes
        self._head = bytearray()
        self._file: BufferedWriter | None = None

    @property
    def is_spilled(self) -> bool:
        """Whether the whole is only in the file at ``path``."""
        return self.size_bytes > self._limit

    def head(self) -> bytes:
        """Give what is in memory: everything, or the first ``limit_bytes``."""
        return bytes(self._head)

    def feed(self, data: bytes) -> None:
        """Append."""
        self.size_bytes += len(data)
        if self.size_bytes > self._max:
            raise OutputTooLargeError
        if self._file is None:
            room = self._limit - len(self._head)
            if self.is_spilled:
                self._file = self._open()
                self._file.write(self._head)
                self._file.write(data)
            self._head += data[:room]
        else:
            self._file.write(data)

    def close(self) -> None:
        """Finish the file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> BufferedWriter:
        assert self.path is not None
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self.path.open("wb")


class LineForwarder:
    """Passes decoded text on in whole lines, until a limit.

    Parameters
    ----------
    write : callable
        Gets the text.
    encoding : str
        Undecodable bytes become U+FFFD.
    limit_bytes : int
        After so much, one note is passed on and the rest is dropped.
    tail_chars : int
        How much of the end `tail` remembers.
    """

    __slots__ = ("_decoder", "_is_full", "_left", "_pending", "_tail", "_tail_chars", "_write")

    def __init__(
        self,
        write: Callable[[str], None],
        encoding: str,
        *,
        limit_bytes: int,
        tail_chars: int = 0,
    ) -> None:
        self._write = write
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._left = limit_bytes
        self._is_full = False
        self._pending = ""
        self._tail = ""
        self._tail_chars = tail_chars

    def feed(self, data: bytes) -> None:
        """Take more bytes; passes on everything up to the last line break."""
        if self._is_full and not self._tail_chars:
            return
        text = self._pending + self._decoder.decode(data)
        end = text.rfind("\n") + 1
        if len(text) - end > _LONGEST_LINE:
            end = len(text)
        self._pending = text[end:]
        if end:
            self._pass_on(text[:end])

    def close(self) -> None:
        """Pass on the unfinished last line."""
        text = self._pending + self._decoder.decode(b"", final=True)
        self._pending = ""
        if text:
            self._pass_on(text)

    def tail(self) -> str:
        """Give the end of everything that was passed, at most ``tail_chars``."""
        return self._tail

    def _pass_on(self, text: str) -> None:
        if self._tail_chars:
            self._tail = (self._tail + text)[-self._tail_chars :]
        if self._is_full:
            return
        if len(text) > self._left:
            self._is_full = True
            text = text[: self._left] + "\n[more output follows; it is not logged]\n"
        self._left -= len(text)
        self._write(text)
