"""Promises about files that a stranger made: they read nothing, write nothing and stop nothing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from index_rows import PROVENANCE, index_of
from index_rows import make_store as make_rows
from store_rows import finished

from vggfeat import hdf5
from vggfeat.errors import (
    ProbeError,
    SearchError,
    StoreError,
    VggfeatError,
    WeightsError,
    WhiteningError,
)
from vggfeat.index import SimilarityIndex, changing, faiss_layout, folder, making, structures
from vggfeat.probe import LinearProbe, SavedProbe
from vggfeat.store import FeatureStore, merge
from vggfeat.weights.formats import open_file
from vggfeat.whitening import Whitening, learn

SECRET = "root:x:0:0:the secret of this machine"


def make_store(folder: Path) -> Path:
    return finished(folder / "photos.h5", 4)


def make_probe(folder: Path) -> Path:
    X = np.random.default_rng(0).normal(size=(12, 64)).astype(np.float32)
    probe = LinearProbe("svm", C=1.0).fit(X, np.arange(12) % 3)
    SavedProbe(probe, ("ant", "bee", "cat"), "relu7", PROVENANCE, 12).save(folder / "probe.h5")
    return folder / "probe.h5"


def make_index(folder: Path) -> Path:
    X = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    index_of(X, "l2", path=folder / "photos.index")
    return folder / "photos.index" / "index.h5"


def make_keras(folder: Path) -> Path:
    path = folder / "vgg16.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"block1_conv1"]
        group = file.create_group("block1_conv1")
        group.attrs["weight_names"] = [b"kernel:0", b"bias:0"]
        group["kernel:0"] = np.zeros((3, 3, 3, 64), np.float32)
        group["bias:0"] = np.zeros(64, np.float32)
    return path


def read_store(path: Path) -> object:
    with FeatureStore(path) as store:
        return store.paths, store.classes, store.sources, store["relu7"][:], store.labels


def read_keras(path: Path) -> object:
    with open_file(path) as held:
        return [held.read(name) for name in held.shapes]


Reader = Callable[[Path], object]
KINDS: dict[str, tuple[Callable[[Path], Path], Reader, str, type[VggfeatError]]] = {
    "store": (make_store, read_store, "images/path", StoreError),
    "store's features": (make_store, read_store, "features/relu7", StoreError),
    "store's classes": (make_store, read_store, "labels/classes", StoreError),
    "probe": (make_probe, SavedProbe.load, "classes", ProbeError),
    "probe's numbers": (make_probe, SavedProbe.load, "coef", ProbeError),
    "index": (
        make_index,
        lambda path: SimilarityIndex.open(path.parent),
        "path_bytes",
        SearchError,
    ),
    "Keras's weights": (make_keras, read_keras, "block1_conv1/kernel:0", WeightsError),
}


def external_data(file: h5py.File, name: str, secret: Path) -> None:
    """Put a dataset's values into another file."""
    old = file[name]
    shape, dtype = old.shape, old.dtype
    if h5py.check_string_dtype(dtype) is not None:
        dtype = h5py.string_dtype("utf-8", 8)
    del file[name]
    file.create_dataset(name, shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def external_link(file: h5py.File, name: str, secret: Path) -> None:
    del file[name]
    file[name] = h5py.ExternalLink(str(secret), "/data")


def soft_link(file: h5py.File, name: str, secret: Path) -> None:
    del file[name]
    file["elsewhere"] = h5py.ExternalLink(str(secret), "/data")
    file[name] = h5py.SoftLink("/elsewhere")


def linked_group(file: h5py.File, name: str, secret: Path) -> None:
    above = name.partition("/")[0]
    del file[above]
    file[above] = h5py.ExternalLink(str(secret), "/")


def virtual(file: h5py.File, name: str, secret: Path) -> None:
    shape, dtype = file[name].shape, file[name].dtype
    if h5py.check_string_dtype(dtype) is not None:
        dtype = h5py.string_dtype("utf-8", 8)
    del file[name]
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(secret, "data", shape)
    file.create_virtual_dataset(name, layout)


WAYS = (external_data, external_link, soft_link, linked_group, virtual)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """Make each kind of file once."""
    made: dict[Any, Path] = {}

    def give(kind: str) -> Path:
        make = KINDS[kind][0]
        if make not in made:
            made[make] = make(tmp_path_factory.mktemp("honest"))
        return made[make]

    return give  # type: ignore[return-value]


@pytest.mark.parametrize("kind", KINDS)
def test_no_hdf5_file_reads_another_file(kind: str, honest: Any, tmp_path: Path) -> None:
    _, read, name, error = KINDS[kind]
    given = honest(kind)
    read(given)  # the file is one that is read otherwise
    secret = tmp_path / "secret"
    secret.write_text(SECRET * 1000)
    for way in WAYS:
        folder = tmp_path / way.__name__
        folder.mkdir()
        victim = folder / given.name
        victim.write_bytes(given.read_bytes())
        with h5py.File(victim, "r+") as file:
            way(file, name, secret)
        with pytest.raises(error, match="is refused: /") as caught:
            read(victim)
        assert str(victim) in str(caught.value)
        assert "h5repack" in str(caught.value)
        assert "root:" not in str(caught.value)


@pytest.mark.parametrize("kind", ["store", "probe", "index", "Keras's weights"])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs")
def test_no_hdf5_file_waits_for_a_fifo(kind: str, honest: Any, tmp_path: Path) -> None:
    _, read, name, error = KINDS[kind]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    victim = tmp_path / honest(kind).name
    victim.write_bytes(honest(kind).read_bytes())
    with h5py.File(victim, "r+") as file:
        external_link(file, name, pipe)
    with pytest.raises(error, match="link to another file"):
        read(victim)
    victim.unlink()
    os.mkfifo(victim)
    with pytest.raises(error):
        read(victim)


@pytest.mark.parametrize("kind", KINDS)
def test_no_hdf5_file_takes_memory_that_it_does_not_hold(
    kind: str, honest: Any, tmp_path: Path
) -> None:
    _, read, name, error = KINDS[kind]
    victim = tmp_path / honest(kind).name
    for options in ({}, {"chunks": True, "compression": "gzip"}):
        victim.write_bytes(honest(kind).read_bytes())
        with h5py.File(victim, "r+") as file:
            dtype, rest = file[name].dtype, file[name].shape[1:]
            del file[name]
            file.create_dataset(name, (1 << 31, *rest), dtype, **options)
        with pytest.raises(error, match="would take"):
            read(victim)


def test_a_text_that_a_file_says_many_times_over_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as file:
        texts = file.create_dataset("texts", (2048,), h5py.string_dtype())
        texts[0] = "a" * 60_000
        place = texts.id.get_offset()
    with path.open("r+b") as raw:  # each row points at the one text
        raw.seek(place)
        pointer = raw.read(16)
        raw.seek(place)
        raw.write(pointer * 2048)
    longer = pytest.raises(ValueError, match=r"longer than|say they are 122,880,000 bytes long")
    for member in (None, io.BytesIO(path.read_bytes())):  # also as a part of another file
        with hdf5.opened(path, StoreError, member=member) as file, longer:
            hdf5.texts(file["texts"])


STORE_LIES: dict[str, Callable[[h5py.File], object]] = {
    "a class that there is not": lambda file: file["labels/targets"].__setitem__(0, 99),
    "a class below unknown": lambda file: file["labels/targets"].__setitem__(0, -(1 << 31)),
    "a source that there is not": lambda file: file["images/source"].__setitem__(1, 7),
    "a source before the first": lambda file: file["images/source"].__setitem__(1, -1),
    "a status that there is not": lambda file: file["images/status"].__setitem__(2, 3),
    "digests of another length": lambda file: changed(
        file, "images/digest", np.zeros((4, 8), "u1")
    ),
    "floats for classes": lambda file: changed(file, "labels/targets", np.zeros(4, "f4")),
    "a table of classes": lambda file: changed(file, "labels/targets", np.zeros((4, 9), "i1")),
    "one path": lambda file: changed(file, "images/path", "a.jpg"),
    "numbers for paths": lambda file: changed(file, "images/path", np.zeros(4)),
    "an endless version": lambda file: file.attrs.__setitem__("format_version", np.inf),
    "a version of text": lambda file: file.attrs.__setitem__("format_version", "2"),
    "a text many times": lambda file: file.attrs.create(
        "provenance", ["a"] * 2000, dtype=h5py.string_dtype()
    ),
}


def changed(file: h5py.File, name: str, data: Any) -> None:
    del file[name]
    file[name] = data


@pytest.mark.parametrize("lie", STORE_LIES)
def test_stores_that_lie_are_refused_as_they_are_opened(
    lie: str, tmp_path: Path, honest: Any
) -> None:
    path = tmp_path / "photos.h5"
    path.write_bytes(honest("store").read_bytes())
    with h5py.File(path, "r+", libver="latest") as file:
        STORE_LIES[lie](file)
    with pytest.raises(StoreError, match="damaged"), FeatureStore(path):
        pass


def text_references(data: bytes, base: int = 0) -> list[int]:
    """Return where references to texts of any length are in an HDF5 file.

    Each is a length of 4 bytes, the address of a heap, counted from `base`, and the text's number
    there.
    """
    heaps = [found.start() - base for found in re.finditer(b"GCOL", data)]
    return [
        found.start() - 4
        for heap in heaps
        for found in re.finditer(re.escape(struct.pack("<Q", heap)), data)
        if 0 < int.from_bytes(data[found.start() - 4 : found.start()], "little") < len(data)
    ]


@pytest.mark.parametrize("block", [0, 512], ids=["plain", "behind a user block"])
@pytest.mark.parametrize("library", ["earliest", "latest"])
@pytest.mark.parametrize("part", [False, True], ids=["file", "part of a file"])
def test_texts_are_found_wherever_hdf5_keeps_them(
    part: bool, library: str, block: int, tmp_path: Path
) -> None:
    path, text = tmp_path / "t.h5", h5py.string_dtype()
    with h5py.File(path, "w", libver=library, userblock_size=block) as file:
        for number in range(6):
            file.attrs[f"a{number}"] = "x" * (number + 1)
        file.create_dataset("one", data="alone", dtype=text)
        file.create_dataset("row", data=["ab", "cde"], dtype=text)
        file.create_dataset("parts", data=["ab", "cde"] * 9, dtype=text, chunks=(4,))
        file.create_group("group").attrs["names"] = np.array(["y", "zz"], object)
    genuine = path.read_bytes()

    def read() -> list[Any]:
        member = io.BytesIO(path.read_bytes()) if part else None
        with hdf5.opened(path, StoreError, member=member) as file:
            told = [hdf5.text(file, f"a{number}") for number in range(6)]
            told += [hdf5.one_text(file["one"]), hdf5.texts(file["row"]), hdf5.texts(file["parts"])]
            return [*told, hdf5.attribute(file["group"], "names").tolist()]

    assert read() == [
        *("x", "xx", "xxx", "xxxx", "xxxxx", "xxxxxx", "alone"),
        *(["ab", "cde"], ["ab", "cde"] * 9, ["y", "zz"]),
    ]
    places = text_references(genuine, block)
    assert len(places) >= 6 + 1 + 2 + 18 + 2
    reasons = []
    for place in places:
        path.write_bytes(genuine[:place] + struct.pack("<I", 0xFFFFFFF0) + genuine[place + 4 :])
        with pytest.raises(hdf5.DAMAGED) as caught:
            read()
        reasons.append(str(caught.value))
    # Headers of the latest format have checksums, by which HDF5 itself refuses a changed attribute.
    own = [reason for reason in reasons if "bytes long" not in reason]
    assert all(library == "latest" and "checksum" in reason for reason in own)


def compact(file: h5py.File) -> None:
    """Write texts into the header of their dataset."""
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_layout(h5py.h5d.COMPACT)
    kind = h5py.h5t.py_create(h5py.string_dtype(), logical=True)
    one = h5py.h5d.create(file.id, b"row", kind, h5py.h5s.create_simple((2,)), made)
    h5py.Dataset(one)[:] = ["ab", "cd"]


UNSEEN: dict[str, tuple[Callable[[h5py.File], object], Callable[[h5py.File], object], str]] = {
    "an attribute among many": (
        lambda file: file.attrs.update({f"a{number}": "x" for number in range(20)}),
        lambda file: hdf5.text(file, "a7"), "outside the header",
    ),
    "in the header of a dataset": (
        compact, lambda file: hdf5.texts(file["row"]), "lie in its header",
    ),
    "what fills up": (
        lambda file: file.create_dataset("row", 3, h5py.string_dtype(), fillvalue="abc"),
        lambda file: hdf5.texts(file["row"]), "fills what was not written",
    ),
}  # fmt: skip


@pytest.mark.parametrize("where", UNSEEN)
def test_texts_that_nobody_looked_at_are_not_read(where: str, tmp_path: Path) -> None:
    write, read, reason = UNSEEN[where]
    with h5py.File(tmp_path / "t.h5", "w", libver="latest") as file:
        write(file)
    with (
        hdf5.opened(tmp_path / "t.h5", StoreError) as file,
        pytest.raises(ValueError, match=reason),
    ):
        read(file)


@pytest.mark.parametrize("kind", ["store", "probe", "index", "store with packed paths"])
def test_a_text_is_no_longer_than_the_file_whatever_its_reference_says(
    kind: str, tmp_path: Path
) -> None:
    """HDF5 takes the memory that a reference asks for, of up to 4 GiB, before it looks there."""
    make, read, _, error = KINDS[kind.split()[0]]
    path = make(tmp_path)
    if "packed" in kind:
        with h5py.File(path, "r+") as file:
            names = file["images/path"][:]
            del file["images/path"]
            file.create_dataset("images/path", data=names, compression="gzip", chunks=(3,))
        read(path)
        with h5py.File(path, "r+") as file:
            packed = file["images/path"].id
            _, data = packed.read_direct_chunk((0,))
            lie = struct.pack("<I", 1 << 31) + zlib.decompress(data)[4:]
            packed.write_direct_chunk((0,), zlib.compress(lie))
        with pytest.raises(error, match="bytes long"):
            read(path)
        return
    genuine = path.read_bytes()
    places = text_references(genuine)
    assert places
    refused = 0
    for place in places:
        path.write_bytes(genuine[:place] + struct.pack("<I", 0xFFFFFFF0) + genuine[place + 4 :])
        with pytest.raises(error) as caught:
            read(path)
        refused += "bytes long" in str(caught.value)
    assert refused >= len(places) - 1, "of one that says the format, the message is another"


PROBE_LIES: dict[str, Callable[[SavedProbe], object]] = {
    "no numbers": lambda one: replaced(one, coef_=np.zeros((3, 0))),
    "one row too few": lambda one: replaced(one, coef_=one.probe.coef_[:2]),
    "NaN": lambda one: replaced(one, coef_=one.probe.coef_ * np.nan),
    "an intercept too many": lambda one: replaced(one, intercept_=np.zeros(4)),
    "no C": lambda one: replaced(one, C_=-1.0, C=-1.0),
    "an unknown classifier": lambda one: replaced(one, classifier="tree"),
}


def replaced(saved: SavedProbe, **values: Any) -> None:
    for name, value in values.items():
        setattr(saved.probe, name, value)


@pytest.mark.parametrize("lie", PROBE_LIES)
def test_probes_that_lie_are_refused_whatever_their_checksum(
    lie: str, tmp_path: Path, honest: Any
) -> None:
    saved = SavedProbe.load(honest("probe"))
    PROBE_LIES[lie](saved)
    saved.save(tmp_path / "probe.h5")  # with the checksum that belongs to it
    with pytest.raises(ProbeError, match=r"damaged|Unknown classifier|give a number"):
        SavedProbe.load(tmp_path / "probe.h5")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["store", "probe", "part of an archive"])
