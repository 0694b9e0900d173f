"""How alike layers, networks and given RDMs are: each with each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from vggfeat.errors import RepresentationError
from vggfeat.progress import Progress, silent
from vggfeat.representations.batches import FEWEST_BATCHES, batch_size, batch_spread, in_batches
from vggfeat.representations.conditions import By
from vggfeat.representations.matching import Matched, matched
from vggfeat.representations.rdms import RDMs
from vggfeat.representations.represented import How, represented, statistic
from vggfeat.representations.resampling import deviation, resample
from vggfeat.representations.statistics import Statistic
from vggfeat.showing import Drawn

if TYPE_CHECKING:
    from vggfeat.representations.matching import Item

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Source:
    """A store or file that was compared.

    Attributes
    ----------
    path : str
    made : str
        Model and weights of a store; of a file what it says of itself.
    conditions : int
        How many images or classes it has.
    left_out : int
        How many of these others lack.
    """

    path: str
    made: str
    conditions: int
    left_out: int


@dataclass(frozen=True, slots=True)
class Title:
    """A representation's name: the number of its source, from 0 on, and its layer or title."""

    source: int
    layer: str


@dataclass(frozen=True, slots=True, eq=False)
class Comparison(Drawn):
    """How alike each two representations are.

    Attributes
    ----------
    sources : tuple of Source
    titles : tuple of Title
        Of the r representations.
    values : ndarray of float64, shape (r, r)
        Symmetric; NaN where not defined.
    low, high : ndarray of float64, shape (r, r), or None
        95 % intervals for other images of the same kind; None where none were requested.
    images : int
        How many conditions were compared.
    by : str
        ``"image"`` or ``"class"``.
    how : How
    settings : dict
        What else decided, JSON-ready.
    """

    shown_as: ClassVar = "similarities"
    sources: tuple[Source, ...]
    titles: tuple[Title, ...]
    values: Floats
    low: Floats | None
    high: Floats | None
    images: int
    by: str
    how: How
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values; null where not defined."""
        return {
            **self.how.to_json(),
            **self.settings,
            "by": self.by,
            "conditions": self.images,
            "sources": [sources_json(one) for one in self.sources],
            "representations": [
                {"source": one.source + 1, "layer": one.layer} for one in self.titles
            ],
            "values": listed(self.values),
            "low": None if self.low is None else listed(self.low),
            "high": None if self.high is None else listed(self.high),
        }


def sources_json(one: Source) -> dict[str, Any]:
    """Return a source JSON-ready."""
    return {
        "path": one.path, "made": one.made, "conditions": one.conditions, "left_out": one.left_out
    }  # fmt: skip


def listed(values: Floats) -> list[Any]:
    """Return an array as lists, with None for NaN."""
    return [listed(one) if isinstance(one, np.ndarray) else number(float(one)) for one in values]


def number(value: float) -> float | None:
    """Return a number, None for NaN, as JSON has it."""
    return value if math.isfinite(value) else None


def compare(
    items: Sequence[Item],
    layers: str | Iterable[str] | None = None,
    *,
    similarity: str = "cka",
    dissimilarity: str = "correlation",
    debiased: bool = True,
    bandwidth: float = 1.0,
    by: By = "image",
    common: bool = False,
    same_order: bool = False,
    max_images: int | None = None,
    batch: int | None = None,
    bootstrap: int = 0,
    folds: int = 2,
    seed: int = 0,
    progress: Progress = silent,
) -> Comparison:
    """Compare representations of the same images, each with each other.

    Images are matched by their paths (classes by their names), never by position.

    Parameters
    ----------
    items : sequence of FeatureTable or RDMs
        Stores, all of whose requested layers are compared, and RDMs.
    layers : str or iterable of str, optional
        Names or aliases, also in one text with commas between; all of each store by default.
    similarity : str
        ``"cka"`` or ``"rbf-cka"``; or, as RSA, ``"pearson"``, ``"spearman"`` or ``"tau-a"``.
    dissimilarity : str
        Of RSA, see :func:`~vggfeat.representations.rdm`.
    debiased : bool
        Of CKA: unbiased estimates of HSIC. Biased CKA of few images is near 1 whatever they show.
    bandwidth : float
        Of the RBF kernel, as a share of the median distance.
    by : {"image", "class"}
        Compare images, or the means of classes.
    common, same_order :
        See :func:`~vggfeat.representations.matching.matched`.
    max_images : int, optional
        Compare a random sample of so many.
    batch : int, optional
        Images of a batch of CKA; 0 for all at once. By default all at once up to :data:`WHOLE`
        images, else :data:`BATCH`.
    bootstrap : int
        Samples of the images from which intervals are told; 0 for no intervals. Of CKA in batches
        they are samples of the batches.
    folds, seed : int
        Of crossnobis dissimilarities; of all that is drawn.
    progress : Progress
        Told of representations, then of samples.

    Returns
    -------
    Comparison

    Raises
    ------
    RepresentationError
        The images differ, cannot be matched, or do not fit into memory; CKA is to compare RDMs; an
        option is out of its range.
    LayerError
        A store has no such layer.
    """
    how = How(similarity, dissimilarity, debiased, bandwidth, folds, seed)
    how.check()
    found = conditions_of(items, by, common, same_order, max_images, seed)
    everything = represented(items, layers, found, range(len(items)))
    if len(everything) < 2:
        raise RepresentationError(
            f"There is one representation, {everything[0].title}. Name several --layers, or "
            "several stores or RDMs."
        )
    count = len(found)
    size = batch_size(count, batch, how)
    low = high = None
    settings: dict[str, Any] = {"seed": seed, "bootstrap": bootstrap, "batch": size or None}
    if size:
        values, parts = in_batches(everything, how, count, size, seed, progress)
        if bootstrap and len(parts) >= FEWEST_BATCHES:
            spread = batch_spread(parts, bootstrap, seed)
            low, high = _interval(values, spread, len(parts))
    else:
        what = statistic(everything, how, count, progress)
        values = what.similarities()
        if bootstrap:
            groups = groups_of(items, found)
            units = count if groups is None else int(groups.max()) + 1
            spread = _spread(what, bootstrap, seed, groups, progress)
            low, high = _interval(values, spread, units)
            settings["units"] = units
    return Comparison(
        sources_of(items, found),
        tuple(Title(one.source, one.title) for one in everything),
        values,
        low,
        high,
        count,
        by,
        how,
        settings,
    )


def conditions_of(
    items: Sequence[Item],
    by: By,
    common: bool,
    same_order: bool,
    max_images: int | None,
    seed: int,
) -> Matched:
    """Match the conditions of items, and take a sample of them where they are too many."""
    if not items:
        raise RepresentationError("Nothing was given to compare. Name stores or RDMs.")
    found = matched(items, by, common=common, same_order=same_order)
    if max_images is not None:
        if max_images < 4:
            raise RepresentationError(f"--max-images {max_images}; give 4 or more.")
        found = found.sampled(max_images, seed)
    return found


def sources_of(items: Sequence[Item], found: Matched) -> tuple[Source, ...]:
    """Describe what was compared."""
    told = []
    for one, what, left_out in zip(items, found.conditions, found.left_out, strict=True):
        if isinstance(one, RDMs):
            made = f"RDMs of {one.measure} distances" if one.measure else "RDMs"
            told.append(Source(one.source, made, one.count, left_out))
        else:
            made = f"{one.provenance.config.model}, weights {one.latest.weights}"
            told.append(Source(str(one.path), made, len(what or ()), left_out))
    return tuple(told)


def groups_of(items: Sequence[Item], found: Matched) -> npt.NDArray[np.int64] | None:
    """Return the group of each matched image; None where the first store has none, or by class.

    An image in no group is one of its own.
    """
    for one, what, order in zip(items, found.conditions, found.orders, strict=True):
        if isinstance(one, RDMs) or what is None or one.groups is None or what.by != "image":
            continue
        numbers = np.asarray(one.groups.values, np.int64)[what.rows[order]]
        alone = numbers < 0
        numbers[alone] = numbers.max(initial=0) + 1 + np.arange(int(alone.sum()))
        numbers = np.unique(numbers, return_inverse=True)[1].astype(np.int64)
        if numbers.max() < 1:
            raise RepresentationError(
                "All images are of one group, so that nothing tells how groups differ. Take "
                "--bootstrap 0."
            )
        return None if numbers.max() == len(numbers) - 1 else numbers
    return None


def _spread(
    what: Statistic,
    samples: int,
    seed: int,
    groups: npt.NDArray[np.int64] | None,
    progress: Progress,
) -> Floats:
    """Return the standard error of similarities over other images."""
    again = resample(
        what.n, what.similarities, samples=samples, seed=seed, groups=groups, progress=progress
    )
    units = len(again.without)
    jackknife = (units - 1) ** 2 / units * deviation(again.without) ** 2
    bootstrap = units / (units - 1) * deviation(again.drawn) ** 2
    return np.asarray(np.sqrt(np.clip(2 * jackknife - bootstrap, jackknife / 2, jackknife)))


def _interval(values: Floats, spread: Floats, units: int) -> tuple[Floats, Floats]:
    """Return t intervals from standard errors, within what the similarity can be."""
    from scipy.stats import t

    reach = float(t.ppf(0.975, units - 1)) * spread
    return np.maximum(values - reach, -1), np.minimum(values + reach, 1)
