"""A Parquet file larger than the memory it may be read in, through tasks; run as a program.

    python tests/flows/large_table.py FOLDER ROWS MEMORY_LIMIT WORKERS

Prints one JSON document: sizes, peak anonymous memory, and whether the answers are right.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import flowbuilder as fb

FLOW = """
name: large
tasks:
  - name: trips
    type: read
    config:
      path: trips.parquet
      output: scan
  - name: long_trips
    type: sql
    config:
      query: select id, zone, distance, note from trips where distance >= $least
      args: {least: 0.5}
      output: scan
  - name: by_zone
    type: sql
    config:
      query: select zone, count(*) as n, sum(id) as ids from long_trips group by zone order by zone
  - name: ordered
    type: sql
    config:
      query: select id, distance from trips order by distance
      output: scan
  - name: lazily
    type: script
    inputs: {trips: long_trips}
    config:
      code: |
        import polars as pl
        result = trips.lazy().filter(pl.col("zone") < 100).select("id", "zone", "distance")
  - name: written
    type: write
    inputs: {data: lazily}
    config: {path: out.parquet}
  - name: total
    type: sql
    config:
      query: select count(*) as n from lazily
      output: value
"""


def anonymous_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not say")


class Watch(threading.Thread):
    """Notes the largest anonymous memory it sees, every few milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.004):
            self.peak = max(self.peak, anonymous_mb())


def make(folder: Path, rows: int) -> int:
    """Write the file, streaming; give its size."""
    import duckdb

    path = folder / "trips.parquet"
    database = duckdb.connect(config={"memory_limit": "256MB", "threads": 1})
    database.execute(
        "COPY (SELECT i AS id, i % 997 AS zone, random() AS distance, random() AS fare,"
        " md5(i::varchar) AS note"
        f" FROM range({rows}) t(i)) TO '{path}'"
        " (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)"
    )
    database.close()
    return path.stat().st_size


def main(folder: Path, rows: int, limit: str, workers: int) -> dict[str, object]:
    path = folder / "trips.parquet"
    size = path.stat().st_size if path.exists() else make(folder, rows)
    (folder / "large.flow.yaml").write_text(FLOW)
    fb.configure(memory_limit=limit, workers=workers)
    import duckdb
    import polars as pl  # noqa: F401
    import pyarrow.dataset
    import pyarrow.parquet  # noqa: F401

    workflow = fb.load(folder / "large.flow.yaml", data_dir=folder / "store")
    baseline = anonymous_mb()
    watch = Watch()
    watch.start()
    start = time.perf_counter()
    run = workflow.run(echo=False)
    took = time.perf_counter() - start
    watch.over.set()
    watch.join()
    long_trips = run["long_trips"].num_rows
    checker = duckdb.connect(config={"memory_limit": "256MB"})
    truth = checker.sql(
        f"select count(*), sum(id) from read_parquet('{folder}/trips.parquet') where distance >= 0.5"
    ).fetchall()[0]
    table = run["by_zone"]
    ordered = run["ordered"]
    return {
        "file_mb": round(size / 2**20),
        "uncompressed_mb": round(rows * 64 / 2**20),
        "limit": limit,
        "baseline_mb": round(baseline),
        "peak_mb": round(watch.peak),
        "above_baseline_mb": round(watch.peak - baseline),
        "seconds": round(took, 1),
        "is_right": bool(
            truth[0] == long_trips == sum(table["n"].to_pylist())
            and truth[1] == sum(table["ids"].to_pylist())
            and ordered.num_rows == rows
            and run["written"]["num_rows"] == run["total"] > 0
        ),
    }


if __name__ == "__main__":
    sys.stdout.write(
        json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
    )
