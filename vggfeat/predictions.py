"""New images named by a saved probe, on the path that its training images took."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.extract import Failure, FeatureExtractor
from vggfeat.probe import SavedProbe, SavedRidge
from vggfeat.sources import Source, open_source


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a probe says of an image.

    Attributes
    ----------
    path : str
        The image, as its source names it.
    labels : tuple of str
        Its class; of a probe of several labels all that it shows, the likeliest first.
    scores : dict of str to float
        By class, see :meth:`~vggfeat.LinearProbe.class_scores`.
    """

    path: str
    labels: tuple[str, ...]
    scores: Mapping[str, float]

    @property
    def margin(self) -> float:
        """By how much the largest score is above the next one."""
        second, first = sorted(self.scores.values())[-2:]
        return first - second


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a probe says of a source's images.

    Attributes
    ----------
    layer : str
        Whose features it judged by.
    multi_label : bool
        Whether an image may show several classes.
    images : tuple of Prediction
        In the order of the source.
    failed : dict of str to str
        Images that cannot be read, with the reason.
    """

    layer: str
    multi_label: bool
    images: tuple[Prediction, ...]
    failed: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "layer": self.layer,
            "images": [
                {"path": one.path, "labels": list(one.labels), "scores": dict(one.scores)}
                if self.multi_label
                else {"path": one.path, "label": one.labels[0], "margin": one.margin}
                for one in self.images
            ],
            "failed": [{"path": path, "reason": why} for path, why in self.failed.items()],
        }


def predict(
    probe: SavedProbe | str | os.PathLike[str],
    source: str | os.PathLike[str] | Source,
    **options: Any,
) -> Predictions:
    """Name the class, or the classes, of a source's images.

    Parameters
    ----------
    probe : SavedProbe or path
        Or the file of one.
    source : path or Source
        A folder, an image, a ``.txt`` or ``.csv`` list, or ``.tar`` shards.
    **options
        `weights`, `device`, `precision`, `engine`, `batch_size` and `workers`, see
        :meth:`vggfeat.FeatureExtractor.like`.

    Returns
    -------
    Predictions

    Raises
    ------
    ProbeError
        The probe cannot be read.
    StoreMismatchError
        The weights are others than those of its training images.
    SourceError
        The source cannot be read, or has no images.
    WeightsError, DeviceError
        Weights or device are not there.

    Examples
    --------
    >>> result = predict("photos.probe", "new-photos/")    # doctest: +SKIP
    >>> result.images[0].labels                            # doctest: +SKIP
    ('cat',)
    """
    saved = probe if isinstance(probe, SavedProbe) else SavedProbe.load(probe)
    images = source if isinstance(source, Source) else open_source(source)
    extractor = FeatureExtractor.like(saved.provenance, **options)
    saved.check(extractor.config)
    predictions: list[Prediction] = []
    failed: dict[str, str] = {}
    for result in extractor.iter_features(images):
        if isinstance(result, Failure):
            failed[result.item.path] = result.reason
            continue
        features = result.arrays()[saved.layer].astype(extractor.dtype)
        X = np.reshape(features, (len(features), -1))  # (n, C, H, W) -> (n, d)
        names, scores = saved.predict(X)
        for entry, name, row in zip(result.items, names, scores.tolist(), strict=True):
            labels = tuple(name) if saved.multi_label else (str(name),)
            by_class = dict(zip(saved.classes, row, strict=True))
            predictions.append(Prediction(entry.path, labels, by_class))
    return Predictions(saved.layer, saved.multi_label, tuple(predictions), failed)


@dataclass(frozen=True, slots=True)
class PredictedNumbers:
    """What ridge regressions say of a source's images.

    Attributes
    ----------
    layer : str
        Whose features they judge by.
    names : tuple of str
        Of the t targets.
    paths : tuple of str
        The n images that could be read, in the order of the source.
    values : ndarray, shape (n, t)
        Predicted numbers.
    failed : dict of str to str
        Images that cannot be read, with the reason.
    """

    layer: str
    names: tuple[str, ...]
    paths: tuple[str, ...]
    values: npt.NDArray[np.floating]
    failed: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "layer": self.layer,
            "images": [
                {"path": path, "values": dict(zip(self.names, row, strict=True))}
                for path, row in zip(self.paths, self.values.tolist(), strict=True)
            ],
            "failed": [{"path": path, "reason": why} for path, why in self.failed.items()],
        }


def predict_numbers(
    probe: SavedRidge | str | os.PathLike[str],
    source: str | os.PathLike[str] | Source,
    **options: Any,
) -> PredictedNumbers:
    """Predict the numbers of a source's images; see :func:`predict` for parameters and errors."""
    saved = probe if isinstance(probe, SavedRidge) else SavedRidge.load(probe)
    images = source if isinstance(source, Source) else open_source(source)
    extractor = FeatureExtractor.like(saved.provenance, **options)
    saved.check(extractor.config)
    paths: list[str] = []
    values: list[npt.NDArray[np.floating]] = [np.empty((0, len(saved.names)), np.float32)]
    failed: dict[str, str] = {}
    for result in extractor.iter_features(images):
        if isinstance(result, Failure):
            failed[result.item.path] = result.reason
            continue
        features = result.arrays()[saved.layer].astype(extractor.dtype)
        X = np.reshape(features, (len(features), -1)).astype(np.float32)  # (n, C, H, W) -> (n, d)
        values.append(saved.predict(X))
        paths += [entry.path for entry in result.items]
    return PredictedNumbers(saved.layer, saved.names, tuple(paths), np.concatenate(values), failed)
