"""Every dataset in a miniature of its official layout, made here."""

from __future__ import annotations

import functools
import hashlib
import http.server
import inspect
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import (
    MAKERS,
    PEOPLE,
    annotation,
    caltech101,
    caltech256,
    own,
    photo,
    voc,
    voc2007,
    voc2012,
    voc2012_action,
    write,
)
from PIL import Image

from vggfeat.datasets import (
    DATASETS,
    DOWNLOADABLE,
    Dataset,
    SplitRule,
    download,
    open_dataset,
)
from vggfeat.datasets.voc import CLASSES
from vggfeat.datasets.voc_action import ACTIONS
from vggfeat.errors import ImageError, SourceError
from vggfeat.images import decode
from vggfeat.labels import ABSENT, PRESENT, UNKNOWN
from vggfeat.preprocessing import TORCHVISION
from vggfeat.provenance import FeatureConfig, RunInfo, now
from vggfeat.sources import CropSource, FileSource, Source, open_source, open_stored
from vggfeat.sources.base import entry_of
from vggfeat.store import FeatureStore, StoreWriter


def test_each_dataset_has_a_miniature_here_and_a_protocol() -> None:
    assert set(MAKERS) == set(DATASETS)
    assert set(DOWNLOADABLE) == set(DATASETS) - {"folder"}


def targets_of(dataset: Dataset, image: str) -> dict[str, int]:
    """Return one example's targets by class, without those that are absent."""
    row = dataset.images.index(f"JPEGImages/{image}.jpg")
    values = zip(dataset.classes, dataset.targets[row].tolist(), strict=True)
    return {name: value for name, value in values if value != ABSENT}


def named(dataset: Dataset, rows: np.ndarray) -> list[str]:
    return [Path(dataset.images[row]).stem for row in rows]


# PASCAL VOC classification


def test_voc2007_is_trained_on_trainval_and_tested_on_test(tmp_path: Path) -> None:
    root = voc2007(tmp_path)
    dataset = open_dataset("voc2007", tmp_path)
    assert dataset.root == str(root)
    assert dataset.images == tuple(f"JPEGImages/{i}.jpg" for i in (
        "000001", "000002", "000005", "000007", "000012"
    ))  # fmt: skip
    assert dataset.classes == CLASSES
    assert len(CLASSES) == 20
    [split] = dataset.splits()
    assert named(dataset, split.train) == ["000005", "000007", "000012"]
    assert named(dataset, split.test) == ["000001", "000002"]
    assert named(dataset, dataset.sets["train"]) == ["000007", "000012"]
    assert named(dataset, dataset.sets["val"]) == ["000005"]
    assert dataset.targets.shape == (5, 20)
    assert dataset.targets.dtype == np.int8
    assert dataset.multi_label
    assert dataset.scored.tolist() == list(range(20))
    assert dataset.deviations == (
        "3 images in trainval instead of 5,011", "2 images in test instead of 4,952"
    )  # fmt: skip


def test_vocs_difficult_labels_are_ignored_and_its_others_are_kept(tmp_path: Path) -> None:
    voc2007(tmp_path)
    dataset = open_dataset("voc2007", tmp_path)
    assert targets_of(dataset, "000005") == {"chair": PRESENT, "person": UNKNOWN}
    assert targets_of(dataset, "000007") == {"car": PRESENT, "dog": PRESENT}
    assert targets_of(dataset, "000001") == {"dog": PRESENT, "person": PRESENT}
    assert targets_of(dataset, "000002") == {"train": UNKNOWN}
    assert (PRESENT, ABSENT, UNKNOWN) == (1, 0, -1)


