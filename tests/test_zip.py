"""Promises of zip archives as sources, also of those that strangers made."""

from __future__ import annotations

import io
import os
import random
import struct
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from commands import cli
from conftest import peak_bytes
from test_sources import JPEG, contents, paths, put

from vggfeat import FeatureExtractor, FeatureStore
from vggfeat.errors import ImageError, SourceError
from vggfeat.sources import Originals, open_source, open_stored, why_not_shown

EXTRACT = ("--model", "vgg16-tiny", "--layers", "pool5", "--device", "cpu")


def pack(file: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


def patched(file: Path, edits: dict[bytes, tuple[int, bytes]]) -> Path:
    """Write bytes at a distance behind each place where a signature stands."""
    data = bytearray(file.read_bytes())
    for signature, (offset, new) in edits.items():
        at = data.find(signature)
        while at >= 0:
            data[at + offset : at + offset + len(new)] = new
            at = data.find(signature, at + 4)
    file.write_bytes(data)
    return file


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_of_a_zip_are_read_in_place(tmp_path: Path, method: int) -> None:
    big = os.urandom(100_000)
    file = pack(
        tmp_path / "a.zip",
        {
            "x/y/b.jpg": JPEG, "x/y/.hidden.jpg": JPEG, "__MACOSX/x/y/._b.jpg": JPEG, "x/y/": b"",
            "photo": JPEG, "big.png": big, "notes.md": b"text", "x/data.csv": b"a,b", "no": b"text",
            "empty.jpg": b"", "./x/../up.jpg": JPEG, "new\nline.jpg": JPEG,
        },
        method,
    )  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    source = open_source(file)
    assert contents(source) == {
        "x/y/b.jpg": JPEG, "photo": JPEG, "big.png": big, "empty.jpg": b"", "x/../up.jpg": JPEG,
        "new\nline.jpg": JPEG,
    }  # fmt: skip
    assert paths(source) == sorted(paths(source))
    assert (source.left_out, source.root, source.given_labels) == (3, str(file), None)
    sizes = {entry.path: entry.size for entry in source.entries}
    assert sizes["big.png"] == len(big)
    with source.open(source.entries[0]) as part:  # big.png
        assert part.seek(-5, os.SEEK_END) == len(big) - 5
        assert part.read() == big[-5:]
        assert (part.seek(3), part.read(4)) == (3, big[3:7])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_gives_the_features_and_classes_of_the_folder_that_was_packed(
    twelve_photos: Path, tmp_path: Path
) -> None:
    files = {f"photos/{f.relative_to(twelve_photos)}": f for f in twelve_photos.rglob("*.jpg")}
    file = pack(tmp_path / "kaggle.zip", {name: f.read_bytes() for name, f in files.items()})
    extractor = FeatureExtractor("vgg16-tiny", layers="pool5", device="cpu", engine="torch")
    extractor.extract(twelve_photos.parent, tmp_path / "folder.h5", progress=False)
    summary = extractor.extract(file, tmp_path / "zip.h5", progress=False)
    assert (summary.done, summary.failed, summary.labels.classes) == (12, 0, 2)
    with FeatureStore(tmp_path / "folder.h5") as one, FeatureStore(tmp_path / "zip.h5") as other:
        assert one.paths.tolist() == other.paths.tolist()
        assert np.array_equal(one["pool5"][:], other["pool5"][:])
        assert np.array_equal(one.xy("pool5")[1], other.xy("pool5")[1])
    again = cli("extract", file, tmp_path / "zip.h5", *EXTRACT)
    assert "Nothing to do" in again.stdout


def test_many_threads_read_one_zip_at_once(tmp_path: Path) -> None:
    members = {f"{i:03}.jpg": bytes([i]) * (1000 * i + 1) for i in range(60)}
    source = open_source(pack(tmp_path / "a.zip", members))

    def read(name: str) -> bool:
        entry = next(one for one in source.entries if one.path == name)
        with source.open(entry) as file:
            return file.read() == members[name]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, list(members) * 5))


def test_several_zips_are_shards(tmp_path: Path) -> None:
    for number in range(3):
        pack(tmp_path / f"s-{number}.zip", {f"cat/{number}.jpg": JPEG, "dog/x.jpg": JPEG})
    source = open_source(tmp_path / "s-{0..2}.zip")
    assert paths(source)[:2] == ["s-0.zip/cat/0.jpg", "s-0.zip/dog/x.jpg"]
    assert source.given_labels is not None
    assert source.given_labels["s-1.zip/cat/1.jpg"] == ("cat",)


