"""The notebooks run from beginning to end on weights and pictures that are there anyway."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_says(path, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "site")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("pandas")
    from notebooks import executed

    shown = [one for cell in executed(path) for one in cell.shown]
    text = re.sub(r"<[^>]*>", " ", "".join(shown))
    for promise in PROMISES[path.stem]:
        assert re.search(promise, text), text
    pictures = sum(one.count("<img") for one in shown)
    assert pictures >= PICTURES[path.stem]


PROMISES = {
    "search": [
        r"26 images done, 0 failed",
        r"2\. 0\.\d+ china",
        r"1 image is new",
        r"china-small\.jpg",
    ],
    "layers": [r"pool5 +p = 1\.00", r"folder +· +80 images"],
    "classes": [r"is \d\s", r"fine-tuned +\d", r"of 10 new images named rightly"],
    "science": [r"\(60, 1024\)", r"relu7 +0\.\d\d"],
}
PICTURES = {"search": 20, "layers": 16, "classes": 1, "science": 2}


def test_there_is_a_notebook_for_each_promise():
    assert [path.stem for path in NOTEBOOKS] == sorted(PROMISES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_what_they_showed(path):
    kept = json.loads(path.read_text())
    code = [cell for cell in kept["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert len(path.read_bytes()) < 20_000
