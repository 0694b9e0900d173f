"""What units respond to: the images of a store that excite them most, and least."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.analysis.image_map import label_names
from vggfeat.errors import PlotError
from vggfeat.progress import Progress, silent

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Interest = Literal["variance", "sparseness"]
INTERESTS: tuple[Interest, ...] = get_args(Interest)
"""What makes a unit interesting: that it differs much between images, or responds to few."""

_WEAK = 0.01  # share of the median power below which a unit hardly responds at all

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class UnitActivation:
    """An image, and how strongly a unit responds to it.

    Attributes
    ----------
    path : str
    value : float
        The feature as stored; of whole maps (C, H, W) the channel's largest value.
    labels : tuple of str
        Its class names, where known.
    """

    path: str
    value: float
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """One channel or unit over all images.

    Attributes
    ----------
    number : int
        Its place in the feature vector; of whole maps its channel.
    mean, deviation : float
        Of its values.
    positive : float
        Share of images, in 0..1, for which its value is above 0.
    most, least : tuple of UnitActivation
        Images with the largest values, largest first, and with the smallest, smallest first.
        Equal ones come in a random order; an image is in one of the two only.
    """

    number: int
    mean: float
    deviation: float
    positive: float
    most: tuple[UnitActivation, ...]
    least: tuple[UnitActivation, ...]


@dataclass(frozen=True, slots=True)
class UnitsReport:
    """What some units of a layer respond to.

    Attributes
    ----------
    layer, pooling : str
        Canonical name, and what made vectors of its maps.
    interest : str
        Why these units: of :data:`INTERESTS`, or ``"asked for"``.
    total : int
        Units of the layer.
    images : int
        Number of images that were compared.
    not_done, not_finite : int
        Images without features, and with features that are NaN or infinite.
    units : tuple of Unit
        Most interesting first, or in the order asked for.
    """

    layer: str
    pooling: str
    interest: str
    total: int
    images: int
    not_done: int
    not_finite: int
    units: tuple[Unit, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


def unit_responses(
    store: FeatureTable,
    layer: str,
    units: int | Sequence[int] = 12,
    *,
    interest: Interest = "variance",
    most: int = 8,
    least: int = 4,
    seed: int = 0,
    progress: Progress = silent,
) -> UnitsReport:
    """Find the images that excite units of a layer most, and least.

    Values are those stored, not scaled to length 1. The layer is read twice, block by block.

    Parameters
    ----------
    store : FeatureTable
        With or without labels.
    layer : str
        Name or alias.
    units : int or sequence of int
        How many of the most interesting, or the numbers of those wanted.
    interest : {"variance", "sparseness"}
        The variance over images; or 1 - mean(r)**2 / mean(r**2) of the rectified values r (Treves
        & Rolls 1991): 0 where all images excite a unit alike, near 1 where very few do. Units
        with less than 1 % of the median power are not interesting.
    most, least : int
        Images of each unit, fewer where the store has fewer.
    seed : int
        Of the order of images with equal values.
    progress : Progress
        Told of rows that were read.

    Returns
    -------
    UnitsReport

    Raises
    ------
    PlotError
        A number is out of its range, or no image has finite features.
    LayerError
        The store has no such layer.
    """
    name = store.layer(layer)
    if interest not in INTERESTS:
        raise PlotError(f"Unknown interest {interest!r}. Known are {', '.join(INTERESTS)}.")
    total = store.shape(name)[0]
    requested = _requested(units, total, name)
    if most < 1 or least < 0:
        raise PlotError(f"{most} and {least} images of each unit; give 1 and 0, or more.")
    done = np.flatnonzero(store.done).astype(np.int64)
    passes = 1 if isinstance(requested, list) else 2
    total_rows = passes * len(done)

    def report(rows: int) -> None:
        progress("reading", rows, total_rows)

    if isinstance(requested, list):
        numbers = np.array(requested, np.int64)
    else:
        numbers = _interesting(store, name, done, interest, requested, report)
    rows, values = _columns(store, name, done, numbers, report)
    if not len(rows):
        raise PlotError(
            f"No image of {store.path} has finite features in {name}. Run `vggfeat extract` "
            f"again; `vggfeat verify {store.path}` lists damaged rows."
        )
    labels, _ = label_names(store, rows)
    responses = []
    for number, column in zip(numbers.tolist(), values.T, strict=True):
        order = np.random.default_rng([seed, number]).permutation(len(rows))
        responses.append(
            _unit(
                number, column, order, lambda at: (store.paths[rows[at]], labels[at]), most, least
            )
        )
    return UnitsReport(
        name, store.provenance.config.layers[name],
        interest if isinstance(units, int) else "asked for", total, len(rows),
        len(store) - len(done), len(done) - len(rows), tuple(responses),
    )  # fmt: skip


def _requested(units: int | Sequence[int], total: int, layer: str) -> int | list[int]:
    if isinstance(units, int):
        if units < 1:
            raise PlotError(f"{units} units; give 1 or more.")
        return min(units, total)
    numbers = list(units)
    wrong = [number for number in numbers if not 0 <= number < total]
    if wrong or not numbers or len(set(numbers)) < len(numbers):
        given = f"unit {wrong[0]}" if wrong else f"units {numbers}"
        raise PlotError(f"{given} of {layer}; give different numbers from 0 to {total - 1}.")
    return numbers


def _blocks(
    store: FeatureTable, layer: str, rows: npt.NDArray[np.int64], report: Callable[[int], object]
) -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
    """Yield finite rows and each unit's value in them: (n, C), of whole maps their maxima."""
    shape = store.shape(layer)
    for numbers, block in store.blocks(layer, rows):
        report(len(numbers))
        finite = np.isfinite(block).all(axis=1)
        # (n, C * H * W) -> (n, C)
        values = block[finite].reshape(-1, shape[0], math.prod(shape[1:])).max(axis=2)
        yield numbers[finite], values.astype(np.float64)


