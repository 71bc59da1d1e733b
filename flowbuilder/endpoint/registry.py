"""Which engines live on this machine: one small JSON file for each, written by it, read by all.

A file whose process is dead is stale; whoever reads it removes it together with its socket.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from flowbuilder._version import __version__
from flowbuilder.endpoint.frames import PROTOCOL
from flowbuilder.endpoint.runtime_folder import private_folder, runtime_folders
from flowbuilder.errors import EndpointError
from flowbuilder.runtime.machine import boot_id, is_process_alive, process_start_time

__all__ = [
    "EngineEntry",
    "describe_process",
    "find_engines",
    "find_owner",
    "jupyter_kernel_id",
    "register",
    "unregister",
]

_ENGINE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MAX_ENTRY_BYTES = 64 * 1024


class EngineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One live engine.

    Parameters
    ----------
    engine_id : str
        Unique; letters, digits, ``_`` and ``-``.
    pid : int
        Its process.
    start_time : str
        As `process_start_time` gives it.
    host, boot_id : str
        The machine and its boot.
    kernel_id : str
        Jupyter kernel it lives in; empty outside Jupyter.
    project, data_dir : str
        Absolute paths; the store is the one in ``data_dir``.
    version : str
        Version of flowbuilder.
    protocol : int
        Version of the endpoint's messages.
    socket : str
        Path of a Unix socket; empty if the endpoint listens on a port.
    port : int
        Port on 127.0.0.1; 0 if it has a socket.
    token_file : str
        File with the token a client on a port has to know.
    """

    engine_id: str
    pid: int
    start_time: str = ""
    host: str = ""
    boot_id: str = ""
    kernel_id: str = ""
    project: str = ""
    data_dir: str = ""
    version: str = __version__
    protocol: int = PROTOCOL
    socket: str = ""
    port: int = 0
    token_file: str = ""

    @property
    def is_stale(self) -> bool:
        """Whether its process is certainly dead: same machine, and another boot or no process."""
        if self.host != socket.gethostname():
            return False
        return self.boot_id != boot_id() or not is_process_alive(self.pid, self.start_time)


def describe_process(engine_id: str, *, project: str = "", data_dir: str = "") -> EngineEntry:
    """Describe this process as an engine that does not listen yet.

    Raises
    ------
    EndpointError
        If the id cannot be a file name.
    """
    if not _ENGINE_ID.fullmatch(engine_id):
        raise EndpointError(
            f"expected an engine id of up to 64 letters, digits, '_' and '-', found {engine_id!r}"
        )
    return EngineEntry(
        engine_id=engine_id,
        pid=os.getpid(),
        start_time=process_start_time(os.getpid()) or "",
        host=socket.gethostname(),
        boot_id=boot_id(),
        kernel_id=jupyter_kernel_id(),
        project=project,
        data_dir=data_dir,
    )


def register(entry: EngineEntry, folder: Path) -> Path:
    """Write an entry atomically, readable by this user only.

    Returns
    -------
    Path
        The file.
    """
    path = _entry_path(entry.engine_id, folder)
    private_folder(path.parent)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    write_private(draft, msgspec.json.format(msgspec.json.encode(entry)))
    draft.replace(path)
    return path


def unregister(entry: EngineEntry, folder: Path) -> None:
    """Remove an entry with its socket and token; nothing if they are gone."""
    for place in (str(_entry_path(entry.engine_id, folder)), entry.socket, entry.token_file):
        # A file that claims another folder's files as its own must not get them removed.
        if place and Path(place).parent in (folder, folder / "engines"):
            with contextlib.suppress(OSError):
                Path(place).unlink()


def find_engines(
    data_dir: Path | None = None, *, folders: Sequence[Path] | None = None
) -> list[EngineEntry]:
    """List live engines, removing what dead ones left.

    Parameters
    ----------
    data_dir : Path, optional
        Only those that write to this store.
    folders : sequence of Path, optional
        Where to look; by default everywhere this user's engines register.

    Returns
    -------
    list of EngineEntry
        By engine id. Files that cannot be read are passed over.
    """
    wanted = None if data_dir is None else os.path.realpath(data_dir)
    found: dict[str, EngineEntry] = {}
    for folder in runtime_folders() if folders is None else folders:
        for entry in _read_all(folder):
            if entry.is_stale:
                unregister(entry, folder)
            elif wanted is None or (entry.data_dir and os.path.realpath(entry.data_dir) == wanted):
                found.setdefault(entry.engine_id, entry)
    return sorted(found.values(), key=lambda entry: entry.engine_id)


def find_owner(
    data_dir: Path | None, engine_id: str, *, folders: Sequence[Path] | None = None
) -> EngineEntry | None:
    """Find the live engine that owns a run; None if it is gone."""
    engines = find_engines(data_dir, folders=folders)
    return next((entry for entry in engines if entry.engine_id == engine_id), None)


def jupyter_kernel_id() -> str:
    """Name the Jupyter kernel this process is; empty if it is none. Imports nothing."""
    application = getattr(sys.modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
    connection = ""
    with contextlib.suppress(Exception):
        if application is not None and application.initialized():
            connection = application.instance().connection_file
    match = re.fullmatch(r"kernel-(.+)\.json", Path(connection).name)
    return match[1] if match else ""


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that only this user can read, from its first byte on."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)


def _entry_path(engine_id: str, folder: Path) -> Path:
    return folder / "engines" / f"{engine_id}.json"


def _read_all(folder: Path) -> Iterator[EngineEntry]:
    try:
        paths = sorted((folder / "engines").glob("*.json"))
    except OSError:
        return
    for path in paths:
        with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError, RecursionError):
            with path.open("rb") as file:
                entry = msgspec.json.decode(file.read(_MAX_ENTRY_BYTES), type=EngineEntry)
            if path.stem == entry.engine_id:
                yield entry
