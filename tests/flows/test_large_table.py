"""What is larger than memory goes through `read`, `sql`, lazy polars and `write` in bounded memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure memory")
def test_600_mb_of_parquet_go_through_in_a_third_of_that(tmp_path):
    if shutil.disk_usage(tmp_path).free < 6 * 2**30:
        pytest.skip("needs 6 GB of disk")
    program = Path(__file__).with_name("large_table.py")
    environment = {**os.environ, "FLOWBUILDER_HOME": str(tmp_path / "home")}

    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path), "18500000", "170MB", "1"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    (tmp_path / "trips.parquet").unlink()

    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["is_right"]
    assert found["file_mb"] > 550
    assert found["above_baseline_mb"] < 200