def test_a_heap_of_texts_that_leads_nowhere_ends_at_once(
    kind: str, tmp_path: Path, honest: Any
) -> None:
    if "archive" in kind:
        read, error, inner = read_keras, WeightsError, io.BytesIO()
        with h5py.File(inner, "w") as file:  # the heap is far from either end of the part
            file["first"] = np.zeros(5 << 20, np.float32)
            variables = file.create_group("layers/conv2d/vars")
            variables.attrs["name"] = "conv"
            variables["0"] = np.zeros((3, 3, 3, 64), np.float32)
            file["last"] = np.zeros(5 << 20, np.float32)
        data, path = bytearray(inner.getvalue()), tmp_path / "model.keras"
    else:
        _, read, _, error = KINDS[kind]
        data, path = bytearray(honest(kind).read_bytes()), tmp_path / honest(kind).name
    start = data.index(b"GCOL")
    assert data[start + 16 : start + 18] == b"\1\0"  # its first entry
    data[start + 16 : start + 32] = bytes(16)  # room of no bytes, over which HDF5 2.0 loops
    path.write_bytes(data)
    if "archive" in kind:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "{}")
            archive.writestr("model.weights.h5", data)
    with pytest.raises(error, match="damaged"):
        read(path)


def test_merging_stores_with_hostile_names_writes_the_one_file(tmp_path: Path) -> None:
    names = ["../../up.jpg", "/etc/passwd", "..", "c:\\x.jpg", "a\x1b[2J.jpg", "\\x00.jpg"]
    (tmp_path / "in").mkdir()
    for number, part in enumerate((names[:3], names[3:])):
        path = finished(tmp_path / "in" / f"{number}.h5", len(part))
        with h5py.File(path, "r+") as file:
            file["images/path"][...] = part
            file["labels/classes"][...] = ["../../class"] + ["/x"] * (
                len(file["labels/classes"]) - 1
            )
    before = set(tmp_path.rglob("*"))
    merge(tmp_path / "in" / "all.h5", [tmp_path / "in" / "0.h5", tmp_path / "in" / "1.h5"])
    made = {path.name for path in set(tmp_path.rglob("*")) - before if path.suffix != ".lock"}
    assert made == {"all.h5"}
    with FeatureStore(tmp_path / "in" / "all.h5") as store:
        assert store.paths.tolist() == names
        assert store.verify().ok


