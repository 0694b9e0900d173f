"""An index of a store's features: built, kept, changed and searched."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError
from vggfeat.index import changing, expansion, making
from vggfeat.index.filters import Selection, matching, nothing_fits
from vggfeat.index.folder import read
from vggfeat.index.kinds import MEMORY, RECALL
from vggfeat.index.memory_limits import room, to_search, within_limits
from vggfeat.index.preparing import prepare_queries
from vggfeat.index.results import AddReport, IndexInfo, Neighbour, Neighbours, SearchResults
from vggfeat.index.searching import open_searcher
from vggfeat.progress import Progress, silent
from vggfeat.showing import Shown

if TYPE_CHECKING:
    import os

    from vggfeat.feature_table import FeatureTable
    from vggfeat.index.catalogue import Catalogue
    from vggfeat.index.expansion import Expansion
    from vggfeat.index.preparing import Integers, Metric, Vectors
    from vggfeat.index.workers import Workers
    from vggfeat.provenance import FeatureConfig, Provenance
    from vggfeat.whitening import Whitening

_ATTEMPTS = 5
_FIRST = 16  # neighbours searched for first where all within a threshold are wanted


class SimilarityIndex(Shown):
    """Vectors of images, what finds the nearest of them, and whose they are.

    Made by :meth:`build`, :meth:`merge` or :meth:`open`. It lives in a folder on the disk, where
    each change replaces the old index by the new one in one step; one that was built without a
    path lives in a temporary folder, as long as the object.

    Notes
    -----
    Threads may share one for searching. Changes (:meth:`add`, :meth:`remove`, :meth:`compact`) are
    for one thread while no other uses the same object; objects that were opened elsewhere go on
    answering as before.

    Examples
    --------
    >>> with FeatureStore("photos.h5") as store:                    # doctest: +SKIP
    ...     index = SimilarityIndex.build(store, "relu7", path="photos.index")
    >>> cats = index.select(paths=["cats/*"])                       # doctest: +SKIP
    >>> (answer,) = index.search(features, k=5, within=cats)        # doctest: +SKIP
    """

    shown_as = "index"

    def __init__(self, folder: Path, catalogue: Catalogue, mapped: bool | None = None) -> None:
        self.folder = folder
        self._mapped = mapped
        self._use(catalogue)

    @classmethod
    def build(
        cls,
        store: FeatureTable,
        layer: str,
        *,
        path: str | os.PathLike[str] | None = None,
        metric: Metric = "cosine",
        kind: str = "auto",
        memory: str | int = MEMORY,
        recall: float = RECALL,
        whitening: Whitening | int | None = None,
        augment: Expansion | None = None,
        progress: Progress = silent,
        workers: Workers | None = None,
    ) -> Self:
        """Index the rows of a store that are done, reading them block by block.

        Rows that cannot be compared are left out and counted: those with NaN or infinite values
        and, for the cosine, zeros.

        Parameters
        ----------
        store : FeatureTable
        layer : str
            A layer of the store, by name or alias; maps are read as vectors.
        path : path, optional
            Where the index is to be; one that is there is replaced once the new one is complete.
            By default in a temporary folder.
        metric : {"cosine", "l2", "ip"}
            Cosine similarity, Euclidean distance, or inner product.
        kind : str
            ``"auto"`` (exact for small collections, else ``"ivfpq"``), ``"flat"`` (exact),
            ``"hnsw"``, ``"ivf"``, ``"ivfpq"``, or a string of FAISS's ``index_factory``.
        memory : str or int
            What building may take at most, as ``"4GB"`` or in bytes; vectors go to the disk as
            they come and take none.
        recall : float
            Share, in 0..1, of the ten nearest images that a search is to find: kinds that are not
            exact are tuned to it on held-out images.
        whitening : Whitening or int, optional
            Applied to all vectors and queries; a number learns one of that dimension here.
        augment : Expansion, optional
            Database-side augmentation: each vector is averaged with its neighbours.
        progress : callable
            Told the stage, how many more of it are done, and how many there are.
        workers : LocalWorkers or RayWorkers, optional
            Encode the vectors of kinds with inverted lists (``"ivf"``, ``"ivfpq"``); the index is
            the same, bit for bit, as without.

        Raises
        ------
        SearchError
            Measure or kind are unknown, no row can be indexed, or memory does not suffice.
        WhiteningError
            The whitening does not fit, or cannot be learnt.
        LayerError
            The store has no such layer.
        """
        temporary, folder = cls._new_folder(path)
        try:
            making.build(
                folder, store, layer, metric=metric, kind=kind, memory=memory, recall=recall,
                whitening=whitening, augment=augment, progress=progress, workers=workers,
            )  # fmt: skip
            return cls._opened(folder, temporary)
        except BaseException:
            if temporary:
                shutil.rmtree(temporary, ignore_errors=True)
            raise

    @classmethod
    def merge(
        cls,
        indexes: Sequence[Self],
        *,
        path: str | os.PathLike[str] | None = None,
        kind: str | None = None,
        memory: str | int = MEMORY,
        recall: float | None = None,
        progress: Progress = silent,
    ) -> Self:
        """Unite indexes that were made alike into a new one.

        Images follow in the order of the indexes; where two hold an image of the same path, that
        of the earlier one is taken. An image that was removed from one of them by hand is taken
        from none, and stays remembered as removed.

        Parameters
        ----------
        indexes : sequence of SimilarityIndex
            One or more, none of them augmented.
        path : path, optional
            See :meth:`build`; may be that of one of `indexes`.
        kind, recall :
            See :meth:`build`; by default those of the first index.
        memory, progress :
            See :meth:`build`.

        Raises
        ------
        StoreMismatchError
            Their features were made in different ways; the message names the fields.
        SearchError
            Their measures or whitenings differ, or one is augmented.
        """
        temporary, folder = cls._new_folder(path)
        try:
            parts = [(index.catalogue, index.vectors) for index in indexes]
            making.merge(folder, parts, kind=kind, memory=memory, recall=recall, progress=progress)
            return cls._opened(folder, temporary)
        except BaseException:
            if temporary:
                shutil.rmtree(temporary, ignore_errors=True)
            raise

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
            folder, catalogue = read(path)
            try:
                return cls(folder, catalogue, mapped)
            except FileNotFoundError:  # changed by somebody since its catalogue was read
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Copy the index to a path; an index there is replaced once the copy is complete.

        Raises
        ------
        SearchError
            The name is taken by something that is no index.
        StoreError
            The folder is missing or cannot be written, the disk is full, or another process is
            writing the same index.
        """
        making.copy(self.folder, self.catalogue, path)

    def add(
        self, store: FeatureTable, progress: Progress = silent, *, again: bool = False
    ) -> AddReport:
        """Add the images of a store that are not in the index, or that have changed since.

        Images are told apart by their paths; an image has changed where its features have. Images
        that the store says have left its sources, or moved to another path, are removed. Images
        that :meth:`remove` took away stay out, whatever has become of them since, and are counted.

        Parameters
        ----------
        store : FeatureTable
        progress : callable
            See :meth:`build`.
        again : bool
            Take back all images of the store that :meth:`remove` took away.

        Raises
        ------
        StoreMismatchError
            The features were made in another way; the message names the fields.
        SearchError
            The index is augmented: all its vectors depend on one another.
        """
        catalogue, report = changing.add(self.folder, store, progress, again=again)
        self._use(catalogue)
        return report

    def remove(self, paths: Sequence[str]) -> int:
        """Remove images by their paths; return how many.

        Their vectors stay in the files, in no answer, until :meth:`compact`. The index remembers
        the images: :meth:`add` leaves them out unless `again` takes them back.

        Raises
        ------
        SearchError
            A path is not in the index. Then nothing is removed.
        """
        catalogue, count = changing.remove(self.folder, paths)
        self._use(catalogue)
        return count

    def compact(self, progress: Progress = silent) -> int:
        """Drop the vectors of removed images from the files; return how many there were."""
        catalogue, count = changing.compact(self.folder, progress)
        self._use(catalogue)
        return count

    def verify(self) -> None:
        """Read all files again and compare them with their checksums.

        Raises
        ------
        SearchError
            A file is damaged; the message names it.
        """
        changing.verify(self.folder, self.catalogue)

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.folder}: {len(self)} images, {self.layer}>"

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
    def sources(self) -> list[str]:
        """Folders, lists and archives that images came from."""
        return [one.source for one in self.catalogue.sources]

    @property
    def generation(self) -> str:
        """Changes when images get other ids: the index was compacted or built anew."""
        return Path(self.catalogue.files.vectors).stem.rpartition("-")[2]

    @property
    def vectors(self) -> Vectors:
        """All vectors as they are compared, float32, (n, d), read-only; removed ones among them."""
        return self.searcher.vectors

    @property
    def ids(self) -> Integers:
        """Ids of the images that are not removed, ascending."""
        return self.catalogue.rows.alive

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, sorted; those of an image that has several one by one."""
        return tuple(
            sorted({part for name in self.catalogue.rows.names for part in name.split("|")})
        )

    def path(self, image_id: int) -> str:
        """Return the path of an image, as its store names it."""
        return self.catalogue.rows.paths[image_id]

    def label(self, image_id: int) -> str:
        """Return the label of an image, several joined by ``|``; empty where unknown."""
        return self.catalogue.rows.labels_of(np.array([image_id]))[0]

    def source(self, image_id: int) -> str:
        """Return the folder, list or archive that an image came from."""
        return self.catalogue.sources[int(self.catalogue.rows.origin[image_id])].source

    def ids_of(self, paths: Sequence[str]) -> Integers:
        """Return the ids of images, by their paths.

        Raises
        ------
        SearchError
            A path is not in the index.
        """
        return changing.ids_of(self.catalogue.rows, paths, self.folder)

    def info(self) -> IndexInfo:
        """Return the index in short."""
        return making.info(self.folder, self.catalogue)

    def check(self, config: FeatureConfig) -> None:
        """Refuse queries made in another way than the vectors of the index.

        Raises
        ------
        StoreMismatchError
            `config` differs; the message names the fields with both values.
        """
        self.catalogue.config.check(config, self.layer, "index")

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
        return prepare_queries(X, self.width, self.metric, whitening, self.layer)

    def check_ids(self, ids: Sequence[int]) -> None:
        """Refuse ids that no image has, and those of removed images.

        Raises
        ------
        SearchError
            The message names the first.
        """
        removed = self.catalogue.rows.removed
        for image_id in ids:
            if not 0 <= image_id < len(removed) or removed[image_id]:
                raise SearchError(
                    f"There is no image {image_id} in the index; ids are among "
                    f"0..{len(removed) - 1}."
                )

    def vectors_of(self, ids: Sequence[int]) -> npt.NDArray[np.float64]:
        """Return the vectors of images as queries, which :meth:`prepared` need not prepare.

        Raises
        ------
        SearchError
            See :meth:`check_ids`.
        """
        self.check_ids(ids)
        return np.asarray(self.vectors[list(ids)], np.float64)

    def query(
        self, like: npt.ArrayLike, unlike: npt.ArrayLike | None = None, *, prepared: bool = False
    ) -> npt.NDArray[np.float64]:
        """Make one query of several examples, and of counterexamples.

        Parameters
        ----------
        like, unlike : array_like of shape (n, D)
            Features of :attr:`layer`.
        prepared : bool
            They come from :meth:`prepared` or :meth:`vectors_of`, shape (n, d).

        Returns
        -------
        ndarray of float64, shape (1, d)
            For :meth:`search` with ``prepared=True``.

        Raises
        ------
        SearchError
            See :meth:`prepared`; or examples and counterexamples take one another away.
        """
        ready = np.asarray if prepared else self.prepared
        examples, others = ready(like), None if unlike is None else ready(unlike)
        if len(examples) == 1 and (others is None or not len(others)):
            return examples
        return expansion.rocchio(examples, others, metric=self.metric)

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
        selection = Selection(matching(rows, paths, labels))
        if some:
            for path in paths:
                if not matching(rows, [path], ()).any():
                    raise SearchError(nothing_fits(rows, path))
            if not len(selection):
                raise SearchError("No image is of these paths and of these labels.")
        return selection

    def search(
        self,
        X: npt.ArrayLike,
        k: int = 10,
        *,
        within: Selection | None = None,
        expand: Expansion | None = None,
        rerank: int | None = None,
        exclude: Sequence[int] = (),
        prepared: bool = False,
    ) -> SearchResults:
        """Find the images nearest to each query.

        The answer to a query does not depend on which others are given with it; of equally near
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
        exclude : sequence of int
            Ids of images that are no answers, such as those that a query is made of.
        prepared : bool
            `X` comes from :meth:`prepared`, :meth:`vectors_of` or :meth:`query`, shape (q, d).

        Returns
        -------
        SearchResults
            A list: for each query a list of :class:`Neighbour`, the nearest first. A notebook shows
            it with the photos.

        Raises
        ------
        SearchError
            `k` is below 1; or see :meth:`prepared`.
        """
        if k < 1:
            raise SearchError(f"k is {k}; ask for at least 1 neighbour.")
        ids, scores = self.nearest(
            X, k + len(exclude), within=within, expand=expand, rerank=rerank, prepared=prepared
        )
        kept = ids >= 0
        if len(exclude):
            kept &= ~np.isin(ids, exclude)
        return SearchResults(
            self._neighbours(one[some][:k], near[some][:k])
            for one, near, some in zip(ids, scores, kept, strict=True)
        )

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
        ids : ndarray of int64, shape (q, min(k, images))
            Of images; -1 where there are no more.
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
        if room() is None:  # mostly; looking takes time, too
            return self.searcher.nearest(queries, k, chosen, rerank)
        wanted = min(self.searcher.proposals(k, rerank), len(self.vectors))
        needed = to_search(len(queries), self.dimension, k, wanted)
        with within_limits(needed, "This search", remedy="ask for fewer queries at a time"):
            return self.searcher.nearest(queries, k, chosen, rerank)

    def range_search(
        self, X: npt.ArrayLike, threshold: float, *, prepared: bool = False
    ) -> list[tuple[Integers, Vectors]]:
        """Find all images that are at least as near to each query as `threshold`.

        Neighbours are taken in growing numbers until they are farther away than that, so that an
        index that is not exact finds what its recall allows.

        Parameters
        ----------
        X : array_like of shape (q, D)
        threshold : float
            Least cosine or inner product, or greatest distance.
        prepared : bool
            See :meth:`search`.

        Returns
        -------
        list of (ids, scores)
            For each query in turn: ids of images, int64, the nearest first, and their scores,
            float32.
        """
        queries = np.asarray(X, np.float64) if prepared else self.prepared(X)
        empty = np.empty(0, np.int64), np.empty(0, np.float32)
        results: list[tuple[Integers, Vectors]] = [empty] * len(queries)
        unfinished, k = np.arange(len(queries)), min(_FIRST, len(self))
        while len(unfinished) and k:
            ids, scores = self.searcher.nearest(queries[unfinished], k, self._all)
            near = scores <= threshold if self.metric == "l2" else scores >= threshold
            for i, query in enumerate(unfinished.tolist()):
                results[query] = ids[i][near[i]], scores[i][near[i]]
            if k == len(self):
                break
            unfinished, k = unfinished[near[:, -1]], min(4 * k, len(self))
        return results

    def _use(self, catalogue: Catalogue) -> None:
        """Open the files that a catalogue names."""
        self.searcher = open_searcher(self.folder, catalogue, self._mapped)
        self.catalogue = catalogue
        removed = catalogue.rows.removed
        self._count = len(removed) - int(removed.sum())
        self._all = Selection(~removed) if self._count < len(removed) else None
        self.__dict__.pop("labels", None)

    def _neighbours(self, ids: Integers, scores: Vectors) -> Neighbours:
        rows = self.catalogue.rows
        columns = (
            rows.paths.several(ids),
            scores.tolist(),
            rows.row[ids].tolist(),
            rows.labels_of(ids),
            ids.tolist(),
        )
        return Neighbours(self.catalogue, map(Neighbour, range(1, len(ids) + 1), *columns))

    def _expanded(
        self, queries: npt.NDArray[np.float64], by: Expansion, chosen: Selection | None
    ) -> npt.NDArray[np.float64]:
        if self.metric != "cosine":
            raise SearchError(f"Query expansion is for the cosine; this index has {self.metric}.")
        count = min(by.count, max(1, len(self)))
        ids, scores = self.searcher.nearest(queries, count, chosen)
        return expansion.expanded(queries, ids, scores, self.vectors, by)

    @classmethod
    def _new_folder(cls, path: str | os.PathLike[str] | None) -> tuple[Path | None, Path]:
        """Return a temporary folder to remove later, if one is needed, and where to build."""
        if path is not None:
            return None, Path(path)
        temporary = Path(tempfile.mkdtemp(prefix="vggfeat-index-"))
        return temporary, temporary / "index"

    @classmethod
    def _opened(cls, folder: Path, temporary: Path | None) -> Self:
        index = cls.open(folder)
        if temporary is not None:
            weakref.finalize(index, shutil.rmtree, temporary, ignore_errors=True)
        return index
