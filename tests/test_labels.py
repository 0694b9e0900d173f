from __future__ import annotations

import os
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggfeat.errors import SourceError
from vggfeat.files import as_key
from vggfeat.labels import FixedLabels, from_folders, in_order, match, read_label_file
from vggfeat.labels.names import class_name

if TYPE_CHECKING:
    from pathlib import Path


def from_csv(file: Path) -> dict[str, tuple[str, ...]]:
    found = read_label_file(file, need_labels=True)
    return found.by_key([as_key(path) for path in found.paths])


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


def test_a_folder_whose_name_is_a_blank_is_a_class_too() -> None:
    assert from_folders([" /1.jpg", "cat/1.jpg"])[" /1.jpg"] == (" ",)


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
        b"sep=;\r\npath;label\r\na.jpg;cat\r\n",
        b"\n\npath;label\na.jpg;cat\n",
    ],
    ids=["excel", "semicolons", "tabs", "powershell", "told", "blank"],
)
def test_tables_of_other_programs_are_understood(tmp_path: Path, text: bytes) -> None:
    assert from_csv(table(tmp_path, text)) == {"a.jpg": ("cat",)}


BEAR = "path,label\nbär.jpg,Bär\nfee.jpg,Fée\n"


@pytest.mark.parametrize(
    "data",
    [
        BEAR.encode(),
        BEAR.encode("utf-8-sig"),
        BEAR.encode("cp1252"),
        BEAR.replace(",", ";").encode("cp1252"),
        BEAR.encode("utf-16"),
        BEAR.encode("utf-16-le"),
        BEAR.encode("utf-16-be"),
        unicodedata.normalize("NFD", BEAR).encode(),
        BEAR.replace("\n", "\r\n").replace(",", "\t").encode("utf-16"),
    ],
    ids=["utf8", "bom", "cp1252", "excel", "utf16", "le", "be", "nfd", "excel-unicode"],
)
def test_whatever_program_wrote_a_table_it_means_the_same_images_and_classes(
    tmp_path: Path, data: bytes
) -> None:
    found = read_label_file(table(tmp_path, data), need_labels=True)
    for form in ("NFC", "NFD"):
        source = [unicodedata.normalize(form, name) for name in ("bär.jpg", "fee.jpg")]
        keys = match(found.paths, source).keys
        assert found.by_key(keys) == {source[0]: ("Bär",), source[1]: ("Fée",)}
    said = any("read as Windows-1252" in note for note in found.notes)
    assert said == (b"\xe4" in data and b"\x00" not in data)


def test_a_table_of_bytes_means_the_file_whose_name_has_these_bytes(tmp_path: Path) -> None:
    found = read_label_file(table(tmp_path, b"path,label\nb\xe4r.jpg,B\xe4r\n"))
    assert found.by_key(match(found.paths, [r"b\xe4r.jpg"]).keys) == {r"b\xe4r.jpg": ("Bär",)}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name,label\na,b\n", "'name', 'label'"),
        ("path,kind\na,b\n", "'path', 'kind'"),
        ("path,age,beach\na.jpg,7,1\n", "'path', 'age', 'beach'"),
        ("", "none"),
    ],
)
def test_a_table_without_a_needed_column_says_what_it_has(
    tmp_path: Path, text: str, found: str
) -> None:
    with pytest.raises(SourceError, match=f"columns {found}; one must be called"):
        from_csv(table(tmp_path, text))


@pytest.mark.skipif(os.name != "posix", reason="FIFOs and devices")
def test_a_table_that_is_a_fifo_or_a_link_to_a_device_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    (tmp_path / "b.txt").symlink_to("/dev/zero")
    for name in ("a.csv", "b.txt"):
        with pytest.raises(SourceError, match="is not a plain file"):
            read_label_file(tmp_path / name)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.csv"):
        from_csv(tmp_path / "none.csv")


# Columns


def test_columns_that_nothing_is_made_of_are_named_and_kept_by_name(tmp_path: Path) -> None:
    text = "patient,Image Path,class,split\np1,a.jpg,cat,train\np2,b.jpg,dog,test\n"
    found = read_label_file(table(tmp_path, text))
    assert (found.used, found.unused) == (("class",), ("patient", "split"))
    assert found.columns == {"patient": ["p1", "p2"], "split": ["train", "test"]}
    assert found.names == [("cat",), ("dog",)]