def test_voc2012_is_tested_on_val_and_says_so(tmp_path: Path) -> None:
    voc2012(tmp_path)
    dataset = open_dataset("voc2012", tmp_path)
    [split] = dataset.splits()
    assert named(dataset, split.train) == ["2008_000008", "2011_000015"]
    assert named(dataset, split.test) == ["2008_000002"]
    assert dataset.sets["trainval"].tolist() == [0, 1, 2]
    assert "tested on val" in dataset.protocol.caveat
    assert targets_of(dataset, "2008_000002") == {"tvmonitor": PRESENT, "bus": UNKNOWN}


@pytest.mark.parametrize("name", DATASETS)
def test_the_root_may_be_the_dataset_itself_or_any_folder_above_it(
    name: str, tmp_path: Path
) -> None:
    folder = MAKERS[name](tmp_path)
    roots = [folder] if name == "folder" else [folder, *folder.parents[:3]]
    roots = [root for root in roots if root.is_relative_to(tmp_path)]
    found = {open_dataset(name, root).root for root in roots}
    assert found == {str(folder)}
    assert open_dataset(name, str(roots[-1]) + os.sep).sha256 == open_dataset(name, folder).sha256


@pytest.mark.parametrize("name", DOWNLOADABLE)
def test_a_missing_dataset_says_what_to_fetch_and_where_to_put_it(
    name: str, tmp_path: Path
) -> None:
    archives, title = {
        "voc2007": (
            ["VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar"],
            "PASCAL VOC 2007",
        ),
        "voc2012": (["VOCtrainval_11-May-2012.tar"], "PASCAL VOC 2012"),
        "voc2012-action": (["VOCtrainval_11-May-2012.tar"], "PASCAL VOC 2012"),
        "caltech101": (["caltech-101.zip"], "Caltech-101"),
        "caltech256": (["256_ObjectCategories.tar"], "Caltech-256"),
    }[name]
    assert [archive.name for archive in DATASETS[name].archives] == archives
    for root, reason in ((tmp_path, "No "), (tmp_path / "gone", "There is no folder ")):
        with pytest.raises(SourceError) as caught:
            open_dataset(name, root)
        text = str(caught.value)
        assert text.startswith(reason)
        fetch = " and ".join(map(str, DATASETS[name].archives))
        assert f"Fetch {fetch} of {title}" in text
        assert repr(str(root)) in text
        assert "\n" not in text


@pytest.mark.parametrize("name", DOWNLOADABLE)
def test_digests_are_those_by_which_torchvision_checks_a_download(name: str) -> None:
    import torchvision.datasets

    known = inspect.getsource(torchvision.datasets.caltech)
    known += str(torchvision.datasets.voc.DATASET_YEAR_DICT)
    record = DATASETS[name]
    assert len(record.download) == len(record.archives) > 0
    for archive in record.archives:
        pattern = rf"{re.escape(archive.name)}\W+md5\W+{archive.md5}\b"
        assert re.search(pattern, known), archive
        assert f"{archive.name} (MD5 {archive.md5})" in record.how_to_fetch(Path("/data"))


def test_a_dataset_of_that_name_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"'voc2017'\. Did you mean .*voc2007.* Known are voc2007"
    ):
        open_dataset("voc2017", tmp_path)
    with pytest.raises(SourceError, match="Unknown dataset"):
        download("imagenet", tmp_path)


def test_another_years_folder_is_not_taken_for_the_asked_one(tmp_path: Path) -> None:
    folder = voc(tmp_path / "VOC2012", {"train": {"000005": {}}, "val": {"000007": {}}})
    with pytest.raises(SourceError, match=r"is not voc2012's: it lists 000005, 000007\. Fetch"):
        open_dataset("voc2012", folder)


def test_without_the_test_archive_the_message_names_it(tmp_path: Path) -> None:
    folder = voc2007(tmp_path)
    for file in folder.glob("ImageSets/Main/*_test.txt"):
        file.unlink()
    with pytest.raises(SourceError, match=r"aeroplane_test\.txt is missing .*VOCtest_06-Nov-2007"):
        open_dataset("voc2007", tmp_path)


