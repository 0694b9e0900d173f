"""From a store to a classifier and a search, by the commands a person types."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from commands import cli
from PIL import Image

from vggfeat.predictions import predict

EXTRACT = ["--weights", "random:0", "--layers", "pool1,relu2_1", "--device", "cpu"]


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Make red, green and striped images, and their store, probe and index."""
    folder = tmp_path_factory.mktemp("work")
    rng = np.random.default_rng(0)
    for number in range(36):
        kind = ("green", "red", "striped")[number % 3]
        pixels = rng.integers(0, 60, (120, 160, 3), np.uint8)
        pixels[..., {"green": 1, "red": 0, "striped": 2}[kind]] += 150
        if kind == "striped":
            pixels[:, :: 8 + number % 2] = 255
        place = folder / ("photos" if number < 30 else "new") / kind
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:02d}.jpg")
    done = cli("extract", folder / "photos", folder / "s.h5", *EXTRACT)
    assert done.returncode == 0, done.stderr
    return folder


def test_probe_prints_scores_beside_chance_and_saves(work):
    done = cli("probe", work / "s.h5", "--layer", "pool1", "--save", work / "a.probe")
    assert done.returncode == 0, done.stderr
    assert re.search(r"mean class recall +100.00% +\(guessing: 33.33%\)", done.stdout)
    assert "striped" in done.stdout
    new = json.loads(cli("predict", work / "a.probe", work / "new", "--json").stdout)
    again = predict(work / "a.probe", work / "new")
    assert {"probe": str(work / "a.probe"), **again.to_json()} == new, "the command, in Python"
    assert len(new["images"]) == 6
    for one in new["images"]:
        assert one["path"].startswith(one["label"] + "/")
        assert one["margin"] > 0


def test_probe_as_json_and_as_a_page(work):
    args = ["--layer", "relu2_1", "--classifier", "logreg", "--train-per-class", "5", "--json"]
    done = cli("probe", work / "s.h5", *args, "--html", work / "probe.html")
    result = json.loads(done.stdout)
    assert result["n_train"] == 15
    assert np.sum(result["confusion"]) == result["n_test"] == 15
    page = (work / "probe.html").read_text()
    assert "data:image/png;base64," in page
    assert not re.search(r"""(src|href)=["']?https?:""", page)


def test_a_store_of_several_layers_asks_which(work):
    for command in (["probe", work / "s.h5"], ["index", "build", work / "s.h5", work / "i"]):
        done = cli(*command)
        assert done.returncode == 1
        assert "choose one with --layer: pool1, relu2_1" in done.stderr


def test_search_finds_the_image_itself_first_and_then_its_like(work):
    done = cli("index", "build", work / "s.h5", work / "photos.index", "--layer", "pool1")
    assert done.returncode == 0, done.stderr
    assert "30 images, exact cosine search over pool1 of vgg16" in done.stdout
    query = work / "photos" / "red" / "01.jpg"
    done = cli("search", work / "photos.index", query, "-k", "9", "--json")
    (result,) = json.loads(done.stdout)["results"]
    assert [one["rank"] for one in result["neighbours"]] == list(range(1, 10))
    assert result["neighbours"][0]["path"] == "red/01.jpg"
    assert result["neighbours"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert {one["label"] for one in result["neighbours"]} == {"red"}


def test_search_answers_the_good_queries_and_names_the_bad(work):
    cli("index", "build", work / "s.h5", work / "b.index", "--layer", "pool1")
    (work / "bad.jpg").write_bytes(b"")
    good = work / "new" / "green" / "30.jpg"
    done = cli("search", work / "b.index", work / "bad.jpg", good, "--html", work / "found.html")
    assert done.returncode == 1
    assert "bad.jpg" in done.stderr
    assert "Traceback" not in done.stderr
    assert "green/" in done.stdout
    page = (work / "found.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 10
    assert "bad.jpg" in page


def test_other_weights_than_the_databases_are_refused(work):
    cli("index", "build", work / "s.h5", work / "c.index", "--layer", "pool1")
    cli("probe", work / "s.h5", "--layer", "pool1", "--save", work / "c.probe")
    query = work / "new" / "red" / "31.jpg"
    for command in (["search", work / "c.index", query], ["predict", work / "c.probe", query]):
        done = cli(*command, "--weights", "random:1")
        assert done.returncode == 1
        assert "weights_sha256" in done.stderr
        assert "Traceback" not in done.stderr


def test_predict_of_nothing_usable_fails(work, tmp_path):
    cli("probe", work / "s.h5", "--layer", "pool1", "--save", work / "d.probe")
    (tmp_path / "bad.jpg").write_bytes(b"x")
    done = cli("predict", work / "d.probe", tmp_path)
    assert done.returncode == 1
    assert "bad.jpg" in done.stderr


def test_files_of_other_kinds_are_refused_politely(work):
    (work / "notes.txt").write_text("hello")
    for command in (
        ["probe", work / "notes.txt"],
        ["predict", work / "notes.txt", work / "new"],
        ["search", work / "notes.txt", work / "new"],
        ["index", "info", work / "s.h5"],
        ["index", "build", work / "s.h5", work / "notes.txt", "--layer", "pool1"],
    ):
        done = cli(*command)
        assert done.returncode == 1, command
        assert done.stderr.startswith("Error: ")
        assert "Traceback" not in done.stderr
    assert (work / "notes.txt").read_text() == "hello"
