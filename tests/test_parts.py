"""Stores of parts: what they promise beyond what any store does."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import store_rows
from commands import cli as command
from PIL import Image
from store_rows import SHAPES, features, fill_parts, images, made, planned

from vggfeat import FeatureExtractor, FeatureStore
from vggfeat.errors import StoreError, StoreLockedError, StoreMismatchError
from vggfeat.store import FAILED, export, merge, open_features, redo
from vggfeat.store.parts import (
    PartedStore,
    find_parts,
    forget_failures,
    open_part,
    part_states,
)

KILLS = int(os.environ.get("VGGFEAT_KILLS", "12"))
PROGRAM = Path(store_rows.__file__)
COUNT = 100  # images: parts of 40, 40 and 20
needs_kill = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")


def cli(*arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command that ends with a status."""
    done = command(*arguments)
    assert done.returncode == expect, done.stderr
    return done


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "photos.store"


@pytest.fixture
def store(path: Path) -> Path:
    fill_parts(planned(path, COUNT))
    return path


def check(path: Path) -> FeatureStore:
    """Check that every row that is done is right, through the store and with h5py alone."""
    opened = FeatureStore(path)
    for part in opened.manifest.parts:
        if (file := path / part.file).exists():
            store_rows.check_with_plain_h5py(file)
    for layer, shape in SHAPES.items():
        rows, X = opened.matrix(layer)
        expected = features(opened.paths[rows].tolist())[layer].reshape(len(rows), np.prod(shape))
        assert X.tobytes() == expected.tobytes()
    assert opened.verify().ok
    return opened


def states(path: Path) -> list[str]:
    return [one.state for one in part_states(path)]


def snapshot(path: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in path.glob("part-*.h5")}


def test_a_folder_of_parts_reads_as_one_store(store):
    with FeatureStore(store) as opened, open_features(store) as again:
        assert isinstance(opened, PartedStore)
        assert isinstance(again, PartedStore)
        assert len(opened) == COUNT
        assert opened.counts() == {"done": COUNT, "failed": 0, "pending": 0}
        assert opened.paths.tolist() == sorted(one.path for one in images(COUNT))
        whole = features(opened.paths.tolist())
        for layer in SHAPES:
            column = opened[layer]
            assert column.shape == (COUNT, *SHAPES[layer])
            assert np.array_equal(column[:], whole[layer])
            assert np.array_equal(np.asarray(column), whole[layer])
            assert np.array_equal(np.stack(list(column)), whole[layer])
            for key in (
                5, -1, np.int64(41), slice(35, 85), slice(90, 3, -7), [79, 80, 3, 3],
                np.arange(COUNT) % 9 == 0, slice(0, 0),
            ):  # fmt: skip
                assert np.array_equal(column[key], whole[layer][key]), key
        assert np.array_equal(opened["pool5"][30:50, 1, ..., 2], whole["pool5"][30:50, 1, ..., 2])
        assert opened["relu7"][..., 3].shape == (COUNT,)
        with pytest.raises(IndexError, match="row 100 of 100"):
            opened["relu7"][100]


def test_each_part_is_a_plain_store_that_h5py_and_vggfeat_read_alone(store):
    with FeatureStore(store / "part-00001.h5") as part, FeatureStore(store) as whole:
        assert not isinstance(part, PartedStore)
        assert part.paths.tolist() == whole.paths[40:80].tolist()
        assert np.array_equal(part["relu7"][:], whole["relu7"][40:80])
        assert part.verify().ok
    with h5py.File(store / "part-00002.h5") as file:
        assert file["features/relu7"].shape == (20, 64)


