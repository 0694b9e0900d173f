"""Whatever gives a table of features is probed, indexed, evaluated and shown as a store is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import store_rows
from PIL import Image

from vggfeat import FeatureTable
from vggfeat.analysis import image_map, unit_responses
from vggfeat.datasets import open_dataset
from vggfeat.errors import ProbeError, StoreError
from vggfeat.evaluation import compare, low_shot, score_dataset, score_neighbours
from vggfeat.index import SimilarityIndex
from vggfeat.probe import evaluate, train
from vggfeat.provenance import SourcePlace
from vggfeat.report import originals_of
from vggfeat.store import FeatureStore, StoreWriter, export
from vggfeat.store.parts import PartedStore, open_part, plan

COUNT, FAILED_ROW = 60, 7


class MemoryTable(FeatureTable):
    """A table in memory, copied from another; what it gives then touches no file."""

    paths: Any = None
    status: Any = None
    present: Any = None
    file_sizes: Any = None
    digests: Any = None
    targets: Any = None
    splits: Any = None
    groups: Any = None
    sources: Any = None
    runs: Any = None

    def __init__(self, other: FeatureTable) -> None:
        self.path, self.provenance = other.path, other.provenance
        for name in MemoryTable.__annotations__:
            setattr(self, name, getattr(other, name))
        self._numbers = other.source_numbers()
        self._sums = {layer: other.checksums(layer) for layer in other.layers}
        self._shapes = {layer: other.shape(layer) for layer in other.layers}
        self._rows: dict[str, Any] = {}
        for layer in other.layers:
            self._rows[layer] = np.full((len(other), other.dimension(layer)), np.nan, np.float32)
            rows, X = other.matrix(layer)
            self._rows[layer][rows] = X

    def close(self) -> None:
        pass

    def __len__(self) -> int:
        return len(self.paths)

    def source_numbers(self, rows: Any = None) -> Any:
        return self._numbers if rows is None else self._numbers[np.asarray(rows, np.int64)]

    def shape(self, layer: str) -> tuple[int, ...]:
        return self._shapes[self.layer(layer)]

    def checksums(self, layer: str) -> Any:
        return self._sums[self.layer(layer)]

    def read_rows(self, layer: str, rows: Any, vectors: Any) -> None:
        vectors[...] = self._rows[layer][rows]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three classes, and beside it a store of its images in two layers."""
    folder = tmp_path_factory.mktemp("table") / "photos"
    entries = [store_rows.Image(f"{'abc'[i % 3]}/{i:03d}.jpg") for i in range(COUNT)]
    for entry in entries:
        (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / entry.path)
    entries.sort(key=lambda entry: entry.path)
    rng = np.random.default_rng(0)
    features = {
        entry.path: {
            layer: rng.normal(np.arange(np.prod(shape)) % 3 == "abc".index(entry.path[0]), 1)
            .astype(np.float32).reshape(1, *shape)
            for layer, shape in store_rows.SHAPES.items()
        }
        for entry in entries
    }  # fmt: skip
    options: dict[str, Any] = {
        "entries": entries,
        "shapes": store_rows.SHAPES,
        "labels": {entry.path: (entry.path[0],) for entry in entries},
        "sources": [SourcePlace("", str(folder), str(folder))],
    }
    whole = StoreWriter.open(folder.parent / "photos.h5", provenance=store_rows.made(), **options)
    run = store_rows.made().run
    parted = plan(
        folder.parent / "photos.store",
        config=store_rows.made().config, planned=run, part_rows=13, **options,
    )  # fmt: skip
    parts = [
        open_part(parted.path, parted.manifest, part.number, parted.contents, run)
        for part in parted.manifest.parts
    ]
    for writer in (whole, *parts):
        with writer as store:
            for row in store.pending():
                if store.entry_path(row) == entries[FAILED_ROW].path:
                    store.fail(row, "truncated")
                else:
                    store.write([row], features[store.entry_path(row)])
    return folder


