"""Probes on disk: a plain HDF5 file with everything that labelling a new image takes.

Root attributes: ``format`` = ``"vggfeat-probe"``, ``format_version``, ``provenance`` (JSON text),
``layer``, ``classifier``, ``C``, ``normalize``, ``n_train`` and ``sha256`` of all the rest.
Datasets: ``coef`` (K, d) or (1, d) and ``intercept`` (K,) or (1,), float64; ``classes`` (K,)
UTF-8; ``held_out``, the JSON text of :meth:`ProbeResult.to_json`, where the probe was scored.
An SVM that gives probabilities has ``calibration``, too, slopes and offsets (1, 2) or, of several
labels, (K, 2) float64 (:mod:`~vggfeat.probe.calibration`), with the root attributes
``n_calibration``, the rows it was learnt on, and ``calibration_sha256`` of ``sha256``, that number
and the dataset. Who does not know of them reads the file as before.

Version 1 names one class an image. Version 2, which is written for several, has ``C`` (K,), and
each row of ``coef`` decides on its own class.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import h5py
import numpy as np
import numpy.typing as npt

from vggfeat import hdf5
from vggfeat.errors import ProbeError
from vggfeat.layers import layer_of
from vggfeat.probe.calibration import Calibration
from vggfeat.probe.classifier import LinearProbe
from vggfeat.probe.division import to_keep
from vggfeat.probe.files import reading_probe, replacing_probe
from vggfeat.probe.results import MultiLabelResult, ProbeResult
from vggfeat.probe.scoring import learn
from vggfeat.probe.targets import Classifier, boundary
from vggfeat.progress import Progress, silent
from vggfeat.provenance import FeatureConfig, Provenance

if TYPE_CHECKING:
    import os

    from vggfeat.feature_table import FeatureTable

FORMAT = "vggfeat-probe"
_DATASETS = ("coef", "intercept", "classes", "held_out", "calibration")
ONE, SEVERAL = 1, 2
"""Versions of the format: one class an image, or several."""


@dataclass(frozen=True, slots=True, eq=False)
class SavedProbe:
    """A trained classifier with its class names and the way images must take to it.

    Attributes
    ----------
    probe : LinearProbe
        Its classes are the positions 0..K-1 in `classes`.
    classes : tuple of str
        Names of the K classes.
    layer : str
        Canonical name of the layer whose features it reads.
    provenance : Provenance
        Of those features; its deciding values are narrowed to `layer`.
    n_train : int
        Number of images it was trained on.
    held_out : dict or None
        How :func:`evaluate` scored such a probe, as :meth:`ProbeResult.to_json` or
        :meth:`MultiLabelResult.to_json` tells it.
    """

    probe: LinearProbe
    classes: tuple[str, ...]
    layer: str
    provenance: Provenance
    n_train: int
    held_out: dict[str, Any] | None = None

    @property
    def dimension(self) -> int:
        """Length d of the features it reads."""
        return int(self.probe.coef_.shape[1])

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several classes."""
        return self.probe.multi_label_

    def check(self, config: FeatureConfig) -> None:
        """Refuse features that were made in another way than those it was trained on.

        Raises
        ------
        StoreMismatchError
            `config` differs; the message names the fields with both values.
        """
        self.provenance.config.check(config, self.layer, "probe")

    def predict(self, X: npt.ArrayLike) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.float64]]:
        """Name the class or the classes of each row.

        Parameters
        ----------
        X : array_like of shape (n, d)
            Features of :attr:`layer`; maps as vectors.

        Returns
        -------
        names : ndarray of objects, shape (n,)
            The class of the largest score, a str; with several classes an image, those that it
            shows, a tuple of str with the likeliest first.
        scores : ndarray of float64, shape (n, K)
            See :meth:`LinearProbe.class_scores`; :meth:`probabilities_of` makes probabilities
            of them.

        Raises
        ------
        ProbeError
            `X` is of another width, or holds NaN or infinite values; or scores overflow.
        """
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != self.dimension:
            raise ProbeError(
                f"Features of shape {X.shape} were given; this probe takes (n, {self.dimension}) "
                f"from {self.layer}."
            )
        finite = np.isfinite(X).all(axis=1)
        if not finite.all():
            raise ProbeError(
                f"Features hold NaN or infinite values, first in row {int(finite.argmin())}; "
                "leave such images out."
            )
        names = np.array(self.classes, dtype=object)
        if not len(X):
            return names[:0], np.empty((0, len(names)))
        scores = self.probe.class_scores(X)
        if not np.isfinite(scores).all():
            raise ProbeError(
                "Scores are beyond what float64 holds: the probe's coefficients, or the features, "
                "are too large. Train the probe anew."
            )
        if not self.multi_label:
            return names[scores.argmax(axis=1)], scores
        likely = self.probabilities_of(scores)
        labels = np.empty(len(X), dtype=object)
        least = boundary(self.probe.classifier)
        orders = np.argsort(-(scores if likely is None else likely), axis=1, kind="stable")
        for i, (row, order) in enumerate(zip(scores, orders, strict=True)):
            labels[i] = tuple(names[k] for k in order if row[k] > least)
        return labels, scores

    def probabilities_of(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
        """Return the probabilities that scores of :meth:`predict` stand for, both (n, K).

        They sum to 1 unless an image may have several classes. None of an SVM that is not
        calibrated, as those of earlier versions are.
        """
        return self.probe.probabilities_of(scores)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all; a probe that is there already is replaced.

        Raises
        ------
        ProbeError
            A file that is no probe has this name.
        StoreError
            The folder is missing or cannot be written, the disk is full, or another process is
            writing the same file.
        """
        with replacing_probe(path, FORMAT) as temporary:
            self._write(temporary)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote; its decisions are the same to the last bit.

        Raises
        ------
        ProbeError
            The file is missing, damaged, no probe, or of a newer format.
        """
        remedy = "vggfeat probe STORE --save PROBE"
        with reading_probe(path, FORMAT, SEVERAL, _DATASETS, remedy) as (file, version):
            multi_label, C = version == SEVERAL, hdf5.attribute(file, "C")
            held_out = hdf5.one_text(file["held_out"]) if "held_out" in file else None
            coef = file["coef"]
            if coef.ndim != 2:
                raise ValueError(f"coef is of shape {coef.shape}")
            names = tuple(hdf5.texts(file["classes"]))
            saved = cls(
                LinearProbe.fitted(
                    hdf5.text(file, "classifier"),  # type: ignore[arg-type]
                    C=np.asarray(C, np.float64) if multi_label else float(C),
                    normalize=bool(hdf5.attribute(file, "normalize")),
                    classes=np.arange(len(names)),
                    coef=coef[:],
                    intercept=file["intercept"][:],
                    multi_label=multi_label,
                    calibration=_calibration(file, multi_label),
                ),
                names,
                hdf5.text(file, "layer"),
                Provenance.loads(hdf5.text(file, "provenance")),
                hdf5.integer(file, "n_train"),
                held_out if held_out is None else json.loads(held_out),
            )
            saved._check()
            if hdf5.text(file, "sha256") != saved._content():
                raise ValueError("its content does not have its checksum")
            if saved._calibration_content() != (
                hdf5.text(file, "calibration_sha256")
                if "calibration_sha256" in file.attrs
                else None
            ):
                raise ValueError("its calibration does not have its checksum")
        return saved

    def _write(self, path: Path) -> None:
        classes = np.array([name.encode() for name in self.classes])
        text = h5py.string_dtype("utf-8", classes.dtype.itemsize)
        with h5py.File(path, "x", libver=("earliest", "v110"), locking=False) as file:
            file.attrs["format"] = FORMAT
            file.attrs["format_version"] = SEVERAL if self.multi_label else ONE
            file.attrs["provenance"] = self.provenance.dumps()
            file.attrs["layer"] = self.layer
            file.attrs["classifier"] = self.probe.classifier
            file.attrs["C"] = self.probe.C_
            file.attrs["normalize"] = self.probe.normalize
            file.attrs["n_train"] = self.n_train
            file.attrs["sha256"] = self._content()
            file["coef"], file["intercept"] = self.probe.coef_, self.probe.intercept_
            file.create_dataset("classes", data=classes.astype(text))
            if self.held_out is not None:
                file["held_out"] = json.dumps(self.held_out)
            if (calibration := self.probe.calibration_) is not None:
                file["calibration"] = np.stack([calibration.slope, calibration.offset], axis=1)
                file.attrs["n_calibration"] = calibration.n
                file.attrs["calibration_sha256"] = self._calibration_content()

    def _check(self) -> None:
        """Refuse parts that do not fit one another; ValueError.

        Whoever changes a probe can compute its checksum anew.
        """
        probe, count = self.probe, len(self.classes)
        rows = 1 if count == 2 and not self.multi_label else count
        arrays = {"coef": (probe.coef_, (rows, probe.n_features_in_)),
                  "intercept": (probe.intercept_, (rows,)),
                  "C": (np.asarray(probe.C_), (count,) if self.multi_label else ())}  # fmt: skip
        for name, (array, shape) in arrays.items():
            if array.dtype != np.float64 or array.shape != shape or not array.size:
                raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, not {shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} has NaN or infinite values")
        if (calibration := probe.calibration_) is not None:
            slopes = count if self.multi_label else 1
            told = np.stack([calibration.slope, calibration.offset])
            if told.shape != (2, slopes) or not np.isfinite(told).all() or (told[0] < 0).any():
                raise ValueError(f"its calibration is not {slopes} slopes and offsets")
            if probe.classifier != "svm" or calibration.n < 0:
                raise ValueError("it is calibrated, and no SVM that was")
            if not self.multi_label and told[1].any():
                raise ValueError("its calibration has an offset, which exclusive classes have not")
        if count < 2 or len(set(self.classes)) < count:
            raise ValueError(f"it has {count} classes, or two of one name")
        probe._check_parameters()
        if self.layer not in self.provenance.config.layers:
            raise ValueError(f"it is of {self.layer!r}, and its provenance is not")
        if self.n_train < 0 or not isinstance(self.held_out, dict | None):
            raise ValueError("it does not say how it was trained")

    def _calibration_content(self) -> str | None:
        if (calibration := self.probe.calibration_) is None:
            return None
        head = json.dumps([self._content(), calibration.n])
        digest = hashlib.sha256(head.encode())
        told = np.stack([calibration.slope, calibration.offset], axis=1)
        digest.update(np.ascontiguousarray(told, "<f8").tobytes())
        return digest.hexdigest()

    def _content(self) -> str:
        C = np.asarray(self.probe.C_, np.float64).tolist()
        head: list[Any] = [self.provenance.dumps(), self.layer, self.probe.classifier, C]
        head += [bool(self.probe.normalize), self.n_train, self.classes, self.held_out]
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        for array in (self.probe.coef_, self.probe.intercept_):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, "<f8").tobytes())
        return digest.hexdigest()


