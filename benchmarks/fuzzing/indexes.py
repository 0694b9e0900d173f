"""Indexes, as ``index build`` makes them: the catalogue, and FAISS's file of each structure."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import faiss  # noqa: F401  (before workers fork)
import h5py
import index_rows
import numpy as np

from fuzzing.bytes_of_files import INTEGERS, packed, plain
from fuzzing.hdf5_values import valid
from fuzzing.json_values import changed
from fuzzing.kinds import DEFLATE, Kind, Mutation, command
from vggfeat.index import SimilarityIndex, faiss_layout
from vggfeat.store import FeatureStore

_D, _COUNT = 16, 160
_PATH = "photos.index"
_CATALOGUE = f"{_PATH}/index.h5"
_VECTORS = "vectors-00000000.f32"
_FAISS = "faiss-00000000.faiss"
STRUCTURES = {
    "flat": "flat",
    "ivf": "IVF8,Flat",
    "ivfpq": "IVF8,PQ4x4",
    "ivfpqfs": "IVF8,PQ6x4fs",
    "ivfsq": "PCA12,IVF8,SQ8",
    "hnsw": "HNSW8",
    "ivfhnsw": "IVF8_HNSW8,SQ4",
    "opq": "OPQ4_8,PQ4x4",
}


def vectors(count: int = _COUNT) -> np.ndarray:
    """Return some features."""
    return np.random.default_rng(0).normal(size=(count, _D)).astype(np.float32)


def make(kind: str, folder: Path) -> None:
    """Make an index of a store, and a store with more images."""
    labels = {i: (("ant",), ("bee",), ("ant", "bee"))[i % 3] for i in range(_COUNT)}
    index_rows.make_store(folder / "base.h5", vectors(), labels)
    index_rows.make_store(folder / "more.h5", vectors(_COUNT + 20), labels)
    with FeatureStore(folder / "base.h5") as store:
        index = SimilarityIndex.build(
            store, "relu7", path=folder / _PATH, kind=kind, metric="l2", whitening=_D // 2 + 4
        )
    index.remove(["00003.jpg", "00100.jpg"])
    for file in (folder / _PATH).iterdir():  # names, times: nothing is left to chance
        if file.suffix in (".f32", ".faiss"):
            file.rename(file.with_name({".f32": _VECTORS, ".faiss": _FAISS}[file.suffix]))

    def fixed(head: dict) -> None:
        head["files"]["vectors"] = _VECTORS
        head["files"]["faiss"] = _FAISS if head["files"]["faiss"] else ""
        head["settings"].update(seconds=1.0, tuning=None)
        head["settings"].update({"effort": 16, "candidates": 20} if kind != "flat" else {})
        head["stores"] = ["/photos/base.h5"]

    rewritten(folder / _CATALOGUE, fixed)


def rewritten(catalogue: Path, change: Callable[[dict], object]) -> None:
    """Change the JSON of a catalogue, and compute its checksum as vggfeat does."""
    with h5py.File(catalogue, "r+", locking=False) as file:
        head = json.loads(file["about"][:].tobytes())
        head = change(head) or head
        del file["about"]
        file["about"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
    sealed(catalogue)


def sealed(catalogue: Path) -> None:
    """Compute the checksum that belongs to a catalogue."""
    with h5py.File(catalogue, "r+", locking=False) as file:
        head = json.loads(file["about"][:].tobytes())
        names: list[str] = []
        file.visit(names.append)
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        for name in sorted(names):
            if name != "about" and isinstance(file[name], h5py.Dataset):
                array = np.ascontiguousarray(file[name][:])
                digest.update(f"{name} {array.shape}".encode())
                digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        file.attrs["sha256"] = digest.hexdigest()


def told(folder: Path, random: Random) -> None:
    """Change the JSON of the catalogue, most often where it says what the files are."""

    def change(head: dict) -> object:
        part = random.choice((None, "files", "settings", "files", "settings", "excluded"))
        if part is None or part not in head:
            return changed(head, random)
        head[part] = changed(head[part], random)
        return head

    rewritten(folder / _CATALOGUE, change)


def fitting(folder: Path) -> None:
    """Let the catalogue say the sizes and checksums that its files have."""
    place = folder / _PATH
    raw = (place / _VECTORS).read_bytes()
    faiss_file = (place / _FAISS).read_bytes() if (place / _FAISS).exists() else b""

    def change(head: dict) -> None:
        files = head["files"]
        width = 4 * files["dimension"]
        files["parts"] = [[len(raw) // width, zlib.crc32(raw[: len(raw) // width * width])]]
        files.update(faiss_size=len(faiss_file), faiss_crc32=zlib.crc32(faiss_file))

    rewritten(folder / _CATALOGUE, change)


def file_of_vectors(folder: Path, random: Random) -> None:
    """Change bytes of vectors."""
    plain(f"{_PATH}/{_VECTORS}")(folder, random)
    fitting(folder)


def file_of_faiss(folder: Path, random: Random) -> None:
    """Change bytes of FAISS's file."""
    plain(f"{_PATH}/{_FAISS}")(folder, random)
    fitting(folder)


