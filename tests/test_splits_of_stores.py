"""Splits and groups of a store: from folders, columns, lists, patterns and several sources."""

from __future__ import annotations

import csv
import json
from contextlib import chdir
from pathlib import Path

import h5py
import numpy as np
import pytest
from commands import cli
from PIL import Image
from store_rows import Image as Entry
from store_rows import fill, writer

from vggfeat.errors import SourceError, StoreError
from vggfeat.labels import LabelRequest, NamesRequest, requested_groups, requested_splits
from vggfeat.labels.splits import groups_from_pattern, split_level
from vggfeat.store import FeatureStore, merge

EXTRACT = ("--model", "vgg16-tiny", "--weights", "random:0", "--layers", "pool5", "--json")
LAYOUT = {
    "train/cat": 3, "train/dog": 2, "val/cat": 1, "val/dog": 1, "test/cat": 2, "test/dog": 1,
}  # fmt: skip


def image_folder(root: Path, layout: dict[str, int]) -> Path:
    """Write images as ImageFolder has them; each is another."""
    number = 0
    for folder, count in layout.items():
        (root / folder).mkdir(parents=True)
        for _ in range(count):
            number += 1
            pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
            Image.fromarray(pixels).save(root / folder / f"p{number % 4}_{number}.png")
    return root


def extract(*arguments: object) -> dict[str, object]:
    result = cli("extract", *arguments, *EXTRACT)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["labels"]  # type: ignore[no-any-return]


def column(store: Path, name: str) -> dict[str, str]:
    with FeatureStore(store) as opened:
        named = getattr(opened, name)
        if named is None:
            return {}
        return {path: named.cell(row) for row, path in enumerate(opened.paths)}


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("splits") / "flowers", LAYOUT)


@pytest.fixture(scope="module")
def split_store(flowers: Path) -> tuple[Path, dict[str, object]]:
    store = flowers.parent / "flowers.h5"
    return store, extract(flowers, store)


def test_folders_called_train_val_and_test_are_splits_and_those_below_them_classes(
    split_store: tuple[Path, dict[str, object]],
) -> None:
    store, report = split_store
    assert report["splits"] == {"test": 3, "train": 5, "val": 2}
    assert (report["split_origin"], report["origin"], report["classes"]) == (
        "folder:1",
        "folder:2",
        2,
    )
    with FeatureStore(store) as opened:
        assert opened.classes == ["cat", "dog"]
        assert opened.splits is not None
        for row, path in enumerate(opened.paths):
            split, name, _ = path.split("/")
            assert (opened.splits.cell(row), opened.targets.cell(row)) == (split, name)  # type: ignore[union-attr]
        assert opened.groups is None
    with h5py.File(store) as file:  # as the format's page says
        names = file["splits/names"].asstr()[:]
        assert [names[n] for n in file["splits/numbers"][:]] == [
            path.split("/")[0] for path in file["images/path"].asstr()[:]
        ]


def test_the_command_says_aloud_what_it_took_for_splits(flowers: Path, tmp_path: Path) -> None:
    result = cli("extract", flowers, tmp_path / "s.h5", *EXTRACT[:-1])
    assert result.returncode == 0
    assert "Splits: 3 test, 5 train, 2 val; from folder 1 of each path" in result.stdout
    told = cli("info", tmp_path / "s.h5")
    assert "3 test, 5 train, 2 val" in told.stdout


@pytest.mark.parametrize(
    ("names", "level"),
    [
        (["train", "test"], 1),
        (["Training", "Validation", "TEST"], 1),
        (["train", "val", "holdout"], None),
        (["bus", "train"], None),
        (["train"], None),
        (["train", "training"], None),
    ],
)
def test_only_folders_that_all_mean_splits_are_taken_for_splits(
    names: list[str], level: int | None
) -> None:
    assert split_level([f"{name}/cat/{at}.jpg" for at, name in enumerate(names)]) == level
    below = [f"all/{name}/cat/{at}.jpg" for at, name in enumerate(names)]
    assert split_level(below) == (level and 2)


