"""Where two images are alike: what each place of them adds to their similarity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.explain.maps import AUTO, EXACT, Method, Seen
from vggfeat.explain.scores import Score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vggfeat.analysis import HeatMap
    from vggfeat.extract import FeatureExtractor
    from vggfeat.index import SimilarityIndex
    from vggfeat.regions import Region

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PairMaps:
    """Where a query and an image are alike.

    Attributes
    ----------
    score : float
        The similarity of the two that the maps divide.
    query, image : HeatMap
        What each place of either adds to it.
    constants : tuple of float
        What is of no place, with a whitened index: with it the query's map, and the image's, sum
        to `score`. NaN for maps of gradients.
    """

    score: float
    query: HeatMap
    image: HeatMap
    constants: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values; of the maps their sums, peaks and boxes."""
        known = [None if np.isnan(one) else one for one in self.constants]
        return {
            "score": self.score,
            "query": self.query.to_json() | {"constant": known[0]},
            "image": self.image.to_json() | {"constant": known[1]},
        }


class SimilarityMaps:
    """Maps what images and an index's have in common.

    The similarity is the index's: the cosine, whitened where the index whitens; of an index that
    measures inner products or distances the inner product. Expanded and averaged queries, and
    vectors that an augmented index has averaged, are not explained: a map is of two images alone.

    Parameters
    ----------
    extractor : FeatureExtractor
        Makes features as those of the index: :attr:`vggfeat.queries.ImageSearch.extractor`.
    index : SimilarityIndex
    method, at : str
        See :func:`vggfeat.explain.explain`.

    Raises
    ------
    StoreMismatchError
        The index was made by features of another kind.
    LayerError
        See :func:`vggfeat.explain.explain`.

    Notes
    -----
    Threads may share one as long as they take turns.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        index: SimilarityIndex,
        method: str = AUTO,
        at: str | None = None,
    ) -> None:
        index.check(extractor.config)
        self.index = index
        self.method = Method.chosen(extractor, index.layer, method, at)

    @property
    def exact(self) -> bool:
        """Whether maps sum to the similarity."""
        return self.method.name == EXACT

    @property
    def measure(self) -> str:
        """What the maps divide, for a person."""
        return "cosine" if self._unit else "inner product"

    def seen(self, image: Any, box: Region | None = None) -> Seen:
        """Run the network on an image, or on a box in it; see :class:`Inputs` for what it may be.

        Raises
        ------
        ImageError
            The image cannot be decoded, or the box has no pixel of it.
        """
        return self.method.seen(image, box)

    def pair(self, query: Seen, image: Seen) -> PairMaps:
        """Map what two images have in common.

        Raises
        ------
        SearchError
            One of them has no direction, such as an image without any activation.
        """
        of_query, of_image = self._vector(query), self._vector(image)
        on_query, left = query.map(self._score(of_image))
        on_image, right = image.map(self._score(of_query))
        return PairMaps(float(of_query @ of_image), on_query, on_image, (left, right))

    def common(self, query: Seen, ids: Sequence[int]) -> tuple[HeatMap, float]:
        """Map what an image has in common with indexed ones: its mean similarity to them.

        Parameters
        ----------
        query : Seen
        ids : sequence of int
            At least one.

        Returns
        -------
        map : HeatMap
            Its :meth:`~vggfeat.analysis.HeatMap.box` is the part of the image to search for.
        constant : float
            See :class:`PairMaps`.

        Raises
        ------
        SearchError
            There is no image of that id.
        """
        vectors = self.index.vectors_of(ids)
        if self._unit:
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return query.map(self._score(vectors.mean(axis=0)))

    @property
    def _unit(self) -> bool:
        return self.index.metric == "cosine" or self.index.catalogue.whitening is not None

    def _vector(self, seen: Seen) -> Array:
        return np.asarray(self.index.prepared(seen.feature)[0])

    def _score(self, vector: Array) -> Score:
        whitening = self.index.catalogue.whitening
        return Score.product(vector, unit=self._unit, whitening=whitening)