def test_a_column_a_class_makes_several_labels_with_unknown_ones(tmp_path: Path) -> None:
    text = "path,beach,bus,age,split\na.jpg,1,0,3,0\nb.jpg,0,0,4,1\nc.jpg,1,-1,5,1\nd.jpg,,,6,0\n"
    found = read_label_file(table(tmp_path, text), need_labels=True)
    assert (found.used, found.unused) == (("beach", "bus"), ("age", "split"))
    labels = found.by_key(found.paths)
    assert isinstance(labels, FixedLabels)
    assert (labels.multi_label, labels.classes) == (True, ("beach", "bus"))
    assert dict(labels) == {"a.jpg": ("beach",), "b.jpg": (), "c.jpg": ("beach",)}
    assert {key: names for key, names in labels.unsure.items() if names} == {"c.jpg": ("bus",)}
    assert found.notes[0].startswith("3 cells of ")


def test_lines_of_one_image_that_contradict_each_other_in_columns_of_classes_are_refused(
    tmp_path: Path,
) -> None:
    for second in ("0,1", "1,-1"):
        file = table(tmp_path, f"path,x,y\na.jpg,1,0\na.jpg,{second}\n")
        with pytest.raises(SourceError, match=r"'x' \(line 2\) and '(x|y)' \(line 3"):
            from_csv(file)
    assert from_csv(table(tmp_path, "path,x,y\na.jpg,1,0\na.jpg,1,0\n")) == {"a.jpg": ("x",)}


@pytest.mark.parametrize(("text", "missing"), [("1,-1\nb.jpg,-1,1", "0"), ("0,0\nb.jpg,0,0", "1")])
def test_columns_of_classes_without_present_or_absent_ones_are_refused(
    tmp_path: Path, text: str, missing: str
) -> None:
    with pytest.raises(SourceError, match=rf"never hold {missing} \("):
        read_label_file(table(tmp_path, f"path,x,y\na.jpg,{text}\n"))


def test_voc_s_code_of_absent_and_difficult_is_not_mistaken_for_ours(tmp_path: Path) -> None:
    voc = "path,x,y\na.jpg,1,-1\nb.jpg,-1,1\nc.jpg,0,-1\n"
    with pytest.raises(SourceError, match="holds -1 3 times and 0 1 times"):
        read_label_file(table(tmp_path, voc))
    ours = "path,x,y\na.jpg,1,\nb.jpg,,1\nc.jpg,0,\n"
    assert from_csv(table(tmp_path, ours))["c.jpg"] == ()


def test_a_table_without_heading_may_have_names_of_images_and_labels_alone(tmp_path: Path) -> None:
    assert from_csv(table(tmp_path, "a.jpg,cat\nb.png,dog\n")) == {
        "a.jpg": ("cat",),
        "b.png": ("dog",),
    }
    assert from_csv(table(tmp_path, "cat;a.jpg\ndog;b.png\n"))["b.png"] == ("dog",)
    with pytest.raises(SourceError, match="no line that names them"):
        read_label_file(table(tmp_path, "a.jpg,cat,7\nb.png,dog,8\n"))


# Several labels, and none


def test_an_image_shows_none_of_the_classes_where_a_bar_stands_alone(tmp_path: Path) -> None:
    labels = from_csv(table(tmp_path, "path,label\na.jpg,cat|dog\nb.jpg,|\nc.jpg,\n"))
    assert isinstance(labels, FixedLabels)
    assert dict(labels) == {"a.jpg": ("cat", "dog"), "b.jpg": ()}