def test_stores_that_other_programs_compressed_are_read(tmp_path: Path) -> None:
    store, other = make_store(tmp_path), tmp_path / "rewritten.h5"
    options: dict[str, Any] = {"chunks": True, "compression": "gzip", "shuffle": True}
    with h5py.File(store) as file, h5py.File(other, "w") as out:
        out.attrs.update(file.attrs)

        def copy(name: str, one: h5py.Dataset | h5py.Group) -> None:
            if isinstance(one, h5py.Dataset):
                out.create_dataset(name, data=one[()], dtype=one.dtype, **options)

        file.visititems(copy)
        out["mine"] = h5py.SoftLink("/features/relu7")  # what the format does not know is ignored
        out["theirs"] = h5py.ExternalLink("elsewhere.h5", "/")
    with FeatureStore(store) as before, FeatureStore(other) as after:
        assert after.paths.tolist() == before.paths.tolist()
        assert np.array_equal(after["relu7"][:], before["relu7"][:], equal_nan=True)


def relabelled(catalogue: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change an index's catalogue and give it the checksum that belongs to it."""
    with h5py.File(catalogue, "r+") as file:
        head = json.loads(file["about"][:].tobytes())
        arrays = {name: file[name][:] for name in file if name != "about"}
        change(head, arrays)
        for name in ("about", *arrays):
            del file[name]
        for name, array in arrays.items():
            file[name] = array
        file["about"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        for name in sorted(arrays):
            digest.update(f"{name} {arrays[name].shape}".encode())
            digest.update(np.ascontiguousarray(arrays[name]).tobytes())
        file.attrs["sha256"] = digest.hexdigest()


@pytest.fixture
def small_index(tmp_path: Path) -> tuple[Path, Path]:
    X = np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32)
    make_rows(tmp_path / "base.h5", X[:20])
    (tmp_path / "in").mkdir()
    with FeatureStore(tmp_path / "base.h5") as store:
        SimilarityIndex.build(store, "relu7", path=tmp_path / "in" / "photos.index")
    return tmp_path / "in" / "photos.index", make_rows(tmp_path / "more.h5", X)


WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "search": lambda index, _: SimilarityIndex.open(index),
    "add": lambda index, store: added(index, store),
    "remove": lambda index, _: changing.remove(index, ["00003.jpg"]),
    "compact": lambda index, _: changing.compact(index, lambda *_: None),
    "copy": lambda index, _: making.copy(index, folder.read(index)[1], f"{index}.copy"),
}


