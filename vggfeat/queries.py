"""Images as queries: a network and an index put together.

A query image goes exactly the way of the indexed ones: the same network, weights, preprocessing,
view, pooling and number type, which the index carries, then its whitening.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from vggfeat.errors import ImageError, SearchError, SourceError
from vggfeat.extract import Failure, FeatureExtractor
from vggfeat.index import Expansion, Neighbour, Selection, SimilarityIndex
from vggfeat.regions import Region
from vggfeat.showing import Shown
from vggfeat.sources import open_source
from vggfeat.sources.base import file_path
from vggfeat.storage.urls import is_remote, shown

_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class SearchResult(Shown):
    """The results of a query.

    Attributes
    ----------
    images : tuple
        The image it was made of, or several that were averaged, as they were given.
    neighbours : list of Neighbour
        The nearest first.
    """

    shown_as: ClassVar = "answer"
    images: tuple[Any, ...]
    neighbours: list[Neighbour]

    @property
    def name(self) -> str:
        """The images' names, separated by commas."""
        return ", ".join(map(str, self.images))

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"query": self.name, "neighbours": [one.to_json() for one in self.neighbours]}


class ImageSearch:
    """Searches an index for images.

    Parameters
    ----------
    index : SimilarityIndex
    weights : str or path, optional
        Where the weights are now; by default where they were.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
    precision : str, optional
        Type the network runs in; by default that of the index.
    engine : str
        What runs its layers, see :class:`vggfeat.extract.FeatureExtractor`.

    Raises
    ------
    StoreMismatchError
        The weights are others than those of the index.
    WeightsError
        They cannot be found or read.

    Notes
    -----
    Threads may share one, as long as none of them changes the index.
    """

    def __init__(
        self,
        index: SimilarityIndex,
        weights: str | os.PathLike[str] | None = None,
        device: str = "auto",
        precision: str | None = None,
        engine: str = "auto",
    ) -> None:
        self.index = index
        self._options = {
            "weights": weights,
            "device": device,
            "precision": precision,
            "engine": engine,
        }
        index.check(self.extractor.config)

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """What makes features as those of the index."""
        return FeatureExtractor.like(self.index.provenance, **self._options)

    def with_index(self, index: SimilarityIndex) -> Self:
        """Return a search of another index with the same network.

        Raises
        ------
        StoreMismatchError
            Its features were made in another way.
        """
        index.check(self.extractor.config)
        other = copy.copy(self)
        other.index = index
        return other

    def features(
        self, images: Sequence[Any], box: Region | None = None
    ) -> tuple[npt.NDArray[Any], list[int], list[Failure[int]]]:
        """Compute features of images.

        Parameters
        ----------
        images : sequence
            Paths, Pillow images, uint8 arrays (H, W), (H, W, 3) or (H, W, 4).
        box : Region, optional
            What to cut out of each, as if that were the image; it may reach beyond the image.

        Returns
        -------
        X : ndarray, shape (n, D)
            Of the index's layer; maps as vectors.
        positions : list of int
            Which of `images` these are of, ascending.
        failures : list of Failure
            The others, by their positions.
        """
        given = list(images)

        @contextmanager
        def load(position: int) -> Iterator[Image.Image]:
            with self.extractor.open_image(given[position]) as image:
                yield image if box is None else box.cut(image)

        rows: dict[int, npt.NDArray[Any]] = {}
        failures = []
        for result in self.extractor.stream(range(len(given)), load):
            if isinstance(result, Failure):
                failures.append(result)
                continue
            maps = result.arrays()[self.index.layer].astype(self.extractor.dtype)
            rows.update(zip(result.items, maps.reshape(len(maps), -1), strict=True))
        positions = sorted(rows)
        X = [rows[position] for position in positions]
        return np.stack(X) if X else np.empty((0, self.index.width)), positions, failures

    def search(
        self,
        images: Sequence[Any],
        k: int = 10,
        *,
        box: Region | None = None,
        average: bool = False,
        unlike: Sequence[Any] = (),
        within: Selection | None = None,
        expand: Expansion | None = None,
        rerank: int | None = None,
    ) -> Iterator[SearchResult | Failure[Any]]:
        """Find the indexed images most like each image, or like all of them.

        Parameters
        ----------
        images : sequence
            See :meth:`features`.
        k : int
            Neighbours of each.
        box : Region, optional
            What to cut out of each.
        average : bool
            Make one query of all images.
        unlike : sequence
            Counterexamples: whole images that the answers should not be like.
        within, expand, rerank :
            See :meth:`vggfeat.index.SimilarityIndex.search`.

        Yields
        ------
        SearchResult or Failure
            For each query in turn, with `average` after the images that fail before its first.

        Raises
        ------
        ImageError
            A counterexample cannot be read.
        SearchError
            See :meth:`vggfeat.index.SimilarityIndex.search`.
        """
        others = self._counterexamples(unlike)
        step = len(images) if average else _AT_ONCE
        for start in range(0, len(images), max(1, step)):
            some = images[start : start + step]
            X, positions, failures = self.features(some, box)
            outcomes: dict[int, SearchResult | Failure[Any]] = {
                one.item: Failure(some[one.item], one.reason) for one in failures
            }
            if average and positions:
                examples = {positions[0]: (tuple(some[one] for one in positions), X)}
            else:
                examples = {
                    one: ((some[one],), vector[None])
                    for one, vector in zip(positions, X, strict=True)
                }
            queries: dict[int, npt.NDArray[np.float64]] = {}
            for position, (_, vectors) in examples.items():
                try:
                    queries[position] = self.index.query(vectors, others)
                except SearchError as error:  # such as a query of zeros
                    if average:
                        raise
                    outcomes[position] = Failure(some[position], str(error))
            if queries:
                answers = self.index.search(
                    np.concatenate(list(queries.values())), k,
                    within=within, expand=expand, rerank=rerank, prepared=True,
                )  # fmt: skip
                for position, neighbours in zip(queries, answers, strict=True):
                    outcomes[position] = SearchResult(examples[position][0], neighbours)
            yield from (outcomes[position] for position in sorted(outcomes))

    def _counterexamples(self, unlike: Sequence[Any]) -> npt.NDArray[Any] | None:
        if not unlike:
            return None
        X, _, failures = self.features(unlike)
        if failures:
            raise ImageError(f"{unlike[failures[0].item]}: {failures[0].reason}")
        return X


def listed(names: Sequence[str]) -> list[str]:
    """Return paths of images, those of ``.txt`` and ``.csv`` lists in the lists' stead.

    Raises
    ------
    SourceError
        A list cannot be read.
    """
    paths: list[str] = []
    for name in names:
        if is_remote(name):
            raise SourceError(f"Queries are images of this machine: download {shown(name)!r}.")
        if Path(name).suffix.lower() in (".txt", ".csv"):
            source = open_source(name)
            paths += [str(file_path(source.root, entry.path)) for entry in source.entries]
        else:
            paths.append(name)
    return paths