def test_listed_images_that_are_missing_are_counted_and_named(tmp_path: Path) -> None:
    folder = voc2007(tmp_path)
    for image in ("000012", "000002"):
        (folder / f"JPEGImages/{image}.jpg").unlink()
    with pytest.raises(
        SourceError, match=r"^2 of the 5 images .* missing in .*: 000002\.jpg, 000012"
    ):
        open_dataset("voc2007", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("000005\n", "line 1: '000005' is not an image and a label"),
        ("000005 1\n000007 2\n", "line 2: '000007 2'"),
        ("000005 1\n\n000005 -1\n", "line 3: '000005' is listed twice"),
        ("\n", "lists no image"),
        ("000005 1\n000012 -1\n", r"do not list the same: only one of them has '000007'"),
    ],
)
def test_a_damaged_image_set_is_named_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    folder = voc2007(tmp_path)
    file = write(folder / "ImageSets/Main/boat_trainval.txt", text)
    with pytest.raises(SourceError, match=message) as caught:
        open_dataset("voc2007", tmp_path)
    assert str(file) in str(caught.value)


def test_image_sets_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    both = {"000005": {"dog": 1}}, {"000005": {"dog": 0}}
    voc(tmp_path / "VOC2007", {"trainval": both[0], "test": both[1]})
    with pytest.raises(SourceError, match="contradict one another about dog in '000005'"):
        open_dataset("voc2007", tmp_path)


# PASCAL VOC actions


def test_every_person_is_an_example_with_a_box_and_actions(tmp_path: Path) -> None:
    voc2012_action(tmp_path)
    dataset = open_dataset("voc2012-action", tmp_path)
    assert dataset.crops == (
        "JPEGImages/2010_000001.jpg#1", "JPEGImages/2010_000003.jpg#2",
        "JPEGImages/2010_000003.jpg#3", "JPEGImages/2011_000001.jpg#1",
    )  # fmt: skip
    assert dataset.boxes is not None
    # VOC counts from 1 and means the last pixel: 11..20 are the pixels 10 to 19.
    assert dataset.boxes.tolist() == [[0, 0, 1, 1], [10, 5, 20, 25], [30, 0, 40, 30], [0, 2, 8, 30]]
    assert dataset.classes == (*ACTIONS, "other")
    shown = [
        {dataset.classes[k] for k in np.flatnonzero(row == PRESENT)} for row in dataset.targets
    ]
    assert shown == [set(), {"ridinghorse"}, {"other"}, {"phoning", "walking"}]
    [split] = dataset.splits()
    assert (split.train.tolist(), split.test.tolist()) == ([1, 2], [0, 3])


def test_the_mean_over_actions_leaves_other_out(tmp_path: Path) -> None:
    voc2012_action(tmp_path)
    dataset = open_dataset("voc2012-action", tmp_path)
    assert [dataset.classes[k] for k in dataset.scored] == list(ACTIONS)
    assert len(ACTIONS) == 10


def test_an_annotation_that_does_not_speak_of_other_leaves_it_unknown(tmp_path: Path) -> None:
    folder = voc2012_action(tmp_path)
    text = annotation(PEOPLE["val"]["2011_000001"]).replace("<other>0</other>", "")
    write(folder / "Annotations/2011_000001.xml", text)
    dataset = open_dataset("voc2012-action", tmp_path)
    assert dataset.targets[:, -1].tolist() == [ABSENT, ABSENT, PRESENT, UNKNOWN]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("<annotation>", "no element found"),
        (annotation([]), "object 1 should be a person and is no such object"),
        (annotation([("horse", (), "1 1 4 4")]), "object 1 should be a person and is a horse"),
        (annotation([("person", (), "9 1 4 4")]), "object 1 has no usable box, but 9 1 4 4"),
        (annotation([("person", (), "1 1 nan 4")]), "no usable box"),
        (annotation([("person", (), "1 1 1e99 4")]), "no usable box"),
    ],
)
def test_an_unusable_annotation_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    file = voc2012_action(tmp_path) / "Annotations/2011_000001.xml"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(SourceError, match=message) as caught:
        open_dataset("voc2012-action", tmp_path)
    assert str(file) in str(caught.value)


