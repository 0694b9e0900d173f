"""What kills, rivals and full disks do to a store: nothing.

``VGGFEAT_KILLS=200 pytest tests/test_store_crash.py -k "killed" -s`` kills more often than the
suite does, and tells what it met. A kill that fails tells its seed, and ``VGGFEAT_TEST_SEED=SEED``
kills at the same moments again.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from store_rows import SHAPES, check_with_plain_h5py, features, fill, finished, writer

from vggfeat.errors import StoreError, StoreLockedError
from vggfeat.store import FeatureStore, export, merge

KILLS = int(os.environ.get("VGGFEAT_KILLS", "15"))
FEW = max(4, KILLS // 5)
PROGRAM = Path(__file__).with_name("store_rows.py")

# It ends what hangs; how fast a machine is, is no promise.
pytestmark = pytest.mark.timeout(900 + 10 * KILLS)
needs_kill = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")


def run_and_kill(store: Path, rows: int, after: float | None, pause: float = 0.0) -> bool:
    """Run the filling program; return whether it was killed before its end.

    Without `after`, seconds from its beginning, it is not killed.
    """
    command = [sys.executable, str(PROGRAM), str(store), str(rows), str(pause)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"go\n"
        with suppress(subprocess.TimeoutExpired):
            child.wait(after)
        child.kill()
        _, errors = child.communicate()
    assert child.returncode in (0, -9), errors.decode()
    return child.returncode == -9


def check(store: Path) -> Counter[int]:
    """Check a store after a kill; return its statuses counted."""
    status = check_with_plain_h5py(store)
    with FeatureStore(store) as opened:
        report = opened.verify()
        assert report.ok, report.problems[:3]
        assert len(opened.runs) <= 16 + 3 * 16
    return Counter(status.tolist())


def check_equal(store: Path, unbroken: Path) -> None:
    """Check that two finished stores are equal bit for bit, and nothing lies beside the first."""
    with h5py.File(store) as ours, h5py.File(unbroken) as theirs:
        names: list[str] = []
        theirs.visit(names.append)
        for name in names:
            if isinstance(theirs[name], h5py.Dataset) and name != "runs":
                assert ours[name][:].tobytes() == theirs[name][:].tobytes() or (
                    theirs[name].dtype == object and (ours[name][:] == theirs[name][:]).all()
                ), name
    with FeatureStore(store) as opened:
        assert opened.provenance.run.end.strip()
    assert os.listdir(store.parent) == [store.name]  # noqa: PTH208


@needs_kill
def test_a_store_killed_again_and_again_is_always_right_and_ends_like_an_unbroken_one(
    tmp_path: Path, chance: random.Random
) -> None:
    sizes = (2000, 2600, 3000)  # made, then appended to twice
    unbroken = {}
    for size in sizes:
        unbroken[size] = tmp_path / f"unbroken-{size}.h5"
        for upto in sizes[: sizes.index(size) + 1]:  # rows that came later follow at the end
            finished(unbroken[size], upto)
    store, kills, met, stage = tmp_path / "work" / "photos.h5", 0, Counter[str](), 0
    store.parent.mkdir()
    window = 0.3  # seconds; it follows the machine's pace, so that kills meet all there is to meet
    while kills < KILLS or not met["partly done"]:
        size = sizes[stage]
        if run_and_kill(store, size, after=chance.uniform(0, window), pause=0.002):
            kills += 1
            if not store.exists():
                assert stage == 0
                met["no store yet"] += 1
                window *= 1.3
                continue
            counted = check(store)
            partly = bool(counted[0] and counted[1])
            met["partly done" if partly else "all or nothing"] += 1
            window *= 1 if partly else 1.3  # of a store that is there, a disk may have grown slow
            met["rows done at kills"] += counted[1]
            continue
        assert check(store) == {1: size}
        check_equal(store, unbroken[size])
        met[f"finished {size}"] += 1
        window /= 1.3
        stage = (stage + 1) % len(sizes)
        if stage == 0:
            store.unlink()
    for size in sizes[stage:]:
        assert not run_and_kill(store, size, after=None)
        check_equal(store, unbroken[size])
    print(f"\n{kills} kills: {dict(met)}")


@needs_kill
def test_killed_while_it_is_made_a_store_is_absent_or_whole(
    tmp_path: Path, chance: random.Random
) -> None:
    met: Counter[str] = Counter()
    began = time.perf_counter()
    writer(tmp_path / "photos.h5", 20_000).close()
    needed = time.perf_counter() - began
    for number in range(FEW):
        store = tmp_path / f"{number}" / "photos.h5"
        store.parent.mkdir()
        run_and_kill(store, 20_000, after=chance.uniform(0, 2.5 * needed), pause=1)
        met["whole" if store.exists() else "absent"] += 1
        if store.exists():
            check(store)
        writer(store, 20_000).close()  # what the killed run left does not hinder
        assert os.listdir(store.parent) == ["photos.h5"]  # noqa: PTH208
        shutil.rmtree(store.parent)
    print(f"\n{FEW} kills while making: {dict(met)}")


@needs_kill
def test_killed_while_it_grows_a_store_is_the_old_one_or_the_new_one(
    tmp_path: Path, chance: random.Random
) -> None:
    original = finished(tmp_path / "original.h5", 5000)
    larger = shutil.copy(original, tmp_path / "larger.h5")
    began = time.perf_counter()
    writer(larger, 20_000).close()
    needed = time.perf_counter() - began
    met: Counter[int] = Counter()
    for number in range(FEW):
        store = tmp_path / f"{number}" / "photos.h5"
        store.parent.mkdir()
        shutil.copy(original, store)
        run_and_kill(store, 20_000, after=chance.uniform(0, 2.5 * needed), pause=1)
        counted = check(store)
        assert counted[1] >= 5000
        assert sum(counted.values()) in (5000, 20_000)
        met[sum(counted.values())] += 1
        shutil.rmtree(store.parent)
    print(f"\n{FEW} kills while growing: rows {dict(met)}")


def test_a_second_writer_is_told_who_writes_and_the_first_goes_on(tmp_path: Path) -> None:
    store = tmp_path / "photos.h5"
    with writer(store) as first:
        with pytest.raises(StoreLockedError, match=rf"process {os.getpid()}.*run the same command"):
            writer(store)
        command = [sys.executable, PROGRAM, store, "10"]
        second = subprocess.run(command, capture_output=True, text=True)
        assert "StoreLockedError" in second.stderr
        fill(first)
    assert check(store) == {1: 10}
    writer(store).close()  # the lock is free again
    assert os.listdir(tmp_path) == ["photos.h5"]  # noqa: PTH208


@pytest.mark.skipif(os.name != "posix", reason="flock is of POSIX")
def test_while_a_store_is_written_others_may_read_it_and_hdf5_writers_are_kept_out(
    tmp_path: Path,
) -> None:
    store = tmp_path / "photos.h5"
    with writer(store) as running:
        running.write([0, 1], features([running.entry_path(row) for row in (0, 1)]))
        with FeatureStore(store) as opened:
            assert opened.counts() == {"done": 2, "failed": 0, "pending": 8}
            running.fail(2, "truncated")
            assert opened.failures() == [(running.entry_path(2), "truncated")]
        assert check_with_plain_h5py(store).tolist() == [1, 1, 2, 0, 0, 0, 0, 0, 0, 0]
        with pytest.raises(OSError, match="lock"):
            h5py.File(store, "r+")


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if sys.platform != "linux" or mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small tmpfs, on Linux")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "none", place]).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    return place


@pytest.fixture
def disk(small_disk: Path) -> object:
    yield small_disk
    subprocess.run(["umount", "--lazy", small_disk], check=True)  # others may be looking at it


def full(disk: Path) -> None:
    with (disk / "junk").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def test_a_store_too_large_for_the_disk_is_refused_with_both_sizes(disk: Path) -> None:
    with pytest.raises(StoreError, match=r"needs .* MiB, and .* are free .*float16"):
        writer(disk / "photos.h5", 20_000)
    assert os.listdir(disk) == []  # noqa: PTH208


def test_a_disk_that_fills_up_while_a_store_is_made_leaves_nothing_behind(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggfeat.store.building.check_space", lambda *_: None)
    for rows in (5_000, 12_000, 200_000):  # fails among features, at their start, and in HDF5
        with pytest.raises(StoreError, match=r"disk or quota is full.*are free.*again"):
            writer(disk / "photos.h5", rows + 4_000)
        assert os.listdir(disk) == []  # noqa: PTH208


def test_on_a_full_disk_a_store_that_is_there_can_be_filled_but_not_enlarged(disk: Path) -> None:
    store = disk / "photos.h5"
    with writer(store, 2000) as running:
        full(disk)
        fill(running)
    assert check(store) == {1: 2000}
    with pytest.raises(StoreError, match="free"):
        writer(store, 4000)
    with pytest.raises(StoreError, match="free"):
        merge(disk / "all.h5", [store])
    for ending in ("npy", "npz", "csv", "parquet"):
        with pytest.raises(StoreError, match="full"):
            export(store, disk / f"out.{ending}", "relu7")
    assert check(store) == {1: 2000}
    assert sorted(os.listdir(disk)) == ["junk", "photos.h5"]  # noqa: PTH208


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are of POSIX")
def test_a_limit_on_file_sizes_is_an_error_that_says_so(tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "import sys, pathlib; from store_rows import writer\n"
        "try: writer(pathlib.Path(sys.argv[1]), 5000)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "photos.h5"],
        capture_output=True,
        text=True,
        cwd=PROGRAM.parent,
    )
    assert done.stdout.startswith("StoreError"), done.stderr
    assert "ulimit -f" in done.stdout
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_an_interrupted_run_keeps_what_it_did(tmp_path: Path) -> None:
    store = tmp_path / "photos.h5"
    with suppress(KeyboardInterrupt), writer(store) as running:
        running.write([3], features([running.entry_path(3)]))
        raise KeyboardInterrupt
    with FeatureStore(store) as opened:
        assert opened.counts() == {"done": 1, "failed": 0, "pending": 9}
        assert not opened.runs[-1].end.strip()
    with writer(store) as resumed:
        assert 3 not in resumed.pending()
        fill(resumed)
    assert check(store) == {1: 10}


def test_any_byte_lost_from_the_end_is_told_and_never_a_traceback(tmp_path: Path) -> None:
    store = finished(tmp_path / "photos.h5")
    whole = store.read_bytes()
    for size in sorted(
        {0, 1, 7, 8, 100, *np.linspace(200, len(whole) - 1, 40, dtype=int).tolist()}
    ):
        store.write_bytes(whole[:size])
        with pytest.raises(StoreError, match=r"photos\.h5"):
            FeatureStore(store)
        with pytest.raises(StoreError, match=r"photos\.h5"):
            writer(store, overwrite=True)


def test_flipped_metadata_is_a_store_error_or_harmless(tmp_path: Path) -> None:
    store = finished(tmp_path / "photos.h5")
    whole = bytearray(store.read_bytes())
    chance = random.Random(0)
    for _ in range(150):
        place = chance.randrange(0, len(whole))
        damaged = whole.copy()
        damaged[place] ^= chance.randrange(1, 256)
        store.write_bytes(damaged)
        try:
            with FeatureStore(store) as opened:
                opened.verify()
                for layer in SHAPES:
                    for _ in opened.blocks(layer):
                        pass
        except StoreError:
            pass
    store.write_bytes(whole)
