"""Stores, indexes and results show themselves in a notebook, whatever became of the photos."""

from __future__ import annotations

import copy
import io
import pickle
import re
import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from store_rows import Image as Row
from store_rows import finished

from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex
from vggfeat.encoding import encode, read_responses
from vggfeat.evaluation import compare, low_shot, score_neighbours, sweep
from vggfeat.notebook import DRAWERS, MAKERS, parts
from vggfeat.notebook.images import QUERIES
from vggfeat.probe import Numbers, RepeatedResult, evaluate, evaluate_numbers
from vggfeat.report.thumbnails import picture
from vggfeat.representations import compare as compare_layers
from vggfeat.representations import compare_to, rdm
from vggfeat.showing import Drawn, Shown


class Checked(HTMLParser):
    """HTML that closes what it opens."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def index(scenes_store: Path) -> SimilarityIndex:
    with FeatureStore(scenes_store) as store:
        return SimilarityIndex.build(store, "relu7")


def missing(text: str) -> int:
    """Count the tiles that stand for photos that cannot be read."""
    tile = picture(None, parts.SIDE).uri
    return text.count(tile)


def test_a_store_shows_its_layers_and_some_photos(scenes_store):
    with FeatureStore(scenes_store) as store:
        text = store._repr_html_()
        assert repr(store) == f"<FeatureStore {scenes_store}: 48 images, pool2, pool5, relu7>"
    tags = Checked(text).tags
    assert tags.count("img") == parts.PHOTOS
    assert missing(text) == 0
    assert "48 images · 2 classes, one label an image" in text
    assert "<td" in text
    assert ">relu7</td>" in text
    assert len(text) < 100_000
    # No colour of its own, so that it is readable on light and on dark ground.
    assert not re.search(r"color:\s*(#|black|white)|background:\s*(#|black|white)", text)


def test_an_index_and_its_answers_show_the_photos(index):
    assert Checked(index._repr_html_()).tags.count("img") == parts.PHOTOS
    found = index.search(index.vectors_of([0, 30]), k=5, prepared=True)
    text = found._repr_html_()
    assert Checked(text).tags.count("img") == 10
    assert missing(text) == 0
    assert "1. 1.000 china" in text
    assert "query 2" in text
    [first, _] = found
    assert Checked(first._repr_html_()).tags.count("img") == 5
    many = index.search(index.vectors_of(range(9)), k=40, prepared=True)
    assert Checked(many._repr_html_()).tags.count("img") == QUERIES * parts.PHOTOS
    assert "4 more queries" in many._repr_html_()


def test_answers_are_lists_and_pickle_as_such(index):
    found = index.search(index.vectors_of([0]), k=3, prepared=True)
    assert found == [list(found[0])]
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert type(again[0]) is list
    assert copy.deepcopy(found) == found
    assert len(pickle.dumps(found)) < 2000


def test_photos_that_are_gone_are_tiles(scenes, tmp_path):

    photos = tmp_path / "photos"
    shutil.copytree(scenes / "china", photos)
    extractor = FeatureExtractor("vgg16-tiny", layers="pool2", device="cpu")
    extractor.extract(photos, tmp_path / "s.h5", progress=False)
    for one in sorted(photos.iterdir())[:8]:
        one.write_bytes(b"no image")
    with FeatureStore(tmp_path / "s.h5") as store:
        index = SimilarityIndex.build(store, "pool2")
        assert 0 < missing(store._repr_html_()) < parts.PHOTOS
        shutil.rmtree(photos)
        assert missing(store._repr_html_()) == parts.PHOTOS
    assert missing(index.search(index.vectors_of([0]), prepared=True)._repr_html_()) == 10
    assert store._repr_html_() is None  # closed: its text is shown
    assert repr(store) == f"<FeatureStore {tmp_path / 's.h5'}: closed>"


def test_photos_that_take_long_are_counted_instead(index, monkeypatch):
    monkeypatch.setattr(parts, "SECONDS", -1.0)
    text = index._repr_html_()
    assert "img" not in Checked(text).tags
    assert "12 more photos" in text


def test_names_are_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    entries = [Row(f"{evil}/{number}.jpg") for number in range(4)]
    path = tmp_path / "a<b>.h5"
    finished(path, entries=entries, labels={one.path: (evil,) for one in entries})
    with FeatureStore(path) as store:
        index = SimilarityIndex.build(store, "relu7")
        found = index.search(index.vectors_of([0]), prepared=True)
        for text in (store._repr_html_(), index._repr_html_(), found._repr_html_()):
            Checked(text)
            assert "<script" not in text
            assert "&lt;script&gt;" in text


def test_scores_are_tables_and_figures(scenes_store):
    with FeatureStore(scenes_store) as store:
        probe = evaluate(store, "pool5")
        again = evaluate(store, "pool5", seed=1)
        swept = compare([store], ["pool2", "pool5"])
        layers = sweep(store, ["pool2", "pool5"])
        few = low_shot([store], ["pool5"], shots=(1, 2), repeats=2)
        near = score_neighbours([store], ["pool2", "pool5"], k=(1, 5))
        numbers = evaluate_numbers(store, "pool5", numbers_of(store))
    shown = [Checked(one._repr_html_()).tags.count("tr") for one in (swept, few, near)]
    assert shown == [3, 3, 3]
    text = probe._repr_html_()
    assert ">mean class recall</td>" in text
    assert f">{100 * probe.accuracy:.1f} %</td>" in text
    assert "guessing 50.0 %" in swept._repr_html_()
    assert Checked(RepeatedResult([probe, again])._repr_html_()).tags.count("tr") == 3
    assert "Pearson" in numbers._repr_html_()
    assert isinstance(layers, Sequence)
    assert [one.layer for one in layers] == [one.layer for one in layers[:]] == ["pool2", "pool5"]
    assert (layers[-1].layer, len(layers)) == ("pool5", 2)
    assert "guessing 50.0 %" in layers._repr_html_()
    for result in (probe, swept, few, numbers, layers):
        pictures = []
        for dark in (False, True):
            figure = result.figure(dark=dark)
            assert isinstance(figure, Figure)
            png, size = figure._repr_png_()
            with Image.open(io.BytesIO(png)) as image:
                assert image.width // 2 == size["width"]
                pictures.append(np.asarray(image.convert("L")).mean())
        assert pictures[0] > 200 > 90 > pictures[1]


def numbers_of(store: FeatureStore) -> Numbers:
    """Take the length of each image's feature as a number to predict."""
    rows, X = store.matrix("pool5")
    return Numbers(rows, np.linalg.norm(X, axis=1, keepdims=True), ("length",), "features")


