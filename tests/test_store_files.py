"""Stores merged into one, and exported for other programs."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from store_rows import (
    SHAPES,
    Image,
    check_with_plain_h5py,
    features,
    fill,
    finished,
    images,
    made,
    writer,
)

from vggfeat.errors import LayerError, StoreError, StoreMismatchError
from vggfeat.labels import FixedLabels, read_label_file
from vggfeat.store import FeatureStore, export, merge


def part(
    path: Path,
    first: int,
    last: int,
    failed: int | None = None,
    labels: dict[str, tuple[str, ...]] | None = None,
) -> Path:
    some = images(last, first)
    given = labels if labels is not None else {image.path: (image.path[:2],) for image in some}
    with writer(path, entries=some, labels=given) as store:
        if failed is not None:
            store.fail(failed, "truncated")
        fill(store)
    return path


def test_a_merged_store_has_all_rows_in_order_bit_for_bit(tmp_path: Path) -> None:
    stores = [part(tmp_path / f"{i}.h5", 100 * i, 100 * i + 100) for i in range(3)]
    report = merge(tmp_path / "all.h5", stores)
    assert (report.rows, report.done, report.duplicates) == (300, 300, 0)
    expected: list[str] = []
    for store in stores:
        with FeatureStore(store) as opened:
            expected += opened.paths.tolist()
    with FeatureStore(tmp_path / "all.h5") as opened:
        assert opened.paths.tolist() == expected
        assert opened.verify().ok
        assert len(opened.runs) == 3
        assert opened.provenance.run.end.strip()
        assert [opened.classes[k] for k in opened.labels[:]] == [p[:2] for p in expected]
    assert check_with_plain_h5py(tmp_path / "all.h5").tolist() == [1] * 300


def test_of_an_image_in_several_stores_the_earlier_row_stays_unless_only_the_later_is_done(
    tmp_path: Path,
) -> None:
    first = part(tmp_path / "1.h5", 0, 10, failed=0)  # row 0 is image 0
    second = part(tmp_path / "2.h5", 0, 12, failed=1)  # row 1 is image 3
    report = merge(tmp_path / "all.h5", [first, second])
    assert (report.rows, report.done, report.duplicates) == (12, 12, 10)
    with FeatureStore(tmp_path / "all.h5") as opened, FeatureStore(first) as before:
        assert opened.paths[:10].tolist() == before.paths.tolist()
    check_with_plain_h5py(tmp_path / "all.h5")
    both_failed = merge(tmp_path / "first.h5", [first, first])
    assert (both_failed.rows, both_failed.done) == (10, 9)
    with FeatureStore(tmp_path / "first.h5") as opened:
        assert opened.failures() == [("c0/000000.jpg", "truncated")]


def test_merging_unites_classes_by_name_and_single_with_multi_label(tmp_path: Path) -> None:
    first = part(tmp_path / "1.h5", 0, 2, labels={"c0/000000.jpg": ("cat",)})
    second = part(tmp_path / "2.h5", 2, 4, labels={"c2/000002.jpg": ("ape", "cat")})
    unlabelled = part(tmp_path / "3.h5", 4, 5, labels={})
    merge(tmp_path / "all.h5", [first, second, unlabelled])
    with FeatureStore(tmp_path / "all.h5") as opened:
        assert opened.classes == ["cat", "ape"]
        shown = dict(zip(opened.paths.tolist(), opened.labels[:].tolist(), strict=True))
    assert shown == {
        "c0/000000.jpg": [1, 0],
        "c1/000001.jpg": [-1, -1],
        "c2/000002.jpg": [1, 1],
        "c0/000003.jpg": [-1, -1],
        "c1/000004.jpg": [-1, -1],
    }


def test_a_merged_store_can_be_gone_on_with(tmp_path: Path) -> None:
    merge(tmp_path / "all.h5", [part(tmp_path / "1.h5", 5, 10), part(tmp_path / "2.h5", 0, 5)])
    with writer(tmp_path / "all.h5", 12) as store:
        assert len(store.pending()) == 2
        fill(store)
    assert check_with_plain_h5py(tmp_path / "all.h5").tolist() == [1] * 12


def test_stores_made_otherwise_are_not_merged_and_the_message_names_store_and_field(
    tmp_path: Path,
) -> None:
    first, other = finished(tmp_path / "1.h5"), tmp_path / "other.h5"
    writer(other, provenance=made(view="squash")).close()
    with pytest.raises(StoreMismatchError, match=r"other\.h5 .*view: 'center', not 'squash'"):
        merge(tmp_path / "all.h5", [first, other])
    with pytest.raises(StoreError, match=r"no store at .*none\.h5"):
        merge(tmp_path / "all.h5", [first, tmp_path / "none.h5"])
    with pytest.raises(StoreError, match="nothing to merge"):
        merge(tmp_path / "all.h5", [])
    assert sorted(os.listdir(tmp_path)) == ["1.h5", "other.h5"]  # noqa: PTH208


def test_merging_replaces_a_store_only_when_told_to_and_nothing_else_ever(tmp_path: Path) -> None:
    first, second = part(tmp_path / "1.h5", 0, 5), part(tmp_path / "2.h5", 5, 10)
    with pytest.raises(StoreError, match="--overwrite"):
        merge(first, [second])
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear")
    with pytest.raises(StoreError, match="not a store"):
        merge(letter, [second], overwrite=True)
    assert merge(first, [first, second], overwrite=True).rows == 10
    assert check_with_plain_h5py(first).tolist() == [1] * 10


def test_damage_stays_visible_in_a_merged_store(tmp_path: Path) -> None:
    first, second = part(tmp_path / "1.h5", 0, 5), part(tmp_path / "2.h5", 5, 10)
    with FeatureStore(second) as store:
        place = store["pool5"].id.get_offset() + 3
        path = store.paths[0]
    raw = bytearray(second.read_bytes())
    raw[place] ^= 1
    second.write_bytes(raw)
    merge(tmp_path / "all.h5", [first, second])
    with FeatureStore(tmp_path / "all.h5") as store:
        assert [(p.path, p.layer) for p in store.verify().problems] == [(path, "pool5")]


def exported(tmp_path: Path, dtype: str = "float32") -> Path:
    path = tmp_path / "photos.h5"
    labels = {image.path: (image.path[:2],) for image in images(29)}
    with writer(path, 30, provenance=made(dtype), labels=labels) as store:
        store.fail(4, "truncated")
        fill(store, dtype=dtype)
    return path


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layer", ["relu7", "pool5"])
def test_every_format_gives_back_the_same_numbers_paths_and_labels(
    tmp_path: Path, dtype: str, layer: str
) -> None:
    store = exported(tmp_path, dtype)
    with FeatureStore(store) as opened:
        rows = np.flatnonzero(opened.done)
        paths = opened.paths[rows].tolist()
        known = [opened.classes[k] if k >= 0 else "" for k in opened.labels[:][rows]]
    expected = features(paths, dtype)[layer]
    flat = expected.reshape(29, -1)
    for ending in ("npy", "npz", "csv", "parquet"):
        assert export(store, tmp_path / f"out.{ending}", layer) == 29
    array = np.load(tmp_path / "out.npy")
    assert array.dtype == np.dtype(dtype)
    assert array.shape == (29, *SHAPES[layer])
    assert array.tobytes() == expected.tobytes()
    with (tmp_path / "out.paths.csv").open(newline="", encoding="utf-8") as file:
        beside = list(csv.DictReader(file))
    assert [line["path"] for line in beside] == paths
    assert [line["label"] for line in beside] == known
    with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
        assert archive["features"].tobytes() == expected.tobytes()
        assert archive["paths"].tolist() == paths
        shown = [archive["classes"][k] if k >= 0 else "" for k in archive["labels"]]
        assert shown == known
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == ["path", "label", *(f"f{i}" for i in range(flat.shape[1]))]
    assert [line[0] for line in lines] == paths
    assert [line[1] for line in lines] == known
    numbers = np.array([line[2:] for line in lines], dtype=np.float64).astype(dtype)
    assert numbers.tobytes() == flat.tobytes()
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table["path"].to_pylist() == paths
    assert [label or "" for label in table["label"].to_pylist()] == known
    assert (np.array(table["features"].to_pylist()) == flat).all()


def test_several_labels_of_an_image_are_exported(tmp_path: Path) -> None:
    store = tmp_path / "photos.h5"
    path = images(1)[0].path
    with writer(store, 2, labels={path: ("ape", "cat, the")}) as opened:
        fill(opened)
    for ending in ("csv", "parquet"):
        export(store, tmp_path / f"out.{ending}", "relu7")
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [line[:2] for line in csv.reader(file)][1:] == [
            [path, "ape|cat, the"],
            ["c1/000001.jpg", ""],
        ]
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table["label"].to_pylist() == [["ape", "cat, the"], None]


def test_none_of_the_classes_and_unknown_are_exported_as_two_things(tmp_path: Path) -> None:
    store = tmp_path / "photos.h5"
    paths = [image.path for image in images(3)]
    labels = FixedLabels({paths[0]: ("ape", "cat"), paths[1]: ()}, ("ape", "cat"), multi_label=True)
    with writer(store, 3, labels=labels) as opened:
        fill(opened)
    for ending in ("csv", "parquet"):
        export(store, tmp_path / f"out.{ending}", "relu7")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table["label"].to_pylist() == [["ape", "cat"], [], None]
    written = read_label_file(tmp_path / "out.csv", need_labels=True)
    assert written.names == [("ape", "cat"), (), None]  # as --labels reads them again


def test_exporting_refuses_what_it_cannot_do_and_says_what_it_can(tmp_path: Path) -> None:
    store = finished(tmp_path / "photos.h5")
    with pytest.raises(StoreError, match=r"'\.xlsx'.*\.npy, \.npz, \.csv, \.parquet"):
        export(store, tmp_path / "out.xlsx", "relu7")
    with pytest.raises(StoreError, match="'nothing'"):
        export(store, tmp_path / "out", "relu7")
    with pytest.raises(LayerError, match="relu7, pool5"):
        export(store, tmp_path / "out.npy", "fc8")
    export(store, tmp_path / "out.npy", "relu7")
    with pytest.raises(StoreError, match="--overwrite"):
        export(store, tmp_path / "out.npy", "relu7")
    with FeatureStore(store) as opened:
        assert export(opened, tmp_path / "out.npy", "classifier.4", overwrite=True) == 10
    writer(tmp_path / "empty.h5").close()
    with pytest.raises(StoreError, match=r"no image that is done"):
        export(tmp_path / "empty.h5", tmp_path / "none.npy", "relu7")
    left = sorted(os.listdir(tmp_path))  # noqa: PTH208
    assert left == ["empty.h5", "out.npy", "out.paths.csv", "photos.h5"]
    (tmp_path / "out.npy").unlink()
    with pytest.raises(StoreError, match=r"out\.paths\.csv exists.*--overwrite"):
        export(store, tmp_path / "out.npy", "relu7")
    assert not (tmp_path / "out.npy").exists()


ODD = ['a,\n"b".jpg', "c\r.jpg", "=1+1.jpg", "@x.jpg", "-.jpg", " +.jpg", "\t.jpg", "d.jpg"]


def odd_names(tmp_path: Path) -> Path:
    path = tmp_path / "odd.h5"
    paths = [f"{name[:-4]}{number:03d}.jpg" for number, name in enumerate(ODD)]
    labels = {path: ("=cmd|, \n",) if number % 2 else () for number, path in enumerate(paths)}
    labels = {path: names for path, names in labels.items() if names}
    with writer(path, entries=[Image(path) for path in paths], labels=labels) as store:
        rows = store.pending()
        ones = {name: np.ones((len(rows), *shape), "f4") for name, shape in SHAPES.items()}
        store.write(rows, ones)
    return path


@pytest.mark.parametrize("ending", ["csv", "npy"])
def test_names_with_line_ends_quotes_and_commas_come_back_from_csv(
    tmp_path: Path, ending: str
) -> None:
    store = odd_names(tmp_path)
    export(store, tmp_path / f"out.{ending}", "relu7")
    written = tmp_path / ("out.csv" if ending == "csv" else "out.paths.csv")
    with written.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))[1:]
    with FeatureStore(store) as opened:
        assert [line[0] for line in lines] == opened.paths.tolist()
        known = [opened.classes[k] if k >= 0 else "" for k in opened.labels[:]]
    assert [line[1] for line in lines] == known


def test_no_cell_of_a_spreadsheet_export_begins_as_a_formula(tmp_path: Path) -> None:
    store = odd_names(tmp_path)
    export(store, tmp_path / "out.csv", "relu7", spreadsheet=True)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))[1:]
    with FeatureStore(store) as opened:
        paths = opened.paths.tolist()
    assert all(cell[:1] not in ("=", "+", "-", "@", "\t", "\r") for ln in lines for cell in ln[:2])
    assert sum(line[0] == "'" + path for line, path in zip(lines, paths, strict=True)) == 4
    assert all(line[0].removeprefix("'") == path for line, path in zip(lines, paths, strict=True))


def test_parquet_without_pyarrow_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = finished(tmp_path / "photos.h5")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(StoreError, match=r'pip install "vggfeat\[parquet\]"'):
        export(store, tmp_path / "out.parquet", "relu7")
