"""New images named by a saved probe, on the path that its training images took."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.extract import Failure, FeatureExtractor
from vggfeat.probe import SavedProbe, SavedRidge
from vggfeat.probe.files import format_of
from vggfeat.probe.saved_ridge import FORMAT
from vggfeat.probe.source_score import SourceScore, labels_of_source, score_source
from vggfeat.sources import Entry, Source, open_source
from vggfeat.tuned_probes import is_weights, tuned_probe


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a probe says of an image.

    Attributes
    ----------
    path : str
        The image, as its source names it.
    labels : tuple of str
        Its class; of a probe of several labels all that it shows, the likeliest first. They are
        the classifier's own decisions: what it says to be there may have a probability below 0.5.
    scores : dict of str to float
        By class, see :meth:`~vggfeat.LinearProbe.class_scores`.
    probabilities : dict of str to float, or None
        By class, in 0..1; they sum to 1 unless there may be several labels. None where the probe
        gives none: an SVM that is not calibrated.
    """

    path: str
    labels: tuple[str, ...]
    scores: Mapping[str, float]
    probabilities: Mapping[str, float] | None = None

    @property
    def margin(self) -> float:
        """By how much the largest score is above the next one."""
        second, first = sorted(self.scores.values())[-2:]
        return first - second

    @property
    def values(self) -> Mapping[str, float]:
        """Probabilities by class where there are some, else scores."""
        return self.scores if self.probabilities is None else self.probabilities

    def top(self, count: int | None = None) -> dict[str, float]:
        """Return the classes of the largest :attr:`values`, the largest first; all by default."""
        ranked = sorted(self.values.items(), key=lambda one: -one[1])
        return dict(ranked[:count])


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
    score : SourceScore or None
        How many it named rightly, where the source says the images' classes.
    unscored : str
        Why there is no score although the source does; else empty.
    """

    layer: str
    multi_label: bool
    images: tuple[Prediction, ...]
    failed: Mapping[str, str]
    score: SourceScore | None = None
    unscored: str = ""

    def to_json(self, top: int | None = None) -> dict[str, Any]:
        """Return JSON-ready values.

        Parameters
        ----------
        top : int, optional
            Only so many classes of each image, those of the largest values, the largest first.
        """
        return {
            "layer": self.layer,
            "images": [self._one(image, top) for image in self.images],
            "failed": [{"path": path, "reason": why} for path, why in self.failed.items()],
            "score": None if self.score is None else self.score.to_json(),
            **({"unscored": self.unscored} if self.unscored else {}),
        }

    def _one(self, image: Prediction, top: int | None) -> dict[str, Any]:
        shown = image.top(top)
        told: dict[str, Any] = {"path": image.path}
        if self.multi_label:
            told["labels"] = list(image.labels)
        else:
            told |= {"label": image.labels[0], "margin": image.margin}
            if image.probabilities is not None:
                told["probability"] = image.probabilities[image.labels[0]]
        if self.multi_label or image.probabilities is None:
            told["scores"] = {name: image.scores[name] for name in shown}
        if image.probabilities is not None:
            told["probabilities"] = shown
        return told


def predict(
    probe: SavedProbe | str | os.PathLike[str],
    source: str | os.PathLike[str] | Source,
    **options: Any,
) -> Predictions:
    """Name the class, or the classes, of a source's images.

    Where the source says what they show (a list's column of labels, an archive's ``.cls``, or
    folders called as the probe's classes), the predictions are scored.

    Parameters
    ----------
    probe : SavedProbe or path
        Or the file of one; or weights that :func:`vggfeat.finetune` made.
    source : path or Source
        A folder, an image, a ``.txt`` or ``.csv`` list, ``.tar`` or ``.zip`` archives.
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
    >>> result = predict("photos.probe", "new/")    # doctest: +SKIP
    >>> result.images[0].labels                            # doctest: +SKIP
    ('cat',)
    """
    saved = probe if isinstance(probe, SavedProbe) else _saved_probe(probe)
    images = source if isinstance(source, Source) else open_source(source)
    extractor = FeatureExtractor.like(saved.provenance, **options)
    saved.check(extractor.config)
    predictions: list[Prediction] = []
    blocks: list[npt.NDArray[np.float64]] = []
    failed: dict[str, str] = {}
    for items, X in _vectors(extractor, images, saved.layer, failed):
        names, scores = saved.predict(X)
        blocks.append(scores)
        likely = saved.probabilities_of(scores)
        for at, (entry, name) in enumerate(zip(items, names, strict=True)):
            predictions.append(
                Prediction(
                    entry.path,
                    tuple(name) if saved.multi_label else (str(name),),
                    _by_class(saved, scores[at]),
                    None if likely is None else _by_class(saved, likely[at]),
                )
            )
    score, unscored = _scored(saved, images, predictions, blocks)
    return Predictions(saved.layer, saved.multi_label, tuple(predictions), failed, score, unscored)


def predicts_numbers(probe: str | os.PathLike[str]) -> bool:
    """Return whether a file is of a probe, or a fine-tuned network, that predicts numbers."""
    if is_weights(probe):
        return isinstance(tuned_probe(probe), SavedRidge)
    return format_of(probe) == FORMAT


def _saved_probe(path: str | os.PathLike[str]) -> SavedProbe:
    found = tuned_probe(path) if is_weights(path) else SavedProbe.load(path)
    if isinstance(found, SavedRidge):
        raise ProbeError(f"{path} predicts numbers and no classes; give it to predict_numbers().")
    return found


def _saved_ridge(path: str | os.PathLike[str]) -> SavedRidge:
    found = tuned_probe(path) if is_weights(path) else SavedRidge.load(path)
    if isinstance(found, SavedProbe):
        raise ProbeError(f"{path} names classes and predicts no numbers; give it to predict().")
    return found


def _by_class(saved: SavedProbe, row: npt.NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(saved.classes, row.tolist(), strict=True))


def _scored(
    saved: SavedProbe,
    images: Source,
    predictions: list[Prediction],
    blocks: list[npt.NDArray[np.float64]],
) -> tuple[SourceScore | None, str]:
    """Return the score, and why there is none although images have labels."""
    paths = [entry.path for entry in images.entries]
    labelled = labels_of_source(paths, images.given_labels, saved.classes)
    if labelled is None or not predictions:
        return None, ""
    scores = np.concatenate(blocks)
    try:
        score = score_source(
            [one.path for one in predictions],
            *labelled,
            classes=saved.classes,
            multi_label=saved.multi_label,
            scores=scores,
            probabilities=saved.probabilities_of(scores),
        )
    except ProbeError as error:
        return None, str(error)
    return score, ""


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
    saved = probe if isinstance(probe, SavedRidge) else _saved_ridge(probe)
    images = source if isinstance(source, Source) else open_source(source)
    extractor = FeatureExtractor.like(saved.provenance, **options)
    saved.check(extractor.config)
    paths: list[str] = []
    values: list[npt.NDArray[np.floating]] = [np.empty((0, len(saved.names)), np.float32)]
    failed: dict[str, str] = {}
    for items, X in _vectors(extractor, images, saved.layer, failed):
        values.append(saved.predict(X.astype(np.float32)))
        paths += [entry.path for entry in items]
    return PredictedNumbers(saved.layer, saved.names, tuple(paths), np.concatenate(values), failed)


def _vectors(
    extractor: FeatureExtractor, images: Source, layer: str, failed: dict[str, str]
) -> Iterator[tuple[Sequence[Entry], npt.NDArray[Any]]]:
    """Yield images and their features (n, d), batch by batch; say in `failed` which have none."""
    for result in extractor.iter_features(images):
        if isinstance(result, Failure):
            failed[result.item.path] = result.reason
            continue
        features = result.arrays()[layer].astype(extractor.dtype)
        yield result.items, np.reshape(features, (len(features), -1))  # (n, C, H, W) -> (n, d)