def added(index: Path, path: Path) -> None:
    with FeatureStore(path) as store:
        changing.add(index, store, lambda *_: None)


@pytest.mark.parametrize("verb", WRITERS)
def test_no_index_reads_or_writes_a_file_outside_its_folder(
    verb: str, small_index: tuple[Path, Path], tmp_path: Path
) -> None:
    index, store = small_index
    vectors = next(index.glob("vectors-*"))
    victim = tmp_path / "in" / "victim.txt"
    victim.write_bytes(vectors.read_bytes())
    before, honest = victim.read_bytes(), (index / "index.h5").read_bytes()
    inside = index / "vectors-00000000.f32"
    for name in ("../victim.txt", str(victim), "victim.txt", "", inside.name.upper(), 7):

        def rename(head: dict[str, Any], _: object, name: object = name) -> None:
            head["files"]["vectors"] = name

        (index / "index.h5").write_bytes(honest)
        relabelled(index / "index.h5", rename)
        with pytest.raises(SearchError, match="is damaged"):
            WRITERS[verb](index, store)
    (index / "index.h5").write_bytes(honest)
    vectors.unlink()
    vectors.symlink_to(victim)
    with pytest.raises(SearchError, match="is a link"):
        WRITERS[verb](index, store)
    if hasattr(os, "mkfifo"):
        vectors.unlink()
        os.mkfifo(vectors)
        with pytest.raises(SearchError, match="no plain file"):
            WRITERS[verb](index, store)
    assert victim.read_bytes() == before


