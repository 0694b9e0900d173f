"""docs/science.md does what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from commands import cli

PAGE = Path(__file__).parent.parent / "docs" / "science.md"
BLOCK = re.compile(r"```(python|console)\n(.*?)```", re.DOTALL)


def test_the_study_runs_from_stimuli_to_figure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    printed = []
    for kind, text in BLOCK.findall(PAGE.read_text()):
        if kind == "python":
            exec(text, names)
            continue
        for line in text.splitlines():
            program, *words = shlex.split(line.removeprefix("$ "))
            assert program == "vggfeat"
            done = cli(*words)
            assert done.returncode == 0, done.stderr
            printed.append(done.stdout)
    for file in ("scores.png", "rdms.h5"):
        assert (tmp_path / file).stat().st_size
    found, table = names["found"], (tmp_path / "scores.csv").read_text().splitlines()
    columns = dict(
        zip(table[0].split(","), zip(*(x.split(",") for x in table[1:]), strict=True), strict=True)
    )
    sure = np.array(columns["q"], float) < 0.05
    assert sure[:40].all()  # what responds is found, and little else
    assert sure[40:].mean() < 0.2
    depth = {f"pool{k}": k for k in range(1, 6)} | {"relu7": 6}
    layer = np.array([depth[name] for name in columns["best_layer"]])
    assert layer[:20].mean() + 0.5 < layer[20:40].mean()  # edges early, classes later
    assert "matched by the numbers of stimuli, the first one 0" in printed[1]
    assert found.banded.parts.shape == (3, 60)
    assert found.banded.scores.r2[:40].mean() > 0.3
    # the page shows what the command prints, up to its times and last digits
    shown = re.search(r"^pool1 .*?([\d.]+) \[", PAGE.read_text(), re.MULTILINE)
    told = re.search(r"^pool1 .*?([\d.]+) \[", printed[1], re.MULTILINE)
    assert float(shown[1]) == pytest.approx(float(told[1]), abs=0.02)
