"""Spare copies are moved aside: nothing is lost, whatever a store or another program does."""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from vggfeat.duplicates import Copies, Copy, beneath, moving
from vggfeat.duplicates.moving import LIST, Moved, move_back, move_spare
from vggfeat.duplicates.originality import FileFacts
from vggfeat.errors import SourceError
from vggfeat.files import encode_path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="folders are opened as on Unix")


def copy_of(folder: Path, path: str, file: Path | None = None) -> Copy:
    """Return what a store in `folder` says of an image, which is `file`."""
    place = file or folder / path
    data, state = place.read_bytes(), place.stat()
    digest = hashlib.sha256(data).hexdigest()
    facts = FileFacts(2, 2, len(data), digest=digest, mtime_ns=state.st_mtime_ns)
    return Copy(path, str(folder), 1.0, "copy", True, facts)


def group_of(*images: Copy) -> Copies:
    best, *others = images
    return Copies((replace(best, verdict="best", spare=False), *others))


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    (folder / "best.jpg").write_bytes(b"best")
    (folder / "a" / "one.jpg").write_bytes(b"copy")
    return folder


@pytest.fixture
def group(photos) -> Copies:
    """The two files, the first the best, as a group."""
    return group_of(copy_of(photos, "best.jpg"), copy_of(photos, "a/one.jpg"))


def test_a_taken_name_gets_a_number_and_is_not_overwritten(photos, tmp_path):
    for number in range(2):
        group = group_of(copy_of(photos, "best.jpg"), copy_of(photos, "a/one.jpg"))
        assert len(move_spare([group], tmp_path / "aside").moved) == 1
        (photos / "a" / "one.jpg").write_bytes(f"new{number}".encode())
    aside = files_of(tmp_path / "aside")
    assert aside["a/one.jpg"] == b"copy"
    assert aside["a/one-1.jpg"] == b"new0"
    assert aside[LIST].decode().count("one") == 4


@pytest.mark.parametrize(
    "what", ["larger", "same size", "same size and time", "gone", "best gone", "best changed",
             "link", "folder is a link", "same file", "pipe"],
)  # fmt: skip
def test_what_is_no_longer_a_spare_copy_stays(photos, group, tmp_path, what):
    best, copy = photos / "best.jpg", photos / "a" / "one.jpg"
    if what == "larger":
        copy.write_bytes(b"another image")
    elif what.startswith("same size"):
        state = copy.stat()
        copy.write_bytes(b"edit")
        if what.endswith("time"):
            os.utime(copy, ns=(state.st_atime_ns, state.st_mtime_ns))
        else:
            os.utime(copy, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    elif what == "best gone":
        best.unlink()
    elif what == "best changed":
        best.write_bytes(b"nothing like it")
    elif what == "folder is a link":
        (photos / "a").rename(tmp_path / "elsewhere")
        (photos / "a").symlink_to(tmp_path / "elsewhere")
    else:
        copy.unlink()
        if what == "link":
            shutil.copy(best, tmp_path / "other.jpg")
            copy.symlink_to(tmp_path / "other.jpg")
        elif what == "same file":
            os.link(best, copy)
        elif what == "pipe":
            os.mkfifo(copy)
    before = files_of(photos)
    moved = move_spare([group], tmp_path / "aside")
    assert not moved.moved
    assert [path for path, _ in moved.left] == ["a/one.jpg"]
    assert files_of(photos) == before
    assert set(files_of(tmp_path / "aside")) == {LIST}


@pytest.mark.parametrize(
    "path",
    [r"\x2e\x2e/victim.jpg", "../victim.jpg", r"a/\x2e\x2e/\x2e\x2e/victim.jpg",
     r"\x2e./victim.jpg", r"a\x2f..\x2f../victim.jpg", "ABSOLUTE", r"\x2fABSOLUTE", "a//one.jpg",
     "", r"victim.jpg\x00"],
)  # fmt: skip
def test_a_path_of_a_hostile_store_that_leads_out_of_its_source_moves_nothing(
    photos, tmp_path, path
):
    victim = tmp_path / "victim.jpg"
    victim.write_bytes(b"mine")
    hostile = path.replace(r"\x2fABSOLUTE", rf"\x2f{str(victim)[1:]}").replace(
        "ABSOLUTE", str(victim)
    )
    group = group_of(copy_of(photos, "best.jpg"), copy_of(photos, hostile, victim))
    before = files_of(photos)
    moved = move_spare([group], tmp_path / "x" / "aside")
    assert not moved.moved
    assert len(moved.left) == 1
    assert victim.read_bytes() == b"mine"
    assert files_of(photos) == before
    assert set(files_of(tmp_path / "x")) == {f"aside/{LIST}"}


def test_a_link_below_the_target_leads_no_image_elsewhere(photos, group, tmp_path):
    (tmp_path / "aside").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "aside" / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError):
        move_spare([group], tmp_path / "aside")
    assert files_of(tmp_path / "elsewhere") == {}
    assert "a/one.jpg" in files_of(photos)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_list_that_is_no_plain_file_is_not_written(photos, group, tmp_path, kind):
    (tmp_path / "aside").mkdir()
    (tmp_path / "victim.csv").write_bytes(b"mine")
    if kind == "link":
        (tmp_path / "aside" / LIST).symlink_to(tmp_path / "victim.csv")
    else:
        os.mkfifo(tmp_path / "aside" / LIST)
    with pytest.raises(SourceError):
        move_spare([group], tmp_path / "aside")
    assert (tmp_path / "victim.csv").read_bytes() == b"mine"
    assert "a/one.jpg" in files_of(photos)