LIES: dict[str, Callable[[dict[str, Any], dict[str, Any]], object]] = {
    "no numbers": lambda head, _: head["files"].update(dimension=0),
    "2^40 numbers": lambda head, _: head["files"].update(dimension=1 << 40),
    "text for a number": lambda head, _: head["files"].update(dimension="8"),
    "2^60 vectors": lambda head, _: head["files"].update(parts=[[1 << 60, 0]]),
    "fewer than none": lambda head, _: head["files"].update(parts=[[21, 0], [-1, 0]]),
    "paths beyond": lambda _, arrays: arrays["path_ends"].__setitem__(-1, 1 << 40),
    "paths before": lambda _, arrays: arrays["path_ends"].__setitem__(3, -5),
    "empty paths": lambda _, arrays: arrays["path_ends"].__setitem__(slice(None), 0),
    "no UTF-8": lambda _, arrays: arrays["path_bytes"].__setitem__(4, 255),
    "floats for rows": lambda _, arrays: arrays.update(row=arrays["row"].astype(float)),
    "too few rows": lambda _, arrays: arrays.update(origin=arrays["origin"][:-1]),
    "matrix": lambda _, arrays: arrays.update(label=arrays["label"][:, None]),
    "unknown source": lambda _, arrays: arrays["origin"].__setitem__(0, 9),
    "unknown label": lambda _, arrays: arrays["label"].__setitem__(0, 9),
    "NaN": lambda head, _: head.update(longest=float("nan")),
    "no model": lambda head, _: head["deciding"].update(model=["vgg16"]),
    "no source": lambda head, _: head["sources"][0].update(source=None),
    "no text": lambda head, _: head.update(layer=5),
    "a structure": lambda head, _: head["settings"].update(factory="HNSW32"),
    "effort": lambda head, _: head["settings"].update(effort="much"),
    "time without end": lambda head, _: head["settings"].update(seconds=float("inf")),
    "no time": lambda head, _: head["settings"].update(seconds={}),
    "tuned to nothing": lambda head, _: head["settings"].update(tuning=tuned(tried=[])),
    "tuned to a text": lambda head, _: head["settings"].update(tuning=tuned(asked="0.9")),
    "measured nothing": lambda head, _: head["settings"].update(
        tuning=tuned(tried=[dict.fromkeys(MEASURED, None)])
    ),
    "deep preprocessing": lambda head, _: head["deciding"].update(preprocessing=deep(50)),
}
MEASURED = ("recall", "error", "seconds", "effort", "candidates")