def test_a_persons_crop_has_exactly_the_pixels_of_its_box(tmp_path: Path) -> None:
    folder = voc2012_action(tmp_path)
    dataset = open_dataset("voc2012-action", tmp_path)
    source = dataset.source(boxes=True)
    assert [entry.path for entry in source.entries] == sorted(dataset.crops)
    for entry in source.entries:
        row = dataset.crops.index(entry.path)
        assert dataset.boxes is not None
        left, upper, right, lower = dataset.boxes[row]
        whole = np.asarray(Image.open(folder / dataset.images[row]).convert("RGB"))
        with source.open(entry) as file:
            assert np.array_equal(np.asarray(decode(file)), whole[upper:lower, left:right])
    assert source.entries[0].size == (folder / dataset.images[0]).stat().st_size


def test_image_and_box_features_can_be_put_side_by_side(tmp_path: Path) -> None:
    voc2012_action(tmp_path)
    dataset = open_dataset("voc2012-action", tmp_path)
    images = [entry.path for entry in dataset.source().entries]
    assert len(images) == 3
    crops = [entry.path for entry in dataset.source(boxes=True).entries][::-1]
    rows, box_rows = dataset.rows(images), dataset.rows(crops, boxes=True)
    assert [images[row] for row in rows] == list(dataset.images)
    assert [crops[row] for row in box_rows] == list(dataset.crops)
    assert dataset.rows(images[1:]).tolist() == [-1, 0, 0, 1]
    voc2007(tmp_path)
    without = open_dataset("voc2007", tmp_path)
    with pytest.raises(SourceError, match="voc2007 has no boxes"):
        without.source(boxes=True)


def test_a_box_that_reaches_beyond_its_image_is_cut_and_one_outside_fails_alone(
    tmp_path: Path,
) -> None:
    photo(tmp_path / "a.jpg", size=(40, 30))
    write(tmp_path / "b.jpg", "no image")
    source = CropSource(
        str(tmp_path),
        {"a#1": ("a.jpg", (-5, 20, 10, 99)), "a#2": ("a.jpg", (40, 0, 50, 9)),
         "b#1": ("b.jpg", (0, 0, 1, 1)), "c#1": ("c.jpg", (0, 0, 1, 1))},
    )  # fmt: skip
    first, *others = source.entries
    with source.open(first) as file:
        assert decode(file).size == (10, 10)
    for entry, reason in zip(others, ("has no pixel", "not an image", "no such file"), strict=True):
        with pytest.raises(ImageError, match=reason):
            source.open(entry)


# Folders of classes


def test_caltech101_counts_the_background_as_a_class(tmp_path: Path) -> None:
    folder = caltech101(tmp_path)
    write(folder / "BACKGROUND_Google/tmp", "left over")
    photo(folder / "Faces/._image_0001.jpg")
    dataset = open_dataset("caltech101", tmp_path)
    assert dataset.classes == ("BACKGROUND_Google", "Faces", "Faces_easy", "accordion")
    assert np.bincount(dataset.targets).tolist() == [33, 31, 85, 32]
    assert dataset.images == tuple(sorted(dataset.images))
    assert dataset.images[0] == "BACKGROUND_Google/image_0001.jpg"
    assert dataset.deviations == (
        "4 classes instead of 102", "181 images instead of 9,144"
    )  # fmt: skip


