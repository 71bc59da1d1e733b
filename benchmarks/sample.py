"""The child process of one sample: ``python -m benchmarks.sample JSON`` prints the metrics as JSON
on its last line."""

from __future__ import annotations

import json
import sys

from benchmarks.subjects import load_subject
from benchmarks.workloads import WORKLOADS

__all__ = ["main"]


def main(text: str) -> None:
    """Measure what the request says and print the metrics."""
    request = json.loads(text)
    subject = load_subject(request["subject"], request["options"])
    try:
        metrics = WORKLOADS[request["workload"]](subject, request["params"])
    finally:
        getattr(subject, "close", lambda: None)()
    print(json.dumps(metrics))


if __name__ == "__main__":
    main(sys.argv[1])