def tuned(**values: Any) -> dict[str, Any]:
    tried = [dict.fromkeys(MEASURED, 1)]
    return {"asked": 0.9, "k": 10, "queries": 5, "chosen": 0, "tried": tried} | values


def deep(levels: int) -> dict[str, Any]:
    return {"a": deep(levels - 1)} if levels else {}


@pytest.mark.parametrize("lie", LIES)
def test_catalogues_that_lie_are_refused(lie: str, tmp_path: Path, honest: Any) -> None:
    folder = tmp_path / "photos.index"
    shutil.copytree(honest("index").parent, folder)
    relabelled(folder / "index.h5", lambda *_: None)
    SimilarityIndex.open(folder)  # the checksum is the one that vggfeat expects
    relabelled(folder / "index.h5", LIES[lie])
    with pytest.raises(SearchError, match=r"damaged|cut short"):
        SimilarityIndex.open(folder)


def on_disk(d: int, X: np.ndarray, lists: Path) -> bytes:
    """Return a FAISS file whose inverted lists lie in another file."""
    import faiss

    index = faiss.index_factory(d, "IVF4,Flat")
    index.cp.min_points_per_centroid = 1
    index.train(X)
    kept = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(lists))
    index.replace_invlists(kept, False)
    index.add(X)
    return bytes(faiss.serialize_index(index).tobytes())