def test_caltech101_has_three_splits_of_30_to_train_and_at_most_50_to_test(tmp_path: Path) -> None:
    caltech101(tmp_path)
    dataset = open_dataset("caltech101", tmp_path)
    splits = dataset.splits()
    assert len(splits) == 3
    for split in splits:
        assert np.bincount(dataset.targets[split.train]).tolist() == [30] * 4
        assert np.bincount(dataset.targets[split.test]).tolist() == [3, 1, 50, 2]
        both = np.concatenate([split.train, split.test])
        assert len(np.unique(both)) == len(both)
    assert len({split.train.tobytes() for split in splits}) == 3


def test_caltech256_trains_on_60_a_class_and_tests_on_the_rest(tmp_path: Path) -> None:
    caltech256(tmp_path)
    dataset = open_dataset("caltech256", tmp_path)
    assert dataset.classes == ("001.ak47", "056.dog", "257.clutter")
    assert np.bincount(dataset.targets).tolist() == [61, 63, 64], "nothing that was left in it"
    for split in dataset.splits():
        assert np.bincount(dataset.targets[split.train]).tolist() == [60] * 3
        assert len(split.train) + len(split.test) == len(dataset)


def test_classes_too_small_for_the_rule_are_named(tmp_path: Path) -> None:
    caltech101(tmp_path, {"ant": 30, "bass": 31, "crab": 7})
    dataset = open_dataset("caltech101", tmp_path)
    with pytest.raises(
        SourceError, match=r"2 of 3 classes .* 31 images .*: ant \(30\), crab \(7\)\."
    ):
        dataset.splits()
    assert len(replace(dataset, rule=SplitRule(5, 6)).splits()) == 5


def test_a_folder_of_classes_is_split_by_its_smallest_class(tmp_path: Path) -> None:
    folder = own(tmp_path)
    photo(folder / "dog/more/10.jpg")
    photo(folder / "loose.jpg")
    dataset = open_dataset("folder", folder)
    assert dataset.classes == ("cat", "dog")
    assert np.bincount(dataset.targets).tolist() == [5, 10]
    assert dataset.rule == SplitRule(3, 2)
    assert "dog/more/10.jpg" in dataset.images
    assert dataset.deviations == ()


def test_folders_of_numbers_are_in_their_order_and_accents_make_no_second_class(
    tmp_path: Path,
) -> None:
    for name in ("10/1", "10/2", "2/1", "2/2", "f\xe9e/1", "fe\u0301e/2"):
        photo(tmp_path / f"{name}.jpg")
    dataset = open_dataset("folder", tmp_path)
    assert dataset.classes == ("2", "10", "f\xe9e")
    assert np.bincount(dataset.targets).tolist() == [2, 2, 2]


def test_a_folder_without_two_classes_of_two_images_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "cat/1.jpg")
    with pytest.raises(SourceError, match="only 'cat' for a class"):
        open_dataset("folder", tmp_path)
    for name in ("cat/2", "cat/3", "dog/1"):
        photo(tmp_path / f"{name}.jpg")
    with pytest.raises(SourceError, match=r"'dog' in .* has a single image"):
        open_dataset("folder", tmp_path)
    with pytest.raises(SourceError, match="There is no folder"):
        open_dataset("folder", tmp_path / "gone")
    with pytest.raises(SourceError, match="is not a folder"):
        open_dataset("folder", "")


def test_a_sample_of_caltech101_is_read_as_it_was_unpacked() -> None:
    folder = os.environ.get("VGGFEAT_CALTECH101")
    if not folder:
        pytest.skip("set VGGFEAT_CALTECH101 to a folder that holds 101_ObjectCategories")
    dataset = open_dataset("caltech101", folder)
    assert "BACKGROUND_Google" in dataset.classes
    for split in dataset.splits():
        assert np.bincount(dataset.targets[split.train]).tolist() == [30] * len(dataset.classes)
        assert np.bincount(dataset.targets[split.test]).max() <= 50
    source = dataset.source()
    with source.open(source.entries[0]) as file:
        assert min(decode(file).size) > 50


# Splits


