"""What the command line tells its caller."""

from __future__ import annotations

from typing import Final

__all__ = ["FAILED", "INTERRUPTED", "INVALID", "OK"]

OK: Final = 0
FAILED: Final = 1
"""The run failed or was cancelled; the thing asked for could not be done."""
INVALID: Final = 2
"""The workflow is not valid, or the command was used wrongly."""
INTERRUPTED: Final = 130
"""Ctrl-C."""
