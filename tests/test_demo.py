"""The demo: offline, on real pictures, by real commands, never over anybody's files."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from contextlib import chdir
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from commands import cli
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from vggfeat.cli import COMMANDS
from vggfeat.demo.diary import MADE, NAME, WITH_PHOTOS, Diary, Done
from vggfeat.demo.pages import pages
from vggfeat.demo.pictures import ALL, choose, digit_picture, put
from vggfeat.errors import VggfeatError

TARGETS = load_digits().target


def vggfeat(*arguments: str, where: Path) -> subprocess.CompletedProcess[str]:
    with chdir(where):
        return cli(*arguments)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_demo_runs_from_nothing_to_a_report_and_does_nothing_twice(
    tmp_path: Path, scenes: Path
) -> None:
    demo = tmp_path / "my demo"
    mine = files(scenes)
    first = vggfeat("demo", demo.name, "--digits", "100", "--photos", str(scenes), where=tmp_path)
    assert first.returncode == 0, first.stderr
    assert files(scenes) == mine, "nothing is written among the user's photos"
    assert (demo / "report.html").resolve().as_uri() in first.stdout
    assert len(list((demo / "digits").rglob("*.png"))) == 100
    assert {path.name for path in (demo / "photos").glob("*.jpg")} == {"china.jpg", "flower.jpg"}
    assert {path.name for path in demo.iterdir()} == {*MADE, *WITH_PHOTOS, NAME}

    commands = [line[2:] for line in first.stdout.splitlines() if line.startswith("$ ")]
    verbs = [shlex.split(command)[1] for command in commands]
    asked = {"extract", "info", "sweep", "probe", "predict", "index", "search", "plot"}
    assert set(verbs) == asked <= {*COMMANDS}
    page = (demo / "report.html").read_text(encoding="utf-8")
    assert "The network is a miniature" in page
    assert "Your sub-folders as classes" in page
    assert "where they are alike" in page
    assert not re.search(r"https?://|<script|<link", page)
    assert "It takes half a minute" in first.stdout.partition("$ ")[0]
    for part in pages().values():
        assert part, "a page explains each part"
        for explained in part:
            assert explained.name in page
            assert explained.uri in page
            assert Path(unquote(urlsplit(explained.uri).path)).is_file()
    told = page.replace("&#39;", "'")
    assert all(command in told for command in commands)
    again = vggfeat(*shlex.split(commands[verbs.index("info")])[1:], where=tmp_path)
    assert again.returncode == 0
    assert "100 done" in again.stdout

    before = files(demo)
    second = vggfeat("demo", demo.name, "--photos", str(scenes), where=tmp_path)
    assert second.returncode == 0
    assert "nothing to do" in second.stdout
    assert "report.html" in second.stdout
    assert files(demo) == before

    (demo / "report.html").unlink()
    last = json.loads((demo / NAME).read_text())
    last["complete"] = False
    last["done"].pop()
    (demo / NAME).write_text(json.dumps(last))
    resumed = vggfeat("demo", demo.name, "--photos", str(scenes), where=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.count("(done before") == len(commands) - 1
    after = files(demo)
    changed = {name for name in before if after[name] != before[name]}
    assert changed <= {"report.html", "own-sweep.png", NAME}


@pytest.mark.parametrize(
    ("photos", "message"),
    [("nowhere", "There is no 'nowhere'"), ("empty", "No images in the folder")],
)
def test_unusable_photos_are_refused_before_any_work(
    tmp_path: Path, photos: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    refused = vggfeat("demo", "d", "--photos", photos, where=tmp_path)
    assert refused.returncode == 1
    assert message in refused.stderr
    assert not (tmp_path / "d").exists()


def test_other_photos_begin_their_part_anew(tmp_path: Path) -> None:
    diary = Diary.open(tmp_path)
    diary.begin(50, "/one")
    diary.add(Done("vggfeat extract /one own.h5", "why", "said", 1.0))
    (tmp_path / "own.h5").write_bytes(b"of the first photos")
    diary.begin(50, "/other")
    assert not (tmp_path / "own.h5").exists()
    assert Diary.open(tmp_path).done == []


@pytest.mark.parametrize("name", ["digits", "report.html", NAME])
def test_strangers_files_are_never_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"mine": true}')
    (tmp_path / "notes.txt").write_text("also mine")
    before = files(tmp_path)
    refused = vggfeat("demo", ".", where=tmp_path)
    assert refused.returncode == 1
    assert name in refused.stderr
    assert "vggfeat demo DIR" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert files(tmp_path) == before


def test_a_folder_with_other_things_in_it_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    diary = Diary.open(tmp_path)
    diary.begin(50)
    assert Diary.open(tmp_path).digits == 50


def test_too_few_digits_are_wrong_usage(tmp_path: Path) -> None:
    refused = vggfeat("demo", "--digits", "5", where=tmp_path)
    assert refused.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_more_digits_begin_anew_and_another_version_runs_the_commands_again(
    tmp_path: Path,
) -> None:
    diary = Diary.open(tmp_path)
    diary.begin(50)
    diary.add(Done("vggfeat info a", "why", "said", 1.0))
    diary.finish()
    assert Diary.open(tmp_path).find("vggfeat info a") is not None
    path = tmp_path / NAME
    path.write_text(path.read_text().replace('"version": "', '"version": "0.0'))
    older = Diary.open(tmp_path)
    assert (older.digits, older.complete, older.done) == (50, False, [])
    diary.begin(80)
    assert Diary.open(tmp_path).done == []


def test_a_damaged_diary_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"done": 3}')
    with pytest.raises(VggfeatError, match="did not make"):
        Diary.open(tmp_path)


@settings(max_examples=30, deadline=None)
@given(st.integers(20, ALL), st.integers(20, ALL))
def test_chosen_digits_are_balanced_and_never_among_the_unseen(one: int, other: int) -> None:
    fewer, more = sorted((one, other))
    seen, unseen = choose(TARGETS, more)
    assert not set(seen) & set(unseen)
    assert sorted(TARGETS[unseen]) == list(range(10))
    assert set(choose(TARGETS, fewer)[0]) <= set(seen)
    counts = np.bincount(TARGETS[seen])
    whole = np.bincount(TARGETS) - 1
    assert all((counts == counts.max()) | (counts == whole))
    assert more >= 1730 or abs(len(seen) - more) <= 5


def test_a_digit_is_dark_ink_on_light_paper() -> None:
    values = np.zeros((8, 8))
    values[3:5, 3:5] = 16
    picture = digit_picture(values)
    assert (picture.size, picture.mode) == ((80, 80), "RGB")
    grey = np.asarray(picture.convert("L"))
    assert grey[0].min() > 240
    assert grey[38:42, 38:42].max() < 60


def test_a_picture_that_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.png"
    put(path, Image.new("RGB", (5, 5), (1, 2, 3)))
    before = path.stat()
    put(path, Image.new("RGB", (5, 5), (1, 2, 3)))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    put(path, Image.new("RGB", (5, 5), (9, 2, 3)))
    with Image.open(path) as image:
        assert image.getpixel((0, 0)) == (9, 2, 3)
    assert [each.name for each in path.parent.iterdir()] == ["b.png"]