def test_images_of_several_sources_are_moved_below_the_names_of_their_sources(tmp_path):
    for name, path in (("one", "a.jpg"), ("two", "a.jpg"), ("two", "b/a.jpg")):
        (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name / path).write_bytes(b"same")

    def known(name: str, path: str) -> Copy:
        file = copy_of(tmp_path / name, path)
        return replace(file, path=f"{name}/{path}", source=f"{name}={tmp_path / name}")

    images = known("one", "a.jpg"), known("two", "a.jpg"), known("two", "b/a.jpg")
    with pytest.raises(SourceError, match="would be found again"):
        move_spare([group_of(*images)], tmp_path / "two" / "aside")
    moved = move_spare([group_of(*images)], tmp_path / "aside")
    assert not moved.left
    assert set(files_of(tmp_path)) == {
        *("one/a.jpg", "aside/two/a.jpg", "aside/two/b/a.jpg", f"aside/{LIST}")
    }
    move_back(tmp_path / "aside")
    assert (tmp_path / "two" / "b" / "a.jpg").read_bytes() == b"same"


def test_images_of_archives_cannot_be_moved(photos, tmp_path):
    shard = tmp_path / "shard.tar"
    shard.write_bytes(b"")
    images = [
        Copy(path, str(shard), 1.0, "copy", True, FileFacts(2, 2, 4)) for path in ("b.jpg", "a.jpg")
    ]
    with pytest.raises(SourceError, match="plain folders"):
        move_spare([group_of(*images)], tmp_path / "aside")


def _other_disk(*_args: object) -> None:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def test_another_disk_gets_a_whole_copy_before_the_file_goes(photos, group, tmp_path, monkeypatch):
    before = (photos / "a" / "one.jpg").stat().st_mtime_ns
    monkeypatch.setattr(moving, "renamed", _other_disk)
    move_spare([group], tmp_path / "aside")
    assert files_of(tmp_path / "aside")["a/one.jpg"] == b"copy"
    assert (tmp_path / "aside" / "a" / "one.jpg").stat().st_mtime_ns == before
    assert set(files_of(photos)) == {"best.jpg"}


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="a second file system to move to")
def test_a_true_second_file_system_does_as_the_first(photos, group, tmp_path):
    shelf = Path("/dev/shm") / f"vggfeat-{os.getpid()}"
    try:
        moved = move_spare([group], shelf)
        assert len(moved.moved) == 1
        assert files_of(shelf)["a/one.jpg"] == b"copy"
        move_back(shelf)
        assert set(files_of(photos)) == {"best.jpg", "a/one.jpg"}
    finally:
        shutil.rmtree(shelf, ignore_errors=True)


@pytest.mark.parametrize("replacing", [True, False], ids=["renameat2", "links"])
def test_a_file_put_in_its_place_at_the_last_moment_is_not_lost(
    photos, group, tmp_path, monkeypatch, replacing
):
    copy = photos / "a" / "one.jpg"
    if not replacing:
        monkeypatch.setattr(beneath, "_renameat2", lambda: None)
    rename = beneath.renamed

    def later(old: tuple[str, int], new: tuple[str, int]) -> None:
        if copy.exists() and copy.read_bytes() == b"copy":
            (tmp_path / "new.jpg").write_bytes(b"a new photo")
            (tmp_path / "new.jpg").replace(copy)
        rename(old, new)

    monkeypatch.setattr(moving, "renamed", later)
    moved = move_spare([group], tmp_path / "aside")
    assert not moved.moved
    assert "changed" in moved.left[0][1]
    assert copy.read_bytes() == b"a new photo"


@pytest.mark.parametrize("replacing", [True, False], ids=["renameat2", "links"])
def test_a_file_that_takes_the_name_at_the_last_moment_is_not_overwritten(
    photos, group, tmp_path, monkeypatch, replacing
):
    if not replacing:
        monkeypatch.setattr(beneath, "_renameat2", lambda: None)
    rename = beneath.renamed

    def later(old: tuple[str, int], new: tuple[str, int]) -> None:
        (tmp_path / "aside" / "a" / "one.jpg").write_bytes(b"mine")
        rename(old, new)

    monkeypatch.setattr(moving, "renamed", later)
    with pytest.raises(SourceError, match="exists"):
        move_spare([group], tmp_path / "aside")
    assert (tmp_path / "aside" / "a" / "one.jpg").read_bytes() == b"mine"
    assert (photos / "a" / "one.jpg").read_bytes() == b"copy"


