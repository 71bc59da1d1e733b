"""Messages between an engine and a worker: lists of byte strings over two pipes of their own.

A message is a count, that many lengths, and the parts. Both ends are children of one user on one
machine, so there is no limit and no checksum; a half message means the other side died.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Sequence

__all__ = ["Channel"]

_COUNT = struct.Struct("<I")
_JOIN_BELOW_BYTES = 64 * 1024

Part = bytes | bytearray | memoryview


class Channel:
    """Two file descriptors: one to read messages from, one to write them to.

    Parameters
    ----------
    read_fd, write_fd : int
        Ends of two different pipes; owned from now on.
    """

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd = read_fd
        self._write_fd = write_fd
        self._reader = io.BufferedReader(io.FileIO(read_fd, "rb", closefd=False), 64 * 1024)

    def send(self, parts: Sequence[Part]) -> None:
        """Write one message.

        Raises
        ------
        OSError
            If the other side is gone.
        """
        lengths = struct.pack(f"<{len(parts)}Q", *(len(part) for part in parts))
        pending = bytearray(_COUNT.pack(len(parts)) + lengths)
        for part in parts:
            if len(part) < _JOIN_BELOW_BYTES:
                pending += part
            else:
                self._write(pending)
                self._write(part)
                pending = bytearray()
        self._write(pending)

    def receive(self) -> list[bytearray]:
        """Wait for one message.

        Raises
        ------
        EOFError
            If the other side is gone.
        """
        (count,) = _COUNT.unpack(self._read(_COUNT.size))
        lengths = struct.unpack(f"<{count}Q", self._read(8 * count))
        return [self._read(length) for length in lengths]

    def close(self) -> None:
        """Close both ends; the other side reads the end of its input."""
        for fd in (self.read_fd, self._write_fd):
            with contextlib.suppress(OSError):
                os.close(fd)
        # The numbers may soon name other files.
        self.read_fd = self._write_fd = -1

    def _write(self, data: Part) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._write_fd, view) :]

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        filled = 0
        while filled < size:
            count = self._reader.readinto(view[filled:])
            if not count:
                raise EOFError("the other side of the channel is gone")
            filled += count
        return data
