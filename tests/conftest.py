"""Images that the tests make themselves."""

from __future__ import annotations

import gc
import logging
import os
import random
import shutil
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image
from sklearn.datasets import load_sample_images

# A busy machine fails no test.
BUSY = [HealthCheck.too_slow]
settings.register_profile("vggfeat", deadline=None, suppress_health_check=BUSY)
settings.load_profile("vggfeat")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests that run side by side, and the programs they start, get one thread each: threads that
    # wait for one another on a busy machine are far slower. Set before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def peak_bytes(call: Callable[[], Any]) -> tuple[Any, int]:
    """Return what a call gives, and the most bytes that it held at once.

    Python's objects and NumPy's arrays are counted, to the byte and on any machine; not what
    libraries in C, such as torch, allocate themselves.
    """
    gc.collect()
    tracemalloc.start()
    try:
        result = call()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc"
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Run an S3 server on loopback, which the environment names; give its address."""
    from storage_servers import environment, s3_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with s3_server() as url, environment(url):
        yield url


@pytest.fixture(autouse=True)
def _log_of_a_library() -> None:
    """Let each test begin with a log that no command before it, or in its fixtures, has set up.

    The program's log goes to its own handler alone, where `caplog` sees nothing of it.
    """
    log = logging.getLogger("vggfeat")
    log.handlers[:] = [one for one in log.handlers if isinstance(one, logging.NullHandler)]
    log.setLevel(logging.NOTSET)
    log.propagate = True


@pytest.fixture
def chance() -> random.Random:
    """Give the random moments of a test that kills programs.

    Its seed is new each time, and is shown where the test fails; ``VGGFEAT_TEST_SEED`` gives it
    again.
    """
    seed = int(os.environ.get("VGGFEAT_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"VGGFEAT_TEST_SEED={seed}")
    return random.Random(seed)


def settle(path: Path) -> None:
    """Wait until the time of a file's last change is trusted.

    A change within the clock's last tick could bear the same time (docs/store-format.md), so the
    bytes of such files are looked at again.
    """
    while time.time_ns() - path.stat().st_ctime_ns < 100_000_000:
        time.sleep(0.01)


def heed_interrupts() -> None:
    """Heed SIGINT, which shells have their background jobs, and so all below them, ignore.

    For ``preexec_fn`` of programs that a test interrupts.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def draw(width: int, height: int, seed: int = 0) -> Image.Image:
    """Draw an RGB image with shapes, colours and noise that depend on the seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phase = rng.uniform(0, 6, size=3)
    waves = np.stack([np.sin(x / (6 + seed % 5) + p) + np.cos(y / 7 - p) for p in phase], axis=-1)
    noise = rng.normal(scale=0.3, size=(height, width, 3))
    return Image.fromarray(np.uint8(np.clip((waves + noise) * 50 + 128, 0, 255)))


@pytest.fixture(scope="session")
def twelve_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of twelve real JPEGs in two classes, of differing sizes and modes.

    Read it only; a test that changes some takes `photos`.
    """
    folder = tmp_path_factory.mktemp("twelve") / "photos"
    for number in range(12):
        kind = ("cat", "dog")[number % 2]
        (folder / kind).mkdir(parents=True, exist_ok=True)
        image = draw(240 + 37 * number, 400 - 23 * number, seed=number)
        mode = ("RGB", "L", "CMYK")[number % 3]
        image.convert(mode).save(folder / kind / f"{number:02d}.jpg", quality=90)
    return folder


@pytest.fixture
def photos(twelve_photos: Path, tmp_path: Path) -> Path:
    """Copy `twelve_photos` for one test; a run that follows trusts their times."""
    folder = shutil.copytree(twelve_photos, tmp_path / "photos", copy_function=shutil.copyfile)
    settle(max(folder.rglob("*.*"), key=lambda file: file.stat().st_ctime_ns))
    return folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of two classes that look their part: parts of two photographs, 24 of each.

    Read it only; its features by trained weights are in `scenes_store`.
    """
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    rng = np.random.default_rng(0)
    data = load_sample_images()
    for name, pixels in zip(data.filenames, data.images, strict=True):
        photo = Image.fromarray(pixels)
        kind = folder / Path(name).stem
        kind.mkdir(parents=True)
        for number in range(24):
            side = int(rng.integers(150, 260))
            left = int(rng.integers(0, photo.width - side))
            top = int(rng.integers(0, photo.height - side))
            part = photo.crop((left, top, left + side, top + side))
            part.save(kind / f"{number:02d}.jpg", quality=90)
    return folder


@pytest.fixture(scope="session")
def scenes_store(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Extract `scenes` with the trained weights of the package: for tests that need meaning."""
    from vggfeat import FeatureExtractor

    store = tmp_path_factory.mktemp("scenes-store") / "scenes.h5"
    extractor = FeatureExtractor("vgg16-tiny", layers="pool2,pool5,relu7", device="cpu")
    summary = extractor.extract(scenes, store, progress=False)
    assert (summary.done, summary.failed) == (48, 0)
    return store
