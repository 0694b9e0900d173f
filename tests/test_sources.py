from __future__ import annotations

import gzip
import io
import logging
import os
import socket
import sys
import tarfile
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import draw
from hypothesis import given
from hypothesis import strategies as st

from vggfeat.errors import ImageError, SourceError
from vggfeat.images import decode
from vggfeat.sources import Source, decode_path, encode_path, open_source, open_stored

_file = io.BytesIO()
draw(30, 20).save(_file, "JPEG")
JPEG = _file.getvalue()

linux = pytest.mark.skipif(sys.platform != "linux", reason="file names as Linux allows them")


def put(file: Path, data: bytes = JPEG) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def pack(file: Path, members: dict[str, bytes], **options: Any) -> Path:
    with tarfile.open(file, "w", **options) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file


def paths(source: Source) -> list[str]:
    return [entry.path for entry in source.entries]


def contents(source: Source) -> dict[str, bytes | str]:
    """Return each entry's bytes, or the reason why it has none."""
    found: dict[str, bytes | str] = {}
    for entry in source.entries:
        try:
            with source.open(entry) as file:
                found[entry.path] = file.read()
        except ImageError as error:
            found[entry.path] = str(error)
    return found


# Names


@given(st.text(st.characters(codec=None)))
def test_any_name_has_a_text_of_its_own_that_leads_back_to_it(name: str) -> None:
    key = encode_path(name)
    assert decode_path(key) == name
    assert key.encode().decode() == key
    assert "\0" not in key


SPARSE = {
    "PAX 1.0": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1" * 15},
    "PAX 0.1": {"GNU.sparse.map": "0,512", "GNU.sparse.size": "1" * 15},
}


@pytest.mark.parametrize("kind", SPARSE)
def test_a_sparse_member_is_named_and_its_size_is_not_believed(tmp_path, kind):
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name, headers in (("a.jpg", SPARSE[kind]), ("b.jpg", {})):
            member = tarfile.TarInfo(name)
            data = b"1\n0\n512\n".ljust(512, b"\0") + JPEG if headers else JPEG
            member.size, member.pax_headers = len(data), headers
            tar.addfile(member, io.BytesIO(data))
    found = contents(open_source(tmp_path / "s.tar"))
    assert found["b.jpg"] == JPEG
    assert found["a.jpg"] == "sparse member, which cannot be read in place"


@given(st.binary())
def test_any_bytes_as_a_name_lead_back_to_the_same_bytes(data: bytes) -> None:
    name = data.decode("utf-8", "surrogateescape")
    back = decode_path(encode_path(name)).encode("utf-8", "surrogateescape")
    assert back == data


@given(st.text(st.sampled_from("\\x8ua0fd\udc80\udcff\0é")), st.text(st.sampled_from("\\x8\udc88")))
def test_different_names_never_share_a_text(one: str, other: str) -> None:
    assert (encode_path(one) == encode_path(other)) == (one == other)


def test_plain_names_are_kept_as_they_are() -> None:
    assert encode_path("a b/ä😀.jpg") == "a b/ä😀.jpg"
    assert encode_path("a\udcff\\b") == r"a\xff\\b"


# Folders


