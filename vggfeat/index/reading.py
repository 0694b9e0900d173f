"""An index as it is read: opened and checked, with what it says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from vggfeat.index import changing, folder, making, structures, vectors
from vggfeat.index.answers import IndexInfo
from vggfeat.index.filters import Selection
from vggfeat.index.searching import Searcher

if TYPE_CHECKING:
    import os

    from vggfeat.index.catalogue import Catalogue
    from vggfeat.index.comparing import Integers, Metric, Vectors
    from vggfeat.provenance import FeatureConfig, Provenance

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
    def numbering(self) -> str:
        """Changes when images get other numbers: the index was compacted or built anew."""
        return Path(self.catalogue.files.vectors).stem.rpartition("-")[2]

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

    def check(self, config: FeatureConfig) -> None:
        """Refuse queries made in another way than the vectors of the index.

        Raises
        ------
        StoreMismatchError
            `config` differs; the message names the fields with both values.
        """
        self.catalogue.config.check(config, self.layer, "index")

    def _use(self, catalogue: Catalogue) -> None:
        """Open the files that a catalogue names."""
        files, rows = catalogue.files, catalogue.rows
        size = 4 * files.count * files.dimension
        mapped = size >= _MAPPED if self._mapped is None else self._mapped
        path = self.place / files.vectors
        structure, effort = None, catalogue.settings.effort
        if files.faiss:
            structure = structures.opened(self.place / files.faiss, files)
            effort = structures.effort_within(structure, effort, self.place)
        found = vectors.opened(path, files.count, files.dimension, mapped)
        if size < _CHECKED:
            vectors.check(path, found, files.parts)
        self.searcher = Searcher(
            found,
            catalogue.metric,
            catalogue.longest,
            rows.order,
            structure,
            effort,
            catalogue.settings.candidates,
        )
        self.catalogue = catalogue
        self._alive = len(rows) - int(rows.removed.sum())
        self._all = Selection(~rows.removed) if self._alive < len(rows) else None
        self.__dict__.pop("labels", None)
