"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
OPTIONS = ["--weights", "random:0", "--layer", "pool2"]


def run(name: str, *args: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, args), *OPTIONS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_features_of_a_folder(photos, tmp_path):
    out = run("features_of_a_folder.py", photos, tmp_path / "s.h5")
    assert "12 images done, 0 failed" in out
    assert "pool2: 12 x 128, float32" in out


def test_classifier_for_my_classes(photos):
    out = run("classifier_for_my_classes.py", photos, photos / "cat")
    assert "mean class recall" in out
    assert out.count(".jpg: ") == 6


def test_search_an_archive(photos):
    query = photos / "cat" / "04.jpg"
    lines = run("search_an_archive.py", photos, query).splitlines()
    assert lines[0] == str(query)
    assert lines[1].split() == ["1.", "1.0000", "cat/04.jpg"]
    assert len(lines) == 6


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_enough_to_read(path):
    assert len(path.read_text().splitlines()) <= 60
