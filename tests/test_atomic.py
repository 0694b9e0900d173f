"""Files are there whole or not at all, whatever ends their writing."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from vggfeat.atomic import atomic_file, leftovers, temporary_of


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durable", [True, False])
def test_a_new_file_takes_the_place_and_the_permissions_of_the_old(tmp_path, durable):
    target = tmp_path / "a.h5"
    target.write_bytes(b"old")
    target.chmod(0o440)
    with atomic_file(target, durable=durable) as temporary:
        temporary.write_bytes(b"new")
        assert target.read_bytes() == b"old"
    assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (b"new", 0o440)
    assert names(tmp_path) == ["a.h5"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_was_there_stays_where_writing_ends_early(tmp_path, error):
    def write_half() -> None:
        with atomic_file(tmp_path / "a.h5") as temporary:
            temporary.write_bytes(b"half")
            raise error

    (tmp_path / "a.h5").write_bytes(b"old")
    with pytest.raises(error):
        write_half()
    assert (tmp_path / "a.h5").read_bytes() == b"old"
    assert names(tmp_path) == ["a.h5"]


def test_a_name_as_long_as_the_system_takes_has_room_for_a_temporary_one(tmp_path):
    with atomic_file(tmp_path / ("ä" * 127)) as temporary:
        temporary.write_bytes(b"new")
    assert names(tmp_path) == ["ä" * 127]


def test_what_killed_runs_left_is_told_from_other_files(tmp_path):
    left = [temporary_of(tmp_path / name) for name in ("a.h5", "a.h5", "b.h5")]
    for path in (*left, tmp_path / "a.h5", tmp_path / ".a.h5.lock", tmp_path / ".a.h5.00000000"):
        path.touch()
    assert set(leftovers(tmp_path / "a.h5")) == set(left[:2])
