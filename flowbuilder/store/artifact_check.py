"""Holding stored outputs against their records, and finding files nothing refers to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from flowbuilder.errors import StorageError
from flowbuilder.records import ArtifactStored
from flowbuilder.store.findings import CheckCounts, Finding, Severity
from flowbuilder.store.ports import ArtifactInspector

__all__ = ["check_artifacts", "check_orphans"]

_YOUNG_S: Final = 600.0
"""A file is written before its record: one this young may still get it."""


def check_artifacts(
    inspector: ArtifactInspector,
    artifacts: Iterable[ArtifactStored],
    counts: CheckCounts,
    *,
    with_content: bool,
) -> Iterator[Finding]:
    """Compare outputs with their records.

    Parameters
    ----------
    inspector : ArtifactInspector
        Sees the files.
    artifacts : iterable of ArtifactStored
        Their records.
    counts : CheckCounts
        Counts what was looked at.
    with_content : bool
        Whether to read them all, or to compare sizes only.

    Yields
    ------
    Finding
        For each that is missing or damaged.
    """
    for artifact in artifacts:
        counts.outputs += 1
        counts.output_bytes += artifact.size_bytes
        try:
            wrong = inspector.inspect(artifact, with_content=with_content)
        except StorageError as error:
            wrong = error.message
        if wrong:
            yield Finding(
                severity=Severity.ERROR,
                subject="output",
                message=f"the stored output {artifact.path} of task {artifact.name!r} is lost:"
                f" {wrong}",
                hint="restore it from a backup; a resume runs the task again"
                " (is the setting 'artifacts' the one it was stored with?)",
                run_id=artifact.run_id,
                path=artifact.path,
            )


def check_orphans(
    inspector: ArtifactInspector, is_known: Callable[[str], bool], *, now_s: float | None = None
) -> Iterator[Finding]:
    """Find files that no record refers to, such as a crash leaves between a file and its record.

    Parameters
    ----------
    inspector : ArtifactInspector
        Sees the files.
    is_known : callable
        Tells whether a path may have, or get, a record.
    now_s : float, optional
        The present, in seconds since 1970.

    Yields
    ------
    Finding
        For each that is old enough.
    """
    now = time.time() if now_s is None else now_s
    for found in inspector.stored():
        if now - found.modified_s > _YOUNG_S and not is_known(found.path):
            yield Finding(
                severity=Severity.NOTICE,
                subject="file",
                message=f"the file {found.path} ({found.size_bytes:,} bytes) belongs to no record",
                hint="nothing needs it: delete it to have the space",
                run_id=_run_of(found.path),
                path=found.path,
            )


def _run_of(path: str) -> str:
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else ""
