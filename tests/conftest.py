"""Facts that tests found out and people want to read, at the end of the test run."""

from __future__ import annotations


def pytest_terminal_summary(terminalreporter):
    """Write every ``record_property("summary", text)``, whichever worker process recorded it."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
    ]
    for report in reports:
        for name, text in getattr(report, "user_properties", ()):
            if name == "summary":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {text}")
