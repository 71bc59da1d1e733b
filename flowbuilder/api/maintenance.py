"""Looking after a store: is it whole, and a copy of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from flowbuilder.api.container import container_for
from flowbuilder.errors import StorageError

if TYPE_CHECKING:
    from flowbuilder.api.container import ServiceContainer
    from flowbuilder.history.months import Months
    from flowbuilder.store.backup import BackupReport
    from flowbuilder.store.findings import CheckReport, Finding
    from flowbuilder.store.sql_journal import SqlJournal

__all__ = ["backup_store", "check_store"]

_TRIES: Final = 5


def check_store(*, quick: bool = False, data_dir: str | Path | None = None) -> CheckReport:
    """Read everything that is recorded and say what is wrong. Runs may go on meanwhile.

    Parameters
    ----------
    quick : bool
        Compare the sizes of outputs instead of reading them.
    data_dir : path, optional
        The store; by default found from the working directory.

    Returns
    -------
    CheckReport
        ``is_sound``, ``findings`` (each says what to do) and ``counts``.

    Raises
    ------
    StorageError
        If the journal cannot be read at all.
    """
    from flowbuilder.datasets.backup import check_datasets
    from flowbuilder.store import backup

    container = container_for(None, data_dir)
    findings, kept = _check_months(container.months)
    report = backup.check_store(
        _journal_of(container), container.artifacts, with_content=not quick, other_runs=kept
    )
    findings += check_datasets(container.data_dir, is_thorough=not quick)
    return replace(report, findings=[*findings, *report.findings])


def _check_months(months: Months) -> tuple[list[Finding], set[str]]:
    """Verify the closed months; give what is wrong and the runs they keep."""
    from flowbuilder.history.month_files import verify
    from flowbuilder.store.findings import Finding, Severity

    findings = []
    kept: set[str] = set()
    try:
        for manifest in months.manifests():
            verify(months.folder / manifest.month, manifest)
            kept.update(months.run_ids_of(manifest.month))
    except StorageError as error:
        findings.append(
            Finding(
                severity=Severity.ERROR,
                subject="month",
                message=error.message,
                hint="restore the folder of the month from a backup",
            )
        )
        kept.update(path.name for path in _folders(months.folder.parent / "artifacts"))
    return findings, kept


def _folders(folder: Path) -> list[Path]:
    # Whose runs a month keeps that cannot be read is not known: nothing counts as left over.
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def backup_store(
    target: str | Path, *, links: bool = True, data_dir: str | Path | None = None
) -> BackupReport:
    """Copy a store, while runs go on, into a new folder that is a store itself.

    Parameters
    ----------
    target : path
        The new folder. It appears when it is complete and checked.
    links : bool
        Whether outputs on the same file system may be hard links: no space, but no protection
        from a failing disk either.
    data_dir : path, optional
        The store; by default found from the working directory.

    Raises
    ------
    StorageError
        If something cannot be read or written, or the folder exists.
    """
    from flowbuilder.datasets.backup import DatasetsPart
    from flowbuilder.store.backup import back_up

    container = container_for(None, data_dir)
    return back_up(
        _journal_of(container),
        container.artifacts,
        Path(target).expanduser().absolute(),
        may_link=links,
        parts=(
            _MonthsPart(container, may_link=links),
            DatasetsPart(container.data_dir, may_link=links),
        ),
    )


class _MonthsPart:
    """The closed months, and the outputs of their runs."""

    def __init__(self, container: ServiceContainer, *, may_link: bool) -> None:
        self._container = container
        self._may_link = may_link

    def copy_to(self, target: Path) -> list[Finding]:
        """Copy them below a backup.

        Raises
        ------
        StorageError
            If something cannot be read or written.
        """
        from flowbuilder.store.artifact_inspection import inspector_of

        months = self._container.months
        runs: set[str] = set()
        for month in [manifest.month for manifest in months.manifests()]:
            _copy_month(months, month, target / months.folder.name / month)
            runs.update(months.run_ids_of(month))
        inspector = inspector_of(self._container.artifacts)
        for found in inspector.stored() if runs else ():
            place = target / found.path
            if found.path.split("/")[1] in runs and not place.exists():
                inspector.copy_to(found.path, place, may_link=self._may_link)
        return []


def _copy_month(months: Months, month: str, target: Path) -> None:
    """Copy a closed month, anew if it is written anew meanwhile, and verify the copy."""
    import shutil

    from flowbuilder.history.month_files import read_manifest, verify, write_manifest

    for _ in range(_TRIES):
        manifest = read_manifest(months.folder / month)
        if manifest is None:
            return
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            for file in manifest.files.values():
                shutil.copyfile(months.folder / month / file.name, target / file.name)
        except FileNotFoundError:
            shutil.rmtree(target)
            continue
        verify(target, manifest)
        write_manifest(target, manifest)
        return
    raise StorageError(f"the closed month {month} changes too often to be copied", hint="repeat it")


def _journal_of(container: ServiceContainer) -> SqlJournal:
    from flowbuilder.store.sql_journal import SqlJournal

    journal = container.journal.recent
    if not isinstance(journal, SqlJournal):
        raise StorageError(f"a {type(journal).__name__} cannot be checked or copied")
    return journal
