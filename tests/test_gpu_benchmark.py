"""benchmarks/gpu.py, which waits for a GPU, runs: all of its paths but CUDA's own, on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


def test_the_benchmark_of_gpus_runs_each_of_its_sections(tmp_path):
    sections = ["exactness", "speed", "retreat", "journey", "decoding", "capture"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    command = [sys.executable, SCRIPT, tmp_path, "--device", device, "--small"]
    done = subprocess.run(
        [*command, "--only", ",".join(sections)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "gpu.json").read_text())
    for section in sections:
        assert told[section], section
        assert "failed" not in told[section], told[section]
    for errors in told["exactness"].values():
        assert errors["float32"] < 1e-5 < errors["float16"] < errors["bfloat16"] < 0.05
    assert told["retreat"]["error"] < 1e-5
    assert all(one["vggfeat"] > 0 for name, one in told["speed"].items() if "matrices" not in name)
    assert len(told["journey"]) == 4
    if device == "cpu":
        assert {one["largest_difference"] for one in told["decoding"].values()} <= {0, 1}
    text = (tmp_path / "gpu.md").read_text()
    assert text == done.stdout
    for section in sections:
        assert section in text
