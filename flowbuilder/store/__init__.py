"""The store: the journal of runs, who owns them, and their outputs on disk.

See README.md in this folder.
"""

from flowbuilder.store.local_artifacts import LocalArtifactStore
from flowbuilder.store.opening import JOURNAL_NAME, open_journal
from flowbuilder.store.ownership import EngineLock, Owner, Owners
from flowbuilder.store.ports import (
    ArtifactStore,
    Journal,
    JournalRun,
    LiveSource,
    RunSummary,
    SavedRun,
    TailPage,
)
from flowbuilder.store.small_outputs import is_exact, small_output
from flowbuilder.store.sqlite_journal import SqliteJournal

__all__ = [
    "JOURNAL_NAME",
    "ArtifactStore",
    "EngineLock",
    "Journal",
    "JournalRun",
    "LiveSource",
    "LocalArtifactStore",
    "Owner",
    "Owners",
    "RunSummary",
    "SavedRun",
    "SqliteJournal",
    "TailPage",
    "is_exact",
    "open_journal",
    "small_output",
]