def test_features_in_1_3_and_7_parts_are_those_of_one_run_bit_for_bit(tmp_path):
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    for i in range(21):
        file = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50 + i, 3), np.uint8)).save(file)
    (tmp_path / "photos" / "a" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    extractor = FeatureExtractor(
        "vgg16-tiny", layers="relu3_1:none,relu5_3,relu7", engine="winograd", batch_size=4
    )
    extractor.extract(tmp_path / "photos", tmp_path / "one.h5")
    with FeatureStore(tmp_path / "one.h5") as one:
        for parts, rows in ((1, 30), (3, 8), (7, 3)):
            summary = extractor.extract(
                tmp_path / "photos", tmp_path / f"{parts}.store", part_rows=rows
            )
            assert (summary.done, summary.failed) == (21, 1)
            with FeatureStore(tmp_path / f"{parts}.store") as several:
                assert len(several.manifest.parts) == -(-22 // rows)
                assert several.paths.tolist() == one.paths.tolist()
                assert several.failures() == one.failures()
                assert several.targets == one.targets
                for layer in one.layers:
                    assert several[layer][:].tobytes() == one[layer][:].tobytes()
                    assert np.array_equal(several.checksums(layer), one.checksums(layer))
                assert np.array_equal(several.digests, one.digests)
                assert np.array_equal(several.file_sizes, one.file_sizes)


def test_growing_is_a_new_part_and_copies_nothing(store):
    before = {name: (store / name).stat() for name in snapshot(store)}
    bytes_before = snapshot(store)
    fill_parts(planned(store, COUNT + 3))
    with check(store) as opened:
        assert opened.counts()["done"] == COUNT + 3
        assert [part.rows for part in opened.manifest.parts] == [40, 40, 20, 3]
        assert opened.targets is not None
        assert opened.targets.known.all()
    for name, state in before.items():
        now = (store / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (state.st_ino, state.st_mtime_ns)
        assert (store / name).read_bytes() == bytes_before[name]
    assert len(list(store.glob("images-*.h5"))) == 1


def test_nothing_is_written_where_nothing_has_changed(store):
    before = {one.name: one.stat().st_mtime_ns for one in store.iterdir()}
    found = planned(store, COUNT)
    assert not found.waiting()
    fill_parts(found)
    fill_parts(found, range(3))
    assert {one.name: one.stat().st_mtime_ns for one in store.iterdir()} == before


def test_changed_images_are_computed_again_in_their_parts_alone(store):
    entries = [
        replace(one, size=one.size + 1) if "000050" in one.path else one for one in images(COUNT)
    ]
    before = snapshot(store)
    with FeatureStore(store) as reader:
        found = planned(store, COUNT, entries=entries)
        (number,) = found.waiting()
        assert reader.counts()["pending"] == 1  # a reader that was there sees it
        assert not np.isfinite(reader["relu7"][int(found.pending[0])]).any()
    assert states(store).count("begun") == 1
    fill_parts(found)
    with check(store) as opened:
        assert opened.counts()["done"] == COUNT
    after = snapshot(store)
    assert [name for name in before if before[name] != after[name]] == [f"part-{number:05d}.h5"]


def test_labels_change_without_touching_a_part(store):
    before = snapshot(store)
    found = planned(store, COUNT, labels={one.path: ("even",) for one in images(COUNT)})
    assert found.labels.changed == COUNT
    with FeatureStore(store) as opened:
        assert opened.targets is not None
        assert {opened.targets.names(row) for row in range(COUNT)} == {("even",)}
        assert len(opened.xy("relu7")[1]) == COUNT
    assert snapshot(store) == before


def test_moved_images_keep_their_features_and_get_their_new_paths(path):
    entries = [replace(one, digest=one.path.encode().rjust(16)) for one in images(COUNT)]
    found = planned(path, COUNT, entries=entries)
    for part in found.manifest.parts:
        with open_part(path, found.manifest, part.number, found.contents, made().run) as writer:
            rows = writer.pending()
            by_path = {one.path: one for one in entries}
            seen = {row: by_path[writer.entry_path(row)] for row in rows.tolist()}
            writer.write(rows, features([one.path for one in seen.values()]), seen)
    moved = [
        replace(one, path=f"new/{Path(one.path).name}") if i == 41 else one
        for i, one in enumerate(entries)
    ]
    found = planned(path, COUNT, entries=moved, look=lambda given: list(given), labels=None)
    assert (found.moved, found.added, len(found.pending)) == (1, 0, 0)
    with FeatureStore(path) as opened:
        assert opened.row("new/000041.jpg") >= 0
        assert len(opened) == COUNT
    fill_parts(found)


def test_images_that_left_are_not_used_until_they_return(store):
    found = planned(store, COUNT - 10)
    assert found.missing == 10
    with FeatureStore(store) as opened:
        assert opened.counts()["done"] == COUNT - 10
    assert planned(store, COUNT).waiting() == {}
    with FeatureStore(store) as opened:
        assert opened.counts()["done"] == COUNT


def test_merge_makes_one_file_of_parts_and_of_stores_of_parts(store, tmp_path):
    store_rows.finished(tmp_path / "whole.h5", COUNT)
    report = merge(tmp_path / "merged.h5", [store])
    assert (report.rows, report.done) == (COUNT, COUNT)
    with (
        FeatureStore(tmp_path / "merged.h5") as merged,
        FeatureStore(tmp_path / "whole.h5") as whole,
    ):
        assert merged.targets == whole.targets
        assert merged.paths.tolist() == whole.paths.tolist()
        for layer in SHAPES:
            assert merged[layer][:].tobytes() == whole[layer][:].tobytes()
        assert merged.contents().part == ""
    fill_parts(planned(tmp_path / "more.store", 150))
    both = merge(tmp_path / "both.h5", [tmp_path / "more.store", store])
    assert (both.rows, both.duplicates) == (150, COUNT)
    export(store, tmp_path / "parts.npy", "relu7")
    export(tmp_path / "whole.h5", tmp_path / "whole.npy", "relu7")
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_one_part_is_written_by_one_at_a_time_and_others_go_on_with_the_rest(path):
    found = planned(path, COUNT)
    with open_part(path, found.manifest, 1, found.contents, made().run) as mine:
        with pytest.raises(StoreLockedError, match=r"part-00001\.h5 is being written"):
            open_part(path, found.manifest, 1, found.contents, made().run)
        fill_parts(found)
        assert states(path) == ["done", "begun", "done"]
        store_rows.fill(mine)
    assert states(path) == ["done"] * 3
    check(path).close()


def test_a_file_without_its_marker_is_looked_through_and_marked(store):
    before = snapshot(store)
    (store / "part-00001.json").unlink()
    assert states(store) == ["done", "begun", "done"]
    fill_parts(planned(store, COUNT))
    assert states(store) == ["done"] * 3
    assert snapshot(store) == before


def test_a_file_without_its_marker_that_is_damaged_is_not_marked(store):
    (store / "part-00001.json").unlink()
    damage(store / "part-00001.h5")
    found = planned(store, COUNT)
    with pytest.raises(StoreError, match="does not hold what was written"):
        fill_parts(found, [1])
    assert states(store)[1] == "begun"
    fill_parts(planned(store, COUNT))
    with check(store) as opened:
        assert opened.counts()["done"] == COUNT


def test_a_marker_without_its_file_is_an_error_never_a_fill_value(store, tmp_path):
    shutil.copy(store / "part-00001.h5", tmp_path / "kept.h5")
    with FeatureStore(store) as opened:
        (store / "part-00001.h5").unlink()
        for read in (
            lambda: opened.matrix("relu7"), lambda: opened["relu7"][50], lambda: opened.status,
            lambda: opened.checksums("relu7"), lambda: opened.digests, opened.verify,
        ):  # fmt: skip
            with pytest.raises(StoreError, match=r"part-00001\.h5 is not there"):
                read()
    with pytest.raises(StoreError, match=r"part-00001\.h5 is not there.*part-00001\.json"):
        FeatureStore(store)
    assert states(store) == ["done", "damaged", "done"]
    shown = cli("parts", store, expect=1)
    assert "damaged" in shown.stdout
    assert "part-00001.json" in shown.stderr
    (store / "part-00001.json").unlink()  # the remedy
    fill_parts(planned(store, COUNT))
    with check(store) as opened:
        assert opened.counts()["done"] == COUNT


@pytest.mark.parametrize("how", ["shorter", "another", "swapped", "other way"])
def test_a_part_that_is_not_what_was_finished_is_an_error(store, tmp_path, how):
    file = store / "part-00001.h5"
    if how == "shorter":
        os.truncate(file, file.stat().st_size - 1000)
    elif how == "another":
        fill_parts(planned(tmp_path / "other.store", COUNT))
        shutil.copy(tmp_path / "other.store" / "part-00001.h5", file)
    elif how == "swapped":
        shutil.copy(store / "part-00000.h5", file)
    else:
        options = {"config": made(weights_sha256="cd" * 32).config}
        fill_parts(planned(tmp_path / "other.store", COUNT, **options))
        shutil.copy(tmp_path / "other.store" / "part-00001.h5", file)
    with pytest.raises(StoreError, match="part-00001"), FeatureStore(store) as opened:
        opened.matrix("relu7")


def test_a_damaged_row_is_found_and_done_again_where_it_is(store):
    damage(store / "part-00001.h5")
    with FeatureStore(store) as opened:
        report = opened.verify()
        assert not report.ok
        (row,) = report.damaged.tolist()
        assert 40 <= row < 80
    assert cli("verify", store, "--redo", expect=1)
    redo(store, report.damaged)
    assert planned(store, COUNT).waiting() == {1: 1}
    fill_parts(planned(store, COUNT))
    check(store).close()


def test_a_part_is_not_changed_by_itself_so_that_its_marker_stays_true(store):
    with pytest.raises(StoreError, match=r"part of the store .*verify .*--redo"):
        redo(store / "part-00001.h5", np.array([3]))
    check(store).close()


def damage(file: Path) -> None:
    """Flip a bit of a feature in the middle of a part."""
    with h5py.File(file) as opened:
        dataset = opened["features/relu7"]
        place = dataset.id.get_offset() + dataset.nbytes // 2
    with file.open("r+b") as raw:
        raw.seek(place)
        byte = raw.read(1)[0]
        raw.seek(place)
        raw.write(bytes([byte ^ 16]))


def test_failed_images_and_parts_are_told_and_done_again_when_asked(path):
    found = planned(path, COUNT)
    with open_part(path, found.manifest, 2, found.contents, made().run) as writer:
        writer.fail(3, "truncated file")
        store_rows.fill(writer)
    with (
        pytest.raises(RuntimeError),
        open_part(path, found.manifest, 0, found.contents, made().run),
    ):
        raise RuntimeError("out of memory")
    from vggfeat.store.parts.working import note_failure

    note_failure(path, found.manifest, 0, "out of memory")
    assert states(path) == ["failed", "missing", "done"]
    facts = json.loads(cli("parts", path, "--json").stdout)
    assert facts["parts"][0]["note"] == "out of memory"
    assert (facts["done"], facts["failed"]) == (19, 1)
    with FeatureStore(path) as opened:
        assert opened.failures() == [(opened.paths[83], "truncated file")]
    assert forget_failures(path) == (1, 1)
    assert states(path) == ["begun", "missing", "begun"]
    fill_parts(planned(path, COUNT))
    assert states(path) == ["done"] * 3
    with check(path) as opened:
        assert not (opened.status == FAILED).any()


def test_other_deciding_values_are_refused_and_named(store):
    with pytest.raises(StoreMismatchError, match="weights_sha256"):
        planned(store, COUNT, config=made(weights_sha256="cd" * 32).config)
    with pytest.raises(StoreMismatchError, match="float16"):
        find_parts(store, made("float16").config)
    with pytest.raises(StoreError, match="is part of the store"):
        store_rows.writer(store / "part-00000.h5", COUNT)


def test_a_folder_with_other_things_in_it_is_never_made_a_store(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "diary.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"other things.*diary\.txt"):
        planned(tmp_path / "photos", 10)
    with pytest.raises(StoreError, match=r"other things.*diary\.txt"):
        planned(tmp_path / "photos", 10, overwrite=True)
    assert (tmp_path / "photos" / "diary.txt").read_text() == "mine"
    with pytest.raises(StoreError, match="does not exist"):
        planned(tmp_path / "no" / "photos.store", 10)
    (tmp_path / "a.store").write_text("a file")
    with pytest.raises(StoreError, match="is a file"):
        planned(tmp_path / "a.store", 10)


def test_overwriting_begins_anew(store):
    found = planned(store, 50, overwrite=True)
    assert states(store) == ["missing", "missing"]
    fill_parts(found)
    with check(store) as opened:
        assert len(opened) == 50


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.update(format="x"), "format"),
        (lambda data: data.update(format_version=9), "newer"),
        (lambda data: data["parts"][1].update(file="../../etc/passwd"), "etc/passwd"),
        (lambda data: data["parts"][1].update(rows=-4), "rows"),
        (lambda data: data["parts"][1].update(rows=41), "101"),
        (lambda data: data.update(images="/etc/passwd"), "images"),
        (lambda data: data.update(digest="0" * 64), "is not the list"),
        (lambda data: data["shapes"].update(relu7=[1 << 60]), "shape of relu7"),
        (lambda data: data.update(parts=[]), "parts"),
        (lambda data: data.pop("deciding"), "deciding"),
        (lambda data: data.update(id="1" * 32), "not part|missing|pending"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused_in_words(store, change, said):
    data = json.loads((store / "manifest.json").read_text())
    change(data)
    (store / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(StoreError, match=said):
        read_all(store)


def read_all(path: Path) -> None:
    with FeatureStore(path) as opened:
        assert len(opened.paths) == COUNT
        opened.matrix("relu7", [50])


def test_damaged_manifests_markers_and_lists_are_told(store):
    (store / "part-00000.json").write_text('{"done": "many"}')
    with pytest.raises(StoreError, match=r"part-00000\.json is damaged.*Delete it"):
        FeatureStore(store)
    (store / "part-00000.json").unlink()
    os.truncate(next(store.glob("images-*.h5")), 100)
    with pytest.raises(StoreError, match="the list of images"):
        FeatureStore(store)
    (store / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="no manifest"):
        FeatureStore(store)


def test_more_parts_than_files_may_be_open_are_read_in_turn(path):
    fill_parts(planned(path, 150, part_rows=2))
    with check(path) as opened:
        assert len(opened.manifest.parts) == 75
        assert len(opened._opened) <= 64


def test_readers_in_several_threads_take_turns(store):
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(0)
    with FeatureStore(store) as opened, ThreadPoolExecutor(4) as threads:
        whole = features(opened.paths.tolist())["relu7"]
        chosen = [rng.integers(0, COUNT, 30) for _ in range(40)]
        for rows, block in zip(
            chosen, threads.map(lambda r: opened.matrix("relu7", r)[1], chosen), strict=True
        ):
            assert np.array_equal(block, whole[rows])


def test_a_store_is_read_while_it_fills_and_while_it_grows(path):
    found = planned(path, COUNT)
    with FeatureStore(path) as opened:
        assert opened.counts() == {"done": 0, "failed": 0, "pending": COUNT}
        assert np.isnan(opened["relu7"][:]).all()
        fill_parts(found, [1])
        assert opened.counts()["done"] == 40
        fill_parts(planned(path, COUNT + 5))
        assert len(opened) == COUNT  # as it was when it was opened
        assert opened.counts()["done"] == COUNT
        assert opened.matrix("relu7")[1].shape == (COUNT, 64)


def leftovers(path: Path) -> list[str]:
    """Return the names of what was being written when somebody was killed."""
    return [one.name for one in path.iterdir() if one.name.endswith(".tmp")]


def test_what_killed_runs_left_is_removed_by_those_that_come_after_them(path):
    planned(path, 50)
    cut_short = ["manifest.json", "images-0.h5", "images-3.h5", "part-00001.h5", "part-00001.json"]
    for name in cut_short:
        (path / f".{name}.0123abcd.tmp").write_bytes(b"half")
    fill_parts(planned(path, COUNT))
    assert not leftovers(path)
    check(path).close()


class Victims:
    """Programs that fill a store of parts until they are killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.met = {"killed": 0, "ended": 0}

    def run(self, rows: int, seconds: float, several: int) -> None:
        program = [sys.executable, str(PROGRAM), str(self.path), str(rows), "0.004"]
        with ExitStack() as stack:
            running = [
                stack.enter_context(
                    subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                )
                for _ in range(several)
            ]
            for child in running:
                assert child.stdout is not None
                assert child.stdout.readline() == b"go\n"
            time.sleep(seconds)
            for child in running:
                child.kill()
                _, errors = child.communicate()
                assert child.returncode in (0, -9), errors.decode()
                self.met["killed" if child.returncode else "ended"] += 1


@needs_kill
@pytest.mark.timeout(900 + 10 * KILLS)
def test_kills_of_several_writers_lose_nothing_and_double_nothing(path, chance: random.Random):
    victims, rows = Victims(path), 200
    planned(path, rows)
    done = 0
    while victims.met["killed"] < KILLS:
        victims.run(rows, chance.uniform(0, 0.25), several=2)
        with check(path) as opened:
            now = opened.counts()
            assert now["done"] >= done
            assert len(set(opened.paths.tolist())) == len(opened) == rows
            done = now["done"]
        if done == rows:  # the list changes: more images, in new parts
            rows += 120
            planned(path, rows)
    fill_parts(planned(path, rows))
    with check(path) as opened:
        assert opened.counts()["done"] == rows
    assert set(states(path)) == {"done"}
    assert not leftovers(path)
    print(victims.met)


@needs_kill
def test_kills_while_images_are_listed_leave_the_list_before_or_after(path, chance: random.Random):
    for number in range(max(4, KILLS // 6)):
        rows = 40 + 10 * number
        Victims(path).run(rows, chance.uniform(0, 0.2), several=1)
        with suppress(StoreError):
            with FeatureStore(path) as opened:
                assert len(opened) in {40 + 10 * i for i in range(number + 1)}
            continue
        assert not (path / "manifest.json").exists()  # killed before there was a store
    fill_parts(planned(path, 500))
    with check(path) as opened:
        assert opened.counts()["done"] == 500
    assert not leftovers(path)


def test_a_full_disk_ends_with_words_and_what_was_done_stays(path):
    resource = pytest.importorskip("resource")
    found = planned(path, COUNT)
    fill_parts(found, [0])
    child = subprocess.run(
        [
            sys.executable, "-c",
            "import resource, signal, sys\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
            "sys.path.insert(0, sys.argv[2])\n"
            "from store_rows import fill_parts\n"
            "from vggfeat.errors import StoreError\n"
            "from vggfeat.store.parts import find_parts\n"
            "from pathlib import Path\n"
            "try:\n"
            "    fill_parts(find_parts(sys.argv[1]))\n"
            "except StoreError as error:\n"
            "    print(error)\n",
            path, str(PROGRAM.parent),
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    del resource
    assert "What was done stays" in child.stdout
    assert states(path)[0] == "done"
    assert set(states(path)[1:]) == {"missing"}
    fill_parts(find_parts(path))
    check(path).close()


FAST = ("--model", "vgg16-tiny", "--layers", "relu7")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    for i in range(10):
        file = tmp_path / "photos" / "xy"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(file)
    return tmp_path / "photos"


def test_tasks_of_an_array_job_do_their_parts_and_nothing_else(photos, path):
    shown = cli("extract", photos, path, *FAST, "--part-rows", "3", "--plan", "--json")
    assert json.loads(shown.stdout)["parts"] == 4
    assert states(path) == ["missing"] * 4
    cli("extract", photos, path, *FAST, "--part", "2")
    cli("extract", photos, path, *FAST, "--part", "0-1")
    assert states(path) == ["done", "done", "done", "missing"]
    again = cli("extract", photos, path, *FAST, "--part", "2")
    assert "Parts: 3 of 4 finished." in again.stdout
    assert "2 classes" in again.stdout
    refused = cli("extract", photos, path, *FAST, "--part", "4", expect=1)
    assert "parts 0 to 3" in refused.stderr
    refused = cli("extract", photos.parent, path, *FAST, "--part", "3", expect=1)
    assert "not of" in refused.stderr
    assert "is no part" in cli("extract", photos, path, *FAST, "--part", "3-", expect=2).stderr
    again = cli("extract", photos, path, *FAST, "--part", "1", "--retry-failed", expect=1)
    assert f"vggfeat parts {path} --retry" in again.stderr
    cli("extract", photos, path, *FAST)
    assert states(path) == ["done"] * 4


def test_a_task_does_not_list_the_folder_again_and_tells_of_images_that_are_gone(photos, path):
    cli("extract", photos, path, *FAST, "--part-rows", "5", "--plan")
    (photos / "x" / "0.png").unlink()
    (photos / "x" / "new.png").write_bytes((photos / "x" / "2.png").read_bytes())
    cli("extract", photos, path, *FAST, "--part", "0,1")
    with FeatureStore(path) as opened:
        assert len(opened) == 10
        ((lost, why),) = opened.failures()
    assert (lost, "no such file" in why.lower()) == ("x/0.png", True)
    shown = cli("extract", photos, path, *FAST)
    assert "9 + 1" in shown.stdout or "10 of 10 images done" in shown.stdout


def test_the_first_task_of_several_lists_the_images_for_all(photos, path):
    task = [
        sys.executable, "-m", "vggfeat", "extract", str(photos), str(path), *FAST,
        "--part-rows", "4", "--part",
    ]  # fmt: skip
    running = [subprocess.Popen([*task, str(k)], stderr=subprocess.PIPE) for k in range(3)]
    for child in running:
        _, errors = child.communicate()
        assert child.returncode == 0, errors.decode()
    assert states(path) == ["done"] * 3


def test_names_say_whether_a_store_is_of_parts(photos, tmp_path):
    from vggfeat.extract.parts import MANY, in_parts

    assert in_parts(tmp_path / "new.store", 1)
    assert in_parts(f"{tmp_path}/new/", 1)
    assert not in_parts(tmp_path / "new.h5", MANY + 1)
    assert in_parts(tmp_path / "new", MANY + 1)
    assert not in_parts(tmp_path / "new", MANY)
    cli("extract", photos, tmp_path / "one.h5", *FAST)
    refused = cli("extract", photos, tmp_path / "one.h5", *FAST, "--part-rows", "5", expect=1)
    assert "is one file" in refused.stderr
    refused = cli("extract", photos, tmp_path / "p.store", *FAST, "--prune", expect=1)
    assert "vggfeat merge" in refused.stderr


def test_every_command_takes_a_folder_of_parts_for_a_store(photos, path, tmp_path):
    cli("extract", photos, path, *FAST, "--part-rows", "3")
    for arguments in (
        ("info", path), ("verify", path), ("parts", path, "--all"),
        ("probe", path, "--layer", "relu7"),
        ("sweep", path), ("knn", path), ("export", path, tmp_path / "out.npz", "--layer", "relu7"),
        ("merge", tmp_path / "one.h5", path), ("duplicates", path, "--layer", "relu7"),
        ("index", "build", path, tmp_path / "i", "--layer", "relu7"),
        ("index", "add", tmp_path / "i", path), ("search", tmp_path / "i", photos / "x" / "0.png"),
        ("plot", path, tmp_path / "map.png", "--layer", "relu7", "--method", "pca"),
    ):  # fmt: skip
        cli(*arguments)