@pytest.mark.parametrize("short", [False, True], ids=["whole", "cut short"])
def test_no_faiss_file_maps_or_changes_another_file(
    short: bool, small_index: tuple[Path, Path], tmp_path: Path
) -> None:
    index, store = small_index
    X = np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32)
    victim, name = tmp_path / "lists.bin", "faiss-00000000.faiss"
    data = on_disk(8, X[:20], victim)
    if short:
        victim.write_bytes(victim.read_bytes()[:100])
    (index / name).write_bytes(data)

    def put(head: dict[str, Any], _: object) -> None:
        head["settings"].update(factory="IVF4,Flat", effort=4, candidates=4)
        head["files"].update(faiss=name, faiss_size=len(data), faiss_crc32=zlib.crc32(data))

    relabelled(index / "index.h5", put)
    before = victim.read_bytes()
    for verb in ("search", "add"):
        with pytest.raises(SearchError, match="'ilod' do not lie in it"):
            WRITERS[verb](index, store)
    assert victim.read_bytes() == before


def with_faiss(folder: Path, structure: Any, **settings: Any) -> None:
    """Put a structure into an index, with all that the catalogue says of it."""
    import faiss

    name, data = "faiss-00000000.faiss", bytes(faiss.serialize_index(structure).tobytes())
    (folder / name).write_bytes(data)

    def put(head: dict[str, Any], _: object) -> None:
        head["settings"].update({"factory": "any", "effort": 8, "candidates": 12} | settings)
        head["files"].update(faiss=name, faiss_size=len(data), faiss_crc32=zlib.crc32(data))

    relabelled(folder / "index.h5", put)


def structure(factory: str) -> Any:
    found = structures.make(factory, 8, "l2")
    X = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    structures.train(found, X)
    found.add(X)
    return found


def to_array(vector: Any, at: int, value: int) -> None:
    import faiss

    array = faiss.vector_to_array(vector).copy()
    array[at] = value
    faiss.copy_array_to_vector(array, vector)


FAISS_LIES: dict[str, tuple[str, Callable[[Any], object]]] = {
    "higher than all": ("HNSW8", lambda one: setattr(one.hnsw, "max_level", 3)),
    "entered nowhere": ("HNSW8", lambda one: setattr(one.hnsw, "entry_point", -1)),
    "a huge effort": ("HNSW8", lambda one: setattr(one.hnsw, "efSearch", 1 << 30)),
    "a huge effort to add": ("HNSW8", lambda one: setattr(one.hnsw, "efConstruction", 1 << 30)),
    "links beyond": ("HNSW8", lambda one: to_array(one.hnsw.neighbors, 0, 1 << 30)),
    "offsets beyond": ("HNSW8", lambda one: to_array(one.hnsw.offsets, 3, 1 << 40)),
    "levels beyond": ("HNSW8", lambda one: to_array(one.hnsw.levels, 3, 40)),
    "lists beyond": ("IVF4_HNSW4,Flat", lambda one: quantizer(one, "max_level", 2)),
    "negative blocks": ("IVF4,PQ4x4fs", lambda one: setattr(one, "bbs", -64)),
    "another search": ("IVF4,PQ4x4fs", lambda one: setattr(one, "qbs2", 1 << 20)),
    "untrained codes": ("SQ8", lambda one: one.sq.trained.resize(3)),
}


def quantizer(ivf: Any, name: str, value: int) -> None:
    import faiss

    setattr(faiss.downcast_index(ivf.quantizer).hnsw, name, value)


@pytest.mark.parametrize("lie", FAISS_LIES)
def test_faiss_files_that_lie_are_refused(
    lie: str, small_index: tuple[Path, Path], tmp_path: Path
) -> None:
    index, store = small_index
    factory, change = FAISS_LIES[lie]
    found = structure(factory)
    with_faiss(index, found)
    SimilarityIndex.open(index)  # which is one that is read otherwise
    change(found)
    with_faiss(index, found)
    for verb in ("search", "add"):
        with pytest.raises(SearchError, match="Build the index anew"):
            WRITERS[verb](index, store)