def test_images_kept_under_another_source_are_not_moved(photos, tmp_path):
    """One folder may be known twice, whole and in part."""
    first = group_of(copy_of(photos, "best.jpg"), copy_of(photos, "a/one.jpg"))
    second = group_of(copy_of(photos / "a", "one.jpg"), copy_of(photos, "best.jpg"))
    moved = move_spare([first, second], tmp_path / "aside")
    assert moved == Moved((), tuple((one, moved.left[0][1]) for one in ("a/one.jpg", "best.jpg")))
    assert set(files_of(photos)) == {"best.jpg", "a/one.jpg"}


def test_an_unfinished_copy_of_a_killed_run_is_never_put_back(photos, group, tmp_path):
    """The killed run and the next both list the image; only the second has moved it."""
    aside = tmp_path / "aside"
    program = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from test_moving import _other_disk, copy_of, group_of\n"
        "from vggfeat.duplicates import moving\n"
        "moving.renamed = _other_disk\n"
        "def killed(file):\n"
        "    if file.writable():\n"
        "        file.truncate(2)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return sha256_of(file)\n"
        "sha256_of, moving.sha256_of = moving.sha256_of, killed\n"
        "photos = Path(sys.argv[2])\n"
        "group = group_of(copy_of(photos, 'best.jpg'), copy_of(photos, 'a/one.jpg'))\n"
        "moving.move_spare([group], sys.argv[3])\n"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent), photos, aside]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert (aside / "a" / "one.jpg").read_bytes() == b"co"
    moved = move_spare([group], aside).moved
    assert files_of(photos) == {"best.jpg": b"best"}
    assert move_back(aside) == Moved(tuple((new, old) for old, new in moved), ())
    assert files_of(photos) == {"best.jpg": b"best", "a/one.jpg": b"copy"}


def test_moving_back_overwrites_nothing_and_takes_nothing_from_elsewhere(photos, group, tmp_path):
    aside = tmp_path / "aside"
    move_spare([group], aside)
    (photos / "a" / "one.jpg").write_bytes(b"mine")
    assert move_back(aside) == Moved((), ())
    assert (photos / "a" / "one.jpg").read_bytes() == b"mine"
    (photos / "a" / "one.jpg").unlink()
    (aside / "a" / "one.jpg").unlink()
    ((path, reason),) = move_back(aside).left
    assert path == str(photos / "a" / "one.jpg")
    assert "no such file" in reason
    stranger = tmp_path / "secret"
    stranger.write_text("key")
    for outside in (stranger, f"{aside}/../secret", f"{aside}/..", aside, "secret", ""):
        (aside / LIST).write_text(f"from,to\n{tmp_path / 'shown'},{outside}\n")
        with pytest.raises(SourceError, match="not in"):
            move_back(aside)
    (aside / LIST).write_bytes(b"\xff\xfe\0")
    with pytest.raises(SourceError, match="cannot be read"):
        move_back(aside)
    assert stranger.read_text() == "key"


def test_names_that_are_no_utf8_are_put_back(photos, tmp_path):
    name = os.fsdecode(b"a/caf\xe9.jpg")
    try:
        (photos / name).write_bytes(b"copy")
    except OSError:
        pytest.skip("this file system has only names in UTF-8")
    spare = replace(copy_of(photos, encode_path(name), photos / name), source=str(photos))
    move_spare([group_of(copy_of(photos, "best.jpg"), spare)], tmp_path / "aside")
    assert not (photos / name).exists()
    move_back(tmp_path / "aside")
    assert (photos / name).read_bytes() == b"copy"


@pytest.mark.parametrize("disk", ["same", "other"])
def test_a_kill_at_any_moment_loses_nothing_and_can_be_undone(tmp_path, disk, chance):
    photos = tmp_path / "photos"
    (photos / "a").mkdir(parents=True)
    (photos / "best.jpg").write_bytes(b"best")
    for number in range(40):
        (photos / "a" / f"{number:02d}.jpg").write_bytes(bytes([number]) * 300_000)
    before = files_of(photos)
    names = [f"a/{number:02d}.jpg" for number in range(40)]
    program = (
        "import sys, errno; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from test_moving import _other_disk, copy_of, group_of\n"
        "from vggfeat.duplicates import moving\n"
        "if sys.argv[4] == 'other': moving.renamed = _other_disk\n"
        "photos = Path(sys.argv[2])\n"
        f"names = [n for n in {names!r} if (photos / n).exists()]\n"
        "group = group_of(*(copy_of(photos, n) for n in ['best.jpg', *names]))\n"
        "print(flush=True)\n"
        "moving.move_spare([group], sys.argv[3], lambda n: print(flush=True))\n"
    )
    aside = tmp_path / "aside"
    place = str(Path(__file__).parent)
    for _round in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", program, place, str(photos), str(aside), disk],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        for _ in range(chance.randint(3, 10)):
            child.stdout.readline()
        time.sleep(chance.uniform(0, 0.004))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        found = files_of(photos)
        lines = list(csv.DictReader((aside / LIST).read_text().splitlines()))
        listed = {str(Path(line["from"]).relative_to(photos)): line["to"] for line in lines}
        for name, data in before.items():
            assert found[name] == data if name in found else Path(listed[name]).read_bytes() == data
        move_back(aside)
        assert files_of(photos) == before
