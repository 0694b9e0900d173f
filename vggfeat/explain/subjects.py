"""Whose classes are explained: a probe's, or a network's own."""

from __future__ import annotations

import difflib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import LayerError, ProbeError, WeightsError
from vggfeat.explain.scores import Score
from vggfeat.extract import FeatureExtractor
from vggfeat.probe import SavedProbe, SavedRidge
from vggfeat.probe.files import format_of
from vggfeat.probe.saved import FORMAT as CLASSES
from vggfeat.probe.saved_ridge import FORMAT as NUMBERS
from vggfeat.tuned_probes import is_weights, tuned_probe
from vggfeat.weights.trained_head import trained_head

if TYPE_CHECKING:
    from vggfeat.provenance import Provenance

Array = npt.NDArray[np.float64]

OF_NETWORKS = ("model", "preprocessing", "view", "scales", "flip")
"""Settings that a probe has of its own, and that are given with weights alone."""


class Subject(ABC):
    """Something that scores images by one of their features.

    Attributes
    ----------
    extractor : FeatureExtractor
        Makes the feature.
    column : str
        What the extractor calls it.
    names : tuple of str
        Of the K classes, or numbers.
    what : str
        What a score is, for a person.
    """

    extractor: FeatureExtractor
    column: str
    names: tuple[str, ...]
    what: str

    @abstractmethod
    def score(self, number: int) -> Score:
        """Return what a class's score is."""

    @abstractmethod
    def answer(self, feature: Array) -> list[int]:
        """Return the numbers of the classes that a feature (d,) is said to show, one or more."""

    def probabilities(self, feature: Array) -> Array | None:  # noqa: ARG002
        """Return the classes' probabilities (K,), where there are any."""
        return None

    def numbers(self, names: Sequence[str]) -> list[int]:
        """Return the numbers of classes, by name or by number.

        Raises
        ------
        ProbeError
            One is unknown; the message suggests near ones.
        """
        return [self._number(name) for name in names]

    def _number(self, name: str) -> int:
        if name in self.names:
            return self.names.index(name)
        lower = [one.lower() for one in self.names]
        if lower.count(name.lower()) == 1:
            return lower.index(name.lower())
        if name.isascii() and name.isdigit() and int(name) < len(self.names):
            return int(name)
        near = difflib.get_close_matches(name.lower(), lower, n=4, cutoff=0.5)
        near += [one for one in lower if name.lower() in one and one not in near][:4]
        some = near or lower[:6]
        told = ", ".join(self.names[lower.index(one)] for one in some)
        more = ", ..." if len(some) < len(self.names) else ""
        hint = f"Did you mean {told}?" if near else f"There are {len(self.names)}: {told}{more}."
        raise ProbeError(f"There is no class {name!r}. {hint}")


class _OfProbe(Subject):
    """What probes have in common."""

    def __init__(
        self, saved: SavedProbe | SavedRidge, provenance: Provenance, options: dict[str, Any]
    ) -> None:
        given = {name: value for name, value in options.items() if name not in OF_NETWORKS}
        self.extractor = FeatureExtractor.like(provenance, **given)
        saved.check(self.extractor.config)
        self.column = saved.layer


class ProbeClasses(_OfProbe):
    """The classes of a linear classifier."""

    def __init__(self, saved: SavedProbe, options: dict[str, Any]) -> None:
        super().__init__(saved, saved.provenance, options)
        self.saved, self.names = saved, saved.classes
        kind = "decision value" if saved.probe.classifier == "svm" else "log-odds"
        several = saved.multi_label or len(saved.classes) == 2 or kind == "decision value"
        self.what = f"{kind} of the {saved.probe.classifier}" if several else "logit of the logreg"

    def score(self, number: int) -> Score:
        """Return what a class's score is: of two exclusive ones, that for and that against."""
        probe = self.saved.probe
        sign, row = 1.0, number
        if len(probe.coef_) == 1:  # of two exclusive classes, the second one's
            sign, row = (1.0 if number else -1.0), 0
        weights, constant = sign * probe.coef_[row], sign * float(probe.intercept_[row])
        return Score(weights, constant, normalize=probe.normalize)

    def answer(self, feature: Array) -> list[int]:
        """Return the class named, or of several labels all that are shown, else the likeliest."""
        named, scores = self.saved.predict(feature[None])
        if not self.saved.multi_label:
            return [self.names.index(named[0])]
        return [self.names.index(one) for one in named[0]] or [int(scores[0].argmax())]

    def probabilities(self, feature: Array) -> Array | None:
        """Return the classes' probabilities (K,); None of an SVM that is not calibrated."""
        _, scores = self.saved.predict(feature[None])
        found = self.saved.probabilities_of(scores)
        return None if found is None else found[0]


