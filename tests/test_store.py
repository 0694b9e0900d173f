"""What a store promises to whoever fills and reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_rows import (
    POOLING,
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
from vggfeat.labels.targets import Targets, from_names, unite
from vggfeat.store import FeatureStore, StoreWriter, redo

GOLDEN = Path(__file__).parent / "data" / "store-v1.h5"


def names(count: int) -> dict[str, tuple[str, ...]]:
    return {image.path: (image.path[:2],) for image in images(count)}


def test_importing_the_store_imports_nothing_heavy() -> None:
    code = "import sys, vggfeat.store; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert not {"torch", "sklearn", "faiss", "matplotlib", "pyarrow"} & set(loaded.split())


def test_the_contract_s_example_reads_features_and_labels_lazily(tmp_path: Path) -> None:
    with FeatureStore(finished(tmp_path / "photos.h5")) as store:
        X, y = store["relu7"], store.labels
        assert isinstance(X, h5py.Dataset)
        assert X.shape == (10, 64)
        assert store.classes == ["c0", "c1", "c2"]
        assert [store.classes[k] for k in y[:]] == [path[:2] for path in store.paths]
        assert len(store) == 10
        assert store.layers == ("relu7", "pool5")


def test_xy_gives_finished_and_labelled_rows_alone(tmp_path: Path) -> None:
    named = {image.path: (image.path[:2],) for image in images(10)[:8]}
    path = finished(tmp_path / "photos.h5", failed={4: "truncated"}, labels=named)
    with FeatureStore(path) as store:
        X, y = store.xy("relu7")
        paths = store.paths.tolist()
        rows = [i for i, image in enumerate(paths) if i != 4 and image in named]
        assert len(rows) == 7
        assert np.array_equal(X, store["relu7"][:][rows])
        assert [store.classes[k] for k in y] == [paths[row][:2] for row in rows]
        maps, _ = store.xy("pool5")
        assert maps.shape == (7, np.prod(store["pool5"].shape[1:]))
    several = {path: ("a", "b")[: i % 3] for i, path in enumerate(paths[:9])}
    with FeatureStore(finished(tmp_path / "several.h5", labels=several)) as store:
        X, y = store.xy("relu7")
        assert (len(X), y.dtype) == (9, np.float64)
        assert y[:3].tolist() == [[0, 0], [1, 0], [1, 1]]


def test_writing_no_row_changes_nothing(tmp_path: Path) -> None:
    with writer(tmp_path / "photos.h5") as store:
        assert store.write([], features([])) == {}
        assert len(store.pending()) == 10
        fill(store)
    check_with_plain_h5py(tmp_path / "photos.h5")


def test_every_layer_shape_and_dtype_comes_back_bit_for_bit(tmp_path: Path) -> None:
    for dtype in ("float32", "float16"):
        path = tmp_path / f"{dtype}.h5"
        with writer(path, 50, provenance=made(dtype)) as store:
            fill(store, batch=7, dtype=dtype)
        with FeatureStore(path) as store:
            expected = features(store.paths.tolist(), dtype)
            for layer in SHAPES:
                assert store[layer].dtype == np.dtype(dtype)
                assert store[layer][:].tobytes() == expected[layer].tobytes()
            assert store.verify().ok


def test_blocks_and_matrix_give_done_rows_as_flat_float32_vectors(tmp_path: Path) -> None:
    path = finished(tmp_path / "photos.h5", 100, failed={3: "truncated", 50: "empty"})
    with FeatureStore(path) as store:
        rows, X = store.matrix("pool5")
        assert X.shape == (98, 36)
        assert X.dtype == np.float32
        assert rows.tolist() == [i for i in range(100) if i not in (3, 50)]
        assert (features(store.paths[rows].tolist())["pool5"].reshape(98, -1) == X).all()
        blocks = list(store.blocks("pool5", size=10))
        assert [len(block) for _, block in blocks] == [10] * 9 + [8]
        chosen = [99, 0, 1, 2, 40, 2, 77]
        rows, X = store.matrix("relu7", chosen)
        assert rows.tolist() == chosen
        assert (features(store.paths[rows].tolist())["relu7"] == X).all()
        with pytest.raises(StoreError, match=r"row 3 .* is failed"):
            store.matrix("relu7", [1, 3])
        with pytest.raises(StoreError, match="rows 0 to 99"):
            store.matrix("relu7", [100])


def test_layers_answer_to_their_aliases_and_unknown_ones_name_those_there_are(
    tmp_path: Path,
) -> None:
    with FeatureStore(finished(tmp_path / "photos.h5")) as store:
        assert store["classifier.4"].name == store["RELU7"].name == "/features/relu7"
        assert "features.30" in store
        assert "conv5_3" not in store
        for unknown in ("conv5_3", "fc2", "nonsense"):
            with pytest.raises(LayerError, match=r"photos\.h5 has no layer .* it has relu7, pool5"):
                store[unknown]


def test_rows_are_found_by_path(tmp_path: Path) -> None:
    with FeatureStore(finished(tmp_path / "photos.h5")) as store:
        assert store.row("c1/000001.jpg") == store.paths.tolist().index("c1/000001.jpg")
        assert store.rows_of(["c0/000000.jpg", "c0/000003.jpg"]).tolist() == [0, 1]
        with pytest.raises(StoreError, match=r"no image 'x\.jpg'.*relative"):
            store.row("x.jpg")


def test_the_file_is_what_the_specification_says_to_plain_h5py(tmp_path: Path) -> None:
    path = finished(tmp_path / "photos.h5", failed={2: "zu kurz: ü" * 60})
    with h5py.File(path) as file:
        assert file.attrs["format"] == "vggfeat"
        assert file.attrs["format_version"] == 2
        provenance = json.loads(file.attrs["provenance"])
        assert provenance["deciding"]["layers"] == POOLING
        assert len(provenance["happened"]["end"]) == 25
        assert file["images/status"][:].tolist() == [1, 1, 2] + [1] * 7
        reasons = file["images/error"].asstr()[:]
        assert reasons[2].startswith("zu kurz: ü")
        assert not reasons[0]
        assert np.isnan(file["features/relu7"][2]).all()
        assert file["images/size"].dtype == file["images/mtime_ns"].dtype == np.int64
        assert file["checksums/pool5"].dtype == np.uint32
        assert file["labels/targets"].dtype == np.int32
        assert [json.loads(slot)["source"] for slot in file["runs"][:] if slot] == ["/photos"]
        for name in ("images/status", "features/relu7", "features/pool5", "runs"):
            assert file[name].chunks is None
    assert path.read_bytes()[8] == 0


def test_a_store_of_version_1_is_read_for_ever() -> None:
    with FeatureStore(GOLDEN) as store:
        assert store.paths.tolist() == ["cat/a.jpg", "cat/ü\n.jpg", "dog/b.jpg"]
        assert store.status.tolist() == [1, 2, 0]
        assert store.failures() == [("cat/ü\n.jpg", "truncated file")]
        assert store["relu7"][0].tolist() == [-0.5, -0.25, 0, 0.25, 0.5, 0.75]
        assert store["pool5"][0].sum() == 0
        assert np.isnan(store["pool5"][1:]).all()
        assert store.classes == ["cat", "dog"]
        assert store.labels[:].tolist() == [0, 0, 1]
        assert store.provenance.config.weights_sha256 == "cd" * 32
        assert store.runs[0].versions == {"vggfeat": "0.1"}
        assert store.verify().ok


def test_a_store_of_version_2_is_read_for_ever() -> None:
    with FeatureStore(GOLDEN.with_name("store-v2.h5")) as store:
        assert store.paths.tolist() == [
            "x/cat/a.jpg", "x/cat/ü\n.jpg", "y/dog/b.jpg", "y/dog/gone.jpg",
        ]  # fmt: skip
        assert store.status.tolist() == [1, 2, 0, 1]
        assert store.present.tolist() == [True, True, True, False]
        assert store.done.tolist() == [True, False, False, False]
        assert store.counts() == {"done": 1, "failed": 1, "pending": 1}
        assert store.origins() == ["x=/photos", "x=/photos", "y=/more", "y=/more"]
        assert store.sources[1].spec == "/more/list.txt"
        assert store["relu7"][0].tolist() == [-0.5, -0.25, 0, 0.25, 0.5, 0.75]
        assert (store["relu7"][3] == -store["relu7"][0]).all()
        assert store.classes == ["cat", "dog"]
        assert store.labels[:].tolist() == [0, 0, 1, 1]
        assert len(store.runs) == 2
        assert store.verify().ok
    with h5py.File(GOLDEN.with_name("store-v2.h5")) as file:
        assert file["images/digest"][0].tolist() == list(range(16))
        assert file["images/ctime_ns"][:].tolist() == [31, 32, 33, 34]


def test_the_same_images_again_leave_a_finished_store_untouched(tmp_path: Path) -> None:
    path = finished(tmp_path / "photos.h5")
    before = path.read_bytes()
    with writer(path) as store:
        assert not len(store.pending())
        assert (store.added, store.changed, store.missing) == (0, 0, 0)
    assert path.read_bytes() == before


def test_a_finished_store_does_not_ask_how_it_would_be_made(tmp_path: Path) -> None:
    path = finished(tmp_path / "photos.h5")
    asked: list[int] = []

    def run(pending: int) -> Any:
        asked.append(pending)
        return made().run

    options: dict[str, Any] = {"provenance": None, "config": made().config}
    writer(path, **options, run=run).close()
    assert asked == []
    writer(path, 11, **options, run=run).close()
    assert asked == [1], "told how many rows are to be computed"
    writer(tmp_path / "new.h5", 11, **options, run=run).close()
    assert asked == [1, 11]


def test_new_images_follow_and_no_row_ever_moves(tmp_path: Path) -> None:
    path = finished(tmp_path / "photos.h5", failed={4: "truncated"})
    with FeatureStore(path) as store:
        old = store.paths.tolist()
    more = [Image("a/000100.jpg"), *reversed(images(10)), Image("Z/000101.jpg")]
    labels = names(10) | {"a/000100.jpg": ("aa",), "Z/000101.jpg": ("c1",)}
    with writer(path, entries=more, labels=labels) as store:
        assert (store.added, store.changed, store.missing) == (2, 0, 0)
        assert store.pending().tolist() == [10, 11]
        assert store.failures() == [(old[4], "truncated")]
        fill(store)
    with FeatureStore(path) as store:
        assert store.paths.tolist() == [*old, "Z/000101.jpg", "a/000100.jpg"]
        assert store.classes == ["c0", "c1", "c2", "aa"]
        assert store.labels[:][-2:].tolist() == [1, 3]
        assert len(store.runs) == 2
        assert store.verify().ok
    check_with_plain_h5py(path)


def test_changed_images_are_done_again_and_missing_ones_keep_their_rows(tmp_path: Path) -> None:
    path = finished(tmp_path / "photos.h5", failed={0: "truncated", 1: "empty"})
    with FeatureStore(path) as store:
        paths = store.paths.tolist()
    now = {image.path: image for image in images(10)}
    now[paths[0]] = replace(now[paths[0]], size=5)
    now[paths[5]] = replace(now[paths[5]], mtime_ns=5)
    del now[paths[7]]
    with writer(path, entries=list(now.values())) as store:
        assert (store.added, store.changed, store.missing) == (0, 2, 1)
        assert store.pending().tolist() == [0, 5]
    with FeatureStore(path) as store:
        assert store.status.tolist() == [0, 2, 1, 1, 1, 0, 1, 1, 1, 1]
        assert np.isnan(store["relu7"][5]).all()
        assert store.errors([0])[0] == ""
        assert store.errors([1])[0] == "empty"
    with writer(path, entries=list(now.values())) as store:
        assert store.changed == 0
        assert store.pending().tolist() == [0, 5]
    with writer(path, entries=list(now.values()), retry_failed=True) as store:
        assert store.pending().tolist() == [0, 1, 5]
        fill(store)
    assert check_with_plain_h5py(path).tolist() == [1] * 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "vgg19"),
        ("weights_sha256", "00"),
        ("view", "squash"),
        ("dtype", "float16"),
        ("layers", {"relu7": "", "pool5": "none", "fc8": ""}),
    ],
)
def test_other_deciding_values_are_refused_by_name(
    tmp_path: Path, field: str, value: object
) -> None:
    path = finished(tmp_path / "photos.h5")
    before = path.read_bytes()
    other = made(**{field: value})
    shapes = {layer: SHAPES.get(layer, (8,)) for layer in other.config.layers}
    with pytest.raises(StoreMismatchError, match=rf"{field}: .*, not .*another STORE.*--overwrite"):
        writer(path, provenance=other, shapes=shapes)
    assert path.read_bytes() == before
    with writer(path, provenance=other, shapes=shapes, overwrite=True) as store:
        assert len(store.pending()) == 10


def test_another_shape_is_refused(tmp_path: Path) -> None:
    path = finished(tmp_path / "photos.h5")
    with pytest.raises(StoreMismatchError, match=r"shape of relu7: \(64,\), not \(65,\)"):
        writer(path, shapes={**SHAPES, "relu7": (65,)})


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "is empty"),
        (b"hello, world", "begins with b'hello, w'"),
        (b"\x89HDF\r\n\x1a\n", "dam"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_is_no_store_is_named_and_never_overwritten(
    tmp_path: Path, content: bytes, found: str, overwrite: bool
) -> None:
    path = tmp_path / "thesis.doc"
    path.write_bytes(content)
    for attempt in (lambda: FeatureStore(path), lambda: writer(path, overwrite=overwrite)):
        with pytest.raises(StoreError, match=rf"thesis\.doc.*{found}"):
            attempt()
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["thesis.doc"]  # noqa: PTH208


def test_foreign_and_newer_hdf5_files_are_told_apart(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["x"] = 1
    for attempt in (lambda: FeatureStore(foreign), lambda: writer(foreign, overwrite=True)):
        with pytest.raises(StoreError, match="an HDF5 file, but not a store"):
            attempt()
    newer = finished(tmp_path / "newer.h5")
    with h5py.File(newer, "r+") as file:
        file.attrs["format_version"] = 3
    with pytest.raises(StoreError, match=r"newer vggfeat: its format is 3, and vggfeat .* up to 2"):
        FeatureStore(newer)
    broken = finished(tmp_path / "broken.h5")
    with h5py.File(broken, "r+") as file:
        del file["images/status"]
    with pytest.raises(StoreError, match=r"broken\.h5 is damaged"):
        FeatureStore(broken)


def test_places_where_no_store_can_be_are_explained(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no store at .*none\.h5.*vggfeat extract"):
        FeatureStore(tmp_path / "none.h5")
    for open_it in (FeatureStore, writer):
        with pytest.raises(StoreError, match="is a folder"):
            open_it(tmp_path)
    with pytest.raises(StoreError, match=r"folder .* does not exist"):
        writer(tmp_path / "none" / "photos.h5")


def test_what_no_store_can_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photos.h5"
    for entries, reason in (
        ([], "no image"),
        ([Image("a"), Image("a")], "twice"),
        ([Image("a\0b")], "NUL"),
        ([Image("\udcff.jpg")], "UTF-8"),
    ):
        with pytest.raises(StoreError, match=reason):
            writer(path, entries=entries)
    for shapes in ({"relu7": (64,)}, {**SHAPES, "relu7": (0,)}, {**SHAPES, "relu7": ()}):
        with pytest.raises(StoreError, match=r"relu7"):
            writer(path, shapes=shapes)
    assert not path.exists()


def test_values_that_cannot_be_stored_fail_their_rows_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "photos.h5"
    with writer(path, provenance=made("float16")) as store:
        given = features([store.entry_path(row) for row in range(10)])
        given["relu7"][1, 5] = -70123.4
        given["pool5"][4, 0, 1, 1] = np.nan
        refused = store.write(range(10), given)
        assert set(refused) == {1, 4}
    with FeatureStore(path) as store:
        assert store.counts() == {"done": 8, "failed": 2, "pending": 0}
        reasons = dict(store.failures())
        assert reasons[store.paths[1]] == (
            "relu7: value -70123.4 exceeds float16's 65504; use --dtype float32"
        )
        assert reasons[store.paths[4]] == "pool5: not finite (NaN or infinity)"
        assert np.isnan(store["relu7"][1]).all()
        assert store.verify().ok


def test_rows_may_come_in_any_order_and_be_done_again(tmp_path: Path) -> None:
    path = tmp_path / "photos.h5"
    with writer(path, 40) as store:
        order = np.random.default_rng(0).permutation(40)
        for part in np.split(order, [3, 17, 18]):
            store.write(part, features([store.entry_path(row) for row in part]))
        store.fail(7, "line one\nline two\0" + "ü" * 400)
        assert store.counts() == {"done": 39, "failed": 1, "pending": 0}
    with FeatureStore(path) as opened:
        assert opened.errors([7])[0].startswith("line one line two üüü")
        assert len(opened.errors([7])[0].encode()) in (255, 256)
        assert np.isnan(opened["relu7"][7]).all()
    with writer(path, 40) as store:
        store.write([7], features([store.entry_path(7)]))
    assert check_with_plain_h5py(path).tolist() == [1] * 40
    with pytest.raises(ValueError, match="rows"), writer(path, 40) as store:
        store.write([1, 1], features(["0", "1"]))


def test_verify_finds_every_damaged_row_and_redo_makes_it_pending(tmp_path: Path) -> None:
    path = finished(tmp_path / "photos.h5", 300, failed={5: "truncated"})
    with FeatureStore(path) as store:
        places = {
            (row, layer): store[layer].id.get_offset() + row * store[layer][0].nbytes + 9
            for row, layer in ((0, "relu7"), (17, "pool5"), (299, "relu7"))
        }
    raw = bytearray(path.read_bytes())
    for place in places.values():
        raw[place] ^= 1
    path.write_bytes(raw)
    told: list[float] = []
    with FeatureStore(path) as store:
        report = store.verify(lambda _stage, more, total: told.append(more / total))
        assert not report.ok
        assert [(p.path, p.layer) for p in report.problems] == [
            (store.paths[row], layer) for row, layer in places
        ]
        assert report.checked == {"relu7": 299, "pool5": 299}
        assert sum(told) == pytest.approx(1)
    redo(path, report.damaged)
    with writer(path, 300) as writing:
        assert writing.pending().tolist() == [0, 17, 299]
        fill(writing)
    with FeatureStore(path) as store:
        assert store.verify().ok
    check_with_plain_h5py(path)


def test_a_store_rewritten_by_another_program_is_read_and_gone_on_with(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.h5", tmp_path / "photos.h5"
    with writer(plain, 20) as store:
        store.write(range(5), features([store.entry_path(row) for row in range(5)]))
    with h5py.File(plain) as source, h5py.File(path, "w", libver="latest") as target:
        for name, value in source.attrs.items():
            target.attrs[name] = value
        for group in source:
            if isinstance(source[group], h5py.Dataset):
                source.copy(group, target)
                continue
            for name, dataset in source[group].items():
                squeezed = {"compression": "gzip"} if group == "features" else {}
                target.create_dataset(f"{group}/{name}", data=dataset, **squeezed)
    with FeatureStore(path) as opened:
        assert opened.verify().ok
    with writer(path, 20) as store:
        assert len(store.pending()) == 15
        fill(store)
    assert check_with_plain_h5py(path).tolist() == [1] * 20


def test_labels_may_be_given_later_and_none_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "photos.h5"
    with writer(path, labels=None) as store:
        fill(store)
    with FeatureStore(path) as opened:
        assert opened.classes == []
        with pytest.raises(StoreError, match=r"no labels.*--labels"):
            _ = opened.labels
    with writer(path) as store:
        assert not len(store.pending())
    writer(path, labels=None).close()
    writer(path, labels={}).close()
    with FeatureStore(path) as opened:
        assert opened.classes == ["c0", "c1", "c2"]
    first = images(10)[0].path
    with writer(path, labels=names(10) | {first: ("c0", "new")}):
        pass
    with FeatureStore(path) as opened:
        assert opened.labels.dtype == np.int8
        assert opened.classes == ["c0", "c1", "c2", "new"]
        assert opened.labels[opened.row(first)].tolist() == [1, 0, 0, 1]
    assert check_with_plain_h5py(path).tolist() == [1] * 10


def test_each_run_is_recorded_and_the_last_slot_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "photos.h5"
    for number in range(20):
        run = replace(made().run, device=f"cpu{number}", source="/x" * (50 * number))
        with writer(path, provenance=replace(made(), run=run)) as store:
            row = int(store.pending()[0])
            if number < 9:
                store.write([row], features([store.entry_path(row)]))
    with FeatureStore(path) as opened:
        devices = [run.device for run in opened.runs]
        assert devices == [f"cpu{i}" for i in (*range(15), 19)]
        assert all(run.end.strip() for run in opened.runs)
        assert opened.provenance.run.device == "cpu0"


def test_many_layers_of_differing_shapes_fit_one_store(tmp_path: Path) -> None:
    layers = {f"conv{b}_{i}": "none" for b in (1, 2, 3, 4, 5) for i in (1, 2)}
    shapes = {layer: (k + 1, k + 2, 3) for k, layer in enumerate(layers)}
    path = tmp_path / "photos.h5"
    rng = np.random.default_rng(0)
    with writer(path, provenance=made(layers=layers), shapes=shapes) as store:
        given = {layer: rng.normal(size=(10, *shape)) for layer, shape in shapes.items()}
        store.write(range(10), given)
    with FeatureStore(path) as opened:
        assert opened.layers == tuple(layers)
        for layer in layers:
            assert (opened[layer][:] == given[layer].astype(np.float32)).all()


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_a_linked_store_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "photos.h5", tmp_path / "photos.h5"
    link.symlink_to(real)
    finished(link)
    finished(link, 12)
    assert link.is_symlink()
    assert len(check_with_plain_h5py(real)) == 12


label_names = st.dictionaries(
    st.sampled_from([f"{i}.jpg" for i in range(8)]),
    st.lists(st.sampled_from("abcd"), max_size=3, unique=True).map(tuple),
)


@given(label_names, label_names, st.integers(0, 8))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_labels_of_several_origins_unite_without_changing_any_image_s_classes(
    first: dict[str, tuple[str, ...]], second: dict[str, tuple[str, ...]], cut: int
) -> None:
    paths = [f"{i}.jpg" for i in range(8)]
    parts = [(np.arange(cut), paths[:cut], first), (np.arange(cut, 8), paths[cut:], second)]
    united = unite(8, [(rows, from_names(some, labels)) for rows, some, labels in parts])
    assert isinstance(united, Targets)
    for rows, some, labels in parts:
        for row, path in zip(rows, some, strict=True):
            assert set(united.names(row)) == set(labels.get(path, ()))
            if united.multi_label and path not in labels:
                assert (united.values[row] == -1).all()


@given(st.lists(st.sampled_from(["add", "change", "drop", "fail", "fill", "stop"]), max_size=8))
@settings(max_examples=25, deadline=None)
def test_whatever_happens_to_the_source_done_rows_are_right(
    tmp_path_factory: pytest.TempPathFactory, events: list[str]
) -> None:
    path = tmp_path_factory.mktemp("store") / "photos.h5"
    source, places, version = images(4), dict[str, int](), 1
    for event in [*events, "fill"]:
        version += 1
        if event == "add":
            source = [*source, *images(len(source) + 3 + version, len(source) + version)]
            source = list({image.path: image for image in source}.values())
        elif event == "change":
            source = [replace(source[0], mtime_ns=version), *source[1:]]
        elif event == "drop" and len(source) > 1:
            source = source[1:]
        with StoreWriter.open(path, entries=source, shapes=SHAPES, provenance=made()) as store:
            rows = store.pending()
            if event == "fail" and len(rows):
                store.fail(int(rows[0]), "truncated")
            elif event == "fill":
                fill(store)
            elif len(rows):
                store.write(rows[:1], features([store.entry_path(int(rows[0]))]))
        check_with_plain_h5py(path)
        with FeatureStore(path) as opened:
            assert opened.verify().ok
            found = {name: row for row, name in enumerate(opened.paths)}
            assert places.items() <= found.items()
            places = found
            if event == "fill":
                status = opened.status[opened.rows_of([image.path for image in source])]
                assert (status != 0).all()
