"""Promises of Parquet files with a column of images, also of those that strangers made."""

from __future__ import annotations

import io
import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import cli
from conftest import draw
from test_sources import JPEG, contents, paths, put

from vggfeat import FeatureExtractor, FeatureStore
from vggfeat.errors import ImageError, SourceError
from vggfeat.sources import (
    Originals,
    open_source,
    open_sources,
    open_stored,
    parquet_rows,
    why_not_shown,
)

pa = pytest.importorskip("pyarrow", reason="Parquet is an extra")
pq = pytest.importorskip("pyarrow.parquet")


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    draw(40, 30, seed=seed).save(file, "JPEG")
    return file.getvalue()


def images(names: list[str | None], data: list[bytes | None] | None = None) -> Any:
    """Make a column of structs as the Hugging Face hub ships them."""
    data = data or [jpeg(number) for number in range(len(names))]
    fields = [pa.array(data, pa.binary()), pa.array(names, pa.string())]
    return pa.StructArray.from_arrays(fields, names=["bytes", "path"])


def hub(features: dict[str, Any]) -> dict[bytes, bytes]:
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


LABELS = {
    "image": {"_type": "Image"},
    "label": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"},
}


def write(file: Path, columns: dict[str, Any], features: Any = None, **options: Any) -> Path:
    table = pa.table(columns)
    if features:
        table = table.replace_schema_metadata(hub(features))
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, **options)
    return file


def test_a_file_of_the_hub_gives_images_names_and_classes(tmp_path: Path) -> None:
    names = ["x/b.jpg", "a.jpg", "c.jpg"]
    file = write(tmp_path / "a.parquet", {"image": images(names), "label": [1, 0, -1]}, LABELS)
    source = open_source(file)
    assert paths(source) == names, "in the order of the rows"
    assert list(contents(source).values()) == [jpeg(0), jpeg(1), jpeg(2)]
    assert source.given_labels == {"x/b.jpg": ("dog",), "a.jpg": ("cat",)}
    assert source.given_labels.classes == ("cat", "dog", "owl")  # type: ignore[union-attr]
    assert source.root == source.spec == str(file)
    assert source.given_splits is None


def test_bytes_alone_and_names_that_repeat_are_called_by_their_rows(tmp_path: Path) -> None:
    data = [jpeg(0), jpeg(1)]
    plain = write(tmp_path / "plain.parquet", {"jpg": pa.array(data), "n": [1, 2]})
    assert paths(open_source(plain)) == ["plain.parquet/00000000", "plain.parquet/00000001"]
    for names in (["a.jpg", "a.jpg"], ["a.jpg", None], ["", "b.jpg"]):
        file = write(tmp_path / "b.parquet", {"image": images(names)})
        assert paths(open_source(file)) == ["b.parquet/00000000", "b.parquet/00000001"]
        assert list(contents(open_source(file)).values()) == data
    assert open_source(plain).given_labels is None


@pytest.mark.parametrize("how", ["braces", "folder"])
def test_several_files_are_shards_whose_names_say_the_split(tmp_path: Path, how: str) -> None:
    for name, seed in (("train-00000-of-00002", 0), ("train-00001-of-00002", 2), ("test-00000", 4)):
        columns = {"image": images(["0.jpg", "1.jpg"], [jpeg(seed), jpeg(seed + 1)])}
        write(tmp_path / f"data/{name}.parquet", columns | {"label": [0, 1]}, LABELS)
    put(tmp_path / "data/README.md", b"text")
    names = "data/{test-00000,train-00000-of-00002,train-00001-of-00002}.parquet"
    source = open_source(tmp_path / (names if how == "braces" else "data"))
    assert paths(source) == [
        f"{file}.parquet/{number}.jpg"
        for file in ("test-00000", "train-00000-of-00002", "train-00001-of-00002")
        for number in (0, 1)
    ]
    assert list(contents(source).values()) == [jpeg(n) for n in (4, 5, 0, 1, 2, 3)]
    assert source.given_splits is not None
    assert source.given_splits["test-00000.parquet/0.jpg"] == "test"
    assert source.given_splits["train-00001-of-00002.parquet/1.jpg"] == "train"
    both = open_sources([f"a={tmp_path / 'data/test-00000.parquet'}", str(tmp_path / "data")])
    assert paths(both)[0] == "a/0.jpg"
    assert both.given_splits is not None
    assert both.given_splits["data/train-00001-of-00002.parquet/1.jpg"] == "train"


