"""What an engine and its worker say to each other. Both are the same version of this package."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Reply", "Request", "WorkerStart"]


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """What a worker needs to begin.

    Parameters
    ----------
    request_fd, reply_fd : int
        Ends of the pipes it reads calls from and writes answers to.
    lifeline_fd : int
        Read end of a pipe that nobody writes to; its end means the engine is gone.
    engine_pid : int
        Process id of the engine.
    folders : tuple of str
        Where the worker puts tables, best first.
    """

    request_fd: int
    reply_fd: int
    lifeline_fd: int
    engine_pid: int
    folders: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call; positional and keyword arguments follow as the message's other parts.

    Parameters
    ----------
    label : str
        The function's name for messages.
    module, qualname : str
        Where to import the function; ``module`` is empty if it comes as code.
    version : str
        Hash of the code.
    code : bytes
        Pickled function, the first time a worker meets this version.
    directory : str
        Working directory of the call.
    sys_path, environment : optional
        The engine's, where they changed since this worker's last call.
    marker : bytes
        To be written to both output streams after the call; empty where the engine needs none.
    is_confidential : bool
        Whether the result must come through the pipe, not in files.
    """

    label: str
    module: str
    qualname: str
    version: str
    code: bytes
    directory: str
    sys_path: tuple[str, ...] | None = None
    environment: dict[str, str] | None = None
    marker: bytes = b""
    is_confidential: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a call; a value follows as the message's other parts.

    Parameters
    ----------
    is_ok : bool
        Whether the function returned.
    needs_code : bool
        Whether nothing was called, because the worker does not have this version of the code.
    error_type, message, traceback : str
        The exception in words.
    is_described : bool
        Whether ``message`` is a whole sentence of ours that mentions the exception.
    error : bytes
        The exception pickled; empty if it cannot be.
    file_bytes : int
        What the worker wrote to files for the value.
    """

    is_ok: bool
    needs_code: bool = False
    error_type: str = ""
    message: str = ""
    traceback: str = ""
    is_described: bool = False
    error: bytes = b""
    file_bytes: int = 0