def test_a_folder_is_listed_to_every_depth_in_code_point_order(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/10.jpg", "B/x.png", "a.JPG", "a/1.jpeg", "a b.jpg", "ä.tif"):
        put(tmp_path / name)
    source = open_source(tmp_path)
    assert paths(source) == sorted(paths(source))
    assert paths(source) == [
        "B/x.png", "a b.jpg", "a.JPG", "a/1.jpeg", "b/10.jpg", "b/2.jpg", "ä.tif",
    ]  # fmt: skip
    assert source.root == source.spec == str(tmp_path)
    assert source.given_labels is None
    state = (tmp_path / "a.JPG").stat()
    entry = next(e for e in source.entries if e.path == "a.JPG")
    assert (entry.size, entry.mtime_ns) == (state.st_size, state.st_mtime_ns)
    assert set(contents(source).values()) == {JPEG}


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for name in (".a.jpg", "._b.jpg", ".git/c.jpg", "__MACOSX/d.jpg", "b.jpg", "__MACOSX.jpg"):
        put(tmp_path / name)
    assert paths(open_source(tmp_path)) == ["__MACOSX.jpg", "b.jpg"]


def test_a_hidden_folder_that_is_named_is_read(tmp_path: Path) -> None:
    put(tmp_path / ".photos/a.jpg")
    assert paths(open_source(tmp_path / ".photos")) == ["a.jpg"]


def test_files_without_an_image_extension_are_judged_by_their_first_bytes(tmp_path: Path) -> None:
    put(tmp_path / "photo")
    put(tmp_path / "photo.bak")
    put(tmp_path / "notes.txt", b"BM is how a bitmap begins, and this text too")
    put(tmp_path / "empty", b"")
    put(tmp_path / "raw.NEF", b"II*\0" + bytes(100))
    source = open_source(tmp_path)
    assert paths(source) == ["photo", "photo.bak", "raw.NEF"]
    assert source.left_out == 2


def test_links_are_followed_and_loops_survived(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root / "a/b/1.jpg")
    put(tmp_path / "outside/2.jpg")
    try:
        (root / "a/b/up").symlink_to(root, target_is_directory=True)
        (root / "self").symlink_to(".", target_is_directory=True)
        (root / "out").symlink_to(tmp_path / "outside", target_is_directory=True)
        (root / "gone.jpg").symlink_to("nowhere")
        (root / "round.jpg").symlink_to("round.jpg")
    except OSError:
        pytest.skip("no symbolic links here")
    source = open_source(root)
    assert paths(source) == ["a/b/1.jpg", "gone.jpg", "out/2.jpg", "round.jpg"]
    found = contents(source)
    assert found["out/2.jpg"] == JPEG
    assert found["gone.jpg"] == "symbolic link to a missing file"
    assert "symbolic links" in found["round.jpg"]  # type: ignore[operator]
    assert [(e.size, e.mtime_ns) for e in source.entries if e.path == "gone.jpg"] == [(0, 0)]


@linux
def test_special_files_named_like_images_fail_at_once_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "folder.jpg/a.jpg")
    os.mkfifo(tmp_path / "fifo.jpg")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        source = open_source(tmp_path)
        assert contents(source) == {
            "fifo.jpg": "not a file but a FIFO",
            "folder.jpg/a.jpg": JPEG,
            "socket.png": "not a file but a socket",
        }
    assert source.left_out == 1


@linux
def test_names_may_hold_anything(tmp_path: Path) -> None:
    names = [
        b"a b.jpg",
        b"new\nline.jpg",
        "😀.jpg".encode(),
        b"\xff\xfe/\xe4.jpg",
        b"back\\x41.jpg",
    ]
    for name in names:
        put(tmp_path / os.fsdecode(name))
    source = open_source(tmp_path)
    assert contents(source) == {
        "a b.jpg": JPEG, "new\nline.jpg": JPEG, "😀.jpg": JPEG, r"\xff\xfe/\xe4.jpg": JPEG,
        r"back\\x41.jpg": JPEG,
    }  # fmt: skip
    inner = open_source(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    assert inner.root == f"{tmp_path}/" + r"\xff\xfe"
    assert contents(inner) == {r"\xe4.jpg": JPEG}


def test_an_unreadable_folder_is_logged_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "locked/b.jpg")
    scandir = os.scandir  # not chmod: to root everything is readable

    def guarded(path: str) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    monkeypatch.setattr(logging.getLogger("vggfeat"), "propagate", True)
    assert paths(open_source(tmp_path)) == ["a.jpg"]
    assert "permission denied" in caplog.text
    assert "locked" in caplog.text
    with pytest.raises(SourceError, match=r"locked.*permission denied"):
        open_source(tmp_path / "locked")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_an_unreadable_file_is_an_entry_that_fails(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg").chmod(0)
    assert contents(open_source(tmp_path)) == {"a.jpg": "permission denied"}


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "notes.txt", b"no picture")
    with pytest.raises(SourceError, match=r"No images in the folder .* \(1 other files\)"):
        open_source(tmp_path)


# Single images and wrong names


