"""Where runs are kept: one rule for kernel, command line and server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from flowbuilder.errors import ConfigurationError

__all__ = ["DATA_DIR_NAME", "find_data_dir", "prepare_data_dir"]

DATA_DIR_NAME: Final = ".flowbuilder"
_PROJECT_MARKERS = ("pyproject.toml", ".git")


def find_data_dir(
    flow_file: Path | None = None, data_dir: Path | None = None, *, root: Path | None = None
) -> Path:
    """Decide where the runs of a workflow are kept. Creates nothing.

    The given ``data_dir``; else ``.flowbuilder`` in the nearest ancestor that already has one; else
    in the nearest ancestor with a ``pyproject.toml`` or ``.git``; else in the starting folder
    itself. Ancestors above the user's home folder, or above ``root``, are never considered.

    Parameters
    ----------
    flow_file : Path, optional
        The workflow file; its folder is where the search starts. Without it, the working directory.
    data_dir : Path, optional
        An explicit choice (``--data-dir``): the store directory itself.
    root : Path, optional
        A server's root folder, the top of the search.

    Returns
    -------
    Path
        Absolute path of the store directory.
    """
    if data_dir is not None:
        return data_dir.expanduser().absolute()
    start = flow_file.resolve().parent if flow_file is not None else Path.cwd().resolve()
    folders = list(_folders_upwards(start, root))
    for folder in folders:
        if _is_usable_store(folder / DATA_DIR_NAME):
            return folder / DATA_DIR_NAME
    for folder in folders:
        if any((folder / marker).exists() for marker in _PROJECT_MARKERS):
            return folder / DATA_DIR_NAME
    return start / DATA_DIR_NAME


def _folders_upwards(start: Path, root: Path | None) -> Iterator[Path]:
    tops = {path.resolve() for path in (root, _home()) if path is not None}
    for folder in (start, *start.parents):
        yield folder
        if folder in tops:
            return


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None


def _is_usable_store(path: Path) -> bool:
    # Somebody else's .flowbuilder in a shared parent such as /tmp must not attract our runs.
    if not path.is_dir():
        return False
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        return True
    return path.stat().st_uid in {os.geteuid(), 0}


def prepare_data_dir(path: Path) -> Path:
    """Create a store directory (mode 0700, with a ``.gitignore`` of ``*``) unless it exists.

    Raises
    ------
    ConfigurationError
        If the path exists and is not a directory.
    OSError
        If it cannot be created; callers decide whether to go on in memory.
    """
    if path.exists() and not path.is_dir():
        raise ConfigurationError(
            f"expected a directory for runs, found a file: {str(path)!r}",
            hint="name another place with --data-dir",
        )
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    ignore = path / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    return path
