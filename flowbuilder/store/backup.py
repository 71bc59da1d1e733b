"""A copy of a store that is a store: consistent while runs go on, and checked before it appears."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from flowbuilder.config import prepare_data_dir
from flowbuilder.errors import StorageError
from flowbuilder.store.artifact_check import check_artifacts, check_orphans
from flowbuilder.store.artifact_inspection import inspector_of, is_inside
from flowbuilder.store.findings import CheckCounts, CheckReport, Finding
from flowbuilder.store.local_artifacts import LocalArtifactStore
from flowbuilder.store.opening import JOURNAL_NAME
from flowbuilder.store.ports import ArtifactInspector, ArtifactStore
from flowbuilder.store.sql_journal import SqlJournal
from flowbuilder.store.sqlite_journal import SqliteJournal

__all__ = ["BackupPart", "BackupReport", "back_up", "check_store"]


class BackupPart(Protocol):
    """Something else a store directory holds that belongs into a backup. Copied after the
    journal, so what moved out of the journal meanwhile is in the part.
    """

    def copy_to(self, target: Path) -> list[Finding]:
        """Copy it below ``target``, whole; give what was lost in the store already."""
        ...


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds."""

    path: str
    counts: CheckCounts
    missing: list[Finding]
    """What was lost in the store already, and hence is lost in the backup."""
    duration_s: float


def check_store(
    journal: SqlJournal,
    artifacts: ArtifactStore | None,
    *,
    with_content: bool = True,
    other_runs: Collection[str] = (),
) -> CheckReport:
    """Read everything of a store and say what is wrong. Runs may go on meanwhile.

    Parameters
    ----------
    journal : SqlJournal
        The journal.
    artifacts : ArtifactStore or None
        The outputs; None leaves them out.
    with_content : bool
        Whether to read outputs and compare digests, or to compare sizes only.
    other_runs : collection of str
        Runs that are kept elsewhere, whose files belong to them.

    Raises
    ------
    StorageError
        If the database itself cannot be read.
    """
    began = time.monotonic()
    counts = CheckCounts()
    findings = list(journal.check(counts))
    if artifacts is not None:
        inspector = inspector_of(artifacts)
        findings += _check_outputs(journal, inspector, counts, with_content=with_content)
        findings += check_orphans(inspector, _known_paths(journal, other_runs))
    return CheckReport(findings=findings, counts=counts, duration_s=time.monotonic() - began)


def _check_outputs(
    journal: SqlJournal, inspector: ArtifactInspector, counts: CheckCounts, *, with_content: bool
) -> Iterator[Finding]:
    for run_id in sorted(journal.run_ids()):
        # Of two records of one file the newer counts.
        listed = {artifact.path: artifact for artifact in journal.artifacts(run_id)}.values()
        found = list(check_artifacts(inspector, listed, counts, with_content=with_content))
        if found and journal.artifacts(run_id):  # it was not removed meanwhile
            yield from found


def _known_paths(journal: SqlJournal, other_runs: Collection[str]) -> Callable[[str], bool]:
    runs = journal.run_ids()
    paths: dict[str, set[str]] = {}

    def is_known(path: str) -> bool:
        run_id = path.split("/")[1] if path.count("/") >= 2 else ""
        if run_id in other_runs or run_id not in runs:
            return run_id in other_runs
        if run_id not in paths:
            paths[run_id] = {artifact.path for artifact in journal.artifacts(run_id)}
        return path in paths[run_id]

    return is_known


def back_up(
    journal: SqlJournal,
    artifacts: ArtifactStore,
    target: Path,
    *,
    may_link: bool = True,
    parts: tuple[BackupPart, ...] = (),
) -> BackupReport:
    """Make a copy of a store, which is a store directory of its own, while runs go on.

    It appears under its name when it is complete, on disk and checked.

    Parameters
    ----------
    journal : SqlJournal
        The journal; copied as of one moment, whatever database it is in.
    artifacts : ArtifactStore
        The outputs; those the copied journal knows are copied or downloaded.
    target : Path
        The new directory; must not exist.
    may_link : bool
        Whether files on the same file system may be hard links, which take no space and protect
        from removal, not from a failing disk.
    parts : tuple of BackupPart
        What else to copy.

    Raises
    ------
    StorageError
        If it cannot be read or written, or the copy does not pass its check.
    """
    began = time.monotonic()
    if target.exists():
        raise StorageError(
            f"expected a new folder for the backup, found something at {target}",
            hint="name another one; each backup has its own folder",
        )
    partial = target.with_name(f".{target.name}.{os.urandom(6).hex()}")
    try:
        prepare_data_dir(partial)
        journal.copy_to(partial / JOURNAL_NAME)
        missing, counts = _fill(journal, inspector_of(artifacts), partial, may_link=may_link)
        for part in parts:
            missing += part.copy_to(partial)
        _sync_tree(partial)
        partial.rename(target)
        _sync(target.parent)
    except BaseException as error:
        with suppress(OSError):
            shutil.rmtree(partial)
        if isinstance(error, OSError):
            raise StorageError(
                f"could not write the backup {target}: {error.strerror or error}",
                hint="free some space or choose another target; the store is as it was",
            ) from error
        raise
    return BackupReport(
        path=str(target), counts=counts, missing=missing, duration_s=time.monotonic() - began
    )


def _fill(
    source: SqlJournal, inspector: ArtifactInspector, partial: Path, *, may_link: bool
) -> tuple[list[Finding], CheckCounts]:
    copy = SqliteJournal(partial / JOURNAL_NAME, is_owner_alive=lambda _: False)
    try:
        for run_id in copy.run_ids():
            gone = False
            for path in {artifact.path for artifact in copy.artifacts(run_id)}:
                if not is_inside(path):
                    continue  # an edited journal: the check reports it
                try:
                    inspector.copy_to(path, partial / path, may_link=may_link)
                except FileNotFoundError:
                    gone = True
            if gone and run_id not in source.run_ids():
                copy.remove_runs([run_id])  # removed since the journal was copied
                shutil.rmtree(partial / "artifacts" / run_id, ignore_errors=True)
        report = check_store(copy, LocalArtifactStore(partial))
    finally:
        copy.close()
    _refuse_worse_than_source(source, inspector, report)
    return report.errors, report.counts


def _refuse_worse_than_source(
    source: SqlJournal, inspector: ArtifactInspector, report: CheckReport
) -> None:
    """Make sure that whatever is wrong in the copy is wrong in the store as well."""
    suspects = {found.path: found for found in report.errors if found.path}
    for path, found in suspects.items():
        for artifact in source.artifacts(found.run_id):
            if artifact.path == path and not inspector.inspect(artifact):
                raise StorageError(
                    f"the backup is not equal to the store: {found.message}",
                    hint="check the disk of the target, and repeat",
                )
    if any(not found.path for found in report.errors):
        counts = CheckCounts()
        known = {found.message for found in source.check(counts)}
        for found in report.errors:
            if not found.path and found.subject != "database" and found.message not in known:
                raise StorageError(
                    f"the backup is not equal to the store: {found.message}",
                    hint="check the disk of the target, and repeat",
                )


def _sync_tree(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            _sync(Path(place, name))
        _sync(Path(place))


def _sync(path: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