def test_a_store_takes_labels_and_splits_along_and_goes_on(tmp_path: Path) -> None:
    columns = {
        "image": images([f"{n}.jpg" for n in range(6)]), "label": [0, 1, 0, 1, 0, 1],
        "split": ["train", "train", "train", "train", "validation", "test"],
        "patient": ["p", "p", "q", "q", "r", "s"],
    }  # fmt: skip
    file = write(tmp_path / "a.parquet", columns, LABELS, row_group_size=2)
    folder = tmp_path / "folder"
    for n in range(6):
        put(folder / f"{n}.jpg", jpeg(n))
    extractor = FeatureExtractor("vgg16-tiny", layers="pool5", device="cpu", engine="torch")
    extractor.extract(folder, tmp_path / "folder.h5", progress=False)
    summary = extractor.extract(file, tmp_path / "a.h5", progress=False)
    assert (summary.done, summary.labels.classes) == (6, 3)
    assert summary.labels.splits == {"test": 1, "train": 4, "val": 1}
    assert summary.labels.groups == 4
    assert summary.labels.origin == "source:a.parquet"
    with FeatureStore(tmp_path / "folder.h5") as one, FeatureStore(tmp_path / "a.h5") as other:
        assert np.array_equal(one["pool5"][:], other["pool5"][:])
        assert list(other.classes) == ["cat", "dog", "owl"]
    # Other bytes around the same images: none is computed again.
    columns["extra"] = list(range(6))
    write(file, columns, LABELS, row_group_size=3)
    again = extractor.extract(file, tmp_path / "a.h5", progress=False)
    assert (again.computed, again.changed) == (0, 0)
    columns["image"] = images(
        [f"{n}.jpg" for n in range(6)], [jpeg(n + (n == 3)) for n in range(6)]
    )
    write(file, columns, LABELS)
    again = extractor.extract(file, tmp_path / "a.h5", progress=False)
    assert (again.computed, again.changed) == (1, 1)


def test_columns_are_chosen_behind_a_hash_sign(tmp_path: Path) -> None:
    columns = {
        "front": images(["f.jpg"], [jpeg(1)]), "back": images(["b.jpg"], [jpeg(2)]),
        "breed": ["husky"], "colour": [7], "file": ["x.jpg"],
    }  # fmt: skip
    file = write(tmp_path / "a.parquet", columns)
    with pytest.raises(SourceError, match=r"2 columns that may hold images, front, back.*#image:"):
        open_source(file)
    source = open_source(f"{file}#image:back,label:breed")
    assert contents(source) == {"b.jpg": jpeg(2)}
    assert source.given_labels == {"b.jpg": ("husky",)}
    assert (source.root, source.spec) == (f"{file}#image:back", f"{file}#image:back,label:breed")
    assert contents(open_source(source.spec)) == {"b.jpg": jpeg(2)}
    source = open_source(f"{file}#image=front,label=colour,path=file")
    assert contents(source) == {"x.jpg": jpeg(1)}
    assert source.given_labels == {"x.jpg": ("7",)}
    for wrong, message in (
        ("image:side", r"no column 'side' \(image\). It has front \(struct.*breed \(string\)"),
        ("image:breed", "'breed' of .* is string. Images are bytes"),
        ("image:front,label:back", "'back' of .* is struct.*Labels are numbers"),
        ("image:front,path:colour", "cannot name images"),
        ("image:front,lable:breed", "'lable:breed' behind # names no column"),
    ):
        with pytest.raises(SourceError, match=message):
            open_source(f"{file}#{wrong}")
    with pytest.raises(SourceError, match=r"for \.parquet files alone"):
        open_source(f"{put(tmp_path / 'a.tar', JPEG)}#image:x")


def test_the_image_among_masks_is_the_one_called_so(tmp_path: Path) -> None:
    columns = {"mask": images(["m.png"]), "image": images(["i.png"]), "embedding": [b"abc"]}
    features = {"mask": {"_type": "Image"}, "image": {"_type": "Image"}}
    assert paths(open_source(write(tmp_path / "a.parquet", columns, features))) == ["i.png"]