def test_one_image_is_a_source_below_its_folder(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "b.jpg")
    put(tmp_path / "nameless")
    for name in ("a.jpg", "nameless"):
        source = open_source(str(tmp_path / name))
        assert contents(source) == {name: JPEG}
        assert (source.root, source.spec) == (str(tmp_path), str(tmp_path / name))


def test_what_does_not_exist_is_named_with_its_neighbours(tmp_path: Path) -> None:
    put(tmp_path / "photos/a.jpg")
    with pytest.raises(SourceError, match=r"Did you mean 'photos'\? Give a folder, an image"):
        open_source(tmp_path / "photo")
    for spec in ("", tmp_path / "no/such/place", "nul\0", "x" * 5000):
        with pytest.raises(SourceError, match="Give a folder, an image"):
            open_source(spec)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not a source of images"):
        open_source(put(tmp_path / "a.pdf", b"%PDF-1.4"))


# Lists


def test_a_text_list_is_read_whatever_editor_wrote_it(tmp_path: Path) -> None:
    put(tmp_path / "photos/a b.jpg")
    absolute = put(tmp_path / "elsewhere/c.jpg")
    text = f"\ufeff# mine\r\n\r\n../photos/a b.jpg\r\n{absolute}\r\n  d.jpg  \r\n./d.jpg"
    file = put(tmp_path / "lists/list.txt", text.encode())
    put(tmp_path / "lists/d.jpg")
    source = open_source(file)
    assert contents(source) == {"../photos/a b.jpg": JPEG, str(absolute): JPEG, "d.jpg": JPEG}
    assert (source.root, source.spec) == (str(file.parent), str(file))
    assert source.entries[-1].size == len(JPEG)


def test_an_image_listed_twice_is_taken_once_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("vggfeat"), "propagate", True)
    put(tmp_path / "a.jpg")
    file = put(tmp_path / "list.txt", f"a.jpg\n./a.jpg\n{tmp_path}/a.jpg\n".encode())
    assert paths(open_source(file)) == ["a.jpg"]
    assert "2 of 3 lines repeat" in caplog.text


def test_a_listed_file_that_is_missing_fails_alone(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    (tmp_path / "folder").mkdir()
    source = open_source(put(tmp_path / "list.txt", b"a.jpg\ngone.jpg\nfolder\n"))
    assert contents(source) == {
        "a.jpg": JPEG, "folder": "not a file but a folder", "gone.jpg": "no such file",
    }  # fmt: skip
    assert [(e.size, e.mtime_ns) for e in source.entries if e.path == "gone.jpg"] == [(0, 0)]


@linux
def test_a_list_may_hold_names_that_are_not_utf8(tmp_path: Path) -> None:
    put(tmp_path / os.fsdecode(b"\xe4.jpg"))
    assert contents(open_source(put(tmp_path / "l.txt", b"\xe4.jpg\n"))) == {r"\xe4.jpg": JPEG}


def test_a_csv_list_gives_paths_and_labels(tmp_path: Path) -> None:
    put(tmp_path / "x/a.jpg")
    file = put(tmp_path / "list.csv", b"filename,class\nx/a.jpg,cat|pet\n./x/b.jpg,\n")
    source = open_source(file)
    assert paths(source) == ["x/a.jpg", "x/b.jpg"]
    assert source.given_labels == {"x/a.jpg": ("cat", "pet")}
    put(file, b"filename\nx/a.jpg\n")
    assert open_source(file).given_labels is None


def test_useless_lists_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="names no images"):
        open_source(put(tmp_path / "list.txt", b"# nothing\n\n"))
    with pytest.raises(
        SourceError, match=r"columns 'name', 'label'.*path, file, filename or image"
    ):
        open_source(put(tmp_path / "list.csv", b"name,label\na,b\n"))


@pytest.mark.parametrize("ending", ["txt", "csv"])
def test_a_list_s_images_come_in_its_order(tmp_path: Path, ending: str) -> None:
    names = ["z.jpg", "b/a.jpg", "a.jpg", "b/0.jpg"]
    for name in names:
        put(tmp_path / name)
    heading = "path\n" if ending == "csv" else ""
    source = open_source(put(tmp_path / f"l.{ending}", (heading + "\n".join(names)).encode()))
    assert [entry.path for entry in source.entries] == names


