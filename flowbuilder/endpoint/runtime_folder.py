"""Where endpoints of this user live: a private folder that outlives no boot."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from flowbuilder.errors import EndpointError

__all__ = ["private_folder", "runtime_folder", "runtime_folders"]

_VARIABLE = "FLOWBUILDER_RUNTIME_DIR"


def runtime_folder() -> Path:
    """Give the folder an engine registers in, made and checked to be private.

    Returns
    -------
    Path
        ``FLOWBUILDER_RUNTIME_DIR``, else ``flowbuilder`` in the user's runtime folder, else
        ``flowbuilder-<uid>`` in the temporary folder.

    Raises
    ------
    EndpointError
        If none can be made private.
    """
    failure: EndpointError | None = None
    for candidate in runtime_folders():
        # The system makes the parent; where it has not, the folder does not belong there.
        if not candidate.parent.is_dir() and _VARIABLE not in os.environ:
            continue
        try:
            return private_folder(candidate)
        except EndpointError as error:
            failure = failure or error
    raise failure or EndpointError(f"expected a folder for sockets, set {_VARIABLE} to one")


def runtime_folders() -> list[Path]:
    """List the folders engines of this user may have registered in, most likely first.

    Notes
    -----
    A Jupyter kernel started by a service often lacks ``XDG_RUNTIME_DIR`` that a terminal has, so a
    reader looks at all of them.
    """
    chosen = os.environ.get(_VARIABLE)
    if chosen:
        return [Path(chosen)]
    uid = os.getuid() if hasattr(os, "getuid") else None
    xdg = os.environ.get("XDG_RUNTIME_DIR")
    folders = [Path(xdg) / "flowbuilder"] if xdg else []
    if uid is not None:
        folders.append(Path(f"/run/user/{uid}/flowbuilder"))
    name = f"flowbuilder-{uid}" if uid is not None else "flowbuilder-runtime"
    folders.append(Path(tempfile.gettempdir()) / name)
    return list(dict.fromkeys(folders))


def private_folder(folder: Path) -> Path:
    """Make a folder nobody else can enter, or check that it is one.

    Raises
    ------
    EndpointError
        If it cannot be made, is a link, or belongs to somebody else.
    """
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700, parents=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise EndpointError(f"expected a folder at {str(folder)!r}, found something else")
        if hasattr(os, "getuid"):
            if status.st_uid != os.getuid():
                raise EndpointError(
                    f"expected {str(folder)!r} to be ours, found it owned by user {status.st_uid}",
                    hint=f"set {_VARIABLE} to a folder of your own",
                )
            if status.st_mode & 0o077:
                folder.chmod(0o700)
    except OSError as error:
        raise EndpointError(
            f"expected to make the private folder {str(folder)!r}, found {error.strerror}",
            hint=f"set {_VARIABLE} to a folder of your own",
        ) from error
    return folder
