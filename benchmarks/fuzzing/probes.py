"""Probes, as ``probe --save`` makes them, and whitenings, as ``whiten`` does."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from random import Random

import h5py
import index_rows
import numpy as np
from index_rows import PROVENANCE
from sklearn.exceptions import NotFittedError  # noqa: F401  (before workers fork)

from fuzzing.bytes_of_files import INTEGERS, mutated, plain
from fuzzing.hdf5_values import valid
from fuzzing.json_values import changed
from fuzzing.kinds import DEFLATE, Kind, command
from vggfeat.probe import LinearProbe, SavedProbe
from vggfeat.provenance import Provenance
from vggfeat.store import FeatureStore
from vggfeat.whitening import Whitening

_WIDTH = 64


def vectors(count: int) -> np.ndarray:
    """Return some features."""
    return np.random.default_rng(0).normal(size=(count, _WIDTH)).astype(np.float32)


def make_probe(folder: Path) -> None:
    """Make a probe of one label an image."""
    fitted = LinearProbe("logreg", C=1.0).fit(vectors(24), np.arange(24) % 3)
    told = {"layer": "relu7", "accuracy": 0.5}
    of = Provenance(PROVENANCE.config.for_layer("relu7"), PROVENANCE.run)
    SavedProbe(fitted, ("ant", "bee", "cat"), "relu7", of, 24, told).save(folder / "photos.probe")


def make_several(folder: Path) -> None:
    """Make a probe of several labels an image."""
    y = np.random.default_rng(1).integers(0, 2, (24, 4)).astype(float)
    fitted = LinearProbe("svm", C=1.0, calibrate=True).fit(vectors(24), y)
    of = Provenance(PROVENANCE.config.for_layer("relu7"), PROVENANCE.run)
    SavedProbe(fitted, tuple("abcd"), "relu7", of, 24).save(folder / "photos.probe")


def make_calibrated(folder: Path) -> None:
    """Make a probe of one label an image that gives probabilities."""
    fitted = LinearProbe("svm", C=1.0, calibrate=True).fit(vectors(24), np.arange(24) % 3)
    of = Provenance(PROVENANCE.config.for_layer("relu7"), PROVENANCE.run)
    SavedProbe(fitted, ("ant", "bee", "cat"), "relu7", of, 24).save(folder / "photos.probe")


def sealed(path: Path) -> None:
    """Compute the checksum as vggfeat does, of what it would read."""
    import hashlib

    with h5py.File(path, "r+", locking=False) as file:
        told = Provenance.loads(file.attrs["provenance"]).dumps()
        C = np.asarray(file.attrs["C"], np.float64).tolist()
        held_out = json.loads(file["held_out"][()]) if "held_out" in file else None
        names = [name.decode() for name in file["classes"][:]]
        head = [told, file.attrs["layer"], file.attrs["classifier"], C]
        head += [bool(file.attrs["normalize"]), int(file.attrs["n_train"]), names, held_out]
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        for name in ("coef", "intercept"):
            digest.update(repr(file[name].shape).encode())
            digest.update(np.ascontiguousarray(file[name][:], "<f8").tobytes())
        file.attrs["sha256"] = digest.hexdigest()
        if "calibration" in file:
            of = json.dumps([digest.hexdigest(), int(file.attrs["n_calibration"])])
            told = np.ascontiguousarray(file["calibration"][:], "<f8").tobytes()
            seal = hashlib.sha256(of.encode() + told).hexdigest()
            file.attrs["calibration_sha256"] = seal


def predict(path: Path) -> None:
    """Name the classes of new features."""
    saved = SavedProbe.load(path)
    names, scores = saved.predict(vectors(5)[:, : saved.dimension])
    assert scores.shape == (5, len(saved.classes))
    likely = saved.probabilities_of(scores)
    assert likely is None or ((likely >= 0) & (likely <= 1)).all()
    json.dumps([list(map(str, names)), saved.held_out, saved.n_train])


def again(path: Path) -> None:
    """Write it again, and over it."""
    saved = SavedProbe.load(path)
    saved.save(path.with_name("other.probe"))
    saved.check(PROVENANCE.config)


def members(path: Path) -> dict[str, bytes]:
    """Return the members of an archive."""
    with zipfile.ZipFile(path) as given:
        return {name: given.read(name) for name in given.namelist()}


def archive(folder: Path, random: Random) -> None:
    """Change a member of the archive, whose CRC-32 is then right."""
    path = folder / "w.npz"
    held = members(path)
    name = random.choice(list(held))
    array = np.load(io.BytesIO(held[name]))
    way = random.randrange(6)
    if way == 0:
        held[name] = mutated(held[name], random)
    elif way == 1:
        del held[name]
    elif way == 2 and name == "header.npy":
        text = json.dumps(changed(json.loads(array.tobytes()), random)).encode()
        held[name] = _saved(np.frombuffer(text, np.uint8))
    elif way == 3:
        shape = tuple(random.choice(INTEGERS) for _ in range(random.choice((0, 1, 2, 2, 3))))
        held[name] = held[name].replace(str(array.shape).encode(), str(shape).encode().ljust(20))
    elif way == 4:
        kinds = ("f4", ">f8", "i8", "S8", "c16", "?", "M8[s]", "f2", "V8", "O")
        kind = random.choice(kinds)
        held[name] = _saved(np.array([None, {}], object) if kind == "O" else array.astype(
            kind, casting="unsafe"
        ))  # fmt: skip
    else:
        shapes = ((0,), (), (1,), (3, 3), (1 << 20,), (4, 1 << 16), (0, 5), (1 << 22,))
        held[name] = _saved(np.full(random.choice(shapes), random.choice((0, np.nan, 1e300))))
    packing = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(path, "w", packing) as out:
        for name, data in held.items():
            out.writestr(name, data)
            if random.random() < 0.02:
                out.writestr(name, data)


def _saved(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def load(path: Path) -> None:
    """Read it, and look what it says."""
    whitening = Whitening.load(path)
    json.dumps(whitening.summary())
    with np.errstate(all="ignore"):
        if whitening.width == _WIDTH:
            whitening(vectors(5))


def index(path: Path) -> None:
    """Make an index of whitened features."""
    store = path.with_name("photos.h5")
    with np.errstate(all="ignore"):
        command(
            *("index", "build", store, path.with_name("photos.index"), "--layer", "relu7"),
            *("--whiten", path),
        )
    with FeatureStore(store) as opened:
        assert len(opened) == 40


def make_whitening(folder: Path) -> None:
    """Make a store, and a whitening of its features."""
    store = index_rows.make_store(folder / "photos.h5", vectors(40))
    command("whiten", store, folder / "w.npz", "--layer", "relu7", "--dimension", 16)


_MUTATIONS = (plain("photos.probe"), *[valid("photos.probe", sealed)] * 3)

KINDS = (
    Kind("probe", make_probe, "photos.probe", _MUTATIONS, (predict, again), factor=DEFLATE),
    Kind(
        "probe-calibrated",
        make_calibrated,
        "photos.probe",
        _MUTATIONS,
        (predict, again),
        factor=DEFLATE,
    ),
    Kind("probe-several", make_several, "photos.probe", _MUTATIONS, (predict, again), DEFLATE),
    Kind(
        "whitening",
        make_whitening,
        "w.npz",
        (plain("w.npz"), archive, archive),
        (load, index),
        factor=DEFLATE,
    ),
)
