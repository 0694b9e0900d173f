from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggfeat.errors import SourceError
from vggfeat.labels import from_csv, from_folders

if TYPE_CHECKING:
    from pathlib import Path


def table(folder: Path, text: str | bytes) -> Path:
    file = folder / "labels.csv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_the_folder_an_image_lies_in_is_its_class() -> None:
    assert from_folders(["cat/1.jpg", "cat/deep/2.jpg", "dog/1.jpg"]) == {
        "cat/1.jpg": ("cat",),
        "cat/deep/2.jpg": ("cat",),
        "dog/1.jpg": ("dog",),
    }


def test_folders_common_to_all_images_are_no_classes() -> None:
    paths = ["data/train/cat/1.jpg", "data/train/dog/1.jpg", "data/train/loose.jpg"]
    assert from_folders(paths) == {paths[0]: ("cat",), paths[1]: ("dog",)}


def test_images_beside_each_other_have_no_class() -> None:
    assert from_folders([]) == {}
    assert from_folders(["a.jpg"]) == {}
    assert from_folders(["one/a.jpg", "one/b.jpg"]) == {}


def test_a_folder_whose_name_begins_another_is_another_class() -> None:
    assert from_folders(["cat/1.jpg", "cat2/1.jpg", "cat/2.jpg"])["cat2/1.jpg"] == ("cat2",)


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), max_size=12))
def test_a_class_is_the_first_folder_in_which_paths_differ(names: list[list[str]]) -> None:
    paths = ["/".join(parts) for parts in names]
    for prefix in ("", "up/", "/far/up/"):
        moved = from_folders([prefix + path for path in paths])
        assert moved == {prefix + path: names for path, names in from_folders(paths).items()}
    for path, (name,) in from_folders(paths).items():
        assert name in path.split("/")[:-1]


@pytest.mark.parametrize("path", ["path", "file", "filename", "image", " Path ", "FILENAME"])
@pytest.mark.parametrize("label", ["label", "class", "Class"])
def test_a_table_may_call_its_columns_by_several_names(
    tmp_path: Path, path: str, label: str
) -> None:
    file = table(tmp_path, f"id,{label},{path}\n1,cat,a.jpg\n2,dog,b/c.jpg\n")
    assert from_csv(file) == {"a.jpg": ("cat",), "b/c.jpg": ("dog",)}


def test_several_labels_of_an_image_are_kept_and_empty_ones_are_unknown(tmp_path: Path) -> None:
    file = table(tmp_path, "path,label\na.jpg,cat| dog |cat\nb.jpg,\nc.jpg\na.jpg,bird\n,x\n")
    assert from_csv(file) == {"a.jpg": ("cat", "dog", "bird")}


def test_quoted_cells_may_hold_commas_and_newlines(tmp_path: Path) -> None:
    file = table(tmp_path, 'path,label\n"a,\nb.jpg","cat, big"\n')
    assert from_csv(file) == {"a,\nb.jpg": ("cat, big",)}


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfpath,label\r\n./a.jpg,cat\r\n",
        b"path;label\r\na.jpg;cat\r\n",
        b"path\tlabel\na.jpg\tcat\n\n",
        "path,label\r\na.jpg,cat\r\n".encode("utf-16"),
    ],
    ids=["excel", "semicolons", "tabs", "powershell"],
)
def test_tables_of_other_programs_are_understood(tmp_path: Path, text: bytes) -> None:
    assert from_csv(table(tmp_path, text)) == {"a.jpg": ("cat",)}


def test_names_that_are_not_utf8_are_spelt_so_that_a_store_can_hold_them(tmp_path: Path) -> None:
    labels = from_csv(table(tmp_path, b"path,label\nb\xe4r.jpg,B\xe4r\n"))
    assert labels == {r"b\xe4r.jpg": (r"B\xe4r",)}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name,label\na,b\n", "'name', 'label'"),
        ("path,kind\na,b\n", "'path', 'kind'"),
        ("", "none"),
    ],
)
def test_a_table_without_a_needed_column_says_what_it_has(
    tmp_path: Path, text: str, found: str
) -> None:
    with pytest.raises(SourceError, match=f"columns {found}; one must be called"):
        from_csv(table(tmp_path, text))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.csv"):
        from_csv(tmp_path / "none.csv")