def _interesting(
    store: FeatureTable,
    layer: str,
    rows: npt.NDArray[np.int64],
    interest: Interest,
    count: int,
    report: Callable[[int], object],
) -> npt.NDArray[np.int64]:
    """Return the numbers of the most interesting units, best first."""
    width = store.shape(layer)[0]
    images = 0
    mean, squares = np.zeros(width), np.zeros(width)  # squares: of distances from the mean
    rectified, power = np.zeros(width), np.zeros(width)
    for _, values in _blocks(store, layer, rows, report):
        if not len(values):
            continue
        # Chan, Golub & LeVeque (1983): moments of two parts put together.
        own = values.mean(axis=0)
        both = images + len(values)
        squares += ((values - own) ** 2).sum(axis=0)
        squares += (own - mean) ** 2 * (images * len(values) / both)
        mean += (own - mean) * (len(values) / both)
        images = both
        positive = np.maximum(values, 0)
        rectified += positive.sum(axis=0)
        power += (positive**2).sum(axis=0)
    if interest == "variance":
        score = squares
    else:
        active = power > _WEAK * np.median(power)
        # 1 - (sum r / n)**2 / (sum r**2 / n)
        ratio = rectified**2 / np.where(active, power, 1) / max(images, 1)
        score = np.where(active, 1 - ratio, -1)
    return np.argsort(-score, kind="stable")[:count]


def _columns(
    store: FeatureTable,
    layer: str,
    rows: npt.NDArray[np.int64],
    units: npt.NDArray[np.int64],
    report: Callable[[int], object],
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Read the values (n, u) of some units for all rows that are finite."""
    kept, parts = [np.empty(0, np.int64)], [np.empty((0, len(units)))]
    for numbers, values in _blocks(store, layer, rows, report):
        kept.append(numbers)
        parts.append(values[:, units])
    return np.concatenate(kept), np.concatenate(parts)


def _unit(
    number: int,
    values: Floats,
    order: npt.NDArray[np.int64],
    described: Callable[[int], tuple[str, tuple[str, ...]]],
    most: int,
    least: int,
) -> Unit:
    """Describe a unit by its values (n,); `order` (n,) ranks images with equal ones."""
    ranked = order[np.argsort(-values[order], kind="stable")]
    top = ranked[:most]
    bottom = ranked[most:][::-1][:least]

    def excited(positions: npt.NDArray[np.int64]) -> tuple[UnitActivation, ...]:
        return tuple(
            UnitActivation(path, float(values[at]), names)
            for at in positions.tolist()
            for path, names in [described(at)]
        )

    return Unit(
        number, float(values.mean()), float(values.std()), float((values > 0).mean()),
        excited(top), excited(bottom),
    )  # fmt: skip
