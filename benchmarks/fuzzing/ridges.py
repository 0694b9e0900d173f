"""Probes of numbers, as ``probe --classifier ridge --save`` makes them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
from index_rows import PROVENANCE

from fuzzing.bytes_of_files import plain
from fuzzing.hdf5_values import valid
from fuzzing.kinds import DEFLATE, Kind
from vggfeat.probe import RidgeProbe, SavedRidge
from vggfeat.provenance import Provenance

_NAME, _WIDTH, _TARGETS = "ages.probe", 32, 5


def features(count: int) -> np.ndarray:
    """Return some features."""
    return np.random.default_rng(0).normal(size=(count, _WIDTH)).astype(np.float32)


def make(folder: Path) -> None:
    """Make a probe of five numbers."""
    X = features(40)
    fitted = RidgeProbe(1.0).fit(X, X[:, :_TARGETS] + 1)
    of = Provenance(PROVENANCE.config.for_layer("relu7"), PROVENANCE.run)
    names = tuple(f"target {k}" for k in range(_TARGETS))
    intercept, alpha = (np.asarray(x, np.float64) for x in (fitted.intercept_, fitted.alpha_))
    SavedRidge(fitted.coef_, intercept, alpha, names, False, "relu7", of, 40).save(folder / _NAME)


def sealed(path: Path) -> None:
    """Compute the checksum as vggfeat does, of what it would read."""
    with h5py.File(path, "r+", locking=False) as file:
        told = Provenance.loads(file.attrs["provenance"]).dumps()
        names = [name.decode() for name in file["names"][:]]
        head = [told, file.attrs["layer"], bool(file.attrs["normalize"])]
        head += [int(file.attrs["n_train"]), names]
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        for name in ("coef", "intercept", "alpha"):
            array = file[name][:]
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        file.attrs["sha256"] = digest.hexdigest()


def predict(path: Path) -> None:
    """Predict numbers of new features."""
    saved = SavedRidge.load(path)
    X = features(5)[:, : saved.coef.shape[1]]
    with np.errstate(all="ignore"):
        assert saved.predict(X).shape == (5, len(saved.names))


def again(path: Path) -> None:
    """Write it again, and look what it says."""
    saved = SavedRidge.load(path)
    saved.check(PROVENANCE.config)
    saved.save(path.with_name("other.probe"))
    json.dumps([saved.names, saved.alpha.tolist()])


KINDS = (
    Kind(
        "probe-ridge",
        make,
        _NAME,
        (plain(_NAME), *[valid(_NAME, sealed)] * 3),
        (predict, again),
        factor=DEFLATE,
    ),
)
