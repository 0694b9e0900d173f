"""Stores, as ``extract`` makes them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

import h5py
import numpy as np
import store_rows

import vggfeat.index
import vggfeat.probe  # noqa: F401  (before workers fork)
from fuzzing.bytes_of_files import plain
from fuzzing.hdf5_values import valid
from fuzzing.kinds import DEFLATE, Kind, command
from vggfeat.labels import LabelRequest, NamesRequest
from vggfeat.store import FeatureStore
from vggfeat.store.vectors import checksums

_NAME, _OTHER = "photos.h5", "other/mine.h5"


def make(folder: Path) -> None:
    """Make the stranger's store, and one of the user's own."""
    (folder / "other").mkdir()
    store_rows.finished(folder / _NAME, 24, {3: "truncated file"})
    store_rows.finished(folder / _OTHER, 30)


def make_several(folder: Path) -> None:
    """Make the same, of several labels an image and of two sources."""
    make(folder)
    images = store_rows.images(24)
    labels = {one.path: ("ant", "bee", "cat")[i % 3 :] for i, one in enumerate(images)}
    with store_rows.writer(folder / _NAME, 24, labels=labels, overwrite=True) as store:
        store_rows.fill(store)


def make_split(folder: Path) -> None:
    """Make the same with a split and a group for each image."""
    make(folder)
    paths = [one.path for one in store_rows.images(24)]
    splits = {path: ("train", "val", "test")[i // 2 % 3] for i, path in enumerate(paths)}
    groups = {path: f"patient {i // 2}" for i, path in enumerate(paths[:20])}
    request = LabelRequest(
        from_source={path: (f"c{i % 2}",) for i, path in enumerate(paths)},
        splits=NamesRequest(from_source=splits, of_splits=True),
        groups=NamesRequest(from_source=groups),
    )
    with store_rows.writer(folder / _NAME, 24, labels=request, overwrite=True) as store:
        store_rows.fill(store)


def sealed(path: Path) -> None:
    """Give each row the checksum that belongs to it."""
    with h5py.File(path, "r+", locking=False) as file:
        for layer in file["features"]:
            rows = np.ascontiguousarray(file["features"][layer][:])
            file["checksums"][layer][...] = checksums(rows)


def info(path: Path) -> None:
    """Look what it is."""
    command("info", path)
    command("info", path, "--json")
    command("info", path, "--failed")


def verify(path: Path) -> None:
    """Read all of it again."""
    command("verify", path)


def read(path: Path) -> None:
    """Read everything in Python."""
    with FeatureStore(path) as store:
        for layer in store.layers:
            store.matrix(layer)
            store.checksums(layer)
        store.origins()
        _ = store.splits, store.groups, store.to_json()
        _ = store.digests, store.file_sizes, store.latest, store.targets, store.classes
        for name in store.paths[:3]:
            store.row(name)


def export(path: Path) -> None:
    """Write it for other programs."""
    with FeatureStore(path) as store:
        layer = store.layers[0]
    command("export", path, path.with_name("out.csv"), "--layer", layer)
    command("export", path, path.with_name("out.npz"), "--layer", layer)


def probe(path: Path) -> None:
    """Train on it."""
    command("probe", path, "--layer", "relu7", "-C", "1")


def merge(path: Path) -> None:
    """Unite it with one of the user's own; nothing appears beside the result."""
    before = set(path.parent.rglob("*"))
    target = path.with_name("all.h5")
    try:
        command("merge", target, path.parent / _OTHER, path)
    finally:
        more = set(path.parent.rglob("*")) - before
        assert more <= {target, path.with_name(".all.h5.lock")}, f"merge wrote {more}"


def index(path: Path) -> None:
    """Make an index of it."""
    command("index", "build", path, path.with_name("photos.index"), "--layer", "relu7")


def duplicates(path: Path) -> None:
    """Look for copies in it."""
    command("duplicates", path, "--layer", "relu7")


def hostile_names(folder: Path, random: Random) -> None:
    """Give images and classes names that lead out of a folder, or are none."""
    names = ("../../x.jpg", "/etc/passwd", "a\0b.jpg", "", "c0/000000.jpg", "..", "\x1b[2J.jpg")
    with h5py.File(folder / _NAME, "r+", locking=False) as file:
        places = ("images/path", "labels/classes", "sources/root", "sources/name")
        for name in (*places, "splits/names", "groups/names"):
            if name in file and random.random() < 0.6:
                texts = file[name]
                with suppress(ValueError):  # h5py writes no NUL
                    texts[random.randrange(len(texts))] = random.choice(names)


_STEPS = (info, verify, read, export, probe, merge, index, duplicates)
_MUTATIONS = (plain(_NAME), plain(_NAME), *[valid(_NAME, sealed)] * 3, hostile_names)

KINDS = (
    Kind("store", make, _NAME, _MUTATIONS, _STEPS, factor=DEFLATE),
    Kind("store-split", make_split, _NAME, _MUTATIONS, _STEPS, factor=DEFLATE),
    Kind("store-several", make_several, _NAME, _MUTATIONS, _STEPS, factor=DEFLATE),
)
