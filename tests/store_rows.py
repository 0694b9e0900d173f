"""Stores whose every value follows from the row's path, and a program that fills one.

Run as a program it is the victim of the crash tests:
``python store_rows.py STORE ROWS [PAUSE]`` makes or resumes a store of ROWS images, prints
"go" before it touches the file, and pauses PAUSE seconds after each batch. A STORE that ends in
``.store`` is one of parts of 40 rows. With ``--golden STORE`` it makes the file that is kept in
``tests/data/``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreLockedError
from vggfeat.preprocessing import TORCHVISION
from vggfeat.provenance import FeatureConfig, Provenance, RunInfo
from vggfeat.store import SourcePlace, StoreWriter
from vggfeat.store.parts import PartPlan, open_part, plan

SHAPES: dict[str, tuple[int, ...]] = {"relu7": (64,), "pool5": (4, 3, 3)}
POOLING = {"relu7": "", "pool5": "none"}


@dataclass(frozen=True)
class Image:
    path: str
    size: int = 1
    mtime_ns: int = 1
    ctime_ns: int = 1
    digest: bytes = b""


def images(count: int, first: int = 0) -> list[Image]:
    """Return images in the order in which their rows are, also when later ones are appended."""
    return [Image(f"c{i % 3}/{i:06d}.jpg", 1000 + i, 10**18 + i) for i in range(first, count)]


def made(dtype: str = "float32", **config: Any) -> Provenance:
    """Return a provenance, with deciding values as given."""
    given = {"model": "vgg16", "weights_sha256": "ab" * 32, "view": "center", "layers": POOLING}
    preprocessing = TORCHVISION.to_json()
    run = RunInfo("/photos", "random:0", "cpu", "float32", "2026-01-01T00:00:00+00:00")
    values = {**given, "preprocessing": preprocessing, "dtype": dtype, **config}
    return Provenance(FeatureConfig(**values), run)


def features(paths: Sequence[str], dtype: str = "float32") -> dict[str, npt.NDArray[Any]]:
    """Return the features of images, which depend on the number in their paths alone."""
    numbers = np.array([int(Path(path).stem) for path in paths], dtype=np.uint64)
    found = {}
    for salt, (layer, shape) in enumerate(SHAPES.items()):
        places = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(1000 * salt + 1)
        mixed = (numbers[:, None] * np.uint64(2654435761) + places * np.uint64(40503)) % 65521
        values = (mixed.astype(np.float32) / 4096 - 8).astype(dtype)
        found[layer] = values.reshape(len(paths), *shape)
    return found


def writer(path: Path, count: int = 10, **options: Any) -> StoreWriter:
    """Open a store of `count` images for writing."""
    given: dict[str, Any] = {
        "entries": images(count),
        "shapes": SHAPES,
        "provenance": made(),
        "labels": {image.path: (image.path[:2],) for image in images(count)},
    }
    given |= options
    given["entries"] = sorted(given["entries"], key=lambda image: image.path)  # as sources do
    return StoreWriter.open(path, **given)


def fill(store: StoreWriter, batch: int = 64, pause: float = 0.0, dtype: str = "float32") -> None:
    """Compute all pending rows."""
    rows = store.pending()
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        store.write(part, features([store.entry_path(row) for row in part.tolist()], dtype))
        if pause:
            time.sleep(pause)


def planned(path: Path, count: int = 10, **options: Any) -> PartPlan:
    """Plan a store of parts of `count` images, 40 in each, or bring one up to them."""
    given: dict[str, Any] = {
        "entries": images(count),
        "shapes": SHAPES,
        "config": made().config,
        "planned": made().run,
        "sources": [SourcePlace("", "/photos", "/photos")],
        "part_rows": 40,
        "labels": {image.path: (image.path[:2],) for image in images(count)},
    }
    given |= options
    given["entries"] = sorted(given["entries"], key=lambda image: image.path)
    return plan(path, **given)


def fill_parts(found: PartPlan, numbers: Iterable[int] | None = None, **options: Any) -> None:
    """Compute parts that are not done, leaving those that others write to them."""
    if numbers is None:
        numbers = sorted({*found.waiting(), *(part.number for part in found.unmarked())})
    for number in numbers:
        with (
            suppress(StoreLockedError),
            open_part(found.path, found.manifest, number, found.contents, made().run) as store,
        ):
            fill(store, **options)


def finished(
    path: Path, count: int = 10, failed: Mapping[int, str] | None = None, **options: Any
) -> Path:
    """Make a finished store."""
    with writer(path, count, **options) as store:
        for row, reason in (failed or {}).items():
            store.fail(row, reason)
        fill(store)
    return path


def check_with_plain_h5py(path: Path) -> npt.NDArray[np.uint8]:
    """Check with h5py alone that every row marked done is right; return the statuses."""
    with h5py.File(path, "r") as file:
        status: npt.NDArray[np.uint8] = file["images/status"][:]
        paths = file["images/path"].asstr()[:]
        assert set(status.tolist()) <= {0, 1, 2}
        done = np.flatnonzero(status == 1)
        expected = features(paths[done].tolist())
        for layer in SHAPES:
            got = file[f"features/{layer}"][:][done]
            assert got.tobytes() == expected[layer].tobytes(), layer
    return status


def golden(path: Path) -> None:
    """Make the store of format 2 that is kept for ever.

    Rows done, failed, pending and left, two classes, two sources.
    """
    shapes: dict[str, tuple[int, ...]] = {"relu7": (6,), "pool5": (2, 2, 2)}
    provenance = made(weights_sha256="cd" * 32)
    run = replace(provenance.run, versions={"vggfeat": "0.1"})
    entries = [
        Image("x/cat/a.jpg", 11, 21, 31, bytes(range(16))),
        Image("x/cat/ü\n.jpg", 12, 22, 32),
        Image("y/dog/b.jpg", 13, 23, 33),
        Image("y/dog/gone.jpg", 14, 24, 34, bytes(range(16, 32))),
    ]
    sources = [SourcePlace("x", "/photos", "/photos"), SourcePlace("y", "/more", "/more/list.txt")]
    row = {"relu7": np.arange(6) / 4 - 0.5, "pool5": np.arange(8).reshape(2, 2, 2) - 3.5}
    for left in (0, 1):
        with StoreWriter.open(
            path,
            entries=entries[: len(entries) - left],
            shapes=shapes,
            provenance=replace(provenance, run=run),
            sources=sources,
            labels={image.path: (image.path[2:5],) for image in entries},
        ) as store:
            if not left:
                both = {layer: np.stack([values, -values]) for layer, values in row.items()}
                store.write([0, 3], both, {0: entries[0], 3: entries[3]})
                store.fail(1, "truncated file", entries[1])


def main() -> None:
    if sys.argv[1] == "--golden":
        golden(Path(sys.argv[2]))
        return
    path, count = Path(sys.argv[1]), int(sys.argv[2])
    print("go", flush=True)
    pause = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    if path.suffix == ".store":
        with suppress(StoreLockedError):
            fill_parts(planned(path, count), batch=13, pause=pause)
        return
    with writer(path, count) as store:
        fill(store, batch=13, pause=pause)


if __name__ == "__main__":
    main()
