"""One advisory lock on an open file, on every platform.

``flock`` and not ``lockf``: the lock of the latter belongs to the process, so it would be granted
again to the process that holds it, and any close of any descriptor of the file would drop it. A
``flock`` belongs to the open file, so a look at our own file neither succeeds nor drops anything; a
forked child shares it until the child closes its copy.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

__all__ = ["LocksUnsupportedError", "try_lock", "unlock"]

_NO_LOCKS: Final = frozenset(
    getattr(errno, name)
    for name in ("ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL")
    if hasattr(errno, name)
)


class LocksUnsupportedError(OSError):
    """The file system has no locks."""


if sys.platform == "win32":
    import msvcrt

    # Windows locks forbid reading what they cover, so the locked byte lies far behind the content.
    _LOCKED_BYTE: Final = 1 << 30

    def try_lock(descriptor: int, *, is_shared: bool = False) -> bool:
        """Take the lock if nobody has it."""
        del is_shared
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def unlock(descriptor: int) -> None:
        """Give the lock back."""
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def try_lock(descriptor: int, *, is_shared: bool = False) -> bool:
        """Take the lock if nobody has it.

        Parameters
        ----------
        descriptor : int
            An open file.
        is_shared : bool
            Whether others may share it: two that merely look must not take each other for a holder.

        Raises
        ------
        LocksUnsupportedError
            If the file system has no locks.
        """
        kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise LocksUnsupportedError(error.errno, "file locks are not supported") from error
            raise
        return True

    def unlock(descriptor: int) -> None:
        """Give the lock back."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)
