"""The examples run as they stand."""

from __future__ import annotations

import io
import runpy
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *args: object) -> str:
    """Run an example as a program, but in this process, which has torch already."""
    out = io.StringIO()
    argv = patch("sys.argv", [name, *map(str, args)])
    with redirect_stdout(out), argv, pytest.raises(SystemExit) as end:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert not end.value.code
    return out.getvalue()


def test_features_of_a_folder(photos, tmp_path):
    out = run("features_of_a_folder.py", photos, tmp_path / "s.h5")
    assert "12 images done, 0 failed" in out
    assert "relu7: 12 x 1024, float32" in out


def test_classifier_for_my_classes(scenes, tmp_path):
    classes = shutil.copytree(scenes, tmp_path / "classes")
    new = tmp_path / "new"
    new.mkdir()
    for kind in ("china", "flower"):
        (classes / kind / "00.jpg").rename(new / f"{kind}.jpg")
    out = run("classifier_for_my_classes.py", classes, new)
    assert "mean class recall 100.0%, guessing 50.0%" in out
    assert "china.jpg: china" in out
    assert "flower.jpg: flower" in out


def test_search_an_archive(scenes, tmp_path):
    archive = shutil.copytree(scenes, tmp_path / "archive")
    query = archive / "flower" / "04.jpg"
    lines = run("search_an_archive.py", archive, query).splitlines()
    assert lines[0] == str(query)
    assert lines[1].split() == ["1.", "1.0000", "flower/04.jpg"]
    assert len(lines) == 6
    assert all("flower/" in line for line in lines[1:])


def test_choose_a_layer(scenes, tmp_path):
    classes = shutil.copytree(scenes, tmp_path / "classes")
    lines = run("choose_a_layer.py", classes, "--folds", 2).splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [
        "pool4", "pool5:max", "pool5:gem", "relu6", "relu7",
    ]  # fmt: skip
    assert all(float(line.split()[1].rstrip("%")) > 80 for line in lines[:-1])
    assert len(list((tmp_path / "classes.features").glob("*.h5"))) == 5


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_enough_to_read(path):
    assert len(path.read_text().splitlines()) <= 60
