"""A seeded sample of ``benchmarks/fuzz.py``: damaged files of each kind work or are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LONG = (
    *("torch", "safetensors", "caffe-v1", "onnx", "onnx-keras", "onnx-beside", "keras-released"),
    *("keras-h5", "keras", "keras-weights", "matconvnet", "matconvnet-old"),
)
"""Kinds of megabytes, of which each promise has a test of its own in test_hostile_weights.py."""

FUZZ = Path(__file__).parent.parent / "benchmarks" / "fuzz.py"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by Linux's /proc")
def test_damaged_files_of_each_kind_work_or_are_refused() -> None:
    done = subprocess.run(
        [
            *(sys.executable, FUZZ, "--without", ",".join(LONG)),
            *("--count", "12", "--seed", "1", "--seconds", "120", "--json"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    rows = json.loads(done.stdout)
    assert [row["found"] for row in rows] == [[]] * len(rows), done.stdout
    assert all(row["cases"] == 12 for row in rows)
    assert sum(row["refused"] for row in rows) > sum(row["cases"] for row in rows) / 8