def train(
    store: FeatureTable,
    layer: str,
    *,
    classifier: Classifier = "svm",
    C: float | None = None,
    normalize: bool = True,
    class_weight: Literal["balanced"] | None = None,
    validation: float = 0.2,
    seed: int = 0,
    max_iter: int = 100,
    calibrate: bool = True,
    held_out: ProbeResult | MultiLabelResult | None = None,
    memory: int | None = None,
    progress: Progress = silent,
) -> SavedProbe:
    """Train a classifier on all of a store's labelled images, to be kept and applied.

    The rows are those that :func:`evaluate` divides; but where the store's splits are taken for
    what they say, its test split is left out.

    Parameters
    ----------
    store, layer, classifier, C, normalize, class_weight, validation, seed, max_iter, memory, \
    progress :
        As for :func:`evaluate`.
    calibrate : bool
        Let an SVM give probabilities, learnt on training rows that are held out for it once more
        (see :class:`LinearProbe`).
    held_out : ProbeResult or MultiLabelResult, optional
        The score of such a probe, to be kept with it. Its `C` is used where none is given, and of
        several labels its classes.

    Raises
    ------
    ProbeError
        As :func:`evaluate`; or `held_out` is the score of another layer, classifier,
        normalisation or class weight.
    """
    scored_on = held_out.division if held_out is not None else None
    drawn = scored_on is not None and not scored_on.splits
    data, division = to_keep(store, layer, multi_label=True, drawn=drawn)
    chosen: npt.ArrayLike | None = C
    if held_out is not None:
        requested = data.layer, classifier, normalize, class_weight
        scored = (
            held_out.layer,
            held_out.classifier,
            held_out.normalize,
            held_out.class_weight,
        )
        if requested != scored:
            raise ProbeError(
                f"The score is of {scored}, and a probe of {requested} is to be trained."
            )
        chosen = held_out.C if C is None else C
        if data.multi_label:
            data = data.only(held_out.classes)
    probe = LinearProbe(
        classifier,
        C=chosen,
        normalize=normalize,
        class_weight=class_weight,
        validation=division.validation or validation,
        random_state=seed,
        max_iter=max_iter,
        calibrate=calibrate,
    )
    rows, y = data.reader(store, division.train), data.target(division.train)
    learn(
        probe,
        rows,
        y,
        groups=division.train_groups,
        name=data.layer,
        memory=memory,
        progress=progress,
    )
    given = store.provenance
    return SavedProbe(
        probe,
        data.classes,
        layer_of(data.layer),
        Provenance(given.config.for_layer(data.layer), store.latest),
        len(division.train),
        None if held_out is None else held_out.to_json(),
    )


def _calibration(file: h5py.File, multi_label: bool) -> Calibration | None:
    """Read what makes probabilities; None where the file has none."""
    if "calibration" not in file:
        return None
    told = file["calibration"]
    if told.dtype != np.float64 or told.ndim != 2 or told.shape[1] != 2:
        raise ValueError(f"calibration is {told.dtype} of shape {told.shape}")
    slope, offset = np.ascontiguousarray(told[:].T)
    return Calibration(slope, offset, multi_label, hdf5.integer(file, "n_calibration"))
