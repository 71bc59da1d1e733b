"""Show what the newest run of the flights example found, and where its report is."""

from __future__ import annotations

import sys

import flowbuilder as fb

run = fb.run("latest")
sys.stdout.write(f"{run['summary']}\n\n")
sys.stdout.write(f"report: {run['report']['path']}\n")
sys.stdout.write(f"look at it in a browser, or ask: flowbuilder runs show {run.short_id}\n")
