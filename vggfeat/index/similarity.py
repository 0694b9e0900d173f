"""An index of a store's features: built, kept and changed."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from vggfeat.index import changing, making
from vggfeat.index.answers import AddReport
from vggfeat.index.asking import IndexSearch
from vggfeat.index.kinds import MEMORY, RECALL
from vggfeat.progress import Progress, silent

if TYPE_CHECKING:
    import os

    from vggfeat.feature_table import FeatureTable
    from vggfeat.index.comparing import Metric
    from vggfeat.index.expansion import Expansion
    from vggfeat.whitening import Whitening


class SimilarityIndex(IndexSearch):
    """Vectors of images, what finds the nearest of them, and whose they are.

    Made by :meth:`build`, :meth:`merge` or :meth:`open`. It lives in a folder on the disk, where
    each change replaces the old index by the new one in one step; one that was built without a
    path lives in a temporary folder, until it is saved or forgotten. Searching is of
    :class:`~vggfeat.index.asking.IndexSearch`.

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

        Raises
        ------
        SearchError
            Measure or kind are unknown, no row can be indexed, or memory does not suffice.
        WhiteningError
            The whitening does not fit, or cannot be learnt.
        LayerError
            The store has no such layer.
        """
        made, place = cls._made(path)
        try:
            making.build(
                place, store, layer, metric=metric, kind=kind, memory=memory, recall=recall,
                whitening=whitening, augment=augment, progress=progress,
            )  # fmt: skip
            return cls._kept(place, made)
        except BaseException:
            if made:
                shutil.rmtree(made, ignore_errors=True)
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
        made, place = cls._made(path)
        try:
            parts = [(index.catalogue, index.vectors) for index in indexes]
            making.merge(place, parts, kind=kind, memory=memory, recall=recall, progress=progress)
            return cls._kept(place, made)
        except BaseException:
            if made:
                shutil.rmtree(made, ignore_errors=True)
            raise

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
        making.copy(self.place, self.catalogue, path)

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
        catalogue, report = changing.add(self.place, store, progress, again=again)
        self._use(catalogue)
        return report

    def remove(self, paths: Sequence[str]) -> int:
        """Remove images by their paths; return how many.

        Their vectors stay in the files, in no answer, until :meth:`compact`. The index remembers
        the images: :meth:`add` leaves them out unless it is told to take them again.

        Raises
        ------
        SearchError
            A path is not in the index. Then nothing is removed.
        """
        catalogue, count = changing.remove(self.place, paths)
        self._use(catalogue)
        return count

    def compact(self, progress: Progress = silent) -> int:
        """Drop the vectors of removed images from the files; return how many there were."""
        catalogue, count = changing.compact(self.place, progress)
        self._use(catalogue)
        return count

    @classmethod
    def _made(cls, path: str | os.PathLike[str] | None) -> tuple[Path | None, Path]:
        """Return a temporary folder to remove later, if one is needed, and where to build."""
        if path is not None:
            return None, Path(path)
        made = Path(tempfile.mkdtemp(prefix="vggfeat-index-"))
        return made, made / "index"

    @classmethod
    def _kept(cls, place: Path, made: Path | None) -> Self:
        found = cls.open(place)
        if made is not None:
            weakref.finalize(found, shutil.rmtree, made, ignore_errors=True)
        return found
