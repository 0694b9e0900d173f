"""Questions to an index as they come over the network, and their answers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from vggfeat.errors import ImageError, SearchError
from vggfeat.images import decode, size_of
from vggfeat.index import Neighbour, Selection
from vggfeat.index.expansion import rocchio
from vggfeat.queries import ImageSearch
from vggfeat.regions import Region
from vggfeat.web.budget import decoding
from vggfeat.web.limits import Limits
from vggfeat.web.pictures import Pictures

if TYPE_CHECKING:
    from vggfeat.index import SimilarityIndex

_MOST_FILTERS = 50
_LONGEST_FILTER = 1000
_MOST_HINTED = 200_000  # images whose paths are looked through for near names


class StaleNumberError(SearchError):
    """The index was packed or built anew since an image's number was told."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is searched for: an image, or one of the index.

    Attributes
    ----------
    image : binary file, optional
        An encoded image.
    place : int, optional
        Number of an indexed image, which is not among its own neighbours.
    k : int
        Neighbours, at least 1.
    box : str, optional
        Part of the image, see :meth:`vggfeat.regions.Region.parse`.
    paths, labels : sequence of str
        See :meth:`vggfeat.index.SimilarityIndex.select`.
    unlike : sequence of int
        Indexed images that the answers should not be like; they are no answers either.
    numbering : str, optional
        What `place` and `unlike` belong to: :attr:`vggfeat.index.SimilarityIndex.numbering`.
    """

    image: BinaryIO | None = None
    place: int | None = None
    k: int = 24
    box: str | None = None
    paths: Sequence[str] = ()
    labels: Sequence[str] = ()
    unlike: Sequence[int] = ()
    numbering: str | None = None


class Desk:
    """Answers questions from any thread; the network is used by one at a time.

    Parameters
    ----------
    search : ImageSearch
    pictures : Pictures
    limits : Limits
    """

    def __init__(self, search: ImageSearch, pictures: Pictures, limits: Limits) -> None:
        self.index: SimilarityIndex = search.index
        self.pictures = pictures
        self.limits = limits
        self._search = search
        self._network = threading.Lock()

    def over(self, index: SimilarityIndex, search: ImageSearch | None = None) -> Desk:
        """Return a desk of another index, with the same network where none is given.

        Raises
        ------
        StoreMismatchError
            Its features were made in another way than by this network.
        """
        search = search or self._search.over(index)
        other = Desk(search, self.pictures.over(index), self.limits)
        other._network = self._network
        return other

    def warm(self) -> None:
        """Run the network once, so that the first question need not wait for it."""
        self._features(Image.new("RGB", (64, 64), "grey"), None)

    def check_numbering(self, numbering: str | None) -> None:
        """Refuse numbers of images that were given before images got other numbers.

        Raises
        ------
        StaleNumberError
            The index was compacted or built anew since.
        """
        if numbering and numbering != self.index.numbering:
            raise StaleNumberError(
                "The images of the index have other numbers now. Ask for them again."
            )

    def check_place(self, place: int) -> int:
        """Return the number of an indexed image.

        Raises
        ------
        SearchError
            There is none of this number, or it was removed.
        """
        rows = self.index.catalogue.rows
        if not 0 <= place < len(rows) or rows.removed[place]:
            raise SearchError(
                f"There is no image {place} in the index; numbers are among 0..{len(rows) - 1}."
            )
        return place

    def answer(self, question: Question) -> list[Neighbour]:
        """Find what is most like an image.

        Raises
        ------
        ImageError, SourceError
            The image cannot be read.
        SearchError
            The question has no image or two, a number or filter is out of range, or see
            :meth:`vggfeat.index.SimilarityIndex.search`.
        """
        self._check(question)
        if question.place is not None or question.unlike:
            self.check_numbering(question.numbering)
        within = self.selection(question.paths, question.labels)
        query = self._query(question)
        if question.unlike:
            places = [self.check_place(place) for place in question.unlike]
            others = np.asarray(self.index.vectors[places], np.float64)
            query = rocchio(query, others, self.index.metric)
        known = {question.place, *question.unlike} - {None}
        # So many more, since an indexed image finds itself.
        (found,) = self.index.search(query, question.k + len(known), within=within, prepared=True)
        fresh = [one for one in found if one.place not in known][: question.k]
        return [one._replace(rank=rank) for rank, one in enumerate(fresh, 1)]

    def sample(self, count: int, paths: Sequence[str], labels: Sequence[str]) -> list[int]:
        """Return numbers of images spread evenly over the index, to start from."""
        self._check_count(count)
        within = self.selection(paths, labels)
        places = self.index.alive if within is None else within.places
        steps = np.linspace(0, len(places), min(count, len(places)), endpoint=False)
        return [int(place) for place in places[steps.astype(np.int64)]]

    def selection(self, paths: Sequence[str], labels: Sequence[str]) -> Selection | None:
        """Return what may be found; None for all. Empty filters, as forms send them, are none.

        Raises
        ------
        SearchError
            There are too many filters, one is too long, or a label is unknown.
        """
        paths, labels = [one for one in paths if one], [one for one in labels if one]
        given = [*paths, *labels]
        if len(given) > _MOST_FILTERS or max(map(len, given), default=0) > _LONGEST_FILTER:
            raise SearchError(
                f"At most {_MOST_FILTERS} filters of {_LONGEST_FILTER} characters are allowed."
            )
        return self.index.select(paths=paths, labels=labels) if given else None

    def hint(self, paths: Sequence[str]) -> str:
        """Say which of `paths` no image fits, with near names; empty where each fits one."""
        if len(self.index) > _MOST_HINTED:
            return ""
        for path in filter(None, paths):
            try:
                self.index.select(paths=[path], some=True)
            except SearchError as error:
                return str(error)
        return ""

    def _check(self, question: Question) -> None:
        if (question.image is None) == (question.place is None):
            raise SearchError("Send either an image or the place of an indexed one.")
        self._check_count(question.k)
        if len(question.unlike) > _MOST_FILTERS:
            raise SearchError(f"At most {_MOST_FILTERS} counterexamples are allowed.")

    def _check_count(self, k: int) -> None:
        if not 1 <= k <= self.limits.neighbours:
            raise SearchError(f"k is {k}; allowed are 1..{self.limits.neighbours}.")

    def _query(self, question: Question) -> npt.NDArray[np.float64]:
        """Return one query as the index compares it, shape (1, d)."""
        if question.place is not None:
            place = self.check_place(question.place)
            if question.box is None:
                return np.asarray(self.index.vectors[[place]], np.float64)
            with self.pictures.original(place) as file:
                return self._seen(file, question.box)
        assert question.image is not None
        return self._seen(question.image, question.box)

    def _seen(self, file: BinaryIO, box: str | None) -> npt.NDArray[np.float64]:
        try:
            width, height = size_of(file, upright=False)
        except ImageError:  # decoding says why; until then it counts as the largest
            width, height = self.limits.pixels, 1
        if width * height > self.limits.pixels:
            raise ImageError(
                f"The image is too large: {width} x {height} pixels, where the limit is "
                f"{self.limits.pixels:,}. Start the server with a larger --max-pixels, or send a "
                "smaller image."
            )
        # Until its features are there: while it waits for the network, it is in the memory.
        with decoding.taken(width * height):
            return self.index.prepared(self._decoded(file, box))

    def _decoded(self, file: BinaryIO, box: str | None) -> npt.NDArray[Any]:
        reading = self._search.extractor.reading | {"max_pixels": self.limits.pixels}
        return self._features(decode(file, **reading), box)

    def _features(self, image: Image.Image, box: str | None) -> npt.NDArray[Any]:
        part = None if box is None else Region.parse(box)
        with self._network:
            X, _, failures = self._search.features([image], part)
        if failures:
            raise ImageError(failures[0].reason)
        return X
