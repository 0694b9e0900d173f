"""An index as it is read: opened, checked and asked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError
from vggfeat.index import changing, comparing, expansion, folder, making, structures, vectors
from vggfeat.index.answers import IndexInfo, Neighbour
from vggfeat.index.filters import Selection, matching
from vggfeat.index.searching import Searcher

if TYPE_CHECKING:
    import os

    from vggfeat.index.catalogue import Catalogue
    from vggfeat.index.comparing import Integers, Metric, Vectors
    from vggfeat.index.expansion import Expansion
    from vggfeat.provenance import Deciding, Provenance

_MAPPED = 64 << 20  # bytes of vectors from which they stay on the disk
_CHECKED = 256 << 20  # bytes of vectors up to which they are read to compare their checksum
_ATTEMPTS = 5


class IndexReader:
    """Vectors of images, what finds the nearest of them, and whose they are.

    Parameters
    ----------
    place : Path
        The folder.
    catalogue : Catalogue
        What is in it.
    mapped : bool, optional
        Leave vectors on the disk, from where the operating system brings what is looked at; by
        default large ones only.
    """

    def __init__(self, place: Path, catalogue: Catalogue, mapped: bool | None = None) -> None:
        self.place = place
        self._mapped = mapped
        self._use(catalogue)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, mapped: bool | None = None) -> Self:
        """Open an index.

        Parameters
        ----------
        path : path
            The folder that :meth:`build` made.
        mapped : bool, optional
            Leave vectors on the disk, or read them into memory; by default those of more than
            64 MiB are left.

        Raises
        ------
        SearchError
            There is none, or it is damaged or of another format version.
        """
        for attempt in range(_ATTEMPTS):
            place, catalogue = folder.read(path)
            try:
                return cls(place, catalogue, mapped)
            except FileNotFoundError:  # changed by somebody since its catalogue was read
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Do as :meth:`open`."""
        return cls.open(path)

    def verify(self) -> None:
        """Read all files again and compare them with their checksums.

        Raises
        ------
        SearchError
            A file is damaged; the message names it.
        """
        changing.verify(self.place, self.catalogue)

    def __len__(self) -> int:
        return self._alive

    @property
    def dimension(self) -> int:
        """Length d of the vectors."""
        return self.catalogue.files.dimension

    @property
    def width(self) -> int:
        """Numbers D in a feature of :attr:`layer`, before whitening."""
        whitening = self.catalogue.whitening
        return self.dimension if whitening is None else whitening.width

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
        """Of the (first) store; its deciding values are narrowed to :attr:`layer`."""
        return self.catalogue.provenance

    @property
    def vectors(self) -> Vectors:
        """All vectors as they are compared, float32, (n, d), read-only; removed ones among them."""
        return self.searcher.vectors

    @property
    def alive(self) -> Integers:
        """Places in :attr:`vectors` of images that are not removed, ascending."""
        return self.catalogue.rows.alive

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, sorted; those of an image that has several one by one."""
        return tuple(
            sorted({part for name in self.catalogue.rows.names for part in name.split("|")})
        )

    def path(self, place: int) -> str:
        """Return the path of an image, as its store names it."""
        return self.catalogue.rows.paths[place]

    def label(self, place: int) -> str:
        """Return the label of an image, several joined by ``|``; empty where unknown."""
        return self.catalogue.rows.label_of(place)

    def source(self, place: int) -> str:
        """Return the folder, list or archive that an image came from."""
        return self.catalogue.sources[int(self.catalogue.rows.origin[place])].source

    def places_of(self, paths: Sequence[str]) -> Integers:
        """Return the places of images, by their paths.

        Raises
        ------
        SearchError
            A path is not in the index.
        """
        return changing.places_of(self.catalogue.rows, paths, self.place)

    def info(self) -> IndexInfo:
        """Return the index in short."""
        return making.info(self.place, self.catalogue)

    def check(self, deciding: Deciding) -> None:
        """Refuse queries made in another way than the vectors of the index.

        Raises
        ------
        StoreMismatchError
            `deciding` differs; the message names the fields with both values.
        """
        self.catalogue.deciding.check(deciding, self.layer, "index")

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

    def select(self, *, paths: Sequence[str] = (), labels: Sequence[str] = ()) -> Selection:
        """Choose the images that a search may find.

        Parameters
        ----------
        paths : sequence of str
            Patterns as of a shell, of which one must fit the path: ``"cats/*"``.
        labels : sequence of str
            Classes, of which an image must have one.

        Raises
        ------
        SearchError
            A label is unknown.
        """
        return Selection(matching(self.catalogue.rows, paths, labels))

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
        places : ndarray of int64, shape (q, k)
            Numbers of images in the index; -1 where there are no more.
        scores : ndarray of float32, shape (q, k)
            NaN where there are no more.
        """
        if k < 1:
            raise SearchError(f"k is {k}; ask for at least 1 neighbour.")
        if within is not None and len(within.mask) != len(self.vectors):
            raise SearchError("The selection is of another state of the index; select again.")
        queries = np.asarray(X, np.float64) if prepared else self.prepared(X)
        chosen = self._all if within is None else within
        if expand is not None:
            queries = self._expanded(queries, expand, chosen)
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
        places, scores = self.searcher.nearest(queries, by.count, chosen)
        return expansion.expanded(queries, places, scores, self.vectors, by)

    def _use(self, catalogue: Catalogue) -> None:
        """Open the files that a catalogue names."""
        files, rows = catalogue.files, catalogue.rows
        size = 4 * files.count * files.dimension
        mapped = size >= _MAPPED if self._mapped is None else self._mapped
        path = self.place / files.vectors
        structure = None
        if files.faiss:
            structure = structures.opened(self.place / files.faiss, files)
        found = vectors.opened(path, files.count, files.dimension, mapped)
        if size < _CHECKED:
            vectors.check(path, found, files.parts)
        self.searcher = Searcher(
            found,
            catalogue.metric,
            catalogue.longest,
            rows.order,
            structure,
            catalogue.settings.effort,
            catalogue.settings.candidates,
        )
        self.catalogue = catalogue
        self._alive = len(rows) - int(rows.removed.sum())
        self._all = Selection(~rows.removed) if self._alive < len(rows) else None
        self.__dict__.pop("labels", None)
