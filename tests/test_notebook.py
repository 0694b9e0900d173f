"""Stores, indexes and results show themselves in a notebook, whatever became of the photos."""

from __future__ import annotations

import copy
import io
import pickle
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from store_rows import Image as Row
from store_rows import finished

from vggfeat import FeatureStore, SimilarityIndex, notebook
from vggfeat.evaluation import compare, low_shot, score_neighbours
from vggfeat.probe import Numbers, RepeatedResult, evaluate, evaluate_numbers


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
    tile = notebook.picture(None, notebook.SIDE).uri
    return text.count(tile)


def test_a_store_shows_its_layers_and_some_photos(scenes_store):
    with FeatureStore(scenes_store) as store:
        text = store._repr_html_()
        assert repr(store) == f"<FeatureStore {scenes_store}: 48 images, pool2, pool5, relu7>"
    tags = Checked(text).tags
    assert tags.count("img") == notebook.PHOTOS
    assert missing(text) == 0
    assert "48 images · 2 classes, one label an image" in text
    assert "<td" in text
    assert ">relu7</td>" in text
    assert len(text) < 100_000
    # No colour of its own, so that it is readable on light and on dark ground.
    assert not re.search(r"color:\s*(#|black|white)|background:\s*(#|black|white)", text)


def test_an_index_and_its_answers_show_the_photos(index):
    assert Checked(index._repr_html_()).tags.count("img") == notebook.PHOTOS
    found = index.search(index.vectors_of([0, 30]), k=5, prepared=True)
    text = found._repr_html_()
    assert Checked(text).tags.count("img") == 10
    assert missing(text) == 0
    assert "1. 1.000 china" in text
    assert "query 2" in text
    [first, _] = found
    assert Checked(first._repr_html_()).tags.count("img") == 5
    many = index.search(index.vectors_of(range(9)), k=40, prepared=True)
    assert Checked(many._repr_html_()).tags.count("img") == notebook.QUERIES * notebook.PHOTOS
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
    from vggfeat import FeatureExtractor

    photos = tmp_path / "photos"
    shutil.copytree(scenes / "china", photos)
    extractor = FeatureExtractor("vgg16-tiny", layers="pool2", device="cpu")
    extractor.extract(photos, tmp_path / "s.h5", progress=False)
    for one in sorted(photos.iterdir())[:8]:
        one.write_bytes(b"no image")
    with FeatureStore(tmp_path / "s.h5") as store:
        index = SimilarityIndex.build(store, "pool2")
        assert 0 < missing(store._repr_html_()) < notebook.PHOTOS
        shutil.rmtree(photos)
        assert missing(store._repr_html_()) == notebook.PHOTOS
    assert missing(index.search(index.vectors_of([0]), prepared=True)._repr_html_()) == 10
    assert store._repr_html_() is None  # closed: its text is shown
    assert repr(store) == f"<FeatureStore {tmp_path / 's.h5'}: closed>"


def test_photos_that_take_long_are_counted_instead(index, monkeypatch):
    monkeypatch.setattr(notebook, "SECONDS", -1.0)
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
    for result in (probe, swept, few, numbers):
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
