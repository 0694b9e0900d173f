"""An index of a store's features: built, kept, checked and asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError
from vggfeat.index import building, exact, pair

if TYPE_CHECKING:
    import os

    from vggfeat.index.catalogue import Catalogue, LeftOut
    from vggfeat.index.exact import Metric
    from vggfeat.provenance import Deciding, Provenance
    from vggfeat.store import FeatureStore


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One answer to a query.

    Attributes
    ----------
    rank : int
        1 for the nearest.
    path : str
        The image, as its store names it.
    score : float
        Cosine in -1..1, Euclidean distance (less is nearer), or inner product.
    row : int
        The image's row in its store.
    label : str
        Name of its class, several joined by ``|``; empty where unknown.
    """

    rank: int
    path: str
    score: float
    row: int
    label: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index in short.

    Attributes
    ----------
    kind : str
        ``"exact"``.
    metric, layer, model, source : str
        Measure; layer and network of the features; where the images came from.
    images, dimension : int
        Number of vectors, and their length.
    labelled : int
        Number of images with a label.
    left_out : LeftOut
        Rows of the store that are not in the index.
    """

    kind: str
    metric: Metric
    layer: str
    model: str
    source: str
    images: int
    dimension: int
    labelled: int
    left_out: LeftOut

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


class SimilarityIndex:
    """Vectors of images in FAISS, and the catalogue that says whose they are.

    Made by :meth:`build` or :meth:`load`.

    Parameters
    ----------
    faiss_index : faiss.IndexIDMap2
        The vectors under their rows in the store.
    catalogue : Catalogue
        Whose they are.
    """

    def __init__(self, faiss_index: Any, catalogue: Catalogue) -> None:
        self.faiss_index = faiss_index
        self.catalogue = catalogue

    def __len__(self) -> int:
        return len(self.catalogue.rows)

    @property
    def dimension(self) -> int:
        """Length d of the vectors."""
        return int(self.faiss_index.d)

    @property
    def layer(self) -> str:
        """Canonical name of the layer that the vectors are features of."""
        return self.catalogue.layer

    @property
    def metric(self) -> Metric:
        """How nearness is measured."""
        return self.catalogue.metric

    @property
    def provenance(self) -> Provenance:
        """Of the store; its deciding values are narrowed to :attr:`layer`."""
        return self.catalogue.provenance

    def info(self) -> IndexInfo:
        """Return the index in short."""
        catalogue = self.catalogue
        return IndexInfo(
            kind="exact",
            metric=catalogue.metric,
            layer=catalogue.layer,
            model=catalogue.provenance.deciding.model,
            source=catalogue.provenance.happened.source,
            images=len(self),
            dimension=self.dimension,
            labelled=int((catalogue.labels != "").sum()),
            left_out=catalogue.left_out,
        )

    @classmethod
    def build(cls, store: FeatureStore, layer: str, *, metric: Metric = "cosine") -> Self:
        """Index the rows of a store that are done, reading them block by block.

        Rows that cannot be compared are left out and counted: those with NaN or infinite values
        and, for the cosine, zeros.

        Parameters
        ----------
        store : FeatureStore
        layer : str
            A layer of the store, by name or alias; maps are read as vectors.
        metric : {"cosine", "l2", "ip"}
            Cosine similarity, Euclidean distance, or inner product.

        Raises
        ------
        SearchError
            The measure is unknown, no row can be indexed, or memory does not suffice.
        LayerError
            The store has no such layer.
        """
        return cls(*building.build(store, layer, metric))

    def check(self, deciding: Deciding) -> None:
        """Refuse queries made in another way than the vectors of the index.

        Raises
        ------
        StoreMismatchError
            `deciding` differs; the message names the fields with both values.
        """
        self.provenance.deciding.check(deciding, self.layer, "index")

    def search(self, X: npt.ArrayLike, k: int = 10) -> list[list[Neighbour]]:
        """Find the images nearest to each query.

        The answer to a query does not depend on which others are asked with it; of equally near
        images the one with the lower row comes first.

        Parameters
        ----------
        X : array_like of shape (q, d), or (d,) for one query
            Features of :attr:`layer`; maps as vectors.
        k : int
            Neighbours for each query, at least 1; a smaller index gives all it has.

        Returns
        -------
        list of list of Neighbour
            For each query, the nearest first.

        Raises
        ------
        SearchError
            `k` is below 1; a query is of another length, holds NaN or infinite values, or is all
            zeros where the measure is the cosine.
        """
        if k < 1:
            raise SearchError(f"k is {k}; ask for at least 1 neighbour.")
        queries = np.atleast_2d(np.asarray(X, np.float64))
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise SearchError(
                f"Queries of shape {np.shape(X)} were given; this index takes "
                f"(q, {self.dimension}) from {self.layer}."
            )
        finite = np.isfinite(queries).all(axis=1)
        if not finite.all():
            raise SearchError(f"Query {int(finite.argmin())} holds NaN or infinite values.")
        if self.metric == "cosine":
            if not (nonzero := queries.any(axis=1)).all():
                raise SearchError(
                    f"Query {int(nonzero.argmin())} is all zeros, which have no cosine. "
                    "Use another layer or metric."
                )
            queries = building.unit(queries)
        found = exact.search(
            self.faiss_index, queries, k, metric=self.metric, longest=self.catalogue.longest
        )
        return [self._neighbours(rows, scores) for rows, scores in found] if len(queries) else []

    def _neighbours(
        self, rows: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]
    ) -> list[Neighbour]:
        catalogue = self.catalogue
        places = np.searchsorted(catalogue.rows, rows)
        return [
            Neighbour(rank, catalogue.paths[place], float(score), int(row), catalogue.labels[place])
            for rank, (place, row, score) in enumerate(
                zip(places, rows, scores, strict=True), start=1
            )
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write PATH, a FAISS file, and PATH.h5, its catalogue; an index there is replaced.

        Both are written whole before either takes its place, the FAISS file first; the catalogue
        holds its checksum, so that the files of two indexes are never taken for one.

        Raises
        ------
        SearchError
            One of the names is taken by a file that is no index.
        StoreError
            The folder is missing or cannot be written, the disk is full, or another process is
            writing the same file.
        """
        pair.write(path, self.faiss_index, self.catalogue)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        SearchError
            One of the two files is missing, damaged, of a newer format, or not the other's.
        """
        return cls(*pair.read(path))
