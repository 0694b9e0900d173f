"""Bars show where somebody looks: on a terminal and in a notebook."""

from __future__ import annotations

import io
import sys
import types
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import draw
from store_rows import finished

from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex
from vggfeat.analysis import image_map, unit_responses
from vggfeat.datasets import open_dataset
from vggfeat.duplicates import find_duplicates
from vggfeat.evaluation import compare, low_shot, score_dataset, score_neighbours
from vggfeat.probe import evaluate, train
from vggfeat.progress import Progress, bars, in_notebook, progress_bar
from vggfeat.store import export, merge


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the process look as a cell of a notebook does to the code that runs in it."""
    shell = types.SimpleNamespace(kernel=object(), config={"IPKernelApp": {}})
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)


def shown(shown: bool | None, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(shown, total=3, mininterval=0) as bar:
        bar.update(3)
    return "3/3" in stream.getvalue()


def test_a_bar_shows_on_a_terminal_and_not_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_notebook()
    assert shown(None, Terminal(), monkeypatch)
    assert not shown(None, io.StringIO(), monkeypatch)
    assert shown(True, io.StringIO(), monkeypatch)
    assert not shown(False, Terminal(), monkeypatch)


@pytest.mark.usefixtures("kernel")
def test_a_bar_shows_in_a_notebook_unless_it_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert in_notebook()
    assert shown(None, io.StringIO(), monkeypatch)  # of text, where ipywidgets is not installed
    assert not shown(False, io.StringIO(), monkeypatch)


class Told:
    """Adds up what it is told of each stage."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = defaultdict(float)
        self.totals: dict[str, float] = {}

    def __call__(self, stage: str, more: float, total: float, /) -> None:
        assert more >= 0
        self.stages[stage] += more
        self.totals[stage] = total


def extracted(folder: Path, _store: FeatureStore, progress: Progress) -> None:
    photos = folder / "photos"
    photos.mkdir()
    for number in range(3):
        draw(40, 40, seed=number).save(photos / f"{number}.png")
    (photos / "3.png").write_bytes(b"no image")
    extractor = FeatureExtractor("vgg16-tiny", layers="pool1", device="cpu")
    extractor.extract(photos, folder / "out.h5", progress=progress)


def evaluated(folder: Path, store: FeatureStore, progress: Progress) -> None:
    for path in store.paths:
        (folder / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / path).touch()
    dataset = open_dataset("folder", folder / "photos")
    score_dataset(dataset, {"vgg16": store}, layer="relu7", progress=progress)


WORKS: dict[str, Callable[[Path, FeatureStore, Progress], object]] = {
    "extract": extracted,
    "verify": lambda _, store, told: store.verify(told),
    "merge": lambda folder, store, told: merge(folder / "all.h5", [store.path], progress=told),
    "export": lambda folder, store, told: export(store, folder / "o.npy", "relu7", progress=told),
    "probe": lambda _, store, told: evaluate(store, "relu7", progress=told),
    "train": lambda _, store, told: train(store, "relu7", progress=told),
    "sweep": lambda _, store, told: compare([store], progress=told),
    "neighbours": lambda _, store, told: score_neighbours([store], progress=told),
    "few images": lambda _, store, told: low_shot(
        [store], shots=[1, 2], repeats=2, classifiers=["mean"], progress=told
    ),
    "paper": evaluated,
    "map": lambda _, store, told: image_map(store, "relu7", method="pca", progress=told),
    "units": lambda _, store, told: unit_responses(store, "relu7", 3, progress=told),
    "index": lambda _, store, told: SimilarityIndex.build(store, "relu7", progress=told),
    "IVF": lambda _, store, told: SimilarityIndex.build(
        store, "relu7", kind="IVF4,SQ8", progress=told
    ),
    "duplicates": lambda _, store, told: find_duplicates(
        SimilarityIndex.build(store, "relu7"), 0.99, told
    ),
}


@pytest.mark.parametrize("work", WORKS)
def test_all_long_work_tells_one_progress_of_all_that_it_does(work: str, tmp_path: Path) -> None:
    told = Told()
    with FeatureStore(finished(tmp_path / "photos.h5", 60)) as store:
        WORKS[work](tmp_path, store, told)
    assert told.totals
    ended = {stage: total for stage, total in told.totals.items() if stage}
    assert {stage: round(told.stages[stage], 6) for stage in ended} == ended
    if work == "extract":
        assert told.stages[""] == told.totals[""] == 4, "a bad image is done with, too"


def test_bars_show_a_stage_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    with bars("row", True, leave=True, mininterval=0) as progress:
        for stage in ("reading", "writing"):
            for _ in range(3):
                progress(stage, 2, 6)
    assert "reading: 100%" in stream.getvalue()
    assert "writing: 100%" in stream.getvalue()
    told = Told()
    with bars("row", told) as progress:
        assert progress is told
