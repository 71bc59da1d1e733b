"""Which project directories may run plugin code: a person says so once, outside the project.

One small file per trusted directory, named by the hash of its resolved path, so that granting is
atomic and two processes never lose each other's entry. The files lie in ``FLOWBUILDER_HOME``, which
no project can ship.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from flowbuilder.config import flowbuilder_home, prepare_home
from flowbuilder.errors import PluginError

__all__ = ["distrust", "is_trusted", "trust", "trusted_directories"]


def trust(directory: Path) -> Path:
    """Allow the plugins of a project directory to be loaded by this user.

    Parameters
    ----------
    directory : Path
        The project, not its ``plugins`` folder. Symbolic links are resolved first.

    Returns
    -------
    Path
        The resolved directory that is trusted from now on.

    Raises
    ------
    PluginError
        If it is not a directory, or the list cannot be written.
    """
    resolved = _resolve(directory)
    if not resolved.is_dir():
        raise PluginError(f"expected a directory to trust, found {str(directory)!r}")
    entry = _entry(resolved)
    try:
        prepare_home()
        entry.parent.mkdir(exist_ok=True, mode=0o700)
        _write_atomically(entry, os.fsencode(resolved))
    except OSError as error:
        raise PluginError(
            f"the trust list in {str(entry.parent)!r} could not be written: {error}",
            hint="set FLOWBUILDER_HOME to a folder you own",
        ) from error
    return resolved


def distrust(directory: Path) -> bool:
    """Take the permission back; return whether there was one."""
    try:
        _entry(_resolve(directory)).unlink()
    except FileNotFoundError:
        return False
    return True


def is_trusted(directory: Path) -> bool:
    """Whether this user trusts exactly this directory (trust is not inherited by folders below)."""
    resolved = _resolve(directory)
    return _read(_entry(resolved)) == resolved


def trusted_directories() -> list[Path]:
    """List what is trusted, sorted."""
    try:
        entries = list(_folder().iterdir())
    except OSError:
        return []
    found = (_read(entry) for entry in entries if not entry.name.startswith("."))
    return sorted(path for path in found if path is not None)


def _folder() -> Path:
    return flowbuilder_home() / "trusted"


def _entry(resolved: Path) -> Path:
    name = hashlib.blake2b(os.fsencode(resolved), digest_size=16).hexdigest()
    return _folder() / name


def _resolve(directory: Path) -> Path:
    return Path(directory).expanduser().resolve()


def _read(entry: Path) -> Path | None:
    try:
        with entry.open("rb") as file:
            status = os.fstat(file.fileno())
            if hasattr(os, "getuid") and status.st_uid not in (os.getuid(), 0):
                return None
            return Path(os.fsdecode(file.read(65_536)))
    except OSError:
        return None


def _write_atomically(entry: Path, content: bytes) -> None:
    # mkstemp makes the file 0600.
    descriptor, temporary = tempfile.mkstemp(dir=entry.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(entry)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
