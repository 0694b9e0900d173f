"""What kills and rivals do to an index: nothing.

``VGGFEAT_KILLS=200 pytest tests/test_index_crash.py -s`` kills more often than the suite does, and
tells what it met. A kill that fails tells its seed, and ``VGGFEAT_TEST_SEED=SEED`` kills at the
same moments again.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from index_rows import make_store

from vggfeat.errors import StoreLockedError
from vggfeat.index import SimilarityIndex
from vggfeat.index.folder import changing
from vggfeat.store import FeatureStore

KILLS = int(os.environ.get("VGGFEAT_KILLS", "16")) // 2
PROGRAM = Path(__file__).with_name("index_rows.py")
OLD, NEW = 1500, 2500
X = np.float32(np.random.default_rng(0).normal(size=(NEW, 64)))

pytestmark = [
    # It ends what hangs; how fast a machine is, is no promise.
    pytest.mark.timeout(900 + 10 * KILLS),
    pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX"),
]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two stores, the second one of more images, and an index of the first for each test."""
    folder = tmp_path_factory.mktemp("work")
    make_store(folder / "old.h5", X[:OLD])
    make_store(folder / "new.h5", X)
    with FeatureStore(folder / "old.h5") as store:
        index = SimilarityIndex.build(store, "relu7", path=folder / "old.index", kind="IVF16,SQ8")
    index.save(folder / "holed.index")
    SimilarityIndex.open(folder / "holed.index").remove([f"{i:05d}.jpg" for i in range(0, OLD, 3)])
    return folder


@pytest.fixture(scope="module")
def helper() -> Iterator[subprocess.Popen[str]]:
    """Start the program that starts the victims."""
    command = [sys.executable, str(PROGRAM)]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **streams) as process:  # type: ignore[call-overload]
        yield process
        process.stdin.close()


def run(helper: subprocess.Popen[str], words: list[object], after: float | None = None) -> bool:
    """Change an index in another process; return whether it was killed before its end."""
    assert helper.stdin is not None
    assert helper.stdout is not None
    print(*words, sep="\t", end="\t\n", file=helper.stdin, flush=True)
    child = int(helper.stdout.readline())
    if after is not None:
        time.sleep(after)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    status = int(helper.stdout.readline())
    assert status in (0, signal.SIGKILL)
    return status != 0


def check(path: Path, removed: bool = False) -> int:
    """Check that an index is whole and right; return how many vectors it holds."""
    index = SimilarityIndex.open(path)
    index.verify()
    numbers = np.array([int(index.path(image_id)[:5]) for image_id in index.ids])
    for image_id, number in list(zip(index.ids, numbers, strict=True))[:: len(index) // 40]:
        (best,) = index.search(X[number], 1)[0]
        assert (best.id, best.path) == (image_id, f"{number:05d}.jpg")
        assert best.score == pytest.approx(1, abs=1e-6)
    assert len(set(numbers.tolist())) == len(numbers)
    if removed:
        assert (numbers % 3 != 0).all()
    return len(index.catalogue.rows)


@pytest.mark.parametrize(
    ("verb", "store", "start", "ends"),
    [
        ("build", "new.h5", None, (None, NEW)),
        ("build", "new.h5", "old.index", (OLD, NEW)),
        ("add", "new.h5", "old.index", (OLD, NEW)),
        ("compact", "old.h5", "holed.index", (OLD, OLD - OLD // 3)),
    ],
)
def test_killed_at_any_moment_an_index_is_the_old_one_or_the_new_one(
    helper: subprocess.Popen[str],
    work: Path,
    tmp_path: Path,
    verb: str,
    store: str,
    start: str | None,
    ends: tuple[int | None, int],
    chance: random.Random,
) -> None:
    met: Counter[str] = Counter()
    path = tmp_path / "photos.index"
    words = [verb, work / store, path]

    def begin() -> None:
        shutil.rmtree(path, ignore_errors=True)
        if start is not None:
            shutil.copytree(work / start, path)

    for _ in range(2):  # the first one warms caches
        begin()
        began = time.perf_counter()
        assert not run(helper, words)
        needed = time.perf_counter() - began
    assert check(path, verb == "compact") == ends[1]
    begin()
    kills = 0
    while kills < KILLS or not met["old"]:
        kills += 1
        # Half of them towards the end, where files change places.
        killed = run(helper, words, chance.uniform(chance.choice((0, 0.6)), 1.1) * needed)
        if kills >= KILLS:
            needed *= 0.9  # the machine is less busy than it was, and every kill came too late
        count = check(path, verb == "compact") if path.exists() else None
        assert count in ends
        met["new" if count == ends[1] else "old"] += killed
        if count == ends[1]:
            begin()
    # What killed runs left does not hinder, and is swept away.
    assert not run(helper, words)
    assert check(path, verb == "compact") == ends[1]
    assert os.listdir(tmp_path) == ["photos.index"]  # noqa: PTH208
    assert len(list(path.iterdir())) == 3
    print(f"\n{verb}: {needed:.2f} s, {sum(met.values())} kills: {dict(met)}")


def test_two_writers_are_kept_apart_and_readers_are_not(work: Path, tmp_path: Path) -> None:
    path = tmp_path / "photos.index"
    shutil.copytree(work / "old.index", path)
    index = SimilarityIndex.open(path)
    with changing(path):
        assert SimilarityIndex.open(path).search(X[0], 3) == index.search(X[0], 3)
        with pytest.raises(StoreLockedError, match="being written"):
            index.remove(["00000.jpg"])
    assert index.remove(["00000.jpg"]) == 1


def test_an_index_that_was_opened_before_a_change_answers_as_before(
    work: Path, tmp_path: Path
) -> None:
    path = tmp_path / "photos.index"
    shutil.copytree(work / "holed.index", path)
    before = SimilarityIndex.open(path, mapped=True)
    answers = before.search(X[:20], 5)
    after = SimilarityIndex.open(path)
    after.compact()
    with FeatureStore(work / "new.h5") as store:
        after.add(store, again=True)
    assert before.search(X[:20], 5) == answers
    assert len(SimilarityIndex.open(path)) == NEW