def test_lines_of_path_and_label_give_labels(tmp_path: Path) -> None:
    for name in ("b 1.jpg", "a.jpg", "c.jpg 7"):
        put(tmp_path / name)
    source = open_source(put(tmp_path / "train.txt", b"b 1.jpg 12\na.jpg 3\nc.jpg 7\n"))
    assert [entry.path for entry in source.entries] == ["b 1.jpg", "a.jpg", "c.jpg 7"]
    assert source.given_labels == {"b 1.jpg": ("12",), "a.jpg": ("3",)}


@pytest.mark.parametrize("written", ["NFC", "NFD", "cp1252"])
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_a_list_means_the_file_whatever_form_its_accents_have(
    tmp_path: Path, written: str, on_disk: str
) -> None:
    name = unicodedata.normalize(on_disk, "f\xe9e.jpg")
    put(tmp_path / name)
    text = "path,label\nf\xe9e.jpg,F\xe9e\n"
    data = text.encode("cp1252") if written == "cp1252" else unicodedata.normalize(
        written, text).encode()  # fmt: skip
    source = open_source(put(tmp_path / "list.csv", data))
    assert contents(source) == {name: JPEG}
    assert source.given_labels == {name: ("F\xe9e",)}


def test_a_list_of_which_no_file_exists_is_refused_with_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "photos/x/a.jpg")
    text = b"x/a.jpg\nx/b.jpg\n"
    for place in ("lists/deep/l.txt", "photos/x/l.txt", "l.txt"):
        monkeypatch.chdir(tmp_path / "photos" if "deep" in place else tmp_path)
        put(tmp_path / place, text)
        with pytest.raises(SourceError, match=rf"relative to the list.*'{tmp_path}/photos'"):
            open_source(tmp_path / place)
    with pytest.raises(SourceError, match="URLs are not read"):
        open_source(put(tmp_path / "l.txt", b"https://a.example/a.jpg\n"))
    with pytest.raises(SourceError, match="paths of Windows"):
        open_source(put(tmp_path / "l.txt", b"C:\\x\\a.jpg\n"))
    assert paths(open_source(put(tmp_path / "photos/l.txt", b"x\\a.jpg\nx/b.jpg\n"))) == [
        "x/a.jpg",
        "x/b.jpg",
    ]


@linux
def test_urls_and_paths_of_windows_get_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "photos/cats/a.jpg")
    monkeypatch.chdir(tmp_path)
    for spec, hint in (
        ("ftp://a.example/photos.tar", "URL, and ftp:// is not read.*: download"),
        ("C:\\Users\\me\\photos", "path of Windows.*'/mnt/c/Users/me/photos'"),
        ("photos\\cats", "slashes of this system it is 'photos/cats'"),
    ):
        with pytest.raises(SourceError, match=hint):
            open_source(spec)


# Archives


def test_members_of_an_archive_are_read_in_place(tmp_path: Path) -> None:
    png = JPEG + b"other"
    tar = pack(
        tmp_path / "a.tar",
        {
            "./x/b.jpg": JPEG, "a.png": png, "x/.hidden.jpg": JPEG, "._a.png": JPEG,
            "__MACOSX/a.png": JPEG, "photo": JPEG, "notes.md": b"text", "../up.jpg": JPEG,
            "/abs.jpg": JPEG, "new\nline \udcff.jpg": JPEG, "empty.jpg": b"",
            "long" * 50 + "/ä.jpg": JPEG,
        },
    )  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    source = open_source(tar)
    assert contents(source) == {
        "../up.jpg": JPEG, "/abs.jpg": JPEG, "a.png": png, "empty.jpg": b"", "photo": JPEG,
        "x/b.jpg": JPEG, "new\nline \\xff.jpg": JPEG, "long" * 50 + "/ä.jpg": JPEG,
    }  # fmt: skip
    assert paths(source) == sorted(paths(source))
    assert source.left_out == 1
    assert source.given_labels is None
    assert source.root == str(tar)
    sizes = {e.path: (e.size, e.mtime_ns) for e in source.entries}
    assert sizes["a.png"] == (len(png), 0), "the time is the member's own"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_member_is_a_file_of_its_own_that_can_be_sought(tmp_path: Path) -> None:
    source = open_source(pack(tmp_path / "a.tar", {"a.jpg": b"0123456789", "b.jpg": JPEG}))
    with source.open(source.entries[0]) as file:
        assert file.read(3) == b"012"
        assert file.seek(-2, os.SEEK_END) == 8
        assert file.read() == b"89"
        assert file.read() == b""
        assert (file.seek(2), file.seek(3, os.SEEK_CUR), file.tell()) == (2, 5, 5)
        assert file.read(2) == b"56"
        file.seek(100)
        assert file.read() == b""
    with source.open(source.entries[1]) as file:
        assert decode(file).size == (30, 20)


