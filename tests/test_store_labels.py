"""Labels of a store from run to run: they say what the disk says, and never change in silence."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import h5py
import numpy as np
import pytest
from store_rows import Image, fill, made, writer

from vggfeat.errors import SourceError
from vggfeat.labels import LabelRequest
from vggfeat.store import FeatureStore, LabelReport, StoreWriter, merge

Shown = dict[str, tuple[str, ...]]
PHOTOS = ["cat/1.jpg", "cat/2.jpg", "dog/3.jpg"]


def run(
    store: Path, paths: list[str], asked: str | Path = "auto", from_source: Shown | None = None
) -> tuple[Shown, LabelReport]:
    """Extract as the command does; return each image's labels, and what is said of them."""
    wanted = LabelRequest.of(
        asked, paths=paths, from_source=from_source, source_name="list.csv", root="/photos"
    )
    with writer(store, entries=[Image(path) for path in paths], labels=wanted) as opened:
        rows = opened.pending()
        for row in rows.tolist():
            opened.fail(row, "not needed here")
        report = opened.labels
    return shown(store), report


def shown(store: Path) -> Shown:
    with FeatureStore(store) as opened:
        if not opened.has_labels:
            return {}
        values, classes = opened.labels[:], np.array(opened.classes)
        if values.ndim == 1:
            names = [(classes[k],) if k >= 0 else () for k in values]
        else:
            names = [tuple(classes[row == 1]) for row in values]
        return dict(zip(opened.paths.tolist(), names, strict=True))


def table(folder: Path, text: str) -> Path:
    file = folder / "hand.csv"
    file.write_text(text)
    return file


def test_labels_given_by_hand_stay_when_the_same_folder_is_extracted_again(tmp_path: Path) -> None:
    store = tmp_path / "s.h5"
    hand = table(tmp_path, "path,label\ncat/1.jpg,tabby\ncat/2.jpg,tom\n")
    given, report = run(store, PHOTOS, hand)
    assert given == {"cat/1.jpg": ("tabby",), "cat/2.jpg": ("tom",), "dog/3.jpg": ()}
    assert (report.origin, report.matched, report.unlabelled) == ("table:hand.csv", 2, 1)
    later, report = run(store, [*PHOTOS, "dog/4.jpg"])
    assert later == given | {"dog/4.jpg": ()}
    assert (report.origin, report.images, report.unlabelled) == ("table:hand.csv", 2, 2)
    assert report.changed == 0
    asked, report = run(store, [*PHOTOS, "dog/4.jpg"], "folder")
    assert set(asked.values()) == {("cat",), ("dog",)}
    assert (report.origin, report.changed, report.classes) == ("folder:1", 2, 2)


def test_a_second_table_adds_to_the_first_and_replaces_names_of_folders(tmp_path: Path) -> None:
    store = tmp_path / "s.h5"
    run(store, PHOTOS)
    first, report = run(store, PHOTOS, table(tmp_path, "path,label\ncat/1.jpg,a\n"))
    assert first == {"cat/1.jpg": ("a",), "cat/2.jpg": (), "dog/3.jpg": ()}
    assert (report.changed, report.unnamed_images) == (3, ("cat/2.jpg", "dog/3.jpg"))
    with FeatureStore(store) as opened:
        assert opened.classes == ["a"]
    second, _ = run(store, PHOTOS, table(tmp_path, "path,label\ncat/2.jpg,b\n"))
    assert second == {"cat/1.jpg": ("a",), "cat/2.jpg": ("b",), "dog/3.jpg": ()}


def test_a_second_year_beside_the_first_leaves_the_classes_as_they_are(tmp_path: Path) -> None:
    year = [f"2024/{name}" for name in PHOTOS]
    _, report = run(tmp_path / "s.h5", year)
    assert report.origin == "folder:2"
    both, report = run(tmp_path / "s.h5", [*year, "2025/cat/9.jpg", "2025/ape/9.jpg", "loose.jpg"])
    assert [both[path] for path in year] == [("cat",), ("cat",), ("dog",)]
    assert both["2025/cat/9.jpg"] == ("cat",)
    assert both["2025/ape/9.jpg"] == ("ape",)
    assert both["loose.jpg"] == ()
    assert (report.changed, report.unlabelled) == (0, 1)
    years, _ = run(tmp_path / "s.h5", [*year, "2025/cat/9.jpg"], "folder:1")
    assert years["2025/cat/9.jpg"] == ("2025",)


def test_a_photo_in_another_folder_has_that_folder_s_label(tmp_path: Path) -> None:
    run(tmp_path / "s.h5", PHOTOS)
    moved, _ = run(tmp_path / "s.h5", ["cat/1.jpg", "dog/2.jpg", "dog/3.jpg"])
    assert (moved["dog/2.jpg"], moved["cat/1.jpg"]) == (("dog",), ("cat",))


def test_labels_of_a_list_follow_the_list(tmp_path: Path) -> None:
    store = tmp_path / "s.h5"
    _, report = run(store, PHOTOS, from_source={"cat/1.jpg": ("x",), "dog/3.jpg": ("y",)})
    assert report.origin == "source:list.csv"
    later, report = run(store, PHOTOS, from_source={"cat/1.jpg": ("z",)})
    assert later == {"cat/1.jpg": ("z",), "cat/2.jpg": (), "dog/3.jpg": ("y",)}
    assert report.changed == 1
    assert run(store, PHOTOS)[0] == later  # the folder, without the list


