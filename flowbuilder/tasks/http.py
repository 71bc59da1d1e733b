"""The task type ``http``: one request, on the I/O loop."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from flowbuilder.cache.subject import Subject
from flowbuilder.durations import format_duration, parse_duration
from flowbuilder.errors import TaskFailedError, TaskTimeoutError
from flowbuilder.model import Cache
from flowbuilder.plugins.task_type import Finding, TaskCall, TaskType
from flowbuilder.tasks.http_request import HttpReply, HttpRequest, send, shown_url
from flowbuilder.vocabulary import Effects, ExecutorKind

__all__ = ["HttpTask"]

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_LARGE_JSON_BYTES = 1024 * 1024
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript")
_TEXT_SUFFIXES = ("+json", "+xml", "x-www-form-urlencoded", "yaml", "x-ndjson", "graphql")


class HttpTask(TaskType):
    """Sends a request and gives the reply.

    Notes
    -----
    The output is a mapping ``{status, headers, url, body}``, and ``json`` for JSON bodies of at
    most 1 MiB. ``body`` is text, or bytes if the content type is not textual. ``output:
    text|json|bytes`` gives the body alone. A script that waits only for this task sees the body as
    ``input_data``. Time, size and redirects are limited; nothing is retried here, ``retry:`` does
    that.
    """

    name = "http"
    summary = "Send an HTTP request."
    executor = ExecutorKind.ASYNC
    is_async = True
    writes_own_output = True
    schema: ClassVar[Mapping[str, object]] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["url"],
        "properties": {
            "url": {
                "type": "string",
                "title": "URL",
                "description": "http:// or https://, without user name and password.",
                "minLength": 1,
            },
            "method": {
                "enum": list(_METHODS),
                "title": "Method",
                "description": "GET and HEAD count as free of effects, the others as external.",
                "default": "GET",
            },
            "headers": {
                "type": "object",
                "title": "Headers",
                "description": "Request headers.",
                "additionalProperties": {"type": ["string", "number", "boolean"]},
                "default": {},
            },
            "params": {
                "type": "object",
                "title": "Query parameters",
                "description": "Added to the URL; a list gives a repeated parameter.",
                "default": {},
            },
            "json": {"title": "JSON body", "description": "Sent as JSON."},
            "body": {
                "type": "string",
                "title": "Text body",
                "description": "Sent as it is, in UTF-8.",
            },
            "timeout": {
                "type": ["number", "string"],
                "title": "Time limit",
                "description": "For the whole request with its redirects and its body.",
                "default": 30,
            },
            "follow_redirects": {
                "type": "integer",
                "title": "Redirects",
                "description": "How many to follow; 0 gives the redirect itself.",
                "minimum": 0,
                "maximum": 50,
                "default": 10,
            },
            "max_bytes": {
                "type": "integer",
                "title": "Largest body",
                "description": "Largest decoded body, in bytes.",
                "minimum": 0,
                "maximum": 4294967296,
                "default": 67108864,
            },
            "expect": {
                "type": "array",
                "title": "Expected status",
                "description": "Status codes that mean success; by default all below 400.",
                "items": {"type": "integer", "minimum": 100, "maximum": 599},
                "minItems": 1,
            },
            "output": {
                "enum": ["response", "text", "json", "bytes"],
                "title": "Output",
                "description": "The whole reply, or its body alone as text, parsed JSON or bytes.",
                "default": "response",
            },
        },
    }

    def effects(self, config: Mapping[str, object]) -> Effects:
        """Count GET and HEAD as free of effects; a method that is a template may be any."""
        method = config.get("method", "GET")
        return Effects.NONE if method in ("GET", "HEAD", "OPTIONS") else Effects.EXTERNAL

    def check(self, config: Mapping[str, object], directory: Path) -> Iterable[Finding]:
        """Check what can be seen of URL, body and time limit without a network."""
        del directory
        if "json" in config and "body" in config:
            yield Finding("expected 'json' or 'body', found both", ("body",))
        url = config.get("url")
        if isinstance(url, str) and "${{" not in url:
            try:
                _request(config, is_restricted=False).check()
            except (TaskFailedError, ValueError) as error:
                message = error.message if isinstance(error, TaskFailedError) else str(error)
                hint = error.hint if isinstance(error, TaskFailedError) else ""
                yield Finding(message, ("url",), hint=hint)
        timeout = config.get("timeout", 30)
        if isinstance(timeout, str | int | float) and "${{" not in str(timeout):
            try:
                parse_duration(timeout)
            except ValueError as error:
                yield Finding(str(error), ("timeout",))

    def cache_refusal(self, config: Mapping[str, object], cache: Cache) -> tuple[str, str] | None:
        """Demand a time after which a reply is too old, and a method that only reads."""
        if config.get("method", "GET") not in ("GET", "HEAD"):
            return "only replies to GET and HEAD can be used again", "remove 'cache'"
        if cache.ttl_s is None:
            return (
                "what a server would answer now cannot be seen",
                "say how old a reply may be: 'cache: {ttl: 1h}'",
            )
        return None

    def cache_subject(self, call: TaskCall) -> Subject:
        """Name the request and the form of the output."""
        return Subject(arguments=call.config)

    def as_input_data(self, output: object) -> object:
        """Give the body."""
        if isinstance(output, Mapping) and "body" in output and "status" in output:
            return output["body"]
        return output

    def run(self, call: TaskCall) -> object:
        """Send the request from a thread without a running loop."""
        import asyncio

        return asyncio.run(self.run_async(call))

    async def run_async(self, call: TaskCall) -> object:
        """Send the request and give the reply, or the part of it that was asked for."""
        import asyncio

        config = call.config
        request = _request(config, is_restricted=call.policy == "restricted")
        limit_s = _limit_s(config)
        deadline = asyncio.timeout(limit_s)
        try:
            async with deadline:
                reply = await send(request)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise TaskTimeoutError(
                f"{request.method} {shown_url(request.url)!r} took longer than "
                f"{format_duration(limit_s)}",
                task=call.name,
                hint="raise 'timeout'",
            ) from error
        _check_status(reply, config)
        call.write("log", f"{request.method} {shown_url(reply.url)} {reply.status}\n")
        return await _output(reply, str(config.get("output", "response")))


def _limit_s(config: Mapping[str, object]) -> float:
    try:
        return parse_duration(config.get("timeout", 30))
    except ValueError as error:
        raise TaskFailedError(str(error), hint="correct 'timeout'") from error


def _request(config: Mapping[str, object], *, is_restricted: bool) -> HttpRequest:
    headers = {name: _text(value) for name, value in _mapping(config, "headers").items()}
    content: bytes | None = None
    if "json" in config:
        content = _encode_json(config["json"])
        if "content-type" not in {name.lower() for name in headers}:
            headers["content-type"] = "application/json"
    elif "body" in config:
        content = str(config["body"]).encode()
    return HttpRequest(
        method=str(config.get("method", "GET")),
        url=str(config["url"]),
        headers=headers,
        params=_mapping(config, "params"),
        content=content,
        max_redirects=_integer(config, "follow_redirects", 10),
        max_bytes=_integer(config, "max_bytes", 64 * 1024 * 1024),
        is_restricted=is_restricted,
    )


def _encode_json(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TaskFailedError(f"expected JSON data in 'json': {error}") from error


def _mapping(config: Mapping[str, object], field: str) -> Mapping[str, object]:
    value = config.get(field)
    return value if isinstance(value, Mapping) else {}


def _integer(config: Mapping[str, object], field: str, default: int) -> int:
    value = config.get(field, default)
    return value if isinstance(value, int) else default


def _text(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _check_status(reply: HttpReply, config: Mapping[str, object]) -> None:
    expected = config.get("expect")
    is_listed = reply.status in expected if isinstance(expected, list) else reply.status < 400
    if is_listed:
        return
    start = _decode(reply)[:300].strip()
    said = f": {start!r}" if start else ""
    raise TaskFailedError(
        f"{shown_url(reply.url)!r} answered with status {reply.status}{said}",
        error_type=f"status:{reply.status}",
        hint="list it under 'expect' if it is no failure",
    )


async def _output(reply: HttpReply, kind: str) -> object:
    if kind == "bytes":
        return reply.content
    if kind == "text":
        return _decode(reply)
    if kind == "json":
        return await _parse_json(reply)
    body: object = _decode(reply) if _is_text(reply) else reply.content
    output = {
        "status": reply.status,
        "headers": reply.headers,
        "url": reply.url,
        "body": body,
    }
    if _is_json(reply) and len(reply.content) <= _LARGE_JSON_BYTES:
        # A server may claim JSON and send something else: the body still tells.
        with contextlib.suppress(ValueError, RecursionError):
            output["json"] = json.loads(reply.content)
    return output


async def _parse_json(reply: HttpReply) -> object:
    try:
        if len(reply.content) <= _LARGE_JSON_BYTES:
            return json.loads(reply.content)
        import asyncio

        # A large text would hold up every other task on the loop.
        return await asyncio.to_thread(json.loads, reply.content)
    except (ValueError, RecursionError) as error:
        raise TaskFailedError(
            f"expected JSON from {shown_url(reply.url)!r}, found {_decode(reply)[:80]!r}: {error}",
            hint="choose 'output: text' to look at it",
        ) from error


def _content_type(reply: HttpReply) -> str:
    return reply.headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_json(reply: HttpReply) -> bool:
    kind = _content_type(reply)
    return kind == "application/json" or kind.endswith("+json")


def _is_text(reply: HttpReply) -> bool:
    kind = _content_type(reply)
    return not kind or kind.startswith(_TEXT_TYPES) or kind.endswith(_TEXT_SUFFIXES)


def _decode(reply: HttpReply) -> str:
    parameters = reply.headers.get("content-type", "").lower().partition("charset=")[2]
    charset = parameters.partition(";")[0].strip("\"' ") or "utf-8"
    try:
        return reply.content.decode(charset, "replace")
    except (LookupError, ValueError):
        return reply.content.decode("utf-8", "replace")