def test_many_threads_read_one_archive_at_once(tmp_path: Path) -> None:
    members = {f"{i:03}.jpg": bytes([i]) * (1000 * i + 1) for i in range(100)}
    source = open_source(pack(tmp_path / "a.tar", members))

    def read(entry: Any) -> bool:
        with source.open(entry) as file:
            return file.read() == members[entry.path]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, source.entries * 5))


def test_several_shards_are_named_by_braces(tmp_path: Path) -> None:
    for i in range(12):
        pack(tmp_path / f"s-{i:03}.tar", {f"cat/{i}.jpg": JPEG, "dog/x.jpg": JPEG, "y.jpg": JPEG})
    source = open_source(tmp_path / "s-{000..011}.tar")
    assert len(source.entries) == 36
    assert paths(source)[:2] == ["s-000.tar/cat/0.jpg", "s-000.tar/dog/x.jpg"]
    assert set(contents(source).values()) == {JPEG}
    assert source.given_labels is not None
    assert source.given_labels["s-007.tar/cat/7.jpg"] == ("cat",)
    assert "s-007.tar/y.jpg" not in source.given_labels
    assert len(open_source(tmp_path / "s-{010,002}.tar").entries) == 6
    assert len(open_source(tmp_path / "s-0{0..1}{1,0}.tar").entries) == 12
    assert paths(open_source(source.spec)) == paths(source)


def test_shards_in_several_folders_keep_them_apart(tmp_path: Path) -> None:
    for kind in ("train", "val"):
        (tmp_path / kind).mkdir()
        pack(tmp_path / kind / "0.tar", {"a.jpg": JPEG})
    source = open_source(tmp_path / "{train,val}/0.tar")
    assert paths(source) == ["train/0.tar/a.jpg", "val/0.tar/a.jpg"]
    assert source.given_labels == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("s-{000..002}.tar", r"1 of the 3 shards .* missing, the first is .*s-002\.tar"),
        ("s-{000-002}.tar", r"mean nothing here.*\{000\.\.012\}"),
        ("s-{0..999999999}.tar", "at most 100,000"),
        ("s-{0..9999}{0..9999}.tar", "at most 100,000"),
    ],
)
def test_braces_that_lead_nowhere_are_explained(tmp_path: Path, name: str, message: str) -> None:
    for i in range(2):
        pack(tmp_path / f"s-00{i}.tar", {"a.jpg": JPEG})
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path / name)


def test_a_folder_whose_name_has_braces_is_just_a_folder(tmp_path: Path) -> None:
    put(tmp_path / "{a,b}/c.jpg")
    assert paths(open_source(tmp_path / "{a,b}")) == ["c.jpg"]


def test_webdataset_classes_are_the_labels(tmp_path: Path) -> None:
    members = {
        "d.1/000.jpg": JPEG, "d.1/000.cls": b"3\n", "d.1/000.json": b"{}",
        "d.1/001.left.jpg": JPEG, "d.1/001.right.jpg": JPEG, "d.1/001.cls": "Bär".encode(),
        "d.1/002.jpg": JPEG, "000.jpg": JPEG,
    }  # fmt: skip
    source = open_source(pack(tmp_path / "w.tar", members))
    assert source.given_labels == {
        "d.1/000.jpg": ("3",), "d.1/001.left.jpg": ("Bär",), "d.1/001.right.jpg": ("Bär",),
    }  # fmt: skip
    assert source.left_out == 1


