"""Which image a row belongs to, whatever becomes of the files: renamed, moved, copied, replaced."""

from __future__ import annotations

import os
import shutil
import tarfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import draw, settle
from PIL import Image
from store_rows import check_with_plain_h5py, features, fill, finished, images, made, writer

from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex
from vggfeat.errors import SearchError, SourceError, StoreError
from vggfeat.evaluation.layers.knn import knn_answers
from vggfeat.extract import ExtractSummary
from vggfeat.report import originals_of
from vggfeat.sources import open_source, open_stored
from vggfeat.sources import reading as source_reading
from vggfeat.store import merge

OLD = 1_600_000_000_123_456_789  # a time long gone, with a fine clock


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return FeatureExtractor("vgg16-tiny", layers="pool4", device="cpu")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the images whose bytes are compared; they are compared truly."""
    paths: list[str] = []
    true = source_reading.look

    def noted(source: Any, entry: Any) -> Any:
        paths.append(entry.path)
        return true(source, entry)

    monkeypatch.setattr("vggfeat.extract.requested.look", noted)
    return paths


def write(folder: Path, names: Sequence[str], first: int = 0) -> Path:
    """Write pictures of one size in bytes, each different."""
    for number, name in enumerate(names, first):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        draw(40, 40, seed=number).save(folder / name, "BMP")
        os.utime(folder / name, ns=(OLD, OLD))
    return folder


def pack(tar: Path, folder: Path) -> Path:
    """Pack a folder as webdataset does: all times 0."""
    with tarfile.open(tar, "w") as archive:
        for file in sorted(folder.rglob("*.bmp")):
            member = tarfile.TarInfo(file.relative_to(folder).as_posix())
            member.size = file.stat().st_size
            with file.open("rb") as content:
                archive.addfile(member, content)
    return tar


def counts(summary: ExtractSummary) -> dict[str, int]:
    names = ("computed", "added", "changed", "moved", "missing", "pruned")
    return {name: getattr(summary, name) for name in names if getattr(summary, name)}


def check(store: Path, folder: Path, extractor: FeatureExtractor, drop: str = "") -> None:
    """Check that each row that counts has the features of the file that it names."""
    with FeatureStore(store) as opened:
        rows = np.flatnonzero(opened.done)
        files = [folder / path.removeprefix(drop) for path in opened.paths[rows]]
        expected = extractor(files)["pool4"]
        np.testing.assert_allclose(opened["pool4"][:][rows], expected, rtol=1e-5, atol=1e-5)
        assert opened.verify().ok


def test_a_shard_without_times_is_done_again_where_its_pixels_changed(
    extractor, tmp_path, looks
) -> None:
    names = [f"{i}.bmp" for i in range(6)]
    tar = pack(tmp_path / "s.tar", write(tmp_path / "a", names))
    store = tmp_path / "s.h5"
    os.utime(tar, ns=(OLD, OLD))
    assert extractor.extract(tar, store).computed == 6
    size = tar.stat().st_size
    write(tmp_path / "a", ["2.bmp"], first=99)
    pack(tar, tmp_path / "a")
    assert tar.stat().st_size == size
    summary = extractor.extract(tar, store)
    assert counts(summary) == {"computed": 1, "changed": 1}
    assert len(looks) >= 6, "without times only the bytes can tell"
    check(store, tmp_path / "a", extractor)


def test_same_size_and_time_are_no_proof_and_new_times_no_change(
    extractor, tmp_path, looks
) -> None:
    folder = write(tmp_path / "a", [f"{i}.bmp" for i in range(5)])
    store = tmp_path / "s.h5"
    settle(folder / "4.bmp")
    extractor.extract(folder, store)
    looks.clear()
    assert counts(extractor.extract(folder, store)) == {}
    assert looks == []
    write(folder, ["3.bmp"], first=50)  # size and modification time as before
    assert counts(extractor.extract(folder, store)) == {"computed": 1, "changed": 1}
    assert looks == ["3.bmp"]
    for name in ("0.bmp", "1.bmp"):
        os.utime(folder / name)
    before = store.read_bytes()
    assert counts(extractor.extract(folder, store)) == {}
    with FeatureStore(store) as opened:
        assert len(opened.runs) == 2
    assert len(before) == store.stat().st_size
    check(store, folder, extractor)


def test_a_copied_folder_is_known_by_its_bytes_and_its_new_place_taken_up(
    extractor, tmp_path, caplog
) -> None:
    store = tmp_path / "s.h5"
    extractor.extract(write(tmp_path / "a", ["x/1.bmp", "y/2.bmp", "y/3.bmp"]), store)
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)  # as cp -r does
    shutil.rmtree(tmp_path / "a")
    assert counts(extractor.extract(tmp_path / "b", store)) == {}
    assert f"came from {tmp_path / 'a'} so far, and come from {tmp_path / 'b'} now" in caplog.text
    with FeatureStore(store) as opened:
        assert opened.latest.source == str(tmp_path / "b")
        assert opened.origins() == [str(tmp_path / "b")] * 3
        SimilarityIndex.build(opened, "pool4").save(tmp_path / "i")
    index = SimilarityIndex.open(tmp_path / "i")
    with open_stored(index.source(0), index.path(0)) as file:
        assert file.read() == (tmp_path / "b" / "x" / "1.bmp").read_bytes()


def test_an_archive_that_has_moved_is_taken_up(extractor, tmp_path) -> None:
    folder = write(tmp_path / "a", ["1.bmp", "2.bmp"])
    store = tmp_path / "s.h5"
    extractor.extract(pack(tmp_path / "old.tar", folder), store)
    (tmp_path / "old.tar").rename(tmp_path / "new.tar")
    assert counts(extractor.extract(tmp_path / "new.tar", store)) == {}
    with FeatureStore(store) as opened:
        assert [source.root for source in opened.sources] == [str(tmp_path / "new.tar")]


def test_what_is_noted_is_the_file_that_was_read_and_not_the_one_that_was_listed(
    extractor, tmp_path
) -> None:
    folder, store = write(tmp_path / "a", ["0.bmp", "1.bmp"]), tmp_path / "s.h5"
    source = open_source(folder)
    write(folder, ["1.bmp"], first=70)  # after the listing, before the reading
    extractor.extract(source, store)
    check(store, folder, extractor)
    assert counts(extractor.extract(folder, store)) == {}
    check(store, folder, extractor)


def test_photos_moved_into_the_right_class_keep_their_rows_and_features(
    extractor, tmp_path
) -> None:
    folder, store = tmp_path / "photos", tmp_path / "s.h5"
    for number in range(70):
        name = f"{'cat' if number < 25 else 'dog'}/{number:02d}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shade = (200, 40, 40) if number < 35 else (40, 40, 200)
        Image.new("RGB", (40, 40), (shade[0], shade[1] + number, shade[2])).save(folder / name)
    extractor.extract(folder, store)
    with FeatureStore(store) as opened:
        before = dict(zip(opened.paths, opened["pool4"][:], strict=True))
        places = {Path(path).name: row for row, path in enumerate(opened.paths)}
    for number in range(25, 35):  # cats that lay among the dogs
        (folder / "dog" / f"{number}.png").rename(folder / "cat" / f"{number}.png")
    assert counts(extractor.extract(folder, store)) == {"moved": 10}
    with FeatureStore(store) as opened:
        assert len(opened) == opened.counts()["done"] == 70
        for row, path in enumerate(opened.paths):
            name = Path(path).name
            assert places[name] == row
            old = path if path in before else f"dog/{name}"
            assert (opened["pool4"][row] == before[old]).all()
            assert opened.classes[opened.labels[row]] == ("cat" if int(name[:2]) < 35 else "dog")
        assert opened.verify().ok
        rows, X = opened.matrix("pool4")
        y = opened.labels[:][rows]
        (named,) = knn_answers(X, y, k=[5], metric="l2")  # each by all others
        assert (named == y).all()


def test_images_that_have_left_count_nowhere_until_they_return_or_are_pruned(
    extractor, tmp_path
) -> None:
    names = [f"{kind}/{i}.bmp" for kind in "ab" for i in range(4)]
    folder, store = write(tmp_path / "photos", names), tmp_path / "s.h5"
    extractor.extract(folder, store)
    gone = (folder / "a" / "1.bmp").rename(tmp_path / "gone.bmp")
    assert counts(extractor.extract(folder, store)) == {"missing": 1}
    with FeatureStore(store) as opened:
        row = opened.row("a/1.bmp")
        assert not opened.done[row]
        assert opened.counts() == {"done": 7, "failed": 0, "pending": 0}
        assert len(opened.matrix("pool4")[0]) == 7
        with pytest.raises(StoreError, match="no longer in its source"):
            opened.matrix("pool4", [row])
    gone.rename(folder / "a" / "1.bmp")
    assert counts(extractor.extract(folder, store)) == {}
    with FeatureStore(store) as opened:
        assert opened.done.all()
    (folder / "a" / "1.bmp").rename(tmp_path / "gone.bmp")
    assert counts(extractor.extract(folder, store, prune=True)) == {"pruned": 1}
    with FeatureStore(store) as opened:
        assert opened.paths.tolist() == sorted(set(names) - {"a/1.bmp"})
        assert opened.done.all()
    check(store, folder, extractor)


def test_accents_in_either_form_name_the_same_image(extractor, tmp_path) -> None:
    names = [unicodedata.normalize("NFD", "Köln/é.bmp"), unicodedata.normalize("NFC", "ü.bmp")]
    write(tmp_path / "photos", names)
    extractor.extract(tmp_path / "photos", tmp_path / "s.h5")
    with FeatureStore(tmp_path / "s.h5") as store:
        assert sorted(store.paths) == sorted(names), "paths are kept as the files are called"
        for form in ("NFC", "NFD"):
            given = [unicodedata.normalize(form, name) for name in names]
            assert [store.paths[row] for row in store.rows_of(given)] == names
        index = SimilarityIndex.build(store, "pool4", path=tmp_path / "i")
    assert index.remove([unicodedata.normalize("NFC", names[0])]) == 1
    assert [index.path(one) for one in index.ids.tolist()] == [names[1]]


def test_an_index_follows_images_that_leave_and_move(extractor, tmp_path) -> None:
    folder = write(tmp_path / "photos", [f"a/{i}.bmp" for i in range(6)])
    other = write(tmp_path / "others", ["z.bmp"], first=40)
    store, index = tmp_path / "s.h5", tmp_path / "s.index"
    extractor.extract(folder, store)
    extractor.extract(other, tmp_path / "o.h5")
    with FeatureStore(store) as opened, FeatureStore(tmp_path / "o.h5") as more:
        SimilarityIndex.build(opened, "pool4", path=index).add(more)
    (folder / "a" / "1.bmp").unlink()
    (folder / "b").mkdir()
    (folder / "a" / "2.bmp").rename(folder / "b" / "2.bmp")
    assert counts(extractor.extract(folder, store)) == {"moved": 1, "missing": 1}
    changed = SimilarityIndex.open(index)
    with FeatureStore(store) as opened:
        report = changed.add(opened)
        assert (report.added, report.replaced, report.unchanged, report.gone) == (1, 0, 4, 2)
        assert changed.add(opened).gone == 0
    paths = {changed.path(one): changed.source(one) for one in changed.ids.tolist()}
    assert paths == {
        **{path: str(folder) for path in ("a/0.bmp", "a/3.bmp", "a/4.bmp", "a/5.bmp", "b/2.bmp")},
        "z.bmp": str(other),
    }


def test_an_index_of_one_store_leaves_out_what_was_pruned_from_it(extractor, tmp_path) -> None:
    folder = write(tmp_path / "photos", [f"{i}.bmp" for i in range(4)])
    store, other = tmp_path / "s.h5", tmp_path / "o.h5"
    extractor.extract(folder, store)
    with FeatureStore(store) as opened:
        index = SimilarityIndex.build(opened, "pool4", path=tmp_path / "i")
    (folder / "1.bmp").unlink()
    assert counts(extractor.extract(folder, store, prune=True)) == {"pruned": 1}
    extractor.extract(folder, other)
    with FeatureStore(other) as opened:  # which never had it
        assert (index.add(opened).gone, len(index)) == (0, 4)
    with FeatureStore(store) as opened:
        report = index.add(opened)
        assert (report.gone, report.unchanged, len(index)) == (1, 3, 3)
        assert index.add(opened).gone == 0
    with pytest.raises(SearchError, match="no image"):
        index.ids_of(["1.bmp"])


def test_an_index_takes_up_the_new_place_of_its_store(extractor, tmp_path, caplog) -> None:
    folder = write(tmp_path / "old", [f"a/{i}.bmp" for i in range(5)])
    other = write(tmp_path / "others", ["z.bmp"], first=40)
    store, index = tmp_path / "s.h5", tmp_path / "s.index"
    extractor.extract(folder, store)
    extractor.extract(other, tmp_path / "o.h5")
    with FeatureStore(store) as opened, FeatureStore(tmp_path / "o.h5") as more:
        SimilarityIndex.build(opened, "pool4", path=index).add(more)
        assert SimilarityIndex.open(index).remove(["a/4.bmp"]) == 1
    new = folder.rename(tmp_path / "new")
    (new / "a" / "0.bmp").unlink()
    (new / "a" / "4.bmp").rename(new / "a" / "5.bmp")
    extractor.extract(new, store)
    changed = SimilarityIndex.open(index)
    with FeatureStore(store) as opened, FeatureStore(tmp_path / "o.h5") as more:
        report = changed.add(opened)
        assert (report.added, report.unchanged, report.gone) == (0, 3, 1)
        assert f"came from {folder} so far, and come from {new} now" in caplog.text
        changed.add(more)
    changed = SimilarityIndex.open(index)
    places = {changed.path(one): changed.source(one) for one in changed.ids.tolist()}
    assert places == {f"a/{i}.bmp": str(new) for i in range(1, 4)} | {"z.bmp": str(other)}
    assert {one.source for one in changed.catalogue.sources} == {str(new), str(other)}
    for one in changed.ids.tolist():
        open_stored(changed.source(one), changed.path(one)).close()


def test_an_index_keeps_the_place_of_images_of_which_another_store_has_a_few_copies(
    extractor, tmp_path
) -> None:
    folder = write(tmp_path / "photos", [f"{i}.bmp" for i in range(5)])
    (tmp_path / "few").mkdir()
    for name in ("0.bmp", "1.bmp"):
        shutil.copy(folder / name, tmp_path / "few" / name)
    extractor.extract(folder, tmp_path / "s.h5")
    extractor.extract(tmp_path / "few", tmp_path / "f.h5")
    with FeatureStore(tmp_path / "s.h5") as opened, FeatureStore(tmp_path / "f.h5") as few:
        index = SimilarityIndex.build(opened, "pool4", path=tmp_path / "i")
        assert index.add(few).unchanged == 2
    assert {index.source(one) for one in index.ids.tolist()} == {str(folder)}


def test_another_source_of_the_same_names_is_refused_with_the_way_to_keep_both(
    extractor, tmp_path
) -> None:
    names = ["cat/1.bmp", "dog/1.bmp"]
    train, test = write(tmp_path / "train", names), write(tmp_path / "test", names, first=30)
    store = tmp_path / "s.h5"
    extractor.extract(train, store)
    before = store.read_bytes()
    with pytest.raises(StoreError, match=rf"NAME={train} OTHER={test}"):
        extractor.extract(test, store)
    assert store.read_bytes() == before
    summary = extractor.extract([train, test], store)
    assert counts(summary) == {"computed": 2, "added": 2, "moved": 2}
    with FeatureStore(store) as opened:
        assert sorted(opened.paths) == sorted(f"{s}/{n}" for s in ("test", "train") for n in names)
        assert opened.classes == ["cat", "dog"], "the name of a source is no class"
        for row, (root, path) in enumerate(zip(opened.origins(), opened.paths, strict=True)):
            with open_stored(root, path) as file:
                assert file.read() == (tmp_path / path).read_bytes()
            assert opened.classes[opened.labels[row]] == path.split("/")[1]
        shown = originals_of(opened)
    for path in ("train/cat/1.bmp", "test/cat/1.bmp"):
        with shown(path)() as file:
            assert file.read() == (tmp_path / path).read_bytes()
    check(store, tmp_path, extractor)
    # One of them again, by its name, leaves the other as it is.
    (test / "dog" / "1.bmp").unlink()
    assert counts(extractor.extract([f"test={test}"], store)) == {"missing": 1}
    with FeatureStore(store) as opened:
        assert opened.counts()["done"] == 3
    with pytest.raises(StoreError, match="by the name 'test'"):
        extractor.extract(test, store)


def test_a_source_of_one_class_keeps_it_beside_others(extractor, tmp_path) -> None:
    train = write(tmp_path / "train", ["cat/1.bmp", "dog/1.bmp"])
    test = write(tmp_path / "test", ["cat/2.bmp"], first=5)
    extractor.extract([train, test], tmp_path / "s.h5")
    with FeatureStore(tmp_path / "s.h5") as store:
        named = {path: store.classes[k] for path, k in zip(store.paths, store.labels, strict=True)}
    assert named == {"test/cat/2.bmp": "cat", "train/cat/1.bmp": "cat", "train/dog/1.bmp": "dog"}


def test_sources_of_one_name_are_refused_with_the_remedy(extractor, tmp_path) -> None:
    one, other = write(tmp_path / "1" / "x", ["1.bmp"]), write(tmp_path / "2" / "x", ["1.bmp"])
    with pytest.raises(SourceError, match=r"both be called 'x'.*OTHER="):
        extractor.extract([one, other], tmp_path / "s.h5")
    summary = extractor.extract([one, f"y={other}"], tmp_path / "s.h5")
    assert summary.done == 2


def test_a_second_folder_with_other_names_adds_to_a_store(extractor, tmp_path) -> None:
    store = tmp_path / "s.h5"
    extractor.extract(write(tmp_path / "monday", ["1.bmp", "2.bmp"]), store)
    write(tmp_path / "tuesday", ["3.bmp"], first=9)
    assert counts(extractor.extract(tmp_path / "tuesday", store)) == {"computed": 1, "added": 1}
    with FeatureStore(store) as opened:
        assert opened.done.all()
        assert opened.origins() == [str(tmp_path / "monday")] * 2 + [str(tmp_path / "tuesday")]
    assert counts(extractor.extract(tmp_path / "monday", store)) == {}


def test_merging_refuses_other_images_of_one_name_and_unites_equal_ones(
    extractor, tmp_path
) -> None:
    for name, first in (("a", 0), ("b", 0), ("c", 20)):
        write(tmp_path / name, ["1.bmp", f"{name}.bmp"], first=first)
        extractor.extract(tmp_path / name, tmp_path / f"{name}.h5")
    with pytest.raises(StoreError, match=r"different images of one name, such as '1\.bmp'.*ONE="):
        merge(tmp_path / "out.h5", [tmp_path / "a.h5", tmp_path / "c.h5"])
    assert not (tmp_path / "out.h5").exists()
    assert merge(tmp_path / "out.h5", [tmp_path / "a.h5", tmp_path / "b.h5"]).duplicates == 1
    with FeatureStore(tmp_path / "out.h5") as store:
        assert dict(zip(store.paths, store.origins(), strict=True)) == {
            "1.bmp": str(tmp_path / "a"),
            "a.bmp": str(tmp_path / "a"),
            "b.bmp": str(tmp_path / "b"),
        }


def test_a_store_of_format_1_is_upgraded_when_it_is_made_anew_and_keeps_its_rows(
    tmp_path,
) -> None:
    path = finished(tmp_path / "photos.h5", 10)
    with h5py.File(path, "r+") as file:  # as format 1 was
        file.attrs["format_version"] = 1
        del file["sources"]
        for name in ("ctime_ns", "digest", "present", "source"):
            del file[f"images/{name}"]
    before = path.read_bytes()
    with writer(path) as store:
        assert not len(store.pending())
    assert path.read_bytes() == before, "nothing to do, nothing rewritten"
    with writer(path, entries=images(12)) as store:
        assert store.pending().tolist() == [10, 11]
        fill(store)
    with h5py.File(path) as file:
        assert file.attrs["format_version"] == 2
        assert file["images/present"][:].all()
    assert check_with_plain_h5py(path).tolist() == [1] * 12
    with FeatureStore(path) as store:
        assert store.verify().ok
        assert (features(store.paths.tolist())["relu7"] == store["relu7"][:]).all()
    assert made().run.source == "/photos"


def test_the_engine_is_chosen_by_what_is_still_to_be_computed(tmp_path, monkeypatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(FeatureExtractor, "hint_workload", lambda _, images: told.append(images))
    extractor = FeatureExtractor("vgg16-tiny", layers="pool1", device="cpu")
    extractor.extract(write(tmp_path / "a", ["1.bmp", "2.bmp", "3.bmp"]), tmp_path / "a.h5")
    assert set(told) == {3}
    told.clear()
    extractor.extract(write(tmp_path / "a", ["4.bmp"], first=9), tmp_path / "a.h5")
    assert set(told) == {1}