def test_a_table_none_of_whose_paths_is_an_image_is_refused_with_both_sides(tmp_path: Path) -> None:
    hand = table(tmp_path, "path,label\nx/7.jpg,a\nx/8.jpg,b\n")
    with pytest.raises(SourceError, match=r"None of the 2 paths .*'x/7\.jpg'.*'cat/1\.jpg'"):
        run(tmp_path / "s.h5", PHOTOS, hand)
    assert not (tmp_path / "s.h5").exists()
    with pytest.raises(SourceError, match="gives no label to any of the 1 images"):
        run(tmp_path / "s.h5", PHOTOS, table(tmp_path, "path,label\ncat/1.jpg,\n"))
    with pytest.raises(SourceError, match=r"list\.csv says no labels of its own"):
        run(tmp_path / "s.h5", PHOTOS, "source")
    with pytest.raises(SourceError, match="No image lies in a folder at level 2"):
        run(tmp_path / "s.h5", PHOTOS, "folder:2")


def test_how_many_paths_matched_and_how_is_told(tmp_path: Path) -> None:
    hand = table(tmp_path, "path,label,age\nall/cat/1.jpg,a,3\nall/dog/3.jpg,b,4\ngone.jpg,c,5\n")
    labels, report = run(tmp_path / "s.h5", PHOTOS, hand)
    assert labels == {"cat/1.jpg": ("a",), "cat/2.jpg": (), "dog/3.jpg": ("b",)}
    assert (report.matched, report.unmatched, report.unmatched_paths) == (2, 1, ("gone.jpg",))
    assert report.how == "without the leading folder 'all' of the table"
    assert (report.unused, report.unnamed_images) == (("age",), ("cat/2.jpg",))
    with FeatureStore(tmp_path / "s.h5") as opened:
        assert opened.classes == ["a", "b"]


def test_known_to_show_none_and_unknown_are_two_things(tmp_path: Path) -> None:
    hand = table(tmp_path, "path,label\ncat/1.jpg,a|b\ncat/2.jpg,|\ndog/3.jpg,\n")
    run(tmp_path / "s.h5", PHOTOS, hand)
    with FeatureStore(tmp_path / "s.h5") as opened:
        assert opened.labels[:].tolist() == [[1, 1], [0, 0], [-1, -1]]
    hand = table(tmp_path, "path,b,a\ncat/1.jpg,1,0\ncat/2.jpg,0,-1\ndog/3.jpg,,\n")
    run(tmp_path / "t.h5", PHOTOS, hand)
    with FeatureStore(tmp_path / "t.h5") as opened:
        assert opened.classes == ["b", "a"]
        assert opened.labels[:].tolist() == [[1, 0], [0, -1], [-1, -1]]


def old_store(path: Path, labels: Shown) -> StoreWriter:
    """Make a store as versions did that did not remember where labels came from."""
    return writer(path, entries=[Image(name) for name in PHOTOS], labels=labels)


def test_older_stores_tell_by_their_labels_whether_folders_gave_them(tmp_path: Path) -> None:
    with old_store(tmp_path / "f.h5", {name: (name[:3],) for name in PHOTOS}) as store:
        fill(store)
    before = (tmp_path / "f.h5").stat()
    assert run(tmp_path / "f.h5", PHOTOS)[1].origin == "folder:1"
    after = (tmp_path / "f.h5").stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)  # not made anew
    more, _ = run(tmp_path / "f.h5", [*PHOTOS, "dog/4.jpg"])
    assert more["dog/4.jpg"] == ("dog",)
    hand = {name: ("x",) if "1" in name else ("y",) for name in PHOTOS}
    with old_store(tmp_path / "h.h5", hand) as store:
        fill(store)
    assert run(tmp_path / "h.h5", [*PHOTOS, "dog/4.jpg"])[0] == hand | {"dog/4.jpg": ()}


def test_where_labels_came_from_stands_in_the_file_and_outlives_a_merge(tmp_path: Path) -> None:
    run(tmp_path / "a.h5", PHOTOS)
    run(tmp_path / "b.h5", ["cat/7.jpg", "dog/8.jpg"])
    run(tmp_path / "c.h5", ["ape/9.jpg"], table(tmp_path, "path,label\nape/9.jpg,a\n"))
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["labels"].attrs["origin"].decode() == "folder:1"
    for stores, origin in ((("a", "b"), "folder:1"), (("a", "c"), "")):
        merge(tmp_path / "m.h5", [tmp_path / f"{s}.h5" for s in stores], overwrite=True)
        with FeatureStore(tmp_path / "m.h5") as opened:
            assert str(opened.targets.origin) == origin


def test_a_store_whose_class_is_there_in_two_forms_of_accents_has_it_once(tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "Fée") for form in ("NFC", "NFD")]
    paths = [f"{forms[0]}/1.jpg", f"{forms[1]}/2.jpg", "x/3.jpg"]
    labels, report = run(tmp_path / "s.h5", paths)
    assert (report.classes, list(labels.values())) == (2, [(forms[0],), (forms[0],), ("x",)])


def test_rows_are_in_the_order_of_the_list_and_later_ones_follow(tmp_path: Path) -> None:
    for paths in (["z.jpg", "a.jpg", "m.jpg"], ["z.jpg", "y.jpg", "a.jpg", "b.jpg", "m.jpg"]):
        entries = [Image(path) for path in paths]
        StoreWriter.open(
            tmp_path / "s.h5",
            entries=entries,
            shapes={"relu7": (2,)},
            provenance=made(layers={"relu7": ""}),
        ).close()
    with FeatureStore(tmp_path / "s.h5") as opened:
        assert opened.paths.tolist() == ["z.jpg", "a.jpg", "m.jpg", "y.jpg", "b.jpg"]
