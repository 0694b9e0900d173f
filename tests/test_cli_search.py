"""What a person types to search an archive: queries of several kinds, and indexes that change."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import cli
from PIL import Image

EXTRACT = ["--model", "vgg16-tiny", "--layers", "pool2", "--device", "cpu"]


def ok(*args: object) -> str:
    done = cli(*args)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Make images of three colours in folders, their stores, and an index of the first ones."""
    folder = tmp_path_factory.mktemp("work")
    rng = np.random.default_rng(0)
    for number in range(24):
        kind = ("blue", "green", "red")[number % 3]
        pixels = rng.integers(0, 60, (80, 100, 3), np.uint8)
        pixels[..., ("red", "green", "blue").index(kind)] += 150
        place = folder / "photos" / kind
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:02d}.png")
    halves = Image.new("RGB", (200, 100), (180, 30, 30))
    halves.paste((30, 30, 180), (100, 0, 200, 100))
    halves.save(folder / "halves.png")
    ok("extract", folder / "photos", folder / "all.h5", *EXTRACT)
    shutil.copytree(folder / "photos", folder / "some")
    for one in (folder / "some").glob("*/2*.png"):
        one.unlink()
    ok("extract", folder / "some", folder / "some.h5", *EXTRACT)
    ok("index", "build", folder / "some.h5", folder / "some.index")
    return folder


@pytest.fixture
def index(work: Path, tmp_path: Path) -> Path:
    shutil.copytree(work / "some.index", tmp_path / "photos.index")
    return tmp_path / "photos.index"


def found(*args: object) -> list[dict[str, object]]:
    results = json.loads(ok("search", *args, "--json"))["results"]
    return results[0]["neighbours"]


def labels(neighbours) -> set[str]:
    return {one["label"] for one in neighbours}


def test_a_box_searches_for_a_part_of_the_image(index, work):
    assert labels(found(index, work / "halves.png", "-k", 5, "--box", "0,0,90,100")) == {"red"}
    assert labels(found(index, work / "halves.png", "-k", 5, "--box", "110,0,500,500")) == {"blue"}
    for box, status, reason in (
        ("1,2,3", 1, "is no box: write x,y,w,h"),
        ("0,0,0,5", 1, "is no box"),
        ("500,500,9,9", 1, "has no pixel of the 200 x 100 image"),
    ):
        done = cli("search", index, work / "halves.png", "--box", box)
        assert done.returncode == status
        assert reason in done.stderr
    assert cli("search", index, "a.jpg", "b.jpg", "--box", "0,0,9,9").returncode == 2


def test_several_images_are_one_query_or_many(index, work):
    red, blue = (work / "photos" / name for name in ("red/02.png", "blue/00.png"))
    told = json.loads(ok("search", index, red, blue, "-k", 3, "--json"))["results"]
    assert [labels(one["neighbours"]) for one in told] == [{"red"}, {"blue"}]
    (one,) = json.loads(ok("search", index, red, blue, "-k", 16, "--average", "--json"))["results"]
    assert one["query"] == f"{red}, {blue}"
    assert labels(one["neighbours"][:12]) == {"red", "blue"}


def test_a_text_list_names_queries_relative_to_itself(index, work, tmp_path):
    (work / "queries.txt").write_text("photos/red/02.png\n# none\nphotos/blue/00.png\n")
    told = json.loads(ok("search", index, work / "queries.txt", "-k", 3, "--json"))["results"]
    assert {frozenset(labels(one["neighbours"])) for one in told} == {
        frozenset({"red"}),
        frozenset({"blue"}),
    }


def test_counterexamples_push_answers_away(index, work):
    halves = work / "halves.png"
    blue = work / "photos" / "blue" / "00.png"
    assert labels(found(index, halves, "-k", 5)) == {"blue"}
    assert labels(found(index, halves, "-k", 5, "--unlike", blue)) == {"red"}
    (work / "bad.png").write_bytes(b"")
    done = cli("search", index, halves, "--unlike", work / "bad.png")
    assert done.returncode == 1
    assert "bad.png" in done.stderr


def test_filters_choose_before_the_search_so_that_k_come_back(index, work):
    red = work / "photos" / "red" / "02.png"
    near = found(index, red, "-k", 4, "--label", "green")
    assert len(near) == 4
    assert labels(near) == {"green"}
    near = found(index, red, "-k", 9, "--matching", "blue/*", "--matching", "*/01.png")
    assert {one["path"].split("/")[0] for one in near} == {"blue", "green"}
    done = cli("search", index, red, "--label", "grey")
    assert done.returncode == 1
    assert "No image has the label 'grey'. Did you mean 'green'? Known labels: " in done.stderr
    assert "blue, green, red" in done.stderr


def test_queries_can_be_expanded_and_ranked_again(index, work):
    red = work / "photos" / "red" / "02.png"
    near = found(index, red, "-k", 5, "--expand", "3:2", "--rerank", 100)
    assert labels(near) == {"red"}
    assert "10:3" in cli("search", index, red, "--expand", "x").stderr


