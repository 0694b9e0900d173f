"""Layers of stores and given RDMs as what is compared: kernels, or dissimilarities of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import RepresentationError
from vggfeat.feature_table import requested_layers
from vggfeat.memory import available_memory
from vggfeat.progress import Progress, silent
from vggfeat.representations.cka import linear_kernel, rbf_kernel
from vggfeat.representations.conditions import Conditions, read
from vggfeat.representations.crossnobis import class_means
from vggfeat.representations.distances import square
from vggfeat.representations.kernel_statistics import BiasedCKA, DebiasedCKA
from vggfeat.representations.matching import Matched
from vggfeat.representations.rdms import CondensedSink, RDMs, compute
from vggfeat.representations.statistics import Correlated, Statistic, TauA

if TYPE_CHECKING:
    from vggfeat.representations.matching import Item

Floats = npt.NDArray[np.float64]

SIMILARITIES = ("cka", "rbf-cka", "pearson", "spearman", "tau-a")
"""How representations are compared: CKA with a linear or an RBF kernel, or RSA by a correlation."""


@dataclass(frozen=True, slots=True, eq=False)
class Represented:
    """One representation of the matched conditions.

    Attributes
    ----------
    source : int
        Number of its store or file.
    title : str
        Its layer, or the RDM's title.
    item : FeatureTable or RDMs
    what : Conditions or None
        Of a store, in the matched order.
    order : ndarray of int64, shape (n,)
        Which conditions of RDMs are the matched ones.
    number : int
        Which of several RDMs it is.
    """

    source: int
    title: str
    item: Item
    what: Conditions | None
    order: npt.NDArray[np.int64]
    number: int = 0

    def features(self, more: int = 0) -> npt.NDArray[Any]:
        """Return features of the n conditions, (n, d)."""
        assert not isinstance(self.item, RDMs)
        assert self.what is not None
        X = read(self.item, self.title, self.what.rows, more)
        if self.what.by == "image":
            return X
        return class_means(X, self.what.members, len(self.what))

    def dissimilarities(self, measure: str, folds: int, seed: int) -> Floats:
        """Return the dissimilarities of all pairs of conditions, condensed, float64."""
        if isinstance(self.item, RDMs):
            whole = square(np.asarray(self.item.values[self.number], np.float64))
            part = whole[np.ix_(self.order, self.order)]
            return np.asarray(part[np.triu_indices(len(part), 1)])
        assert self.what is not None
        n = len(self.what)
        values = np.empty((1, n * (n - 1) // 2))
        compute(
            self.item, [self.title], self.what, CondensedSink(values, n), measure=measure,
            folds=folds, seed=seed,
        )  # fmt: skip
        return np.asarray(values[0])


def represented(
    items: Sequence[Item],
    layers: str | Iterable[str] | None,
    found: Matched,
    sources: Iterable[int],
) -> list[Represented]:
    """Return the requested layers of stores, and all RDMs, of some matched sources.

    Raises
    ------
    LayerError
        A store has no such layer.
    """
    listed: list[Represented] = []
    for source in sources:
        item, what, order = items[source], found.conditions[source], found.orders[source]
        if isinstance(item, RDMs):
            listed += [
                Represented(source, title, item, None, order, number)
                for number, title in enumerate(item.titles)
            ]
        else:
            assert what is not None
            own = what.taken(order)
            listed += [
                Represented(source, layer, item, own, order)
                for layer in requested_layers(item, layers)
            ]
    return listed


@dataclass(frozen=True, slots=True)
class How:
    """How representations are compared.

    Attributes
    ----------
    similarity : str
        One of :data:`SIMILARITIES`.
    dissimilarity : str
        Of RSA: a measure of RDMs.
    debiased : bool
        Of CKA.
    bandwidth : float
        Of the RBF kernel, as a share of the median distance.
    folds, seed : int
        Of crossnobis dissimilarities.
    """

    similarity: str = "cka"
    dissimilarity: str = "correlation"
    debiased: bool = True
    bandwidth: float = 1.0
    folds: int = 2
    seed: int = 0

    @property
    def by_kernels(self) -> bool:
        """Whether it is CKA, which takes features."""
        return self.similarity in ("cka", "rbf-cka")

    def check(self) -> None:
        """Refuse what is not known."""
        if self.similarity not in SIMILARITIES:
            raise RepresentationError(
                f"Unknown similarity {self.similarity!r}. Known are {', '.join(SIMILARITIES)}."
            )

    def kernel(self, X: npt.NDArray[Any], median: float | None = None) -> Floats:
        """Return the kernel of features (n, d)."""
        if self.similarity == "cka":
            return linear_kernel(X)
        return rbf_kernel(X, self.bandwidth, median)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values: those that count."""
        told: dict[str, Any] = {"similarity": self.similarity}
        if self.by_kernels:
            told["debiased"] = self.debiased
            if self.similarity == "rbf-cka":
                told["bandwidth"] = self.bandwidth
        else:
            told["dissimilarity"] = self.dissimilarity
        return told


def statistic(
    listed: Sequence[Represented], how: How, count: int, progress: Progress = silent
) -> Statistic:
    """Read representations, and return what compares them on any sample of the n conditions.

    Raises
    ------
    RepresentationError
        CKA is to take RDMs, which have no features; or it does not fit into memory.
    """
    if how.by_kernels:
        _refuse_rdms(listed)
    pairs = count * (count - 1) // 2
    # Values, those of a sample or their ranks, and which images pairs are of.
    needed = 8 * pairs * (3 * len(listed) + 4)
    free = available_memory()
    if free is not None and needed > free:
        raise RepresentationError(
            f"{len(listed)} representations of {count:,} conditions take {needed / 2**30:.1f} GiB, "
            f"and {free / 2**30:.1f} GiB are free. Take fewer --layers, a sample of the images "
            "(--max-images 5000), or CKA in batches (--batch 1000)."
        )
    if how.similarity == "pearson" or how.similarity == "spearman" or how.similarity == "tau-a":
        V = np.empty((len(listed), pairs))
        for k, one in enumerate(listed):
            V[k] = one.dissimilarities(how.dissimilarity, how.folds, how.seed)
            progress("reading", 1, len(listed))
        if how.similarity == "tau-a":
            return TauA(V)
        return Correlated(V, ranked=how.similarity == "spearman")

    def kernels() -> Iterator[Floats]:
        for one in listed:
            yield how.kernel(one.features(8 * count * count))
            progress("reading", 1, len(listed))

    return DebiasedCKA(kernels()) if how.debiased else BiasedCKA(kernels())


def _refuse_rdms(listed: Sequence[Represented]) -> None:
    for one in listed:
        if isinstance(one.item, RDMs):
            raise RepresentationError(
                f"{one.item.source} holds distances, and CKA compares features. Compare by "
                "--similarity spearman, pearson or tau-a, or give a store."
            )
