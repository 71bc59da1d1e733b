"""One HTTP request with its redirects: bounded in time, size and number, and in where it may go."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit, urlunsplit

from flowbuilder.errors import TaskFailedError
from flowbuilder.tasks.http_address import resolve_public
from flowbuilder.tasks.http_body import ACCEPTED_ENCODINGS, read_body

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["HttpReply", "HttpRequest", "send", "shown_url"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ORIGIN_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "host"})
_BODY_HEADERS = frozenset({"content-type", "content-length", "content-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """What to send.

    Parameters
    ----------
    url : str
        Absolute, http or https, without credentials.
    params : mapping
        Query parameters added to those of ``url``.
    content : bytes or None
        The body.
    max_redirects : int
        How many redirects to follow; 0 gives a redirect as the reply.
    max_bytes : int
        Largest decoded body of the reply.
    is_restricted : bool
        Whether only public addresses may be reached.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict)
    content: bytes | None = None
    max_redirects: int = 10
    max_bytes: int = 64 * 1024 * 1024
    is_restricted: bool = False

    def check(self) -> None:
        """Find what is wrong without a network.

        Raises
        ------
        TaskFailedError
            If the URL or a header is malformed, or the URL carries credentials.
        """
        _check_url(self.url)
        _check_headers(self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """What came back; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    url: str
    content: bytes


async def send(request: HttpRequest) -> HttpReply:
    """Send a request and follow its redirects, checking each target.

    Raises
    ------
    TaskFailedError
        If the request is malformed, the server cannot be reached, or a limit is exceeded.
    AuthorizationError
        If a target is not allowed.
    """
    for _ in range(request.max_redirects + 1):
        request.check()
        async with _open(request) as response:
            target = response.headers.get("location")
            if response.status_code in _REDIRECTS and target and request.max_redirects:
                request = _redirected(request, response.status_code, target)
                continue
            return await _read(request, response)
    raise TaskFailedError(
        f"expected at most {request.max_redirects} redirects, found more at "
        f"{shown_url(request.url)!r}",
        hint="raise 'follow_redirects' if that is meant",
    )


def shown_url(url: str) -> str:
    """Give a URL as it may be shown: credentials, query and fragment often hold secrets."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "...." if parts.query else "", ""))[:300]
    except ValueError:
        return "(malformed URL)"


def _check_url(url: str) -> None:
    if any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise TaskFailedError(
            f"expected a URL without spaces and control characters, found {shown_url(url)!r}"
        )
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise TaskFailedError(f"expected a URL, found a malformed one: {error}") from error
    if parts.scheme not in ("http", "https") or not has_host:
        raise TaskFailedError(
            f"expected a URL that begins with http:// or https://, found {shown_url(url)!r}",
            hint="files are for the 'read' task type" if parts.scheme == "file" else "",
        )
    if "@" in parts.netloc:
        raise TaskFailedError(
            f"expected a URL without user name and password, found one for host {parts.hostname!r}",
            hint="put credentials from ${{ secrets.NAME }} into a header",
        )


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise TaskFailedError(f"expected a header name, found {name[:60]!r}")
        if any(char in value for char in "\r\n\0"):
            # The value may be a secret, so it is not shown.
            raise TaskFailedError(f"the value of header {name!r} contains a line break or NUL")


@asynccontextmanager
async def _open(request: HttpRequest) -> AsyncIterator[httpx.Response]:
    import httpx

    is_https = request.url.startswith("https:")
    # Proxies of the environment would resolve the name a second time, out of our sight.
    client = httpx.AsyncClient(
        verify=_ssl_context() if is_https else False,
        timeout=None,  # noqa: S113 - the caller holds one deadline for everything
        trust_env=not request.is_restricted,
        follow_redirects=False,
    )
    async with client:
        try:
            response = await client.send(await _build(request, client), stream=True)
        except httpx.HTTPError as error:
            raise _unreachable(request, error) from error
        except httpx.InvalidURL as error:
            raise TaskFailedError(f"expected a URL, found a malformed one: {error}") from error
        try:
            yield response
        finally:
            await response.aclose()


async def _build(request: HttpRequest, client: httpx.AsyncClient) -> httpx.Request:
    import httpx

    url = httpx.URL(request.url)
    if request.params:
        url = url.copy_merge_params({name: _query(value) for name, value in request.params.items()})
    headers = {"accept-encoding": ACCEPTED_ENCODINGS, **request.headers}
    extensions: dict[str, object] = {}
    if request.is_restricted:
        port = url.port or (443 if url.scheme == "https" else 80)
        resolved = await resolve_public(url.host, port)
        # Connect to the very address that was checked; the name stays in the Host header and in
        # TLS.
        headers.setdefault("host", url.netloc.decode("ascii"))
        extensions["sni_hostname"] = resolved.host
        url = url.copy_with(host=resolved.addresses[0])
    return client.build_request(
        request.method, url, headers=headers, content=request.content, extensions=extensions
    )


def _query(value: object) -> str | list[str]:
    if isinstance(value, list | tuple):
        return [item for part in value for item in [_query(part)] if isinstance(item, str)]
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


@cache
def _ssl_context() -> ssl.SSLContext:
    """Make the trust store once: reading it takes 20 ms."""
    import httpx

    return httpx.create_ssl_context()


def _redirected(request: HttpRequest, status: int, target: str) -> HttpRequest:
    url = urljoin(request.url, target)
    headers = dict(request.headers)
    if urlsplit(url)[:2] != urlsplit(request.url)[:2]:
        headers = _without(headers, _ORIGIN_HEADERS)
    method, content = request.method, request.content
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        method, content = "GET", None
        headers = _without(headers, _BODY_HEADERS)
    return replace(request, url=url, headers=headers, method=method, content=content, params={})


def _without(headers: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in names}


async def _read(request: HttpRequest, response: httpx.Response) -> HttpReply:
    import httpx

    encoding = response.headers.get("content-encoding", "")
    declared = response.headers.get("content-length", "")
    if declared.isascii() and declared.isdecimal() and len(declared) < 20 and not encoding:
        has_body = request.method != "HEAD"
        if has_body and int(declared) > request.max_bytes:
            raise TaskFailedError(
                f"expected a body of at most {request.max_bytes} bytes, the server announces "
                f"{declared}",
                hint="raise 'max_bytes', or fetch less",
            )
    try:
        content = await read_body(response.aiter_raw(), encoding, request.max_bytes)
    except httpx.HTTPError as error:
        raise _unreachable(request, error) from error
    return HttpReply(
        status=response.status_code,
        headers=dict(response.headers.items()),
        url=request.url,
        content=content,
    )


def _unreachable(request: HttpRequest, error: Exception) -> TaskFailedError:
    reason = str(error) or type(error).__name__
    return TaskFailedError(
        f"{request.method} {shown_url(request.url)!r} failed: {reason}",
        error_type=type(error).__name__,
    )