def test_representations_are_tables_and_figures(scenes_store):
    with FeatureStore(scenes_store) as store:
        rdms = rdm(store, "pool2,pool5")
        alike = compare_layers([store])
        fits = compare_to([store], rdms)
    assert "2 of 48 images · correlation" in rdms._repr_html_()
    assert Checked(alike._repr_html_()).tags.count("td") == 3 * 4
    assert "debiased CKA" in alike._repr_html_()
    assert Checked(fits._repr_html_()).tags.count("tr") == 4
    for result in (rdms, alike, fits):
        png, size = result.figure(dark=True)._repr_png_()
        with Image.open(io.BytesIO(png)) as image:
            assert image.width // 2 == size["width"]
            assert np.median(np.asarray(image.convert("L"))) < 90


def test_a_figure_is_written_whole(scenes_store, tmp_path):
    with FeatureStore(scenes_store) as store:
        figure = evaluate(store, "pool5").figure()
    figure.savefig(tmp_path / "confusion.png", dpi=100)
    with Image.open(tmp_path / "confusion.png") as image:
        edges = np.asarray(image.convert("L"))
    assert (edges[[0, -1]] == 255).all()  # nothing reaches the edges, and so nothing is cut off
    assert (edges[:, [0, -1]] == 255).all()


def kinds(base: type) -> set[str]:
    """Return what a class and those below it say that they are shown as."""
    below = [name for one in base.__subclasses__() for name in kinds(one)]
    return {*below, *([base.shown_as] if "shown_as" in vars(base) else [])}


def test_whatever_says_what_it_is_shown_as_can_be_shown():
    import vggfeat.finetuning.results
    import vggfeat.queries  # noqa: F401

    assert kinds(Shown) == set(MAKERS)
    assert kinds(Drawn) | {"probe"} == set(DRAWERS)  # of one label an image; not of several


def test_predicted_responses_are_a_table_and_a_figure(scenes_store, tmp_path):
    rng = np.random.default_rng(0)
    with FeatureStore(scenes_store) as store:
        X = store.matrix("pool5")[1]
        np.save(tmp_path / "responses.npy", np.float32(X @ rng.normal(size=(X.shape[1], 3))))
        np.save(tmp_path / "shown.npy", np.arange(len(X)))
        measured = read_responses(tmp_path / "responses.npy", tmp_path / "shown.npy")
        found = encode(store, measured, ["pool2", "pool5"], nulls=0, samples=0)
    text = found._repr_html_()
    assert Checked(text).tags.count("tr") == 3
    assert "responses.npy predicted from scenes.h5" in text
    assert f"<b>{found.layers[1].mean_r2.value:.3f}</b>" in text
    assert found.figure()._repr_png_()[1]["width"] > 400


def test_photos_of_several_sources_are_found_each_in_its_own(scenes, tmp_path):
    for number, kind in enumerate(("china", "flower")):
        (tmp_path / kind).mkdir()
        shutil.copyfile(scenes / kind / "00.jpg", tmp_path / kind / f"{number}.jpg")
    extractor = FeatureExtractor("vgg16-tiny", layers="pool2", device="cpu")
    sources = [tmp_path / "china", tmp_path / "flower"]
    extractor.extract(sources, tmp_path / "s.h5", progress=False)
    with FeatureStore(tmp_path / "s.h5") as store:
        text = store._repr_html_()
    assert Checked(text).tags.count("img") == 2
    assert missing(text) == 0