def test_an_effort_beyond_all_images_takes_no_memory_and_finds_the_same(
    small_index: tuple[Path, Path],
) -> None:
    X = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    expected = None
    for effort in (20, 1 << 61):
        with_faiss(small_index[0], structure("HNSW8"), effort=effort)
        opened = SimilarityIndex.open(small_index[0])
        assert opened.searcher.effort == 20
        found = opened.nearest(X, 5)[0].tolist()
        expected = expected or found
        assert found == expected
    with_faiss(small_index[0], structure("HNSW8"), effort=0)
    with pytest.raises(SearchError, match="effort of 0"):
        SimilarityIndex.open(small_index[0])


@pytest.mark.parametrize("factory", ["IVF4,Flat", "IVF4,PQ4x4fs"])
@pytest.mark.parametrize("number", [1 << 40, 20, -1, 7])
def test_lists_of_vectors_that_there_are_not_or_twice_are_refused(
    factory: str, number: int, small_index: tuple[Path, Path]
) -> None:
    import faiss

    one = structure(factory)
    sizes = [one.invlists.list_size(at) for at in range(4)]
    largest = sizes.index(max(sizes))
    own = faiss.rev_swig_ptr(one.invlists.get_ids(largest), max(sizes))
    own[0 if own[0] != number else 1] = number
    with_faiss(small_index[0], one, effort=4, candidates=12)
    with pytest.raises(SearchError, match="its lists have"):
        SimilarityIndex.open(small_index[0])


@pytest.mark.parametrize("factory", ["LSH", "NSG8", "RQ2x4", "IMI2x4,SQ8", "RaBitQ"])
def test_structures_that_could_not_be_read_back_safely_are_not_built(factory: str) -> None:
    with pytest.raises(SearchError, match="could not read back safely"):
        structures.make(factory, 8, "l2")


def test_no_byte_of_a_faiss_file_that_is_cut_away_goes_unnoticed() -> None:
    index = structures.make("PCA6,IVF4,SQ8", 8, "l2")
    X = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    structures.train(index, X)
    index.add(X)
    import faiss

    whole = faiss.serialize_index(index).tobytes()
    faiss_layout.check(io.BytesIO(whole))
    for data in (*(whole[:end] for end in range(0, len(whole), 7)), whole + b"\0"):
        with pytest.raises(faiss_layout.LayoutError):
            faiss_layout.check(io.BytesIO(data))


@pytest.mark.parametrize(
    "shape", ["(2147483648, 4)", "(1073741824,)", "(-4, 4)", "(65536, 1099511627775, -32768)"]
)
def test_a_whitening_takes_no_memory_that_it_does_not_hold(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    learn([np.random.default_rng(0).normal(size=(20, 4))], 2).save(path)
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    head = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()
    with zipfile.ZipFile(path) as given:
        members = {name: given.read(name) for name in given.namelist()}
    with zipfile.ZipFile(path, "w") as out:
        for name, data in {**members, "projection.npy": head}.items():
            out.writestr(name, data)
    with pytest.raises(WhiteningError, match="says it is of shape"):
        Whitening.load(path)


@pytest.mark.timeout(20)
def test_a_checkpoint_of_tuples_within_tuples_ends_at_once(tmp_path: Path) -> None:
    key: Any = ("a",)
    for _ in range(60):
        key = (key, key)
    nested = b"\x80\x02}" + pickle.dumps(key, 2)[2:-1] + b"K\x01s."
    path = tmp_path / "w.pth"
    with path.open("wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {}):
            pickle.dump(value, file, 2)
        file.write(nested)
    with pytest.raises(WeightsError, match="no dictionary of tensors"), open_file(path):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs")
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.caffemodel", "w.mat", "w.keras"])
def test_no_weight_file_waits_for_a_fifo(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(WeightsError, match="no plain file"), open_file(tmp_path / name):
        pass


def test_no_part_of_a_keras_archive_reads_another_file(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with h5py.File(inner, "w") as file:
        file["layers/conv2d/vars/0"] = h5py.ExternalLink("/etc/passwd", "/data")
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", inner.getvalue())
    with pytest.raises(WeightsError, match="link to another file"), open_file(path):
        pass