def test_classes_come_as_numbers_texts_and_lists(tmp_path: Path) -> None:
    def given(values: Any, features: Any = None, name: str = "label") -> Any:
        columns = {"image": images(["a", "b"]), name: values}
        return open_source(write(tmp_path / "a.parquet", columns, features)).given_labels

    assert given([10, 2]) == {"a": ("10",), "b": ("2",)}
    assert given(["é", None]) == {"a": ("é",)}
    assert given([True, False]) == {"a": ("true",), "b": ("false",)}
    assert given([0.5, float("nan")]) == {"a": ("0.5",)}
    sequence = {"label": {"_type": "Sequence", "feature": LABELS["label"]}}
    several = given([[0, 2], []], sequence)
    assert several == {"a": ("cat", "owl"), "b": ()}
    assert several.multi_label
    assert given([["x"], ["x", "y"]], name="tags") == {"a": ("x",), "b": ("x", "y")}
    assert given([1, 0], {"fine": LABELS["label"]}, "fine") == {"a": ("dog",), "b": ("cat",)}
    with pytest.raises(SourceError, match="label 3 in label, and names 3 classes"):
        given([0, 3], LABELS)
    columns = {"image": images(["a"]), "fine": [0], "coarse": [1]}
    features = {"fine": LABELS["label"], "coarse": LABELS["label"]}
    file = write(tmp_path / "b.parquet", columns, features)
    with pytest.raises(SourceError, match=r"2 columns of classes, fine, coarse.*#label:none"):
        open_source(file)
    assert open_source(f"{file}#label:none").given_labels is None


def test_rows_without_an_image_fail_alone(tmp_path: Path) -> None:
    column = images(["a.jpg", "b.jpg"], [None, JPEG])
    assert contents(open_source(write(tmp_path / "a.parquet", {"image": column}))) == {
        "a.jpg": "no image in this row of the table: its bytes are null",
        "b.jpg": JPEG,
    }
    column = pa.array([None, {"bytes": JPEG, "path": "x"}], column.type)
    found = contents(open_source(write(tmp_path / "b.parquet", {"image": column})))
    assert list(found.values())[1] == JPEG


def test_many_threads_read_row_groups_in_any_order_with_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(0)
    data = [rng.randbytes(20_000 + n) for n in range(400)]
    file = write(tmp_path / "a.parquet", {"image": pa.array(data)}, row_group_size=60)
    monkeypatch.setattr(parquet_rows, "WINDOW_BYTES", 200_000)  # ten images of the sixty
    source = open_source(file)
    numbers = {entry.path: n for n, entry in enumerate(source.entries)}

    def read(entry: Any) -> bool:
        with source.open(entry) as opened:
            return opened.read() == data[numbers[entry.path]]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, source.entries))
        assert all(pool.map(read, rng.sample(source.entries, 40)))
    groups = source._images._groups.values()  # type: ignore[attr-defined]
    assert len(groups) <= 4
    assert all(group._used <= 200_000 for group in groups)