GOLDEN = [
    {"train": [0, 2, 7, 8, 11, 12], "test": [3, 4, 10, 13]},
    {"train": [1, 4, 6, 8, 10, 11], "test": [2, 3, 9, 12]},
]


def test_a_seed_gives_the_same_splits_on_every_machine() -> None:
    splits = SplitRule(2, 3, 2).splits([0] * 8 + [1] * 6, ["a", "b"])
    assert [split.to_json() for split in splits] == GOLDEN
    others = SplitRule(2, 3, 2, seed=1).splits([0] * 8 + [1] * 6, ["a", "b"])
    assert [split.to_json() for split in others] != GOLDEN
    assert json.loads(json.dumps(splits[0].to_json())) == GOLDEN[0]


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(4, 12), min_size=1, max_size=5),
    train=st.integers(1, 3),
    most=st.none() | st.integers(1, 4),
    seed=st.integers(0, 2**40),
    shuffle=st.randoms(use_true_random=False),
)
def test_splits_never_overlap_and_keep_to_their_counts(
    sizes: list[int], train: int, most: int | None, seed: int, shuffle: Any
) -> None:
    targets = [k for k, size in enumerate(sizes) for _ in range(size)]
    shuffle.shuffle(targets)
    rule = SplitRule(2, train, most, seed)
    classes = [str(k) for k in range(len(sizes))]
    for split, again in zip(
        rule.splits(targets, classes), rule.splits(np.array(targets), classes), strict=True
    ):
        assert split.to_json() == again.to_json()
        parts = np.array(targets)
        assert np.bincount(parts[split.train]).tolist() == [train] * len(sizes)
        rest = [min(size - train, most or size) for size in sizes]
        assert np.bincount(parts[split.test]).tolist() == rest
        assert not set(split.train.tolist()) & set(split.test.tolist())
        assert split.train.tolist() == sorted(split.train.tolist())


def test_images_added_to_one_class_do_not_move_the_others() -> None:
    few = SplitRule(1, 3).splits([0] * 8 + [1] * 6, ["a", "b"])[0]
    more = SplitRule(1, 3).splits([0] * 8 + [1] * 9, ["a", "b"])[0]
    assert few.train[few.train < 8].tolist() == more.train[more.train < 8].tolist()


def test_a_rule_out_of_range_is_refused() -> None:
    for wrong in ((0, 1, 1, 0), (1, 0, 1, 0), (1, 1, 0, 0), (1, 1, 1, -1)):
        with pytest.raises(SourceError, match="must be at least"):
            SplitRule(*wrong)


@pytest.mark.parametrize("name", DATASETS)
def test_a_result_can_say_which_dataset_it_is_of(name: str, tmp_path: Path) -> None:
    folder = MAKERS[name](tmp_path)
    dataset = open_dataset(name, tmp_path if name != "folder" else folder)
    told = json.loads(json.dumps(dataset.to_json()))
    assert told["name"] == name
    assert told["examples"] == len(dataset)
    moved = tmp_path / "moved"
    folder.rename(moved)
    again = open_dataset(name, moved)
    assert again.to_json() == dataset.to_json(), "the same whatever folder it is in"
    assert replace(again, images=again.images[::-1]).sha256 != dataset.sha256
    with pytest.raises(ValueError, match="read-only"):
        dataset.targets[0] = 0


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"folder"}))
def test_the_papers_numbers_stand_beside_each_protocol(name: str) -> None:
    protocol = DATASETS[name].protocol
    assert bool(protocol.train and protocol.test) != bool(protocol.rule)
    assert protocol.published
    assert (protocol.ap is None) == (protocol.metric == "mean class recall")


# Into a store


