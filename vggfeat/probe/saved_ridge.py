"""Ridge probes on disk: a plain HDF5 file with everything that predicting numbers takes.

Root attributes: ``format`` = ``"vggfeat-ridge"``, ``format_version``, ``provenance`` (JSON text),
``layer``, ``normalize``, ``n_train`` and ``sha256`` of all the rest. Datasets: ``coef`` (t, d) and
``intercept`` (t,), ``alpha`` (t,), ``names`` (t,) UTF-8.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from vggfeat import hdf5
from vggfeat.errors import ProbeError
from vggfeat.layers import layer_of
from vggfeat.norms import unit_length
from vggfeat.probe.division import kept_rows
from vggfeat.probe.files import reading_probe, replacing_probe
from vggfeat.probe.reading import LayerRows
from vggfeat.probe.regression import learn_numbers
from vggfeat.probe.ridge import RidgeProbe
from vggfeat.progress import Progress, silent
from vggfeat.provenance import FeatureConfig, Provenance

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from vggfeat.feature_table import FeatureTable
    from vggfeat.probe.numbers import Numbers

FORMAT, VERSION = "vggfeat-ridge", 1
_DATASETS = ("coef", "intercept", "alpha", "names")


@dataclass(frozen=True, slots=True, eq=False)
class SavedRidge:
    """Trained ridge regressions with their names and the way images must take to them.

    Attributes
    ----------
    coef : ndarray of float32 or float64, shape (t, d)
    intercept, alpha : ndarray of float64, shape (t,)
    names : tuple of str
        Of the t targets.
    normalize : bool
        Whether features are scaled to length 1 first.
    layer : str
        Canonical name of the layer whose features are read.
    provenance : Provenance
        Of those features; its deciding values are narrowed to `layer`.
    n_train : int
        Number of images that they were trained on.
    """

    coef: npt.NDArray[np.floating]
    intercept: npt.NDArray[np.float64]
    alpha: npt.NDArray[np.float64]
    names: tuple[str, ...]
    normalize: bool
    layer: str
    provenance: Provenance
    n_train: int

    def check(self, config: FeatureConfig) -> None:
        """Refuse features that were made in another way than those of the training images.

        Raises
        ------
        StoreMismatchError
            `config` differs; the message names the fields with both values.
        """
        self.provenance.config.check(config, self.layer, "probe")

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.floating]:
        """Return the predicted numbers (n, t) of features (n, d), maps as vectors.

        Raises
        ------
        ProbeError
            `X` is of another width, or holds NaN or infinite values.
        """
        rows = np.asarray(X)
        if rows.ndim != 2 or rows.shape[1] != self.coef.shape[1]:
            raise ProbeError(
                f"Features of shape {rows.shape} were given; this probe takes "
                f"(n, {self.coef.shape[1]}) from {self.layer}."
            )
        if not np.isfinite(rows).all():
            raise ProbeError("Features hold NaN or infinite values; leave such images out.")
        rows = unit_length(rows) if self.normalize else rows
        return np.asarray(rows @ self.coef.T + self.intercept)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all; one of its kind that is there is replaced.

        Raises
        ------
        ProbeError
            Another file has this name.
        StoreError
            The folder cannot be written, the disk is full, or another process writes the file.
        """
        with replacing_probe(path, FORMAT) as temporary:
            self._write(temporary)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ProbeError
            The file is missing, damaged, something else, or of a newer format.
        """
        remedy = "vggfeat probe STORE --classifier ridge --save PROBE"
        with reading_probe(path, FORMAT, VERSION, _DATASETS, remedy) as (file, _):
            coef = file["coef"]
            t = len(file["names"])
            if coef.ndim != 2 or coef.dtype not in (np.float32, np.float64):
                raise ValueError(f"coef is {coef.dtype} of shape {coef.shape}")
            for name, shape in (
                ("coef", (t, *coef.shape[1:])),
                ("intercept", (t,)),
                ("alpha", (t,)),
            ):
                if file[name].shape != shape or not file[name].size:
                    raise ValueError(f"{name} is of shape {file[name].shape}, not {shape}")
            saved = cls(
                coef[:],
                file["intercept"][:].astype(np.float64),
                file["alpha"][:].astype(np.float64),
                tuple(hdf5.texts(file["names"])),
                bool(hdf5.attribute(file, "normalize")),
                hdf5.text(file, "layer"),
                Provenance.loads(hdf5.text(file, "provenance")),
                hdf5.integer(file, "n_train"),
            )
            if saved.layer not in saved.provenance.config.layers or saved.n_train < 0:
                raise ValueError(f"it is of {saved.layer!r}, and its provenance is not")
            if not all(np.isfinite(x).all() for x in (saved.coef, saved.intercept, saved.alpha)):
                raise ValueError("its coefficients are not finite")
            if hdf5.text(file, "sha256") != saved._content():
                raise ValueError("its content does not have its checksum")
        return saved

    def _write(self, path: Path) -> None:
        names = np.array([name.encode() for name in self.names])
        with h5py.File(path, "x", libver=("earliest", "v110"), locking=False) as file:
            file.attrs["format"] = FORMAT
            file.attrs["format_version"] = VERSION
            file.attrs["provenance"] = self.provenance.dumps()
            file.attrs["layer"] = self.layer
            file.attrs["normalize"] = self.normalize
            file.attrs["n_train"] = self.n_train
            file.attrs["sha256"] = self._content()
            file["coef"], file["intercept"], file["alpha"] = self.coef, self.intercept, self.alpha
            text = h5py.string_dtype("utf-8", names.dtype.itemsize)
            file.create_dataset("names", data=names.astype(text))

    def _content(self) -> str:
        head = [self.provenance.dumps(), self.layer, bool(self.normalize), self.n_train, self.names]
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        for array in (self.coef, self.intercept, self.alpha):
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def train_numbers(
    store: FeatureTable,
    layer: str,
    numbers: Numbers,
    *,
    alphas: Sequence[float] | None = None,
    normalize: bool = False,
    standardize: bool = False,
    folds: int = 5,
    scoring: Any = "r2",
    drawn: bool = False,
    seed: int = 0,
    memory: int | None = None,
    progress: Progress = silent,
) -> SavedRidge:
    """Train ridge regression to be kept, on all images but those of a test split.

    Parameters are those of :func:`~vggfeat.probe.evaluate_numbers`; with `drawn` the store's splits
    do not count, and all images train.
    """
    name = store.layer(layer)
    chosen, groups, validation = kept_rows(store, numbers.rows, drawn=drawn)
    probe = RidgeProbe(
        alphas,
        normalize=normalize,
        standardize=standardize,
        cv=validation or folds,
        scoring=scoring,
        random_state=seed,
    )
    rows, y = LayerRows(store, name, numbers.rows[chosen]), numbers.values[chosen]
    learn_numbers(probe, rows, y, groups, name, memory, progress)
    return SavedRidge(
        np.atleast_2d(probe.coef_),
        np.atleast_1d(np.asarray(probe.intercept_, np.float64)),
        np.atleast_1d(np.asarray(probe.alpha_, np.float64)),
        numbers.names,
        normalize,
        layer_of(name),
        Provenance(store.provenance.config.for_layer(name), store.latest),
        len(chosen),
    )
