"""CKA of many images, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import RepresentationError
from vggfeat.metrics.clusters import resampled
from vggfeat.progress import Progress
from vggfeat.representations.cka import aligned, median_square, minibatch_cka
from vggfeat.representations.conditions import read
from vggfeat.representations.crossnobis import class_means
from vggfeat.representations.distances import PreparedRows, column_means, squared_distances
from vggfeat.representations.rdms import RDMs
from vggfeat.representations.represented import How, Represented
from vggfeat.representations.resampling import deviation

Floats = npt.NDArray[np.float64]

WHOLE = 5000
"""Images up to which CKA takes all pairs at once; of more it goes in batches."""

BATCH = 1000
"""Images of a batch."""

FEWEST_BATCHES = 10  # from which an interval is told


def batch_size(count: int, batch: int | None, how: How) -> int:
    """Return how many images a batch has; 0 for all at once."""
    if not how.by_kernels:
        if batch:
            raise RepresentationError(
                f"--batch is for CKA; {how.similarity} takes all pairs. Take --max-images instead."
            )
        return 0
    size = (BATCH if count > WHOLE and how.debiased else 0) if batch is None else batch
    if not size or size >= count:
        return 0
    if not how.debiased:
        raise RepresentationError(
            "Biased CKA depends on the size of batches. Leave --biased out, or take all images at "
            "once (--batch 0)."
        )
    if size < 4:
        raise RepresentationError(f"--batch {size}; give 4 images or more.")
    return size


def in_batches(
    everything: Sequence[Represented],
    how: How,
    count: int,
    size: int,
    seed: int,
    progress: Progress,
) -> tuple[Floats, Floats]:
    """Return CKA from batches of images in a random order, and HSIC of each."""
    order = np.random.default_rng(seed).permutation(count)
    batches = np.array_split(order, max(1, count // size))
    medians: list[float | None] = [None] * len(everything)

    def kernels() -> Iterator[list[Floats]]:
        for part in batches:
            own = []
            for k, one in enumerate(everything):
                X = _features(one, np.sort(part))
                if how.similarity == "rbf-cka" and medians[k] is None:
                    medians[k] = _median(X)  # of the first batch, for all
                own.append(how.kernel(X, medians[k]))
            yield own
            progress("batches", 1, len(batches))

    return minibatch_cka(kernels())


def _features(one: Represented, part: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    if isinstance(one.item, RDMs):
        raise RepresentationError(
            f"{one.item.source} holds distances, and CKA compares features. Compare by "
            "--similarity spearman, or give a store."
        )
    assert one.what is not None
    what = one.what.taken(part)
    X = read(one.item, one.title, what.rows)
    return X if what.by == "image" else class_means(X, what.members, len(what))


def _median(X: npt.NDArray[Any]) -> float:
    squared = np.zeros((len(X), len(X)))
    for first, strip in squared_distances(PreparedRows(X, shift=column_means(X))):
        squared[first : first + len(strip), first:] = strip
    return median_square(squared)


def batch_spread(parts: Floats, samples: int, seed: int) -> Floats:
    """Return the standard error of CKA over other batches."""
    each = [
        aligned(np.tensordot(counts / counts.sum(), parts, axes=1))
        for block in resampled(len(parts), samples, seed)
        for counts in block
    ]
    return np.asarray(deviation(np.stack(each)) * np.sqrt(len(parts) / (len(parts) - 1)))