@pytest.fixture(params=["memory", "parts"])
def tables(photos: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    name = photos.parent / "photos.h5"
    with FeatureStore(name) as store, PartedStore(photos.parent / "photos.store") as parts:
        parts.path = name  # which results tell
        yield store, {"memory": MemoryTable(store), "parts": parts}[request.param]


def timeless(result: Any) -> Any:
    """Return JSON-ready values without how long things took."""
    if isinstance(result, dict):
        return {key: timeless(value) for key, value in result.items() if key != "seconds"}
    return [timeless(one) for one in result] if isinstance(result, list | tuple) else result


JOBS = {
    "probe": lambda table, _: evaluate(table, "pool5", C=1.0),
    "all layers": lambda table, _: compare([table]),
    "neighbours": lambda table, _: score_neighbours([table], k=[1, 5]),
    "few images": lambda table, _: low_shot([table], shots=[1, 2], repeats=2, classifiers=["mean"]),
    "paper": lambda table, photos: score_dataset(
        open_dataset("folder", photos), {"vgg16": table}, layer="relu7"
    ),
    "map": lambda table, _: image_map(table, "relu7", method="pca"),
    "units": lambda table, _: unit_responses(table, "pool5", 3),
}


@pytest.mark.parametrize("job", JOBS)
def test_results_on_a_table_in_memory_or_of_parts_are_those_on_a_store(photos, tables, job):
    on_store, in_memory = (timeless(JOBS[job](table, photos).to_json()) for table in tables)
    assert on_store == in_memory


def test_probes_and_maps_of_a_table_in_memory_or_of_parts_have_the_same_numbers(tables):
    probes = [train(table, "relu7", C=1.0).probe for table in tables]
    assert np.array_equal(probes[0].coef_, probes[1].coef_)
    maps = [image_map(table, "relu7", method="pca") for table in tables]
    assert np.array_equal(maps[0].coordinates, maps[1].coordinates)


def test_an_index_of_a_table_in_memory_or_of_parts_answers_as_one_of_a_store(tables, tmp_path):
    queries = tables[0].matrix("relu7", [0, 20])[1]
    answers = []
    for number, table in enumerate(tables):
        index = SimilarityIndex.build(table, "relu7", path=tmp_path / f"{number}.index")
        answers.append([
            [(one.path, one.label, one.score) for one in neighbours]
            for neighbours in index.search(queries, 5)
        ])  # fmt: skip
        assert index.add(table).unchanged == COUNT - 1
    assert answers[0] == answers[1]
    assert [neighbours[0][0] for neighbours in answers[0]] == tables[0].paths[[0, 20]].tolist()


def test_an_export_of_a_table_in_memory_or_of_parts_is_that_of_a_store(tables, tmp_path):
    for number, table in enumerate(tables):
        for name in ("out.npz", "out.csv"):
            export(table, tmp_path / f"{number}{name}", "pool5")
    assert (tmp_path / "0out.csv").read_bytes() == (tmp_path / "1out.csv").read_bytes()
    ours, theirs = (np.load(tmp_path / f"{number}out.npz") for number in (0, 1))
    assert {"features", "paths", "classes", "labels"} <= set(ours) == set(theirs)
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


def test_reports_find_the_originals_of_a_table_in_memory_or_of_parts(tables):
    for table in tables:
        with originals_of(table)(table.paths[0])() as image:
            assert image.read(2) == b"\xff\xd8"


def test_a_table_refuses_rows_that_are_not_done_and_unlabelled_images(tables):
    for table in tables:
        with pytest.raises(StoreError, match=f"row {FAILED_ROW} .* failed"):
            table.matrix("relu7", [FAILED_ROW])
        with pytest.raises(StoreError, match="rows 0 to 59; others were requested"):
            table.matrix("relu7", [60])
    in_memory = MemoryTable(tables[1])
    in_memory.targets = None
    with pytest.raises(ProbeError, match="has no labels"):
        evaluate(in_memory, "relu7")
    with pytest.raises(StoreError, match="has no labels"):
        in_memory.xy("relu7")


def test_rows_come_in_the_order_requested_also_repeated(tables):
    rows = [9, 9, 11, 3, 3, 3, 40, 12, 11]
    for table in tables:
        whole = np.stack([table.matrix("relu7", [row])[1][0] for row in rows])
        assert np.array_equal(table.matrix("relu7", rows)[1], whole)
        blocks = list(table.blocks("relu7", rows, size=4))
        assert np.array_equal(np.concatenate([X for _, X in blocks]), whole)


def test_labels_are_read_once_and_are_the_caller_s_to_change(tables):
    store, _ = tables
    assert store.targets is store.targets
    labels = store.labels
    labels[:] = 0
    assert set(store.labels.tolist()) == {0, 1, 2}
    with pytest.raises(ValueError, match="read-only"):
        store.targets.values[0] = 1


def test_length_counts_rows_and_columns_are_asked_for(tables):
    store, in_memory = tables
    assert len(store) == len(in_memory) == len(store["relu7"]) == COUNT
    assert "relu7" in store and "fc2" not in store and "relu6" not in in_memory  # noqa: PT018
    with pytest.raises(TypeError):
        iter(store)