def stored(source: Source, file: Path, *, again: int = 1) -> FeatureStore:
    """Write a store of a source with the file sizes as features."""
    config = FeatureConfig(
        "vgg16", "0" * 64, TORCHVISION.to_json(), "center", {"relu7": ""}, "float32"
    )
    for _ in range(again):
        with StoreWriter.open(
            file,
            entries=source.entries,
            shapes={"relu7": (1,)},
            config=config,
            run=RunInfo(source.root, "random:0", "cpu", "float32", now()),
            labels=source.given_labels,
        ) as writer:
            if len(rows := writer.pending()):
                sizes = [[source.entries[row].size] for row in rows]
                writer.write(rows, {"relu7": np.array(sizes, np.float32)})
    return FeatureStore(file)


def test_a_store_of_a_dataset_has_its_classes_as_labels(tmp_path: Path) -> None:
    caltech101(tmp_path)
    dataset = open_dataset("caltech101", tmp_path)
    with stored(dataset.source(), tmp_path / "c.h5") as store:
        assert tuple(store.classes) == dataset.classes
        assert store.labels[:].tolist() == dataset.targets.tolist()
        assert dataset.rows(list(store.paths)).tolist() == list(range(len(dataset)))


@pytest.mark.parametrize("name", ["voc2007", "voc2012"])
def test_a_store_of_voc_keeps_all_classes_and_what_is_difficult(name: str, tmp_path: Path) -> None:
    MAKERS[name](tmp_path)
    dataset = open_dataset(name, tmp_path)
    with stored(dataset.source(), tmp_path / "voc.h5", again=2) as store:
        assert tuple(store.classes) == CLASSES
        rows = dataset.rows(list(store.paths))
        labels = store.labels[rows]
        assert labels.dtype == np.int8
        assert labels.tolist() == dataset.targets.tolist()
        assert (labels == UNKNOWN).any()
    meant = {PRESENT: 1, ABSENT: -1, UNKNOWN: 0}  # the file's numbers are VOC's own
    with h5py.File(tmp_path / "voc.h5") as file:
        signs = file["labels/targets"][:][rows]
    assert signs.tolist() == [[meant[v] for v in row] for row in dataset.targets.tolist()]


def test_people_that_share_an_image_give_it_no_label_and_their_boxes_have_their_own(
    tmp_path: Path,
) -> None:
    voc2012_action(tmp_path)
    dataset = open_dataset("voc2012-action", tmp_path)
    with stored(dataset.source(), tmp_path / "images.h5") as store:
        assert not store.has_labels
    with stored(dataset.source(boxes=True), tmp_path / "boxes.h5", again=2) as store:
        rows = dataset.rows(list(store.paths), boxes=True)
        k = list(store.classes).index("phoning")
        assert store.labels[rows, k].tolist() == [0, 0, 0, 1]


def test_an_extractor_takes_a_datasets_images_and_boxes(tmp_path: Path) -> None:
    from vggfeat import FeatureExtractor

    folder = voc2012_action(tmp_path)
    dataset = open_dataset("voc2012-action", tmp_path)
    extractor = FeatureExtractor("vgg16-tiny", weights="random", layers=["pool5"], device="cpu")
    summary = extractor.extract(dataset.source(boxes=True), tmp_path / "b.h5", progress=False)
    assert (summary.done, summary.failed) == (4, 0)
    with Image.open(folder / dataset.images[1]) as image:
        expected = extractor(image.convert("RGB").crop((10, 5, 20, 25)))["pool5"][0]
    with FeatureStore(tmp_path / "b.h5") as store:
        row = dataset.rows(list(store.paths), boxes=True)[1]
        np.testing.assert_allclose(store["pool5"][row], expected, rtol=1e-4, atol=1e-6)
    assert extractor.extract(dataset.source(boxes=True), tmp_path / "b.h5").computed == 0
    assert extractor.extract(dataset.source(), tmp_path / "i.h5", progress=False).done == 3