def test_a_truncated_archive_is_used_as_far_as_it_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("vggfeat"), "propagate", True)
    members = {f"{i}.jpg": bytes([i]) * 2000 for i in range(4)}
    tar = pack(tmp_path / "a.tar", members)
    data = tar.read_bytes()
    record = 512 + 2048
    for end in (2 * record, 2 * record + 100, 2 * record + 512 + 100):
        tar.write_bytes(data[:end])
        caplog.clear()
        found = contents(open_source(tar))
        assert found["1.jpg"] == members["1.jpg"]
        assert found.get("2.jpg", "truncated").startswith("truncated")  # type: ignore[arg-type]
        assert "truncated or damaged" in caplog.text
    tar.write_bytes(data[: 2 * record] + b"\x07" * 512 + data[2 * record + 512 :])
    assert paths(open_source(tar)) == ["0.jpg", "1.jpg"]
    tar.write_bytes(data)
    caplog.clear()
    assert len(open_source(tar).entries) == 4
    assert caplog.text == ""


def test_links_in_an_archive_lead_to_their_members_and_never_out_of_it(tmp_path: Path) -> None:
    put(tmp_path / "secret.jpg")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind, target in [
            ("x/a.jpg", tarfile.REGTYPE, ""), ("hard.jpg", tarfile.LNKTYPE, "x/a.jpg"),
            ("x/soft.jpg", tarfile.SYMTYPE, "a.jpg"),
            ("out.jpg", tarfile.SYMTYPE, str(tmp_path / "secret.jpg")),
            ("fifo.jpg", tarfile.FIFOTYPE, ""),
        ]:  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.size = len(JPEG) if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(JPEG))
    assert contents(open_source(tmp_path / "a.tar")) == {
        "fifo.jpg": "not a file but a device or FIFO", "hard.jpg": JPEG,
        "out.jpg": "link to a missing member", "x/a.jpg": JPEG, "x/soft.jpg": JPEG,
    }  # fmt: skip


def test_of_members_with_one_name_the_last_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for data in (b"old", b"newer"):
            member = tarfile.TarInfo("a.jpg")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert contents(open_source(tmp_path / "a.tar")) == {"a.jpg": b"newer"}


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar.zst", "a.zip", "a.tar"])
def test_a_compressed_archive_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    data = pack(tmp_path / "plain", {"a.jpg": JPEG}).read_bytes()
    with pytest.raises(SourceError, match=r"Unpack it .* plain \.tar"):
        open_source(put(tmp_path / name, gzip.compress(data)))


def test_archives_without_use_are_refused(tmp_path: Path) -> None:
    for data in (b"", b"no tar" * 200, JPEG):
        with pytest.raises(SourceError, match="is not a tar archive"):
            open_source(put(tmp_path / "a.tar", data))
    with pytest.raises(SourceError, match=r"No images in .* \(1 other files\)"):
        open_source(pack(tmp_path / "b.tar", {"a.txt": b"text"}))


def test_an_archive_without_extension_is_recognised(tmp_path: Path) -> None:
    assert paths(open_source(pack(tmp_path / "data", {"a.jpg": JPEG}))) == ["a.jpg"]


def test_an_archive_that_changes_under_our_hands_is_noticed(tmp_path: Path) -> None:
    tar = pack(tmp_path / "a.tar", {"a.jpg": JPEG})
    source = open_source(tar)
    os.utime(tar, ns=(1, 1))
    assert contents(source) == {"a.jpg": "the archive has changed since it was listed"}


# Reopening


def test_an_image_is_opened_again_from_what_a_store_keeps(tmp_path: Path) -> None:
    put(tmp_path / "photos/x/a.jpg")
    put(tmp_path / "list.txt", b"photos/x/a.jpg\n")
    pack(tmp_path / "plain", {"m.jpg": JPEG})
    pack(tmp_path / "a.tar", {"m.jpg": JPEG})
    pack(tmp_path / "b.tar", {"m.jpg": JPEG})
    for spec in ("photos", "photos/x/a.jpg", "list.txt", "plain", "a.tar", "{a,b}.tar"):
        source = open_source(tmp_path / spec)
        for entry in source.entries:
            with open_stored(source.root, entry.path) as file:
                assert file.read() == JPEG
        with pytest.raises(ImageError, match="no such"):
            open_stored(source.root, "gone.jpg")
