"""Fingerprints of what tests write."""

from __future__ import annotations

from collections.abc import Callable

from flowbuilder.cache.differences import differences
from flowbuilder.cache.file_hashes import FileHashes
from flowbuilder.cache.fingerprinting import Declared, fingerprint_of
from flowbuilder.cache.parts import Fingerprint
from flowbuilder.cache.subject import Subject

__all__ = ["changes", "fingerprint", "of_call"]

_DECLARED = ("env", "version", "salt", "redact", "may_import", "task_type")


def fingerprint(**fields: object) -> Fingerprint:
    declared = {name: fields.pop(name) for name in _DECLARED if name in fields}
    return fingerprint_of(
        Subject(**fields),
        Declared(**{"task_type": "python", **declared}),
        FileHashes(lambda _path: None, lambda *_: None),
    )


def of_call(function: Callable[..., object], **arguments: object) -> Fingerprint:
    return fingerprint(function=function, arguments=arguments)


def changes(before: Fingerprint, after: Fingerprint) -> str:
    """Say what changed; the keys must tell the same."""
    text = differences(before, after)
    assert bool(text) == (before.key != after.key)
    return text