def test_a_source_that_is_open_already_is_taken_as_it_is(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    source = FileSource(str(tmp_path), str(tmp_path), [entry_of(str(tmp_path), "a.jpg")])
    assert open_source(source) is source


def test_an_image_of_a_dataset_is_opened_again_from_what_a_store_keeps(tmp_path: Path) -> None:
    voc2007(tmp_path)
    source = open_dataset("voc2007", tmp_path).source()
    with open_stored(source.root, source.entries[0].path) as file:
        assert decode(file).size == (40, 30)


@pytest.mark.skipif(sys.platform != "linux", reason="file names as Linux allows them")
def test_class_folders_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    for kind in (b"\xe4", b"b"):
        for number in range(2):
            photo(tmp_path / os.fsdecode(b"\xff/" + kind) / f"{number}.jpg")
    source = open_dataset("folder", tmp_path / os.fsdecode(b"\xff")).source()
    assert [entry.size > 0 for entry in source.entries] == [True] * 4
    for entry in source.entries:
        source.open(entry).close()


# Downloads


def connect_through(proxies: dict[str, str]) -> None:
    """Let urllib, which torchvision downloads with, use these proxies and nothing else."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    urllib.request.install_opener(opener)


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lead every connection to a port where nothing listens."""
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    connect_through(dict.fromkeys(("http", "https"), "http://127.0.0.1:9"))
    yield
    urllib.request.install_opener(None)


@pytest.mark.usefixtures("cut_off")
def test_a_failed_download_says_in_a_line_what_to_do_without_one(tmp_path: Path) -> None:
    for name in DOWNLOADABLE:
        with pytest.raises(SourceError) as caught:
            download(name, tmp_path / "new" / name)
        text = str(caught.value)
        assert text.startswith(f"{name} could not be downloaded: ")
        assert "refused" in text
        assert f"{str(tmp_path / 'new' / name)!r}, so that there is" in text
        assert "\n" not in text
        assert "--download" not in text


@pytest.mark.usefixtures("cut_off")
def test_what_is_there_is_not_downloaded_again(tmp_path: Path) -> None:
    caltech101(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    download("caltech101", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_of_ones_own_cannot_be_downloaded(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'folder' cannot be downloaded; voc2007, .* can"):
        download("folder", tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Serve a folder on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        connect_through({})
        yield folder, f"http://127.0.0.1:{running.server_port}"
        urllib.request.install_opener(None)
        running.shutdown()
        thread.join()


def test_a_download_is_unpacked_where_it_is_then_read(
    tmp_path: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import voc as torchvision_voc

    folder, address = server
    made = voc2012(tmp_path / "made")
    names = [file.stem for file in made.glob("JPEGImages/*.jpg")]
    write(made / "ImageSets/Main/trainval.txt", "\n".join(names))
    with tarfile.open(folder / "voc.tar", "w") as tar:
        tar.add(made.parent, "VOCdevkit")
    digest = hashlib.md5((folder / "voc.tar").read_bytes(), usedforsecurity=False).hexdigest()
    entry = {
        **torchvision_voc.DATASET_YEAR_DICT["2012"],
        "url": f"{address}/voc.tar",
        "md5": digest,
    }
    monkeypatch.setitem(torchvision_voc.DATASET_YEAR_DICT, "2012", entry)
    download("voc2012", tmp_path / "data")
    assert open_dataset("voc2012", tmp_path / "data").sha256 == open_dataset("voc2012", made).sha256

    monkeypatch.setitem(torchvision_voc.DATASET_YEAR_DICT, "2012", {**entry, "md5": "0" * 32})
    with pytest.raises(SourceError, match="could not be downloaded: File not found or corrupted"):
        download("voc2012", tmp_path / "other")


def test_datasets_are_read_without_torch(tmp_path: Path) -> None:
    voc2012_action(tmp_path)
    program = (
        "import sys\n"
        "from vggfeat.datasets import open_dataset\n"
        f"open_dataset('voc2012-action', {str(tmp_path)!r}).source(boxes=True)\n"
        "print(sorted({'torch', 'torchvision', 'sklearn'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
