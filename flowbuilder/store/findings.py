"""What a check of a store found, each in one sentence with what to do."""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["CheckCounts", "CheckReport", "Finding", "Severity"]


class Severity(StrEnum):
    """``error``: something recorded is lost or wrong. ``notice``: nothing is, yet worth knowing."""

    ERROR = "error"
    NOTICE = "notice"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it should be."""

    severity: Severity
    subject: str
    """What kind of thing: ``database``, ``record``, ``run``, ``version``, ``output``, ``file``."""
    message: str
    """What is wrong, and where."""
    hint: str = ""
    """What to do about it."""
    run_id: str = ""
    path: str = ""
    """Of an output or file, relative to the store."""


class CheckCounts(msgspec.Struct, kw_only=True):
    """What was looked at."""

    runs: int = 0
    rows: int = 0
    records: int = 0
    versions: int = 0
    outputs: int = 0
    output_bytes: int = 0


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a check."""

    findings: list[Finding]
    counts: CheckCounts
    duration_s: float

    @property
    def errors(self) -> list[Finding]:
        """What is lost or wrong."""
        return [found for found in self.findings if found.severity is Severity.ERROR]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is lost or wrong."""
        return not self.errors
