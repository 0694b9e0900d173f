"""Promises of opening images again by what a stranger's store or index names."""

from __future__ import annotations

import os
import sys
import tarfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pytest
from PIL import Image
from test_sources import JPEG, pack, put

from vggfeat.errors import ImageError, SourceError
from vggfeat.sources import OutsideSourceError, open_stored, stored, why_not_shown

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="paths and links of POSIX")


def secret(path: Path) -> Path:
    """Write a file that nobody wants to see elsewhere."""
    return put(path, b"PASSWORD=open sesame\n" * 20)


@pytest.mark.parametrize("root", ["file", "list.txt", "/proc/self/environ", "/etc/hosts", "/", ""])
def test_a_source_that_is_a_file_or_the_whole_disk_gives_out_nothing(
    tmp_path: Path, root: str
) -> None:
    secret(tmp_path / "file")
    photo = put(tmp_path / "x" / "a.jpg")
    put(tmp_path / "list.txt", str(photo).encode())
    source = root if root.startswith("/") or not root else str(tmp_path / root)
    for path in (str(photo), "x/a.jpg", "file", "/proc/self/environ", "/etc/passwd", ""):
        with pytest.raises((ImageError, SourceError)):
            open_stored(source, path)
    assert why_not_shown(source)


@pytest.mark.parametrize(
    "folder", ["/", "/etc", "/etc/ssl", "/proc/self", "/home", "/home/nobody", "/tmp", "~", "~/.."]
)
def test_folders_of_everybody_and_of_the_system_are_no_sources(folder: str) -> None:
    real = Path(folder).expanduser().resolve()
    if not real.is_dir():
        pytest.skip(f"there is no {folder} here")
    assert why_not_shown(str(real))
    assert not why_not_shown(str(real), [real])  # the user named it


def test_an_image_outside_its_source_is_opened_only_where_the_user_named_its_folder(
    tmp_path: Path,
) -> None:
    inside, outside = tmp_path / "photos", put(tmp_path / "private" / "b.jpg")
    put(inside / "a.jpg")
    (inside / "link.jpg").symlink_to(outside)
    (inside / "folder").symlink_to(outside.parent)
    (inside / "near.jpg").symlink_to("a.jpg")
    for path in ("a.jpg", "near.jpg", str(inside / "a.jpg"), "../photos/a.jpg"):
        open_stored(str(inside), path).close()
    for path in ("link.jpg", "folder/b.jpg", "../private/b.jpg", str(outside)):
        with pytest.raises(OutsideSourceError, match="--root"):
            open_stored(str(inside), path)
        open_stored(str(inside), path, [tmp_path / "private"]).close()
    # A source that is itself a link is what it leads to.
    (tmp_path / "disk").symlink_to("/")
    with pytest.raises(OutsideSourceError, match="a whole disk"):
        open_stored(str(tmp_path / "disk"), str(outside))


def test_only_images_are_opened_again(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    secret(photos / "id_rsa")
    secret(photos / "a.jpg")
    secret(photos / "a.tga")
    os.mkfifo(photos / "fifo.jpg")
    for path in ("id_rsa", "a.jpg", "a.tga", "fifo.jpg", "", ".", "gone.jpg", "a\\x00b"):
        with pytest.raises(ImageError):
            open_stored(str(photos), path)
    image = Image.new("RGB", (8, 8), "red")
    image.save(photos / "b.tga")  # of a format that has no signature
    open_stored(str(photos), "b.tga").close()


def test_a_tar_gives_out_its_members_only(tmp_path: Path) -> None:
    outside = put(tmp_path / "b.jpg")
    tar = pack(tmp_path / "a.tar", {"m.jpg": JPEG})
    with tarfile.open(tar, "a") as file:
        for name, target in (("link.jpg", str(outside)), ("up.jpg", "../b.jpg")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            file.addfile(member)
    open_stored(str(tar), "m.jpg").close()
    for path in ("link.jpg", "up.jpg", str(outside), "../b.jpg", "/etc/passwd"):
        with pytest.raises(ImageError):
            open_stored(str(tar), path, [tmp_path])


@pytest.mark.parametrize("swapped", ["x", "x/a.jpg"])
def test_nothing_is_opened_through_a_link_that_is_put_in_the_way_meanwhile(
    tmp_path: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, private = tmp_path / "photos", tmp_path / "private"
    put(photos / "x" / "a.jpg")
    put(private / "x" / "a.jpg", JPEG + b"private")
    true = stored.open_beneath

    def swap_and_open(folder: Path, parts: Sequence[str]) -> BinaryIO:
        (photos / swapped).rename(tmp_path / "aside")  # after the check, before the opening
        (photos / swapped).symlink_to(private / swapped)
        return true(folder, parts)

    open_stored(str(photos), "x/a.jpg").close()
    monkeypatch.setattr(stored, "open_beneath", swap_and_open)
    with pytest.raises(ImageError, match="link"):
        open_stored(str(photos), "x/a.jpg")


def test_a_folder_that_is_swapped_all_the_time_gives_out_its_own_image_or_none(
    tmp_path: Path,
) -> None:
    photos, private = tmp_path / "photos", tmp_path / "private"
    put(photos / "x" / "a.jpg")
    put(private / "a.jpg", JPEG + b"private")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (photos / "x").rename(photos / "y")
            (photos / "x").symlink_to(private)
            (photos / "x").unlink()
            (photos / "y").rename(photos / "x")

    with ThreadPoolExecutor(1) as other:
        swapping = other.submit(swap)
        try:
            for _ in range(500):  # how many of them find it is a matter of pace
                with suppress(ImageError), open_stored(str(photos), "x/a.jpg") as file:
                    assert file.read() == JPEG
        finally:
            stop.set()
        swapping.result()
    with open_stored(str(photos), "x/a.jpg") as file:
        assert file.read() == JPEG
