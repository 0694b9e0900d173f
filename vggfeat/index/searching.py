"""From a query to its neighbours: FAISS proposes, exact vectors decide.

An approximate structure of FAISS names candidates from its compressed codes; they are compared
with the query through the vectors' own file, and ordered: the nearest first, of equally near ones
the one of the lower row. Exact search, and search among few chosen images, compares all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError
from vggfeat.index import exact, structures, vectors
from vggfeat.index.preparing import Integers, Metric, Vectors, check_size

if TYPE_CHECKING:
    from pathlib import Path

    from vggfeat.index.catalogue import Catalogue
    from vggfeat.index.filters import Selection

TUNED_FOR = 10
"""Number of neighbours that effort and candidates are chosen for."""
_FEW = 1 << 22  # numbers of chosen vectors up to which all are compared
_QUERIES = 2048  # answered at a time; with more at once, FAISS reads its lists less often
_PAIRS = 1 << 17  # of a query and a candidate, looked at together, so that memory stays small
_MAPPED = 64 << 20  # bytes of vectors from which they stay on the disk
_CHECKED = 256 << 20  # bytes of vectors up to which they are read to compare their checksum
_FOREIGN = "FAISS's structure proposes vectors that the index does not have. Build it anew."


class Searcher:
    """Vectors, and what finds the nearest of them.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
    metric : {"cosine", "l2", "ip"}
    longest : float
        Length of the longest vector.
    order : ndarray of int64, shape (n,)
        Of equally near vectors, those with the lower number come first.
    structure : faiss.Index, optional
        Proposes candidates; without it, search is exact.
    effort : int
        nprobe or efSearch.
    candidates : int
        Proposals to compare in a search for :data:`TUNED_FOR`.
    """

    def __init__(
        self,
        vectors: Vectors,
        metric: Metric,
        longest: float,
        order: Integers,
        structure: Any = None,
        effort: int = 0,
        candidates: int = 0,
    ) -> None:
        self.vectors = vectors
        self.metric: Metric = metric
        self.longest = longest
        self.order = order
        self.structure = structure
        self.effort = effort
        self.candidates = candidates
        # Then a vector's number says as much, without a look at places all over memory.
        self._in_order = bool((order[1:] > order[:-1]).all())
        self._selects = structure is not None and structures.selects(structure)
        self._usual = structure and structures.parameters(structure, effort)

    def set(self, effort: int, candidates: int) -> Self:
        """Return it with another setting."""
        given = (self.vectors, self.metric, self.longest, self.order, self.structure)
        return type(self)(*given, effort, candidates)

    def nearest(
        self,
        queries: npt.NDArray[np.float64],
        k: int,
        chosen: Selection | None = None,
        candidates: int | None = None,
    ) -> tuple[Integers, Vectors]:
        """Find the k nearest vectors of each query.

        Parameters
        ----------
        queries : ndarray of float64, shape (q, d)
            Of length 1 for the cosine.
        k : int
            At least 1.
        chosen : Selection, optional
            The vectors that may be found; all by default.
        candidates : int, optional
            Proposals to compare, at least; by default as tuned.

        Returns
        -------
        ids : ndarray of int64, shape (q, k)
            -1 where there are no more.
        scores : ndarray of float32, shape (q, k)
            Cosine in -1..1, Euclidean distance, or inner product; NaN where there are no more.

        Raises
        ------
        SearchError
            Queries are of another shape.
        """
        if queries.ndim != 2 or queries.shape[1] != self.vectors.shape[1]:
            raise SearchError(
                f"Prepared queries have the shape (q, {self.vectors.shape[1]}) here, and not "
                f"{queries.shape}."
            )
        count = len(self.vectors) if chosen is None else len(chosen)
        few = chosen is not None and count * self.vectors.shape[1] <= _FEW
        wanted = self.proposals(k, candidates)
        exactly = self.structure is None or few or (chosen is not None and not self._selects)
        if exactly or wanted >= count:  # all would be compared
            return self._exact(queries, k, chosen)
        step, start = max(1, min(_QUERIES, _PAIRS // wanted)), 0
        parts: list[tuple[Integers, Vectors]] = []
        while start < len(queries) or not parts:
            some = queries[start : start + step]
            try:
                parts.append(self._approximate(some, k, count, chosen, wanted))
            except MemoryError as error:
                # What FAISS sets aside for tables grows with the queries, the lists that each
                # visits and the kind of codes.
                if len(some) < 2:
                    raise SearchError(
                        f"There is not enough memory to search for one query in {count:,} images "
                        f"with {wanted:,} candidates. Raise the limit, or ask for fewer neighbours."
                    ) from error
                step = len(some) // 2
            else:
                start += step
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts])

    def proposals(self, k: int, candidates: int | None = None) -> int:
        """Return how many proposals are compared in a search for k, at least `candidates`."""
        return max(self.candidates, math.ceil(self.candidates * k / TUNED_FOR), candidates or 0, k)

    def _exact(
        self, queries: npt.NDArray[np.float64], k: int, chosen: Selection | None
    ) -> tuple[Integers, Vectors]:
        return exact.search(
            self.vectors, queries, k,
            metric=self.metric, longest=self.longest, order=self.order, chosen=chosen,
        )  # fmt: skip

    def _approximate(
        self,
        queries: npt.NDArray[np.float64],
        k: int,
        count: int,
        chosen: Selection | None,
        wanted: int,
    ) -> tuple[Integers, Vectors]:
        rough = queries.astype(np.float32, order="C")
        if self.metric != "cosine":
            lengths = np.linalg.norm(queries, axis=1)
            check_size(max(self.longest, lengths.max(initial=0)))
        given = self._usual
        if chosen is not None:
            # The nearest of few are farther away: look as much farther.
            _, most = structures.effort_limits(self.structure)
            effort = min(most, math.ceil(self.effort * len(self.vectors) / max(1, count)))
            given = structures.parameters(self.structure, effort, chosen.selector)
        proposed = structures.search(self.structure, rough, wanted, given)
        ids, scores = self._ordered(rough, proposed, k)
        last = ids[:, -1]  # k is below the number of vectors that may be found
        full = last[0] >= 0 if len(last) == 1 else last.min(initial=0) >= 0
        if full and self.metric != "ip":
            return ids, scores
        if proposed.min(initial=0) < -1:
            raise SearchError(_FOREIGN)
        scores[ids < 0] = np.nan
        short = last < 0
        if self.metric == "ip":  # to zeros all are equally near, and any might be proposed
            short |= ~queries.any(axis=1)
        if short.any():
            ids[short], scores[short] = self._exact(queries[short], k, chosen)
        return ids, scores

    def _ordered(self, rough: Vectors, proposed: Integers, k: int) -> tuple[Integers, Vectors]:
        """Compare proposals exactly and keep the first k."""
        if proposed.max(initial=-1) >= len(self.vectors):
            raise SearchError(_FOREIGN)
        order = proposed if self._in_order else self.order.take(proposed)
        scores = exact.score(self.vectors, rough, proposed, self.metric)
        keys = scores if self.metric == "l2" else -scores
        first = np.lexsort((order, keys))[:, :k]  # what is below 0 is infinitely far
        if len(first) > 1:
            first += np.arange(0, proposed.size, proposed.shape[1])[:, None]
        ids, scores = proposed.take(first), scores.take(first)
        if self.metric == "l2":
            np.sqrt(scores, out=scores)
        elif self.metric == "cosine":
            np.minimum(scores, 1, out=scores)
        return ids, scores


def open_searcher(folder: Path, catalogue: Catalogue, mapped: bool | None = None) -> Searcher:
    """Open and check the files that a catalogue names.

    Parameters
    ----------
    folder : Path
    catalogue : Catalogue
    mapped : bool, optional
        See :meth:`vggfeat.index.SimilarityIndex.open`.
    """
    files, settings = catalogue.files, catalogue.settings
    size = 4 * files.count * files.dimension
    path = folder / files.vectors
    structure, effort = None, settings.effort
    if files.faiss:
        structure = structures.opened(folder / files.faiss, files)
        least, most = structures.effort_limits(structure)
        if effort < least:
            raise SearchError(
                f"{folder} is searched with an effort of {effort:,} by its catalogue, and "
                f"{least:,} is the least. Build the index anew."
            )
        effort = min(most, effort)  # beyond it nothing more is found, and memory taken
    mapped = size >= _MAPPED if mapped is None else mapped
    matrix = vectors.opened(path, files.count, files.dimension, mapped)
    if size < _CHECKED:
        vectors.check(path, matrix, files.parts)
    return Searcher(
        matrix, catalogue.metric, catalogue.longest, catalogue.rows.order, structure, effort,
        settings.candidates,
    )  # fmt: skip