def test_a_folder_with_images_beside_tables_is_a_folder_of_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.parquet", {"image": images(["t.jpg"])})
    put(tmp_path / "a.jpg")
    assert paths(open_source(tmp_path)) == ["a.jpg"]
    assert "#image:COLUMN" in caplog.text
    assert paths(open_source(f"{tmp_path}#image:image")) == ["a.parquet/t.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="paths and links of POSIX")
def test_images_of_tables_are_shown_again_by_the_rules_of_folders(tmp_path: Path) -> None:
    columns = {"front": images(["a.jpg"]), "back": images(["b.jpg"], [b"PASSWORD=x" * 20])}
    file = write(tmp_path / "data/train.parquet", columns)
    outside = write(tmp_path / "private/p.parquet", {"image": images(["p.jpg"])})
    (tmp_path / "data/link.parquet").symlink_to(outside)
    root = f"{file}#image:front"
    open_stored(root, "a.jpg").close()
    folder = f"{tmp_path / 'data'}#image:front"
    for _ in range(2):
        open_stored(folder, "train.parquet/a.jpg").close()
    for where, path in (
        (root, "gone.jpg"), (f"{file}#image:back", "b.jpg"), (folder, "link.parquet/p.jpg"),
        (folder, "../private/p.parquet/p.jpg"), (folder, "train.parquet/x"), (str(put(
            tmp_path / "no.parquet", b"secret" * 99)), "a.jpg"),
    ):  # fmt: skip
        with pytest.raises((ImageError, SourceError)):
            open_stored(where, path)
    assert not why_not_shown(root)
    assert why_not_shown(str(tmp_path / "no.parquet"))
    file.rename(tmp_path / "moved.parquet")
    moved = Originals([root], [tmp_path / "moved.parquet"])
    moved.open(root, "a.jpg").close()


def test_what_is_no_table_of_images_is_refused_with_what_to_do(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.parquet", {"image": images(["a", "b"])}).read_bytes()
    for data in (b"", b"PAR1", JPEG, whole[:-20], whole[: len(whole) // 2]):
        with pytest.raises(SourceError, match=r"not a Parquet file, or incomplete.*Fetch it again"):
            open_source(put(tmp_path / "b.parquet", data))
    with pytest.raises(SourceError, match=r"no column of images.*It has n \(int64\)"):
        open_source(write(tmp_path / "c.parquet", {"n": [1]}))
    with pytest.raises(SourceError, match="has no rows"):
        open_source(write(tmp_path / "d.parquet", {"image": images([], [])}))
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(SourceError, match="archives and tables"):
        open_source(tmp_path / "a.{tar,parquet}")


def test_row_groups_and_counts_beyond_all_bounds_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One text of a million letters, or one label, stands for very many rows in few bytes.
    many = pa.DictionaryArray.from_arrays(pa.array(np.zeros(500_000, np.int32)), [b"x" * 1000])
    file = write(tmp_path / "rows.parquet", {"image": many}, store_schema=False)
    with pytest.raises(SourceError, match=r"500,000 rows, and has .* bytes"):
        open_source(file)
    file = write(tmp_path / "large.parquet", {"image": images(["a", "b"])})
    monkeypatch.setattr(parquet_rows, "LARGEST_ROWS", 1000)
    with pytest.raises(SourceError, match=r"Row group 0 .* row_group_size=100"):
        open_source(file)


def test_a_dictionary_of_one_large_value_takes_no_more_than_what_is_kept(tmp_path: Path) -> None:
    value = b"x" * 4_000_000
    rows = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2000, np.int32)), [value])
    label = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2000, np.int32)), ["y" * 4_000_000])
    columns = {"image": rows, "label": label}
    file = write(tmp_path / "a.parquet", columns, store_schema=False)
    assert file.stat().st_size < 1 << 20
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    source = open_source(file)  # 2,000 texts would be 8 GB
    assert source.given_labels == {}
    for entry in source.entries[:40]:
        with source.open(entry) as opened:
            assert opened.read() == value
        assert pool.bytes_allocated() - before < 1 << 26, "a page, and one image"
    (group,) = source._images._groups.values()  # type: ignore[attr-defined]
    assert group._used <= parquet_rows.WINDOW_BYTES


def test_damaged_tables_end_in_success_or_one_clear_line(tmp_path: Path) -> None:
    rng = random.Random(0)
    columns = {"image": images([f"{n}.jpg" for n in range(9)]), "label": ["a", "b", "c"] * 3}
    whole = write(tmp_path / "a.parquet", columns, LABELS, row_group_size=4).read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little")
    file = tmp_path / "b.parquet"
    for _ in range(200):
        data = bytearray(whole)
        start = rng.choice((4, len(data) - 8 - footer))
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(start, len(data) - 4)] = rng.choice(
                (0, 0x7F, 0xFF, rng.randrange(256))
            )
        file.write_bytes(data)
        try:
            source = open_source(file)
        except SourceError:
            continue
        for read in contents(source).values():
            assert isinstance(read, bytes) or "\n" not in read


def test_a_table_that_changes_under_our_hands_is_noticed(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", {"image": images(["a.jpg"])})
    source = open_source(file)
    write(file, {"image": images(["b.jpg"])})
    assert contents(source) == {"a.jpg": "the archive has changed since it was listed"}


def test_the_command_says_which_columns_it_took(tmp_path: Path) -> None:
    columns = {"image": images(["0.jpg", "1.jpg"]), "label": [1, 0]}
    file = write(tmp_path / "train-00000-of-00001.parquet", columns, LABELS)
    told = cli(
        "extract", file, tmp_path / "a.h5", "--model", "vgg16-tiny", "--layers", "pool5",
        "--device", "cpu", "--engine", "torch",
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "2 of 2 images done" in told.stdout
    assert "Labels: 2 of 2 images, 3 classes" in told.stdout
    assert "Splits: 2 train" in told.stdout