def test_what_looks_like_splits_can_be_said_to_be_classes(flowers: Path, tmp_path: Path) -> None:
    report = extract(flowers, tmp_path / "s.h5", "--split", "none")
    assert (report["splits"], report["origin"], report["classes"]) == ({}, "folder:1", 3)
    report = extract(flowers, tmp_path / "s.h5", "--split", "folder:1", "--labels-from", "folder:2")
    assert (report["splits"], report["classes"]) == ({"test": 3, "train": 5, "val": 2}, 2)
    assert extract(flowers, tmp_path / "s.h5")["split_origin"] == "folder:1"


def test_classes_that_look_like_splits_are_said_to(tmp_path: Path) -> None:
    store = tmp_path / "s.h5"
    paths = ["train/cat/1.jpg", "test/cat/2.jpg"]
    entries = [Entry(path) for path in paths]
    with writer(store, entries=entries, labels={p: (p.split("/")[0],) for p in paths}) as opened:
        fill(opened)
    with writer(store, entries=entries, labels=LabelRequest.of("auto", paths=paths)) as opened:
        assert opened.labels.classes == 2, "what is labelled stays"
        assert "--labels folder:2" in " ".join(opened.labels.notes)


def test_columns_of_a_list_are_splits_and_groups(flowers: Path, tmp_path: Path) -> None:
    images = sorted(flowers.rglob("*.png"))
    table = tmp_path / "list.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split", "patient_id", "age"])
        for at, image in enumerate(images):
            rows.writerow(
                [image, "ab"[at % 2], ["Training", "dev", "test", ""][at % 4], at // 2, 7]
            )
    report = extract(table, tmp_path / "s.h5")
    assert report["splits"] == {"test": 2, "train": 3, "val": 3}
    assert (report["unsplit"], report["split_origin"]) == (2, "source:list.csv")
    assert (report["groups"], report["ungrouped"], report["unused"]) == (5, 0, ["age"])
    assert list(column(tmp_path / "s.h5", "groups").values()) == [str(n // 2) for n in range(10)]
    table.write_text(table.read_text().replace("Training", "test"))
    assert extract(table, tmp_path / "s.h5")["splits"] == {"test": 5, "val": 3}, "followed"


def test_a_table_given_by_hand_says_splits_and_groups_beside_labels(
    flowers: Path, tmp_path: Path
) -> None:
    table = tmp_path / "hand.csv"
    lines = [
        f"{path.relative_to(flowers)},x{at % 2},{'train' if at % 3 else 'test'},g{at % 4}"
        for at, path in enumerate(sorted(flowers.rglob("*.png")))
    ]
    table.write_text("\n".join(["image,class,Subset,group", *lines]))
    report = extract(flowers, tmp_path / "s.h5", "--labels", table)
    assert (report["splits"], report["groups"]) == ({"test": 4, "train": 6}, 4)
    assert report["split_origin"] == report["group_origin"] == "table:hand.csv"
    again = extract(flowers, tmp_path / "s.h5")
    assert (again["splits"], again["groups"]) == (report["splits"], 4), "they stay"


def test_lists_of_images_are_splits_and_an_image_in_two_is_refused(
    flowers: Path, tmp_path: Path
) -> None:
    images = [str(path.relative_to(flowers)) for path in sorted(flowers.rglob("*.png"))]
    (tmp_path / "a.txt").write_text("\n".join(images[:6]))
    (tmp_path / "b.txt").write_text("\n".join(images[6:9]))
    lists = ("--split", f"train={tmp_path / 'a.txt'}", "--split", f"test={tmp_path / 'b.txt'}")
    report = extract(flowers, tmp_path / "s.h5", *lists)
    assert (report["splits"], report["unsplit"]) == ({"test": 3, "train": 6}, 1)
    assert report["split_origin"] == "lists:a.txt, b.txt"
    (tmp_path / "a.txt").write_text("\n".join(images[:4]))
    again = extract(flowers, tmp_path / "s.h5", *lists)
    assert (again["splits"], again["unsplit"]) == ({"test": 3, "train": 4}, 3), "lists say all"
    (tmp_path / "a.txt").write_text("\n".join(images[:6]))
    extract(flowers, tmp_path / "s.h5", *lists)
    both = cli(
        "extract",
        flowers,
        tmp_path / "s.h5",
        *lists,
        "--split",
        f"Training={tmp_path / 'a.txt'}",
        *EXTRACT,
    )
    assert "Two lists are for one split" in both.stderr
    (tmp_path / "b.txt").write_text("\n".join(images[5:9]))
    refused = cli("extract", flowers, tmp_path / "s.h5", *lists, *EXTRACT)
    assert refused.returncode == 1
    assert "in the lists of both train and test" in refused.stderr
    assert list(column(tmp_path / "s.h5", "splits").values()).count("train") == 6, "as it was"


def test_several_sources_called_train_and_test_are_splits(flowers: Path, tmp_path: Path) -> None:
    report = extract(flowers / "train", flowers / "test", tmp_path / "both.h5")
    assert report["splits"] == {"test": 3, "train": 5}
    assert report["classes"] == 2
    assert {
        path.split("/")[0]: name for path, name in column(tmp_path / "both.h5", "splits").items()
    } == {
        "train": "train",
        "test": "test",
    }


def test_groups_come_of_a_pattern_over_paths_and_follow_it(flowers: Path, tmp_path: Path) -> None:
    report = extract(flowers, tmp_path / "s.h5", "--group-by", r"(p\d)_")
    assert (report["groups"], report["group_origin"]) == (4, r"pattern:(p\d)_")
    for path, group in column(tmp_path / "s.h5", "groups").items():
        assert Path(path).name.startswith(f"{group}_")
    assert extract(flowers, tmp_path / "s.h5")["groups"] == 4
    assert extract(flowers, tmp_path / "s.h5", "--group-by", "none")["groups"] == 0
    for pattern, why in (("patient_(\\d+)", "occurs in none of the 10 paths"), ("(", "no regular")):
        refused = cli("extract", flowers, tmp_path / "s.h5", "--group-by", pattern, *EXTRACT)
        assert refused.returncode == 1
        assert why in refused.stderr


def test_a_pattern_that_matches_some_images_leaves_the_others_alone() -> None:
    groups = groups_from_pattern(r"(\w+)/s(\d)", ["a/s1_x.jpg", "b/s1_y.jpg", "b/other.jpg"])
    assert groups == {"a/s1_x.jpg": "a-1", "b/s1_y.jpg": "b-1"}


def test_groups_come_of_a_file_with_or_without_a_heading(tmp_path: Path) -> None:
    paths = ["a.jpg", "b.jpg", "c.jpg"]
    (tmp_path / "g.csv").write_text("path,subject\na.jpg,s1\nb.jpg,s1\nc.jpg,\n")
    (tmp_path / "g.txt").write_text("a.jpg s1\nb.jpg s1\n")
    for name in ("g.csv", "g.txt"):
        request = requested_groups(None, tmp_path / name, paths)
        assert request.names == {"a.jpg": "s1", "b.jpg": "s1"}
    with pytest.raises(SourceError, match="one of them"):
        requested_groups("x", tmp_path / "g.csv", paths)


def test_lines_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,split\na.jpg,train\nb.jpg,test\na.jpg,test\n")
    from vggfeat.labels import NamedLines, read_label_file

    lines = NamedLines.of(read_label_file(tmp_path / "t.csv"), ["a.jpg", "b.jpg"])
    with pytest.raises(SourceError, match=r"'train' \(line 2\) and 'test' \(line 4\)"):
        requested_splits("auto", ["a.jpg", "b.jpg"], table=lines)
    with pytest.raises(SourceError, match="says no split"):
        requested_splits("folders", ["a.jpg"])


def test_a_column_of_flags_says_train_and_test(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label,is_train\na.jpg,x,1\nb.jpg,y,0\nc.jpg,y,\n")
    from vggfeat.labels import NamedLines, read_label_file

    lines = NamedLines.of(read_label_file(tmp_path / "t.csv"), ["a.jpg", "b.jpg", "c.jpg"])
    request = requested_splits("auto", ["a.jpg", "b.jpg", "c.jpg"], source=lines)
    assert request.from_source == {"a.jpg": "train", "b.jpg": "test"}


def test_flags_are_read_however_their_column_is_written_and_nothing_else_is(tmp_path: Path) -> None:
    from vggfeat.labels import NamedLines, read_label_file

    paths = ["a.jpg", "b.jpg"]
    for heading, first, meant in (("Is-Test", "no", "train"), ("is train", "TRUE", "train")):
        (tmp_path / "t.csv").write_text(f"path,label,{heading}\na.jpg,x,{first}\nb.jpg,y,\n")
        lines = NamedLines.of(read_label_file(tmp_path / "t.csv"), paths)
        assert requested_splits("auto", paths, source=lines).from_source == {"a.jpg": meant}
    (tmp_path / "t.csv").write_text("path,label,is_train\na.jpg,x,1\nb.jpg,y,2\n")
    lines = NamedLines.of(read_label_file(tmp_path / "t.csv"), paths)
    with pytest.raises(SourceError, match=r"'2' in the column is_train \(line 3\)"):
        requested_splits("auto", paths, source=lines)


def test_splits_that_no_probe_goes_by_are_not_said_to_be(flowers: Path, tmp_path: Path) -> None:
    made = cli("extract", flowers, tmp_path / "s.h5", *EXTRACT[:-1], "--split", "folder:2")
    assert "Probes go by train, val and test alone." in made.stdout


def test_merged_stores_keep_splits_and_groups_by_name(tmp_path: Path) -> None:
    for name, split in (("a", "train"), ("b", "test")):
        paths = [f"{name}/{at}.jpg" for at in range(3)]
        from_source = dict.fromkeys(paths, split)
        groups = {path: f"g{at}" for at, path in enumerate(paths[:2])}
        wanted = LabelRequest(
            splits=NamesRequest(from_source=from_source, of_splits=True),
            groups=NamesRequest(from_source=groups),
        )
        entries = [Entry(path) for path in paths]
        with writer(tmp_path / f"{name}.h5", entries=entries, labels=wanted) as opened:
            fill(opened)
    merge(tmp_path / "both.h5", [tmp_path / "a.h5", tmp_path / "b.h5"])
    splits = column(tmp_path / "both.h5", "splits")
    assert splits == {
        f"{n}/{at}.jpg": s for n, s in (("a", "train"), ("b", "test")) for at in range(3)
    }
    assert list(column(tmp_path / "both.h5", "groups").values()) == ["g0", "g1", ""] * 2


def test_rows_keep_splits_when_others_are_pruned(tmp_path: Path) -> None:
    store = tmp_path / "s.h5"
    paths = ["a/1.jpg", "a/2.jpg", "a/3.jpg"]
    wanted = LabelRequest(
        splits=NamesRequest(from_source=dict(zip(paths, ("train", "val", "test"), strict=True)))
    )
    with writer(store, entries=[Entry(path) for path in paths], labels=wanted) as opened:
        fill(opened)
    kept = [Entry(path) for path in paths[1:]]
    with writer(store, entries=kept, prune=True) as opened:
        fill(opened)
    assert column(store, "splits") == {"a/2.jpg": "val", "a/3.jpg": "test"}


def test_exports_have_columns_of_splits_and_groups_where_there_are_any(
    flowers: Path, tmp_path: Path
) -> None:
    extract(flowers, tmp_path / "s.h5", "--group-by", r"(p\d)_")
    for name in ("f.csv", "f.npy", "f.npz"):
        assert cli("export", tmp_path / "s.h5", tmp_path / name, "--layer", "pool5").returncode == 0
    for name in ("f.csv", "f.paths.csv"):
        with (tmp_path / name).open(newline="") as file:
            lines = list(csv.DictReader(file))
        for line in lines:
            split, label, base = line["path"].split("/")
            assert (line["split"], line["label"], line["group"]) == (split, label, base[:2])
    with np.load(tmp_path / "f.npz") as arrays, chdir(tmp_path):
        assert [p.split("/")[0] for p in arrays["paths"]] == arrays["splits"].tolist()


@pytest.mark.parametrize("lie", ["number", "short", "two dimensions"])
def test_splits_that_lie_are_refused(tmp_path: Path, lie: str) -> None:
    store = tmp_path / "s.h5"
    wanted = LabelRequest(
        splits=NamesRequest(from_source={"aa/1.jpg": "train", "bb/2.jpg": "test"})
    )
    with writer(store, entries=[Entry("aa/1.jpg"), Entry("bb/2.jpg")], labels=wanted) as opened:
        fill(opened)
    with h5py.File(store, "r+") as file:
        values = {"number": [0, 7], "short": [0], "two dimensions": [[0], [1]]}[lie]
        del file["splits/numbers"]
        file["splits/numbers"] = np.array(values, "<i4")
    with pytest.raises(StoreError, match="splits/numbers"):
        FeatureStore(store)