def fields_of_faiss(folder: Path, random: Random) -> None:
    """Write other numbers into fields of FAISS's file, or into its arrays."""
    path = folder / _PATH / _FAISS
    data = bytearray(path.read_bytes())
    fields, arrays = _places(bytes(data))
    for _ in range(random.choice((1, 1, 2))):
        if random.random() < 0.6:
            at, form = random.choice(fields)
        else:
            start, count, width = random.choice(arrays)
            at, form = start + width * random.randrange(count), {1: "b", 4: "i", 8: "q"}[width]
        number = random.choice((*INTEGERS, *range(-2, 40), _COUNT, _COUNT - 1, _COUNT + 1))
        if form == "?":
            new = bytes([number & 1])
        elif form == "f":
            new = np.float32(random.choice((np.nan, np.inf, 0, -1, 1e38))).tobytes()
        else:
            new = packed(number, f"<{form}")
        data[at : at + len(new)] = new
    path.write_bytes(data)
    fitting(folder)


def _places(data: bytes) -> tuple[list[tuple[int, str]], list[tuple[int, int, int]]]:
    """Return where fields and arrays lie, as vggfeat walks over them."""
    import io
    import struct

    fields: list[tuple[int, str]] = []
    arrays: list[tuple[int, int, int]] = []

    class Noting(faiss_layout._Walk):
        def _values(self, form: str) -> tuple[int, ...]:
            at = self._file.tell()
            for one in form[1:] if "x" not in form else ():
                fields.append((at, "b" if one == "B" else one.lower()))
                at += struct.calcsize(f"<{one}")
            return super()._values(form)

        def _vector(self, width: int) -> int:
            count = super()._vector(width)
            if count:
                arrays.append((self._file.tell() - count * width, count, width))
            return count

        def _skip(self, count: int) -> None:
            start = self._file.tell()
            super()._skip(count)
            if count >= 8:  # lists of codes and numbers
                arrays.append((start, count // 8, 8))

    Noting(io.BytesIO(data), len(data), True).index(0)
    return fields, arrays


def search(path: Path) -> None:
    """Open it, and search."""
    index = SimilarityIndex.open(path)
    X = vectors(3)
    if index.width != _D:
        X = np.ones((3, min(index.width, 1 << 12)), np.float32)
    for found in index.search(X, 10):
        for one in found:
            assert one.path
    index.search(X, 3, within=index.select(labels=index.labels[:1]))


def info(path: Path) -> None:
    """Look what it is."""
    command("index", "info", path, "--verify")
    command("index", "info", path, "--json")


def add(path: Path) -> None:
    """Add images."""
    command("index", "add", path, path.with_name("more.h5"), "--json")
    search(path)


def change(path: Path) -> None:
    """Remove images, and pack the rest."""
    command("index", "remove", path, "00001.jpg")
    command("index", "compact", path)
    search(path)


def merge(path: Path) -> None:
    """Unite it with itself."""
    command("index", "merge", path.with_name("all.index"), path, path)


def duplicates(path: Path) -> None:
    """Look for copies."""
    command("duplicates", path)


_STEPS = (search, info, add, change, duplicates)


def _kind(name: str, mutations: tuple[Mutation, ...], structure: str, factor: float) -> Kind:
    made = partial(make, STRUCTURES[structure])
    # Merging trains FAISS's structures anew, from vectors alone.
    steps = (*_STEPS, merge) if factor == DEFLATE else _STEPS
    return Kind(name, made, _PATH, mutations, steps, factor=factor)


_OF_CATALOGUE = (
    plain(_CATALOGUE),
    valid(_CATALOGUE, sealed),
    valid(_CATALOGUE, sealed),
    told,
    told,
)
_OF_FAISS = (file_of_faiss, fields_of_faiss, fields_of_faiss)

KINDS = (
    _kind("index", (*_OF_CATALOGUE, file_of_vectors), "flat", DEFLATE),
    _kind("index-catalogue", (told, valid(_CATALOGUE, sealed)), "ivf", DEFLATE),
    *(_kind(f"faiss-{one}", _OF_FAISS, one, 64) for one in STRUCTURES if one != "flat"),
)