@pytest.mark.parametrize("name", ["labels.csv", "labels.txt"])
def test_two_labels_of_one_image_are_refused_with_their_lines_unless_several_are_meant(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("path,label\na.jpg,cat\nb.jpg,cat\na.jpg,dog\n")
    with pytest.raises(
        SourceError, match=r"'a\.jpg' the labels 'cat' \(line 2\) and 'dog' \(line 4"
    ):
        from_csv(tmp_path / name)
    (tmp_path / name).write_text("path,label\na.jpg,cat\nb.jpg,dog\na.jpg,cat\nb.jpg,\n")
    assert from_csv(tmp_path / name) == {"a.jpg": ("cat",), "b.jpg": ("dog",)}
    (tmp_path / name).write_text("path,labels\na.jpg,cat\nb.jpg,cat\na.jpg,dog\n")
    assert from_csv(tmp_path / name) == {"a.jpg": ("cat", "dog"), "b.jpg": ("cat",)}


# Lines


def test_lines_of_path_and_label_are_read_as_caffe_and_others_write_them(tmp_path: Path) -> None:
    file = tmp_path / "train.txt"
    file.write_text(
        "# mine\n\nx/a.jpg 10\nmy photo.jpg 2\nb.JPEG\tgolden retriever\n"
        "copy.jpg of c.png  tabby cat\nd.jpg,pug\n"
    )
    assert from_csv(file) == {
        "x/a.jpg": ("10",),
        "my photo.jpg": ("2",),
        "b.JPEG": ("golden retriever",),
        "copy.jpg of c.png": ("tabby cat",),
        "d.jpg": ("pug",),
    }
    file.write_text("a b.jpg\nimg 7.jpg copy.jpg\n")
    assert read_label_file(file).paths == ["a b.jpg", "img 7.jpg copy.jpg"]
    assert not read_label_file(file).used
    with pytest.raises(SourceError, match="names images and no labels"):
        from_csv(file)
    file.write_text("a 3\nb 4\n")
    images = {"a", "b"}
    assert read_label_file(file, is_image=images.__contains__).names == [("3",), ("4",)]
    file.write_text("a.jpg 3 14 15\n")
    with pytest.raises(SourceError, match="several values"):
        read_label_file(file)


# Names


def test_a_class_written_in_two_ways_of_composing_accents_is_one() -> None:
    composed, apart = (unicodedata.normalize(form, "Fée") for form in ("NFC", "NFD"))
    assert composed != apart
    assert class_name(apart) == composed
    assert from_folders([f"{apart}/a.jpg", f"{composed}/b.jpg", "x/c.jpg"]) == {
        f"{apart}/a.jpg": (composed,),
        f"{composed}/b.jpg": (composed,),
        "x/c.jpg": ("x",),
    }


def test_classes_that_are_numbers_are_in_the_order_of_numbers() -> None:
    assert in_order(["10", "2", "b", "1.5", "-1", "a", "nan"]) == (
        *("-1", "1.5", "2", "10"),
        *("a", "b", "nan"),
    )


# Paths that mean images


SOURCE = ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/3.jpg"]


@pytest.mark.parametrize(
    ("written", "how"),
    [
        ("{}", ""),
        ("./{}", ""),
        ("/photos/all/{}", ""),
        ("all/{}", "'all' of the table"),
        ("photos/all/{}", "'photos/all' of the table"),
        ("C:\\data\\{}", "'C:/data' of the table"),
        ("/elsewhere/{}", "'/elsewhere' of the table"),
    ],
)
def test_a_table_s_paths_may_begin_elsewhere_or_be_of_another_system(
    written: str, how: str
) -> None:
    table = [written.format(name) for name in SOURCE]
    if "\\" in written:
        table = [name.replace("/", "\\") for name in table]
    found = match([*table, "gone.jpg"], SOURCE, "/photos/all")
    assert found.keys == [*SOURCE, None]
    assert how in found.how
    assert bool(found.how) == bool(how)


def test_a_table_s_paths_may_lack_what_the_source_s_have() -> None:
    deep = [f"2024/{name}" for name in SOURCE]
    found = match(SOURCE, deep)
    assert (found.keys, found.how) == (deep, "with the folder '2024' of the source before them")
    found = match(["x/2.jpg", "y/3.jpg"], SOURCE)
    assert found.keys == ["cat/2.jpg", "dog/3.jpg"]
    assert found.how == "by base names alone"
    found = match(["cat/1", "dog/3"], SOURCE)
    assert (found.keys, found.how) == (["cat/1.jpg", "dog/3.jpg"], "without their extensions")
    found = match(["2", "3"], SOURCE)
    assert found.keys == ["cat/2.jpg", "dog/3.jpg"]


def test_a_path_that_might_mean_two_images_means_none() -> None:
    assert match(["1.jpg", "2.jpg"], SOURCE).keys == [None, None]
    both = ["2024/cat/1.jpg", "2025/cat/1.jpg"]
    assert match(["cat/1.jpg"], both).keys == [None]
    assert match(["train/cat/1.jpg", "test/cat/1.jpg"], SOURCE, "/x").keys == [None, None]
    found = match(["train/cat/1.jpg", "test/cat/1.jpg"], SOURCE, "/x/test")
    assert found.keys == [None, "cat/1.jpg"]
    assert match(["cat/1.jpg", "x/2.jpg"], SOURCE).keys == ["cat/1.jpg", None]
