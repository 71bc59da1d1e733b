"""From requests to calls of the engine: the methods there are, and their arguments."""

from __future__ import annotations

import hmac
import logging
import os
from collections.abc import Callable
from typing import TypeVar

import msgspec

from flowbuilder._version import __version__
from flowbuilder.endpoint.frames import (
    MAX_FRAME_BYTES,
    PROTOCOL,
    Answer,
    FrameError,
    Request,
    encode,
)
from flowbuilder.endpoint.host import EngineHost
from flowbuilder.errors import EndpointError, FlowBuilderError

__all__ = ["Dispatcher"]

_log = logging.getLogger(__name__)

_Params = TypeVar("_Params", bound=msgspec.Struct)


class _NoParams(msgspec.Struct):
    """Of methods without arguments."""


class _RunParams(msgspec.Struct):
    run: str


class _CancelParams(msgspec.Struct):
    run: str
    task: str | None = None


class _RequestParams(msgspec.Struct):
    request: dict[str, object]


class _HelloParams(msgspec.Struct):
    protocol: int = 0
    version: str = ""
    token: str = ""


class Dispatcher:
    """Answers the requests of all clients of one engine. Thread-safe if the host is.

    Parameters
    ----------
    host : EngineHost
        The engine.
    engine_id : str
        Its id, part of every greeting.
    """

    def __init__(self, host: EngineHost, engine_id: str) -> None:
        self._host = host
        self._engine_id = engine_id
        self._pid = os.getpid()

    def greet(self, request: Request, token: str) -> Answer:
        """Answer a client's first request.

        Parameters
        ----------
        request : Request
            Has to be ``hello`` with our version of the protocol.
        token : str
            What the client has to know; empty if nothing.

        Returns
        -------
        Answer
            An error if the client may not stay.

        Raises
        ------
        FrameError
            If the arguments are wrong.
        """
        refusal = _judge(request, _convert(request, _HelloParams), token)
        return refusal or self._call(request, self._hello)[0]

    def answer(self, request: Request) -> tuple[Answer, bytes]:
        """Answer a request; only the methods named here can be called.

        Returns
        -------
        tuple of (Answer, bytes)
            The answer, and the frame that follows it if it is binary.

        Raises
        ------
        FrameError
            If the arguments are wrong.
        """
        host = self._host
        match request.method:
            case "hello":
                return self._call(request, self._hello)
            case "start":
                start = _convert(request, _RequestParams)
                return self._call(request, lambda: host.start(start.request))
            case "cancel":
                cancel = _convert(request, _CancelParams)
                return self._call(request, lambda: host.cancel(cancel.run, cancel.task))
            case "pause" | "resume" | "inspect":
                run = _convert(request, _RunParams).run
                return self._call(request, lambda: getattr(host, request.method)(run))
            case "variables":
                _convert(request, _NoParams)
                return self._call(request, host.variables)
            case "page":
                page = _convert(request, _RequestParams)
                return self._call(request, lambda: host.page(page.request))
        text = f"expected a method of this endpoint, found {request.method[:80]!r}"
        return Answer(id=request.id, error=text, code="unknown-method"), b""

    def _call(self, request: Request, method: Callable[[], object]) -> tuple[Answer, bytes]:
        """Call the engine; whatever goes wrong there becomes an answer."""
        try:
            result = method()
            if isinstance(result, bytes):
                if len(result) > MAX_FRAME_BYTES:
                    raise EndpointError("expected a page below 4 GiB; ask for fewer rows")  # noqa: TRY301
                return Answer(id=request.id, is_binary=True), result
            encoded = msgspec.Raw(encode(result))
        except FlowBuilderError as error:
            return Answer(id=request.id, error=str(error), code="failed"), b""
        except Exception as error:
            _log.exception("the engine failed at a request to %s", request.method[:80])
            text = f"the engine failed at {request.method[:80]!r}: {type(error).__name__}: {error}"
            return Answer(id=request.id, error=text, code="internal"), b""
        return Answer(id=request.id, result=encoded), b""

    def _hello(self) -> dict[str, object]:
        facts = {
            "engine_id": self._engine_id,
            "pid": self._pid,
            "protocol": PROTOCOL,
            "version": __version__,
        }
        return {**self._host.hello(), **facts}


def _judge(request: Request, params: _HelloParams, token: str) -> Answer | None:
    """Find the reason to turn a client away, if there is one."""
    if request.method != "hello":
        text = f"expected 'hello' first, found {request.method[:80]!r}"
        return Answer(id=request.id, error=text, code="refused")
    if token and not hmac.compare_digest(token.encode(), params.token.encode()):
        text = "expected the token of this engine, found another"
        return Answer(id=request.id, error=text, code="refused")
    if params.protocol != PROTOCOL:
        text = (
            f"expected endpoint protocol {PROTOCOL} of flowbuilder {__version__},"
            f" found {params.protocol} of {params.version[:40]!r}; install the same version"
        )
        return Answer(id=request.id, error=text, code="version")
    return None


def _convert(request: Request, kind: type[_Params]) -> _Params:
    """Check the arguments of a request."""
    try:
        return msgspec.convert(request.params, kind)
    except msgspec.ValidationError as error:
        raise FrameError(f"{request.method[:80]!r} got wrong arguments: {error}") from error