def test_an_index_grows_shrinks_and_is_packed(index, work):
    out = ok("index", "add", index, work / "all.h5")
    assert "4 images added, 0 replaced, 20 as they were; 24 in all" in out
    red = work / "photos" / "red" / "20.png"
    assert found(index, red, "-k", 1)[0]["path"] == "red/20.png"
    out = ok("index", "remove", index, "red/20.png", "--matching", "green/*")
    assert "9 images removed, 15 left" in out
    assert "removed: 9, whose room `vggfeat index compact` frees" in ok("index", "info", index)
    assert found(index, red, "-k", 1)[0]["path"] != "red/20.png"
    told = json.loads(ok("index", "compact", index, "--json"))
    assert (told["dropped"], told["images"]) == (9, 15)
    assert "9 removed by hand stay out (--again " in ok("index", "add", index, work / "all.h5")
    assert json.loads(ok("index", "add", index, work / "all.h5", "--json"))["excluded"] == 9
    assert "removed by hand: 9, which" in ok("index", "info", index)
    assert "as they were written" in ok("index", "info", index, "--verify")
    assert cli("index", "remove", index).returncode == 2
    done = cli("index", "remove", index, "red/99.png")
    assert done.returncode == 1
    assert "has no image 'red/99.png'" in done.stderr
    assert "9 images added" in ok("index", "add", index, work / "all.h5", "--again")


def test_indexes_are_merged_and_pages_show_originals_of_every_source(index, work, tmp_path):
    ok("index", "remove", index, "--matching", "*/0*.png")
    ok("index", "build", work / "all.h5", tmp_path / "b.index")
    ok("index", "merge", tmp_path / "c.index", index, tmp_path / "b.index")
    told = json.loads(ok("index", "info", tmp_path / "c.index", "--json"))
    kept = told["images"]
    assert kept + told["excluded"] == 24
    assert len(told["sources"]) == 2
    query = work / "photos" / "red" / "20.png"
    ok("search", tmp_path / "c.index", query, "-k", 24, "--html", tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text().count("data:image/jpeg") == kept + 1


def test_a_kind_can_be_chosen_and_what_was_measured_is_shown(work, tmp_path):
    out = ok(
        *("index", "build", work / "all.h5", tmp_path / "a.index"),
        *("--kind", "IVF2,SQ8", "--memory", "100MB", "--recall", "0.9", "--augment", "2"),
    )
    assert "24 images, approximate cosine search" in out
    assert "each image averaged with its nearest, 2" in out
    for option, reason in (
        (["--kind", "nonsense"], "FAISS makes no index 'nonsense'"),
        (["--kind", "IDMap,Flat"], "the index numbers its vectors itself"),
        (["--memory", "lots"], "is no amount of memory"),
        (["--kind", "hnsw", "--memory", "1kb"], "takes about"),
        (["--whiten", "99"], "99 directions were requested"),
        (["--whiten", "none.npz"], "There is no none.npz"),
        (["--augment", "0"], "at least 1"),
    ):
        done = cli("index", "build", work / "all.h5", tmp_path / "b.index", *option)
        assert done.returncode == 1, option
        assert reason in done.stderr
        assert not (tmp_path / "b.index").exists()


def test_a_whitening_is_learnt_and_applied(work, tmp_path):
    out = ok("whiten", work / "all.h5", tmp_path / "w.npz", "--dimension", "8")
    assert "32 numbers of pool2 to 8" in out
    out = ok(
        *("index", "build", work / "all.h5", tmp_path / "a.index"),
        *("--whiten", tmp_path / "w.npz"),
    )
    assert "learnt from 24 images" in out
    query = work / "photos" / "red" / "20.png"
    best = found(tmp_path / "a.index", query, "-k", 1)[0]
    assert best["path"] == "red/20.png"
    assert best["score"] == pytest.approx(1, abs=1e-5)


def test_building_shows_no_bar_where_stderr_is_no_terminal(work, tmp_path):
    command = [sys.executable, "-m", "vggfeat", "index", "build", str(work / "all.h5")]
    done = subprocess.run(
        [*command, str(tmp_path / "a.index")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_filter_that_fits_nothing_is_refused_with_near_names(work, tmp_path):
    index = tmp_path / "own.index"
    shutil.copytree(work / "some.index", index)
    query = work / "halves.png"
    assert len(found(index, query, "-k", 20, "--matching", "blue")) == 7
    for given in (["--matching", "bleu"], ["--matching", "red", "--matching", "bleu"]):
        done = cli("search", index, query, *given, "--device", "cpu")
        assert (done.returncode, done.stdout) == (1, "")
        assert "Did you mean 'blue'" in done.stderr
        done = cli("index", "remove", index, *given)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Did you mean 'blue'" in done.stderr
    done = cli("search", index, query, "--label", "bleu", "--device", "cpu")
    assert done.returncode == 1
    assert "Did you mean 'blue'" in done.stderr
    done = cli("search", index, query, "--label", "blue", "--matching", "red", "--device", "cpu")
    assert done.returncode == 1
    assert "of these paths and of these labels" in done.stderr
    assert "7 images removed" in ok("index", "remove", index, "--matching", "blue")


def test_a_page_shows_images_outside_the_source_only_from_folders_that_are_named(work, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(work / "photos", photos)
    elsewhere = tmp_path / "private"
    (photos / "blue").rename(elsewhere)
    (photos / "blue").symlink_to(elsewhere)
    ok("extract", photos, tmp_path / "s.h5", *EXTRACT)
    ok("index", "build", tmp_path / "s.h5", tmp_path / "s.index")
    page = tmp_path / "found.html"
    sizes = []
    for given in ([], ["--root", elsewhere]):
        done = cli(
            "search", tmp_path / "s.index", work / "halves.png", "--matching", "blue",
            "--device", "cpu", "--html", page, *given,
        )  # fmt: skip
        assert done.returncode == 0
        assert ("lies outside its source" in done.stderr) == (not given)
        sizes.append(len(set(re.findall(r"data:image/jpeg;base64,[^\"]+", page.read_text()))))
    assert sizes == [2, 9]  # the query and one tile for all that are missing; or all eight
