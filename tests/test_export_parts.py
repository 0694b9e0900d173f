"""Features exported as a folder of parts, which a killed export never leaves wrong."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.dataset
import pyarrow.parquet
import pytest
from commands import cli
from store_rows import SHAPES, features, fill, fill_parts, finished, images, made, planned, writer
from test_store_files import part as store_of

from vggfeat.errors import LayerError, StoreError
from vggfeat.labels import LabelRequest, NamesRequest
from vggfeat.store import FeatureStore, PartsReport, export, export_parts
from vggfeat.store.export_parts import rows_of_parts


def store_with_all_columns(path: Path, dtype: str = "float32") -> Path:
    """Make a store of 30 images, one failed, some without label, with splits and groups."""
    some = [image.path for image in images(30)]
    request = LabelRequest(
        "source",
        from_source={path: (path[:2],) for path in some if path[-5] != "7"},
        splits=NamesRequest(from_source={path: ("train", "test")["c2" in path] for path in some}),
        groups=NamesRequest(from_source={path: path[-6:-4] for path in some[:20]}),
    )
    with writer(path, 30, provenance=made(dtype), labels=request) as store:
        store.fail(4, "truncated")
        fill(store, dtype=dtype)
    return path


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def times(folder: Path) -> dict[str, int]:
    return {one.name: one.stat().st_mtime_ns for one in folder.iterdir() if one.suffix != ".json"}


def manifest(folder: Path) -> dict:
    return json.loads((folder / "_manifest.json").read_text())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layer", ["relu7", "pool5"])
def test_parquet_parts_hold_together_what_one_file_holds_in_one_schema(tmp_path, dtype, layer):
    store = store_with_all_columns(tmp_path / "s.h5", dtype)
    export(store, tmp_path / "one.parquet", layer)
    report = export_parts(store, tmp_path / "parts", layer, part_rows=8)
    assert report == PartsReport(29, 4, 0)
    whole = pyarrow.parquet.read_table(tmp_path / "one.parquet")
    parts = sorted((tmp_path / "parts").glob("*.parquet"))
    assert [one.name for one in parts] == [f"part-{k:05d}.parquet" for k in range(4)]
    assert {pyarrow.parquet.read_schema(one) for one in parts} == {whole.schema}
    together = pyarrow.dataset.dataset(parts).to_table()
    assert together.equals(whole)
    assert together.column_names == ["path", "label", "split", "group", "features"]
    expected = features(together["path"].to_pylist(), dtype)[layer].reshape(29, -1)
    got = np.array(together["features"].to_pylist(), np.float32)
    assert got.tobytes() == expected.astype(np.float32).tobytes()
    assert set(together["label"].to_pylist()) == {"c0", "c1", "c2", None}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_npy_parts_are_arrays_with_their_paths_beside_them(tmp_path, dtype):
    store = store_with_all_columns(tmp_path / "s.h5", dtype)
    export(store, tmp_path / "one.npy", "pool5")
    export_parts(store, tmp_path / "parts", "pool5", format="npy", part_rows=10)
    folder = tmp_path / "parts"
    arrays = [np.load(folder / f"part-{k:05d}.npy") for k in range(3)]
    assert np.concatenate(arrays).tobytes() == np.load(tmp_path / "one.npy").tobytes()
    assert arrays[0].shape == (10, *SHAPES["pool5"])
    lines: list[list[str]] = []
    for k in range(3):
        with (folder / f"part-{k:05d}.paths.csv").open(newline="") as file:
            header, *more = csv.reader(file)
        assert header == ["path", "label", "split", "group"]
        lines += more
    with (tmp_path / "one.paths.csv").open(newline="") as file:
        assert lines == list(csv.reader(file))[1:]
    told = manifest(folder)
    assert (told["rows"], told["dtype"], told["shape"]) == (29, dtype, list(SHAPES["pool5"]))
    assert (told["layer"], told["complete"]) == ("pool5", True)
    assert [part["rows"] for part in told["parts"]] == [10, 10, 9]


def test_several_labels_are_lists_in_every_part_also_where_none_is_known(tmp_path):
    paths = [image.path for image in images(6)]
    labels = {paths[0]: ("ape", "cat"), paths[1]: ("ape",)}
    store = finished(tmp_path / "s.h5", 6, labels=labels)
    export_parts(store, tmp_path / "parts", "relu7", part_rows=3)
    table = pyarrow.dataset.dataset(tmp_path / "parts").to_table()
    assert sorted(map(str, table["label"].to_pylist())) == ["None"] * 4 + [
        "['ape', 'cat']",
        "['ape']",
    ]


def test_an_export_run_again_writes_nothing_and_mends_what_is_missing_or_damaged(tmp_path):
    store, folder = finished(tmp_path / "s.h5", 40), tmp_path / "parts"
    export_parts(store, folder, "relu7", part_rows=10)
    before, whole = times(folder), {one.name: one.read_bytes() for one in folder.iterdir()}
    assert export_parts(store, folder, "relu7", part_rows=10) == PartsReport(40, 4, 4)
    assert times(folder) == before
    (folder / "part-00001.parquet").unlink()
    damaged = bytearray(whole["part-00002.parquet"])
    damaged[len(damaged) // 2] ^= 1
    (folder / "part-00002.parquet").write_bytes(damaged)
    assert export_parts(store, folder, "relu7", part_rows=10) == PartsReport(40, 4, 2)
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == whole
    assert times(folder)["part-00000.parquet"] == before["part-00000.parquet"]


def test_an_export_of_a_store_that_has_grown_keeps_full_parts(tmp_path):
    store, folder = tmp_path / "s.h5", tmp_path / "parts"
    finished(store, 25)
    export_parts(store, folder, "relu7", part_rows=10)
    before = times(folder)
    finished(store, 45)
    assert export_parts(store, folder, "relu7", part_rows=10) == PartsReport(45, 5, 2)
    kept = {name for name, time in times(folder).items() if before.get(name) == time}
    assert kept == {"part-00000.parquet", "part-00001.parquet"}
    table = pyarrow.dataset.dataset(folder).to_table()
    with FeatureStore(store) as opened:
        assert table["path"].to_pylist() == opened.paths.tolist()


def test_a_label_that_changed_writes_its_part_anew(tmp_path):
    store, folder = tmp_path / "s.h5", tmp_path / "parts"
    finished(store, 30)
    export_parts(store, folder, "relu7", format="npy", part_rows=10)
    labels = {image.path: (image.path[:2],) for image in images(30)}
    with FeatureStore(store) as opened:
        changed = opened.paths[15]
    with writer(store, 30, labels=labels | {changed: ("new",)}):
        pass
    assert export_parts(store, folder, "relu7", format="npy", part_rows=10) == PartsReport(30, 3, 2)
    assert f"{changed},new\n" in (folder / "part-00001.paths.csv").read_text()


def test_parts_beyond_the_end_vanish_when_images_have_left(tmp_path):
    store, folder = tmp_path / "s.h5", tmp_path / "parts"
    finished(store, 30)
    export_parts(store, folder, "relu7", part_rows=10)
    with writer(store, entries=images(30)[:12], prune=True):
        pass
    assert export_parts(store, folder, "relu7", part_rows=10).parts == 2
    assert names(folder) == ["_manifest.json", "part-00000.parquet", "part-00001.parquet"]


def test_an_export_made_otherwise_is_refused_and_replaced_when_asked(tmp_path):
    store, folder = finished(tmp_path / "s.h5", 12), tmp_path / "parts"
    export_parts(store, folder, "relu7", part_rows=4)
    before = {one.name: one.read_bytes() for one in folder.iterdir()}
    for options, reason in (
        ({"layer": "pool5", "part_rows": 4}, "layer: 'relu7', not 'pool5'"),
        ({"layer": "relu7", "part_rows": 5}, "part_rows: 4, not 5"),
        ({"layer": "relu7", "part_rows": 4, "format": "npy"}, "files: 'parquet', not 'npy'"),
    ):
        with pytest.raises(StoreError, match=rf"{reason}.*--overwrite"):
            export_parts(store, folder, **options)
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == before
    report = export_parts(store, folder, "pool5", part_rows=12, format="npy", overwrite=True)
    assert report == PartsReport(12, 1, 0)
    assert names(folder) == ["_manifest.json", "part-00000.npy", "part-00000.paths.csv"]


def test_what_is_no_export_stays_as_it_is(tmp_path):
    store = finished(tmp_path / "s.h5")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "part-00000.parquet").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match=r"'part-00000.parquet' and no export"):
            export_parts(store, mine, "relu7", overwrite=overwrite)
    (mine / "_manifest.json").write_text('{"format": "vggfeat"}')
    with pytest.raises(StoreError, match="is of no export"):
        export_parts(store, mine, "relu7", overwrite=True)
    assert (mine / "part-00000.parquet").read_text() == "mine"
    with pytest.raises(StoreError, match="is a file"):
        export_parts(store, store, "relu7")
    with pytest.raises(StoreError, match="does not exist"):
        export_parts(store, tmp_path / "no" / "parts", "relu7")
    with pytest.raises(LayerError, match="relu7, pool5"):
        export_parts(store, tmp_path / "parts", "fc8")
    with pytest.raises(StoreError, match="'csv'"):
        export_parts(store, tmp_path / "parts", "relu7", format="csv")


def test_a_manifest_of_a_stranger_leads_to_no_file_outside(tmp_path):
    store, folder = finished(tmp_path / "s.h5", 4), tmp_path / "parts"
    export_parts(store, folder, "relu7")
    told = manifest(folder)
    outside = tmp_path / "outside.parquet"
    outside.write_text("mine")
    told["parts"][0]["files"] = {"../outside.parquet": {"bytes": 4, "crc32": 0}}
    (folder / "_manifest.json").write_text(json.dumps(told))
    (folder / "part-00000.parquet").unlink()
    (folder / "part-00000.parquet").symlink_to(outside)
    export_parts(store, folder, "relu7")
    assert outside.read_text() == "mine"
    assert not (folder / "part-00000.parquet").is_symlink()
    assert pyarrow.parquet.read_table(folder / "part-00000.parquet").num_rows == 4


@pytest.mark.parametrize("kind", ["parquet", "npy"])
def test_features_that_lack_their_checksum_are_not_exported(tmp_path, kind):
    store, folder = finished(tmp_path / "s.h5", 20), tmp_path / "parts"
    with FeatureStore(store) as opened:
        place = opened["relu7"].id.get_offset() + 4 * 64 * 13 + 2
        path = opened.paths[13]
    raw = bytearray(store.read_bytes())
    raw[place] ^= 1
    store.write_bytes(raw)
    with pytest.raises(StoreError, match=rf"row 13 of relu7 \('{path}'\).*--redo"):
        export_parts(store, folder, "relu7", format=kind, part_rows=10)
    left = [name for name in names(folder) if not name.endswith("paths.csv")]
    assert left == ["_manifest.json", f"part-00000.{kind}"]
    assert not manifest(folder)["complete"]


def check(folder: Path, paths: list[str]) -> None:
    """Check what somebody sees who loads the parts at this moment."""
    for file in folder.glob("part-*.parquet"):
        number = int(file.stem.partition("-")[2])
        table = pyarrow.parquet.read_table(file)
        assert table["path"].to_pylist() == paths[300 * number : 300 * (number + 1)]
        expected = features(table["path"].to_pylist())["relu7"]
        assert np.array(table["features"].to_pylist(), np.float32).tobytes() == expected.tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked to be killed")
def test_an_export_killed_at_any_moment_leaves_whole_parts_and_goes_on(
    tmp_path: Path, chance: random.Random
) -> None:
    store, folder = finished(tmp_path / "s.h5", 3000), tmp_path / "parts"
    with FeatureStore(store) as opened:
        paths = opened.paths.tolist()
    began = time.perf_counter()
    export_parts(store, folder, "relu7", part_rows=300)
    needed = time.perf_counter() - began
    shutil.rmtree(folder)
    for _ in range(8):
        child = os.fork()
        if not child:
            with suppress(BaseException):
                export_parts(store, folder, "relu7", part_rows=300)
            os._exit(0)
        time.sleep(chance.uniform(0, needed / 2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if folder.exists():
            check(folder, paths)
    export_parts(store, folder, "relu7", part_rows=300)
    check(folder, paths)
    assert names(folder) == ["_manifest.json", *(f"part-{k:05d}.parquet" for k in range(10))]


def test_an_export_of_a_store_of_parts_is_that_of_one_file(tmp_path):
    one = finished(tmp_path / "one.h5", 100)
    fill_parts(planned(tmp_path / "photos.store", 100))
    for kind in ("parquet", "npy"):
        for number, store in enumerate((one, tmp_path / "photos.store")):
            report = export_parts(
                store, tmp_path / f"{kind}{number}", "pool5", format=kind, part_rows=30
            )
            assert report == PartsReport(100, 4, 0)
        first, second = (tmp_path / f"{kind}{number}" for number in (0, 1))
        assert names(first) == names(second)
        for name in names(first):
            assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_parts_have_as_many_rows_as_512_mib_hold():
    assert rows_of_parts(4096) == 32768
    assert rows_of_parts(512) == 262144
    assert rows_of_parts(25088) == 4096
    assert rows_of_parts(1 << 30) == 1


def test_the_command_makes_parts_where_out_is_a_folder_or_rows_are_given(tmp_path):
    store = finished(tmp_path / "s.h5", 10, failed={3: "truncated"})
    done = cli("export", store, f"{tmp_path}/a/", "--layer", "relu7")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/a/: 9 images in 1 parts.\n")
    assert names(tmp_path / "a") == ["_manifest.json", "part-00000.parquet"]
    done = cli("export", store, tmp_path / "b", "--layer", "relu7", "--part-rows", 4, "--json")
    assert json.loads(done.stdout) == {
        "folder": str(tmp_path / "b"), "layer": "relu7", "images": 9, "parts": 3, "kept": 0,
    }  # fmt: skip
    done = cli("export", store, tmp_path / "b", "--layer", "relu7", "--part-rows", 4)
    assert "9 images in 3 parts, of which 3 were there." in done.stdout
    done = cli("export", store, tmp_path / "b", "--layer", "pool5", "--part-rows", 4)
    assert done.returncode == 1
    assert "--overwrite" in done.stderr
    done = cli("export", store, tmp_path / "c", "--layer", "relu7", "--format", "npy")
    assert names(tmp_path / "c") == ["_manifest.json", "part-00000.npy", "part-00000.paths.csv"]


def test_two_exports_at_a_time_into_one_folder_are_refused(tmp_path):
    store = store_of(tmp_path / "s.h5", 0, 10)
    told: list[str] = []

    def again(stage: str, more: float, total: float) -> None:
        with pytest.raises(StoreError, match="is being written by") as caught:
            export_parts(store, tmp_path / "parts", "relu7", part_rows=5)
        told.append(str(caught.value))

    export_parts(store, tmp_path / "parts", "relu7", part_rows=5, progress=again)
    assert len(told) == 2