class ProbeNumbers(_OfProbe):
    """The numbers that ridge regressions predict."""

    what = "predicted number"

    def __init__(self, saved: SavedRidge, options: dict[str, Any]) -> None:
        super().__init__(saved, saved.provenance, options)
        self.saved, self.names = saved, saved.names

    def score(self, number: int) -> Score:
        """Return what a number's prediction is."""
        saved = self.saved
        weights = np.asarray(saved.coef[number], np.float64)
        return Score(weights, float(saved.intercept[number]), normalize=saved.normalize)

    def answer(self, feature: Array) -> list[int]:  # noqa: ARG002
        """Return the first number: none is likelier than another."""
        return [0]


class NetworkClasses(Subject):
    """A network's own classes, by their scores before the softmax."""

    column = "fc8"
    what = "score before the softmax"

    def __init__(self, weights: str | None, options: dict[str, Any]) -> None:
        from vggfeat.weights.categories import categories

        self.extractor = FeatureExtractor(weights=weights, layers="fc8", **options)
        network = self.extractor.architecture
        self.names = tuple(categories(self.extractor.resolved_weights, network))

    def score(self, number: int) -> Score:
        """Return what a class's score is: one unit of the last layer."""
        weights = np.zeros(len(self.names))
        weights[number] = 1.0
        return Score(weights)

    def answer(self, feature: Array) -> list[int]:
        """Return the likeliest class."""
        return [int(feature.argmax())]

    def probabilities(self, feature: Array) -> Array:
        """Return the softmax of the classes' scores (K,)."""
        powers = np.exp(feature - feature.max())
        return np.asarray(powers / powers.sum())


def subject_of(
    given: SavedProbe | SavedRidge | str | os.PathLike[str] | None, options: dict[str, Any]
) -> Subject:
    """Tell a probe from weights.

    Parameters
    ----------
    given : SavedProbe, SavedRidge, path or str, optional
        A probe, or its file, or fine-tuned weights, whose head is one; or other weights, as
        :class:`vggfeat.FeatureExtractor` takes them, which None leaves to the model.
    options : dict
        What the extractor is made with; values that are None are left out.

    Raises
    ------
    ProbeError
        The probe cannot be read.
    LayerError
        Settings are given that the probe decides itself.
    WeightsError
        The weights cannot be found or read.
    """
    options = {name: value for name, value in options.items() if value is not None}
    saved: Any = given
    kind = format_of(Path(given)) if isinstance(given, str | os.PathLike) else None
    if kind == CLASSES:
        saved = SavedProbe.load(str(given))
    elif kind == NUMBERS:
        saved = SavedRidge.load(str(given))
    elif kind is not None:
        raise ProbeError(
            f"{given} is a file of vggfeat's ({kind}), and neither a probe nor weights. `vggfeat "
            "probe STORE --save PROBE` makes a probe."
        )
    elif isinstance(given, str | os.PathLike) and is_weights(given) and Path(given).is_file():
        saved = given if trained_head(Path(given)) is None else tuned_probe(given)
    if not isinstance(saved, SavedProbe | SavedRidge):
        weights = None if saved is None else os.fspath(saved)
        if (own := options.pop("weights", None)) is not None:
            raise LayerError(f"Weights are given twice: {weights} and {own}. Give them once.")
        try:
            return NetworkClasses(weights, options)
        except WeightsError as error:
            if kind is None and weights is not None and options.get("model") is None:
                raise WeightsError(
                    f"{weights} is no probe that `vggfeat probe --save` made; as weights: {error}"
                ) from error
            raise
    if decided := [name for name in OF_NETWORKS if name in options]:
        raise LayerError(
            f"{', '.join(decided)}: a probe has these of its own, from its training images. Leave "
            "them out, or give weights instead of a probe."
        )
    return (
        ProbeClasses(saved, options)
        if isinstance(saved, SavedProbe)
        else ProbeNumbers(saved, options)
    )
