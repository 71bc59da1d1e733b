"""Whether and when a failed attempt is repeated."""

from __future__ import annotations

import random

from flowbuilder.runtime.plan import RetryPolicy
from flowbuilder.vocabulary import Backoff, FailureKind

__all__ = ["MAX_LOST_WORKERS", "retry_delay_s", "should_retry"]

MAX_LOST_WORKERS = 3
"""A task that kills its worker this often fails, however many attempts it has left."""


def should_retry(
    policy: RetryPolicy, kind: FailureKind, error: BaseException | None, failures: int, lost: int
) -> bool:
    """Decide after a failure.

    Parameters
    ----------
    policy : RetryPolicy
        The task's policy.
    kind : FailureKind
        What happened.
    error : BaseException or None
        What was raised; matched by class name along its bases.
    failures, lost : int
        Failures of the task's own, and workers lost under it, this one included.
    """
    if kind is FailureKind.CONTRACT:
        return False
    if kind is FailureKind.LOST:
        return lost < MAX_LOST_WORKERS
    return failures < policy.max_attempts and (not policy.on or _is_named(policy.on, kind, error))


def _is_named(names: tuple[str, ...], kind: FailureKind, error: BaseException | None) -> bool:
    if kind.value in names:
        return True
    known = {
        name
        for cls in type(error).__mro__
        for name in (cls.__name__, f"{cls.__module__}.{cls.__qualname__}")
        if cls is not object
    }
    # A failure in a worker process may only be known by the name of its type.
    known.add(getattr(error, "error_type", ""))
    return not known.isdisjoint(names)


def retry_delay_s(policy: RetryPolicy, failures: int, *, draw: float | None = None) -> float:
    """Compute the pause before the next attempt.

    Parameters
    ----------
    policy : RetryPolicy
        The task's policy.
    failures : int
        Failures so far, at least 1.
    draw : float, optional
        Random number in [0, 1) that places the delay within its jitter.

    Returns
    -------
    float
        Seconds in ``[delay * (1 - jitter), delay * (1 + jitter)]``, at most ``max_delay_s``.
    """
    if policy.backoff is Backoff.EXPONENTIAL:
        delay = policy.delay_s * 2.0 ** min(failures - 1, 64)
    elif policy.backoff is Backoff.LINEAR:
        delay = policy.delay_s * failures
    else:
        delay = policy.delay_s
    delay = min(delay, policy.max_delay_s)
    spread = policy.jitter * delay
    where = random.random() if draw is None else draw  # noqa: S311 - spreads load, guards nothing
    return min(max(0.0, delay - spread + 2 * spread * where), policy.max_delay_s)
