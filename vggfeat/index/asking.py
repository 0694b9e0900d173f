"""An index as it is asked: from features to images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError
from vggfeat.index import comparing, expansion
from vggfeat.index.answers import Neighbour
from vggfeat.index.filters import Selection, matching, nothing_fits
from vggfeat.index.limited import to_search, within_limits
from vggfeat.index.reading import IndexReader
from vggfeat.index.searching import TUNED_FOR

if TYPE_CHECKING:
    from vggfeat.index.comparing import Integers, Vectors
    from vggfeat.index.expansion import Expansion


class IndexSearch(IndexReader):
    """An index that was opened, and finds the images nearest to queries."""

    def prepared(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Bring features into the form in which they are compared: whitened, of length 1.

        Parameters
        ----------
        X : array_like of shape (q, D), or (D,) for one
            Features of :attr:`layer`; maps as vectors.

        Returns
        -------
        ndarray of float64, shape (q, d)

        Raises
        ------
        SearchError
            A query is of another length, holds NaN or infinite values, or is all zeros where the
            measure is the cosine.
        """
        whitening = self.catalogue.whitening
        return comparing.queries(X, self.width, self.metric, whitening, self.layer)

    def query(
        self, like: npt.ArrayLike, unlike: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Make one query of several examples, and of counterexamples.

        Parameters
        ----------
        like, unlike : array_like of shape (n, D)
            Features of :attr:`layer`.

        Returns
        -------
        ndarray of float64, shape (1, d)
            For :meth:`search` with ``prepared=True``.
        """
        examples = self.prepared(like)
        others = np.empty((0, self.dimension)) if unlike is None else self.prepared(unlike)
        return expansion.rocchio(examples, others, self.metric)

    def select(
        self, *, paths: Sequence[str] = (), labels: Sequence[str] = (), some: bool = False
    ) -> Selection:
        """Choose the images that a search may find.

        Parameters
        ----------
        paths : sequence of str
            Names of images or folders, or patterns of such as of a shell, of which one must fit:
            ``"cats"`` for all below that folder, ``"*/2026-*.jpg"``.
        labels : sequence of str
            Classes, of which an image must have one.
        some : bool
            Whether each of `paths` must fit an image, and one image all.

        Raises
        ------
        SearchError
            A label is unknown; or, with `some`, nothing fits, and the message has near names.
        """
        rows = self.catalogue.rows
        found = Selection(matching(rows, paths, labels))
        if some:
            for path in paths:
                if not matching(rows, [path], ()).any():
                    raise SearchError(nothing_fits(rows, path))
            if not len(found):
                raise SearchError("No image is of these paths and of these labels.")
        return found

    def search(
        self,
        X: npt.ArrayLike,
        k: int = 10,
        *,
        within: Selection | None = None,
        expand: Expansion | None = None,
        rerank: int | None = None,
        prepared: bool = False,
    ) -> list[list[Neighbour]]:
        """Find the images nearest to each query.

        The answer to a query does not depend on which others are asked with it; of equally near
        images the one with the lower row comes first.

        Parameters
        ----------
        X : array_like of shape (q, D), or (D,) for one query
            Features of :attr:`layer`; maps as vectors.
        k : int
            Neighbours for each query, at least 1; a smaller index gives all it has.
        within : Selection, optional
            See :meth:`select`.
        expand : Expansion, optional
            Search again with the average of each query and its neighbours.
        rerank : int, optional
            Compare at least so many proposals exactly, where search is approximate; by default as
            many as the index was tuned to.
        prepared : bool
            `X` comes from :meth:`prepared` or :meth:`query`, shape (q, d).

        Returns
        -------
        list of list of Neighbour
            For each query, the nearest first.

        Raises
        ------
        SearchError
            `k` is below 1; or see :meth:`prepared`.
        """
        places, scores = self.nearest(
            X, k, within=within, expand=expand, rerank=rerank, prepared=prepared
        )
        return [self._neighbours(*one) for one in zip(places, scores, strict=True)]

    def nearest(
        self,
        X: npt.ArrayLike,
        k: int = 10,
        *,
        within: Selection | None = None,
        expand: Expansion | None = None,
        rerank: int | None = None,
        prepared: bool = False,
    ) -> tuple[Integers, Vectors]:
        """Do as :meth:`search`, in arrays.

        Returns
        -------
        places : ndarray of int64, shape (q, min(k, images))
            Numbers of images in the index; -1 where there are no more.
        scores : ndarray of float32, shape (q, min(k, images))
            NaN where there are no more.
        """
        if k < 1:
            raise SearchError(f"k is {k}; ask for at least 1 neighbour.")
        k = min(k, max(1, len(self)))
        if within is not None and len(within.mask) != len(self.vectors):
            raise SearchError("The selection is of another state of the index; select again.")
        queries = np.asarray(X, np.float64) if prepared else self.prepared(X)
        chosen = self._all if within is None else within
        if expand is not None:
            queries = self._expanded(queries, expand, chosen)
        wanted = max(k, rerank or 0, self.searcher.candidates * max(1, k // TUNED_FOR + 1))
        needed = to_search(len(queries), self.dimension, k, min(wanted, len(self.vectors)))
        with within_limits(needed, "This search", remedy="ask for fewer queries at a time"):
            return self.searcher.nearest(queries, k, chosen, rerank)

    def range_search(
        self, X: npt.ArrayLike, threshold: float, *, prepared: bool = False
    ) -> list[tuple[Integers, Vectors]]:
        """Find all images that are at least as near to each query as `threshold`.

        Neighbours are asked for in growing numbers until they are farther away than that, so that
        an index that is not exact finds what its recall allows.

        Parameters
        ----------
        X : array_like of shape (q, D)
        threshold : float
            Least cosine or inner product, or greatest distance.
        prepared : bool
            See :meth:`search`.

        Returns
        -------
        list of (places, scores)
            For each query in turn: numbers of images in the index, int64, the nearest first, and
            their scores, float32.
        """
        queries = np.asarray(X, np.float64) if prepared else self.prepared(X)
        return self.searcher.within(queries, threshold, self._all)

    def _neighbours(self, places: Integers, scores: Vectors) -> list[Neighbour]:
        if len(places) and places[-1] < 0:
            places, scores = places[places >= 0], scores[places >= 0]
        rows = self.catalogue.rows
        columns = (
            rows.paths.several(places),
            scores.tolist(),
            rows.row[places].tolist(),
            rows.labels_of(places),
            places.tolist(),
        )
        return list(map(Neighbour, range(1, len(places) + 1), *columns))

    def _expanded(
        self, queries: npt.NDArray[np.float64], by: Expansion, chosen: Selection | None
    ) -> npt.NDArray[np.float64]:
        if self.metric != "cosine":
            raise SearchError(f"Query expansion is for the cosine; this index has {self.metric}.")
        count = min(by.count, max(1, len(self)))
        places, scores = self.searcher.nearest(queries, count, chosen)
        return expansion.expanded(queries, places, scores, self.vectors, by)
