"""Drives without file locks, as many network drives are: flock fails, for us and for HDF5."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

FLOCK = """
#include <errno.h>
#include <stdlib.h>
int flock(int file, int how) { errno = atoi(getenv("NO_FLOCK")); return -1; }
"""

PROGRAM = """
import fcntl, logging, os, sys
from pathlib import Path
from store_rows import fill, writer
from vggfeat.errors import StoreLockedError
from vggfeat.index import SimilarityIndex
from vggfeat.store import FeatureStore, export, merge

def refuse(*_):
    raise OSError(int(os.environ["NO_FLOCK"]), "no locks")

if "LD_PRELOAD" not in os.environ:
    fcntl.flock = refuse
logging.basicConfig(format="LOG %(message)s", level=logging.WARNING)
folder = Path(sys.argv[1])
for number in sys.argv[2:]:
    os.environ["NO_FLOCK"] = number
    try:
        with open(os.devnull) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        assert error.errno == int(number)
    else:
        raise AssertionError("this drive has locks")
    store = folder / "photos.h5"
    with writer(store, 30, overwrite=store.exists()) as first:
        try:
            writer(store, 30)
        except StoreLockedError as error:
            assert f"process {os.getpid()}" in str(error), error
            assert ".photos.h5.softlock" in str(error), error
        else:
            raise AssertionError("two writers")
        fill(first)
    with writer(store, 40) as again:
        fill(again)
    merge(folder / "both.h5", [store], overwrite=True)
    with FeatureStore(store) as opened:
        assert opened.counts()["done"] == 40
        assert opened.verify().ok
        export(opened, folder / "photos.npz", "relu7", overwrite=True)
        SimilarityIndex.build(opened, "relu7", path=folder / "photos.index")
        SimilarityIndex.open(folder / "photos.index").add(opened)
    child = os.fork()
    if child == 0:
        held = writer(folder / "killed.h5", 5)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert (folder / ".killed.h5.softlock").exists()
    writer(folder / "killed.h5", 5).close()
    (folder / "killed.h5").unlink()
    print(sorted(os.listdir(folder)))
"""


def shim(folder: Path) -> dict[str, str]:
    """Return the environment in which the C library's flock fails, where a compiler is there."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return {}  # the program then replaces Python's flock, which HDF5 does not use
    (folder / "flock.c").write_text(FLOCK)
    library = folder / "flock.so"
    command = [compiler, "-shared", "-fPIC", "-o", library, folder / "flock.c"]
    subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(library)}


@pytest.mark.skipif(os.name != "posix", reason="flock is of POSIX")
def test_where_a_drive_has_no_locks_all_is_written_and_nothing_left_behind(tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    drive.mkdir()
    numbers = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL]
    environment = {**os.environ, **shim(tmp_path), "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-c", PROGRAM, str(drive), *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    expected = ["both.h5", "photos.h5", "photos.index", "photos.npz"]
    assert done.stdout.splitlines() == [str(expected)] * len(numbers)
    assert done.stderr.count("has no locks") == 1, "said once, whatever is written"
    assert done.stderr.startswith("LOG The file system of ")
    assert done.stderr.count("\n") == 1
