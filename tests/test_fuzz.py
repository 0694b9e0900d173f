"""A seeded sample of ``benchmarks/fuzz.py``: damaged files of many kinds work or are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

KINDS = "store,probe,whitening,index,faiss-ivfhnsw,torch-legacy,caffe"
"""Kinds that cost little: files of megabytes are left to test_hostile_weights.py, where each
promise has a test of its own, and to whoever runs the fuzzer by hand."""

FUZZ = Path(__file__).parent.parent / "benchmarks" / "fuzz.py"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by Linux's /proc")
def test_damaged_files_work_or_are_refused() -> None:
    options = f"--kinds {KINDS} --count 5 --seed 1 --seconds 300 --workers 1 --json"
    done = subprocess.run(
        [sys.executable, FUZZ, *options.split()],
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    rows = json.loads(done.stdout)
    assert [row["found"] for row in rows] == [[]] * len(rows), done.stdout
    assert all(row["cases"] == 5 for row in rows)
    assert sum(row["refused"] for row in rows) > sum(row["cases"] for row in rows) / 8
