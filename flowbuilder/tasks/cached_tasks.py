"""Programs of cached tasks: look the output up where the body would run, and only then run it.

Nothing here runs on a driver unless the body would: hashing a large input takes as long as reading
it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import monotonic_ns
from typing import ParamSpec, TypeVar

import msgspec
from msgspec.structs import replace

from flowbuilder.cache.fingerprinting import Declared, fingerprint_of
from flowbuilder.cache.parts import Fingerprint, UncacheableError
from flowbuilder.cache.subject import Subject
from flowbuilder.cache.task_cache import CacheRequest, Flight, Hit
from flowbuilder.errors import FlowBuilderError, RunCancelledError
from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.runtime.program import AttemptContext, CachedOutput, Program, RemoteCall
from flowbuilder.runtime.secret_outputs import holds_secret
from flowbuilder.tasks.bound_tasks import BoundTasks
from flowbuilder.tasks.cache_site import CacheSite
from flowbuilder.tasks.file_places import resolve_path
from flowbuilder.tasks.prepared_task import PreparedTask

__all__ = ["CachedTasks"]

_LOG = logging.getLogger(__name__)
_P = ParamSpec("_P")
_R = TypeVar("_R")
_Function = Callable[..., object]
_Body = Callable[[AttemptContext], object]


class _NoFlight(msgspec.Struct, frozen=True):
    """Stands in where nothing can be looked up or kept."""

    why: str

    def store(self, value: object, cost_ns: int) -> str:
        del value, cost_ns
        return ""

    def release(self) -> None:
        pass


class CachedTasks:
    """Wraps programs of one binding. Thread-safe.

    Parameters
    ----------
    bound : BoundTasks
        The binding.
    site : CacheSite
        Where outputs are kept.
    functions : mapping of str to callable
        Functions that need no import.
    """

    def __init__(
        self, bound: BoundTasks, site: CacheSite, functions: Mapping[str, _Function]
    ) -> None:
        self._bound = bound
        self._site = site
        self._functions = functions
        compiled = bound.compiled
        self._has_secrets = any(scope.workflow.secrets for scope in compiled.expansion.scopes)
        self._has_secrets |= any(task.encrypt for task in compiled.plan.tasks)

    def wrap(self, program: Program) -> Program:
        """Give a program that asks the cache first."""
        return replace(
            program,
            call=None if program.call is None else partial(self._call, program.call),
            coroutine=None
            if program.coroutine is None
            else partial(self._await, program.coroutine),
            remote=None if program.remote is None else partial(self._remote, program.remote),
            function=None,
            arguments=(),
        )

    # -- running ---------------------------------------------------------------------------------

    def _call(self, body: _Body, context: AttemptContext) -> CachedOutput:
        request = self._request(context)
        if isinstance(request, _NoFlight):
            return self._compute(body, context, request)
        found = self._site.open().wait(request, context.cancel.raise_if_cancelled)
        if isinstance(found, Hit):
            return _hit(request, found)
        return self._compute(body, context, found, request)

    def _compute(
        self,
        body: _Body,
        context: AttemptContext,
        flight: Flight | _NoFlight,
        request: CacheRequest | None = None,
    ) -> CachedOutput:
        try:
            start_ns = monotonic_ns()
            value = body(context)
            return self._keep(context, flight, value, monotonic_ns() - start_ns, request)
        finally:
            flight.release()

    async def _await(
        self, body: Callable[[AttemptContext], Awaitable[object]], context: AttemptContext
    ) -> CachedOutput:
        request = await _in_thread(self._request, context)
        flight: Flight | _NoFlight
        if isinstance(request, _NoFlight):
            flight = request
        else:
            found = await self._ask(request)
            if isinstance(found, Hit):
                return _hit(request, found)
            flight = found
        try:
            start_ns = monotonic_ns()
            value = await body(context)
            cost_ns = monotonic_ns() - start_ns
            asked = request if isinstance(request, CacheRequest) else None
            return await _in_thread(self._keep, context, flight, value, cost_ns, asked)
        finally:
            flight.release()

    async def _ask(self, request: CacheRequest) -> Hit | Flight:
        import asyncio

        cache = self._site.open()
        pause_s = 0.001
        while True:
            found = await _in_thread(cache.begin, request)
            if found is not None:
                return found
            await asyncio.sleep(pause_s)
            pause_s = cache.next_pause(pause_s)

    def _remote(
        self, describe: Callable[[AttemptContext], RemoteCall], context: AttemptContext
    ) -> RemoteCall:
        """Let the thread that waits for the worker process ask before and keep after."""

        def around(send: Callable[[], object]) -> object:
            return self._call(lambda _context: send(), context)

        return replace(describe(context), around=around)

    def _keep(
        self,
        context: AttemptContext,
        flight: Flight | _NoFlight,
        value: object,
        cost_ns: int,
        request: CacheRequest | None,
    ) -> CachedOutput:
        key = "" if request is None else request.fingerprint.key
        refusal = "" if request is None else _refusal(context, value)
        if request is not None and not refusal:
            try:
                refusal = flight.store(value, cost_ns)
            except Exception as error:
                # Whatever storing it raises, the task itself did what it should.
                _LOG.warning("the output of %s is not cached: %s", context.key, error)
                refusal = str(error) or type(error).__name__
        why = f"{flight.why}; its output is not kept: {refusal}" if refusal else flight.why
        is_kept = request is not None and not refusal
        return CachedOutput(value, key, is_hit=False, is_kept=is_kept, saved_s=0.0, why=why)

    # -- asking ----------------------------------------------------------------------------------

    def _request(self, context: AttemptContext) -> CacheRequest | _NoFlight:
        """Fingerprint an attempt; if that is impossible, say why, and let the body run."""
        prepared = self._bound.prepare(context.instance)
        run = context.run
        try:
            fingerprint = self.fingerprint(prepared, context)
        except UncacheableError as error:
            return _NoFlight(f"not cached: {error.reason}")
        except RunCancelledError:
            raise
        except Exception as error:
            # The body will fail for the same reason, or has none to fail: it decides.
            _LOG.debug("task %s has no fingerprint", context.key, exc_info=True)
            text = error.message if isinstance(error, FlowBuilderError) else str(error)
            return _NoFlight(f"not cached: {text or type(error).__name__}")
        assert prepared.flat.spec.cache is not None
        return CacheRequest(
            task=f"{run.workflow}/{context.key}",
            fingerprint=fingerprint,
            ttl_s=prepared.flat.spec.cache.ttl_s,
            looks_up=run.uses_cache,
            run_id=run.run_id,
            encrypt=prepared.flat.spec.encrypt,
            ancestors=self._ancestors(run.run_id),
        )

    def fingerprint(
        self, prepared: PreparedTask, context: AttemptContext, *, may_import: bool = True
    ) -> Fingerprint:
        """Fingerprint an attempt.

        Raises
        ------
        UncacheableError
            If something that decides its output cannot be compared.
        NotYetKnownError
            If code would have to be imported and must not.
        FlowBuilderError
            If its config or its inputs cannot be had.
        """
        spec = prepared.flat.spec
        settings = spec.cache
        assert settings is not None
        files = self._site.open().files
        call = prepared.call(context)
        subject = self._subject(prepared, call)
        places = [resolve_path(path, call.directory, call.policy) for path in settings.files or ()]
        subject = replace(
            subject,
            inputs=_by_origin(prepared, subject),
            files=(*subject.files, *places),
        )
        is_secret = bool(settings.env) or self._has_secrets
        declared = Declared(
            task_type=spec.type,
            env=settings.env,
            version=settings.version,
            salt=_salt() if is_secret else b"",
            redact=context.run.redact,
            shows_values=not spec.encrypt,
            may_import=may_import,
        )
        return fingerprint_of(subject, declared, files)

    def _subject(self, prepared: PreparedTask, call: TaskCall) -> Subject:
        given = self._functions.get(str(call.config.get("function")))
        if given is not None and prepared.flat.spec.type == "python":
            from flowbuilder.tasks.python import subject_of_call

            return subject_of_call(given, call)
        return prepared.task_type.cache_subject(call)

    def _ancestors(self, run_id: str) -> frozenset[str]:
        found: set[str] = set()
        while (run_id := self._site.parent_of(run_id)) and run_id not in found:
            found.add(run_id)
        return frozenset(found)


def _by_origin(prepared: PreparedTask, subject: Subject) -> Mapping[str, object]:
    """Name inputs by the task they come from where one port takes from it, so that words say it."""
    ports = prepared.flat.spec.inputs
    named: dict[str, object] = {}
    for port, value in subject.inputs.items():
        origin = str(ports[port]) if port in ports else port
        # Which port has it decides too, so it stays in the name unless both are called alike.
        named[origin if origin == port else f"{origin} as {port}"] = value
    return named


def _hit(request: CacheRequest, found: Hit) -> CachedOutput:
    return CachedOutput(
        found.value,
        request.fingerprint.key,
        is_hit=True,
        is_kept=True,
        saved_s=found.saved_s,
        why=found.why,
    )


def _refusal(context: AttemptContext, value: object) -> str:
    """Say why an output must not be kept; empty if it may."""
    if context.cancel.is_cancelled:
        return "the task was asked to stop"
    redact = context.run.redact
    if redact is not None and holds_secret(value, redact):
        return "it holds a secret"
    return ""


def _salt() -> bytes:
    from flowbuilder.errors import ConfigurationError, StorageError
    from flowbuilder.store.signing import signing_key

    try:
        return signing_key(create=True)[:32]
    except (StorageError, ConfigurationError) as error:
        raise UncacheableError(
            f"secrets or variables decide its output, and there is no key to hide them: "
            f"{error.message}"
        ) from error


async def _in_thread(function: Callable[_P, _R], *arguments: _P.args, **named: _P.kwargs) -> _R:
    """Call a function on another thread; what it got hold of is released if nobody waits any
    more.
    """
    import asyncio

    step = asyncio.ensure_future(asyncio.to_thread(function, *arguments, **named))
    try:
        return await asyncio.shield(step)
    except asyncio.CancelledError:
        step.add_done_callback(_release_result)
        raise


def _release_result(step: object) -> None:
    import asyncio

    assert isinstance(step, asyncio.Future)
    if not step.cancelled() and step.exception() is None:
        result = step.result()
        if isinstance(result, Flight):
            result.release()