def test_names_are_read_as_the_systems_write_them(tmp_path: Path) -> None:
    file = pack(tmp_path / "a.zip", {"ä/ü.jpg": JPEG, "plain.jpg": JPEG})
    assert paths(open_source(file)) == ["plain.jpg", "ä/ü.jpg"]
    # Macs write UTF-8 without saying so.
    patched(file, {LOCAL: (6, b"\0\0"), CENTRAL: (8, b"\0\0")})
    assert paths(open_source(file)) == ["plain.jpg", "ä/ü.jpg"]
    # Windows writes code page 437, and once wrote its own slashes.
    data = file.read_bytes().replace("ä/ü".encode(), "ä\\_ü".encode("cp437") + b"_")
    data = bytearray(data)
    file.write_bytes(data)
    patched(file, {CENTRAL: (4, b"\x14\0")})
    assert paths(open_source(file)) == ["plain.jpg", "ä/_ü_.jpg"]


def test_zip64_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with (
        zipfile.ZipFile(file, "w") as archive,
        archive.open(zipfile.ZipInfo("x/a.jpg"), "w", force_zip64=True) as member,
    ):
        member.write(JPEG)
    assert contents(open_source(file)) == {"x/a.jpg": JPEG}


def test_what_cannot_be_unpacked_is_a_failed_image_with_its_reason(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for method, name in ((zipfile.ZIP_BZIP2, "b.jpg"), (zipfile.ZIP_LZMA, "l.jpg")):
            archive.writestr(name, JPEG, method)
        link = zipfile.ZipInfo("link.jpg")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("a.jpg", JPEG)
    found = contents(open_source(file))
    assert found["a.jpg"] == JPEG
    assert str(found["b.jpg"]).startswith("compressed by bzip2: unpack")
    assert str(found["l.jpg"]).startswith("compressed by LZMA: unpack")
    assert found["link.jpg"] == "a symbolic link"
    locked = pack(tmp_path / "locked.zip", {"a.jpg": JPEG})
    patched(locked, {LOCAL: (6, b"\1\0"), CENTRAL: (8, b"\1\0")})
    assert "encrypted: unpack the archive with its password" in str(contents(open_source(locked)))


def test_a_member_that_is_damaged_fails_alone(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = pack(tmp_path / "a.zip", {f"{n}.jpg": JPEG for n in range(3)}, method)
        data = bytearray(file.read_bytes())
        at = data.find(LOCAL, 4) + 30 + len("1.jpg") + 40
        data[at] ^= 0xFF
        file.write_bytes(data)
        found = contents(open_source(file))
        assert found["0.jpg"] == found["2.jpg"] == JPEG
        assert str(found["1.jpg"]).startswith("damaged")


def test_of_members_with_one_name_the_last_counts(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", b"old")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.jpg", b"newer")
    assert contents(open_source(tmp_path / "a.zip")) == {"a.jpg": b"newer"}


def test_a_zip_that_changes_under_our_hands_is_noticed(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = pack(tmp_path / "a.zip", {"a.jpg": JPEG}, method)
        source = open_source(file)
        os.utime(file, ns=(1, 1))
        assert contents(source) == {"a.jpg": "the archive has changed since it was listed"}


def test_what_is_no_zip_or_half_of_one_is_refused_with_what_to_do(tmp_path: Path) -> None:
    whole = pack(tmp_path / "a.zip", {f"{n}.jpg": JPEG for n in range(9)}).read_bytes()
    for data in (b"", JPEG, whole[: len(whole) // 2], whole[:-30], b"PK\x03\x04" + bytes(100)):
        with pytest.raises(SourceError, match=r"not a zip archive, or incomplete.*Fetch it again"):
            open_source(put(tmp_path / "b.zip", data))
    with pytest.raises(SourceError, match=r"No images in .* \(1 other files\)"):
        open_source(pack(tmp_path / "c.zip", {"a.txt": b"text"}))
    for name in ("photos", "photos.tar"):
        with pytest.raises(SourceError, match=r"name that ends in \.zip"):
            open_source(put(tmp_path / name, whole))


def test_bombs_take_no_memory_and_no_time(tmp_path: Path) -> None:
    # One member's bytes are another's, too: few of them would be read as very many.
    file = pack(tmp_path / "overlap.zip", {"a.jpg": bytes(1 << 16), "b.jpg": bytes(1 << 16)})
    data = bytearray(file.read_bytes())
    second = data.find(CENTRAL, data.find(CENTRAL) + 4)
    data[second + 42 : second + 46] = struct.pack("<I", 0)
    file.write_bytes(data)
    with pytest.raises(SourceError, match="overlaps"):
        open_source(file)
    # More comes out than the archive says: no more than that is unpacked.
    file = pack(tmp_path / "lie.zip", {"a.jpg": bytes(64 << 20)})
    patched(file, {CENTRAL: (24, struct.pack("<I", 1000))})
    source = open_source(file)
    found, peak = peak_bytes(lambda: contents(source))
    assert str(found["a.jpg"]).startswith("damaged")
    assert peak < 4 << 20, "two blocks of 1 MiB, what was packed (64 KiB), and what listed it"
    # What is stated is more than deflate can make.
    file = pack(tmp_path / "ratio.zip", {"a.jpg": JPEG})
    patched(file, {CENTRAL: (24, struct.pack("<I", 0xFFFF0000))})
    assert "more than an image has" in str(contents(open_source(file)))


def test_a_list_of_members_takes_no_more_than_stated(tmp_path: Path) -> None:
    file = pack(tmp_path / "a.zip", {f"{n}.jpg": b"" for n in range(5000)}, zipfile.ZIP_STORED)
    source, peak = peak_bytes(lambda: open_source(file))
    assert len(source.entries) == 5000
    assert peak < 32 * file.stat().st_size, "docs/security.md"


def test_what_is_unpacked_beyond_sixteen_mebibytes_goes_to_the_disk(tmp_path: Path) -> None:
    source = open_source(pack(tmp_path / "a.zip", {"a.bmp": bytes(48 << 20)}))

    def read() -> bool:
        with source.open(source.entries[0]) as file:
            return file.seek(0, os.SEEK_END) == 48 << 20

    same, peak = peak_bytes(read)
    assert same
    assert peak < (2 * 16 + 4) << 20, "16 MiB held, which grow by copying, and two blocks"


@pytest.mark.skipif(sys.platform == "win32", reason="paths of POSIX")
def test_a_zip_gives_out_its_images_only_and_only_by_its_name(tmp_path: Path) -> None:
    outside = put(tmp_path / "b.jpg")
    file = pack(tmp_path / "a.zip", {"m.jpg": JPEG, "secret.jpg": b"PASSWORD=x" * 20})
    open_stored(str(file), "m.jpg").close()
    for path in ("secret.jpg", "gone.jpg", str(outside), "../b.jpg", "/etc/passwd"):
        with pytest.raises(ImageError):
            open_stored(str(file), path, [tmp_path])
    document = pack(tmp_path / "letter.docx", {"word/media/image1.jpg": JPEG})
    with pytest.raises((ImageError, SourceError)):
        open_stored(str(document), "word/media/image1.jpg")
    assert why_not_shown(str(document))
    file.rename(tmp_path / "moved.zip")
    with Originals([str(file)], [tmp_path / "moved.zip"]).open(str(file), "m.jpg") as opened:
        assert opened.read() == JPEG


def test_damaged_zips_end_in_success_or_one_clear_line(tmp_path: Path) -> None:
    rng = random.Random(0)
    members = {f"x/{n}.jpg": JPEG + bytes(n * 100) for n in range(5)}
    whole = pack(tmp_path / "a.zip", members).read_bytes()
    file = tmp_path / "b.zip"
    for _ in range(200):
        data = bytearray(whole)
        start = rng.choice((0, whole.find(CENTRAL)))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(start, len(data))] = rng.choice(
                (0, 1, 0x7F, 0xFF, rng.randrange(256))
            )
        if rng.random() < 0.1:
            del data[rng.randrange(len(data)) :]
        file.write_bytes(data)
        try:
            source = open_source(file)
        except SourceError:
            continue
        for name, read in contents(source).items():
            assert isinstance(read, str) or read == members.get(name, read)


def test_images_without_an_image_s_name_are_found_in_deflated_members_too(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("photo.bak", JPEG)
        archive.writestr("notes.bak", b"text" * 1000)
        archive.writestr("photo.cls", b"cat")
    source = open_source(put(tmp_path / "a.zip", file.getvalue()))
    assert (paths(source), source.left_out) == (["photo.bak"], 1)
    assert source.given_labels == {"photo.bak": ("cat",)}
