"""The scripts of docs/clusters.md do what the page says, with a loop in the place of SLURM."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import cli
from PIL import Image

from vggfeat import FeatureStore
from vggfeat.store.parts import part_states

PAGE = Path(__file__).parent.parent / "docs" / "clusters.md"
TINY = "--layers relu7 --model vgg16-tiny"
SBATCH = """#!/bin/bash
set -e
list=$(sed -E 's/.*--array=([0-9,]+)%[0-9]+ .*/\\1/' <<< "$*")
echo "$list" >> sbatch.log
for number in ${list//,/ }; do
    SLURM_ARRAY_TASK_ID=$number SLURM_CPUS_PER_TASK=1 bash "${@: -1}"
done
"""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the scripts are bash's")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with photos, the page's two scripts, and a SLURM that is a loop."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(7):
        pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    section = PAGE.read_text().split("## SLURM array job")[1]
    task, submit = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    (tmp_path / "part.sh").write_text(small(task))
    (tmp_path / "submit.sh").write_text(small(submit).replace("--part-rows 20000", "--part-rows 4"))
    programs = {
        "sbatch": SBATCH,
        "vggfeat": f'#!/bin/bash\nexec "{sys.executable}" -m vggfeat "$@"\n',
        "python3": f'#!/bin/bash\nexec "{sys.executable}" "$@"\n',
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def small(script: str) -> str:
    assert "--layers relu7" in script
    return script.replace("--layers relu7", TINY)


def submit(folder: Path) -> str:
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "submit.sh"], cwd=folder, env={**os.environ, "PATH": path}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_array_job_of_the_page_fills_a_store_and_submits_nothing_when_it_is_full(folder):
    assert "2 done" in submit(folder)
    cli("extract", folder / "photos", folder / "one.h5", *TINY.split())
    with FeatureStore(folder / "photos.store") as parts, FeatureStore(folder / "one.h5") as one:
        assert parts.counts() == {"done": 7, "failed": 0, "pending": 0}
        assert np.allclose(parts["relu7"][:], one["relu7"][:], rtol=1e-4, atol=1e-5)
    assert "2 done" in submit(folder)
    assert (folder / "sbatch.log").read_text().split() == ["0,1"]
    assert [one.state for one in part_states(folder / "photos.store")] == ["done"] * 2
