"""Searches as they come over the network, and their results."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from vggfeat.errors import ImageError, SearchError
from vggfeat.explain import SimilarityMaps
from vggfeat.images import decode, size_of
from vggfeat.index import Neighbour, Selection
from vggfeat.queries import ImageSearch
from vggfeat.regions import Region
from vggfeat.report.heat import in_percent, overlay_png, reach_of
from vggfeat.report.thumbnails import png_uri
from vggfeat.web.budget import decoding
from vggfeat.web.limits import Limits
from vggfeat.web.pictures import Pictures

if TYPE_CHECKING:
    from vggfeat.explain.maps import Seen
    from vggfeat.index import SimilarityIndex

_EXPECTED = 1000  # images that a server may be asked for: its engine is chosen by them
_MOST_FILTERS = 50
_LONGEST_FILTER = 1000
_MOST_HINTED = 200_000  # images whose paths are looked through for near names


class StaleIdError(SearchError):
    """The index was compacted or built anew since an image's id was given."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What is searched for: an image, or one of the index.

    Attributes
    ----------
    image : binary file, optional
        An encoded image.
    id : int, optional
        Of an indexed image, which is not among its own neighbours.
    k : int
        Neighbours, at least 1.
    box : str, optional
        Part of the image, see :meth:`vggfeat.regions.Region.parse`.
    paths, labels : sequence of str
        See :meth:`vggfeat.index.SimilarityIndex.select`.
    unlike : sequence of int
        Ids of images that the results should not be like; they are no results either.
    generation : str, optional
        What `id` and `unlike` belong to: :attr:`vggfeat.index.SimilarityIndex.generation`.
    """

    image: BinaryIO | None = None
    id: int | None = None
    k: int = 24
    box: str | None = None
    paths: Sequence[str] = ()
    labels: Sequence[str] = ()
    unlike: Sequence[int] = ()
    generation: str | None = None


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """Two images to be compared: one that is sent or indexed, and an indexed one.

    Attributes
    ----------
    neighbour : int
        Id of the one.
    image, id, box, generation :
        The other, as in :class:`SearchRequest`.
    """

    neighbour: int
    image: BinaryIO | None = None
    id: int | None = None
    box: str | None = None
    generation: str | None = None


class SearchService:
    """Answers requests from any thread; the network is used by one at a time.

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
        self._maps = SimilarityMaps(search.extractor, search.index)
        self._network = threading.Lock()

    def with_index(
        self, index: SimilarityIndex, search: ImageSearch | None = None
    ) -> SearchService:
        """Return a service of another index, with the same network where none is given.

        Raises
        ------
        StoreMismatchError
            Its features were made in another way than by this network.
        """
        search = search or self._search.with_index(index)
        other = SearchService(search, self.pictures.with_index(index), self.limits)
        other._network = self._network
        return other

    def warm(self) -> None:
        """Run the network once, so that the first request need not wait for it.

        It takes the engine that suits many images: a server answers one after the other.
        """
        self._search.extractor.hint_workload(_EXPECTED)
        self._features(Image.new("RGB", (64, 64), "grey"), None)

    def check_generation(self, generation: str | None) -> None:
        """Refuse ids that were given before images got other ids.

        Raises
        ------
        StaleIdError
            The index was compacted or built anew since.
        """
        if generation and generation != self.index.generation:
            raise StaleIdError("The images of the index have other ids now. Ask for them again.")

    def answer(self, request: SearchRequest) -> list[Neighbour]:
        """Find what is most like an image.

        Raises
        ------
        ImageError, SourceError
            The image cannot be read.
        SearchError
            The request has no image or two, a number or filter is out of range, or see
            :meth:`vggfeat.index.SimilarityIndex.search`.
        """
        if (request.image is None) == (request.id is None):
            raise SearchError("Send either an image or the id of an indexed one.")
        self._check_count(request.k)
        if len(request.unlike) > _MOST_FILTERS:
            raise SearchError(f"At most {_MOST_FILTERS} counterexamples are allowed.")
        examples = list(request.unlike) if request.id is None else [request.id, *request.unlike]
        if examples:
            self.check_generation(request.generation)
        within = self.selection(request.paths, request.labels)
        others = self.index.vectors_of(request.unlike)
        query = self.index.query(self._query(request), others, prepared=True)
        (results,) = self.index.search(
            query, request.k, within=within, exclude=examples, prepared=True
        )
        return results

    def explain(self, request: ExplainRequest) -> dict[str, Any]:
        """Say where two images are alike.

        Returns
        -------
        dict
            JSON-ready, as the address ``/api/explain`` describes it.

        Raises
        ------
        ImageError, SourceError
            One of them cannot be read.
        SearchError
            The request has no image or two, or an id is none.
        """
        if (request.image is None) == (request.id is None):
            raise SearchError("Send either an image or the id of an indexed one.")
        self.check_generation(request.generation)
        self.index.check_ids([one for one in (request.neighbour, request.id) if one is not None])
        box = None if request.box is None else Region.parse(request.box)
        if request.image is not None:
            query = self._seen(request.image, box)
        else:
            assert request.id is not None
            with self.pictures.original(request.id) as file:
                query = self._seen(file, box)
        with self.pictures.original(request.neighbour) as file:
            image = self._seen(file, None)
        with self._network:
            pair = self._maps.pair(query, image)
        reach = reach_of(pair.query, pair.image)
        told = pair.to_json()
        for name, found in (("query", pair.query), ("image", pair.image)):
            part = found.box()
            told[name]["box"] = None if part is None else in_percent(part, found.size)
            told[name]["overlay"] = png_uri(overlay_png(found, reach))
        return told | {"measure": self._maps.measure, "exact": self._maps.exact, "reach": reach}

    def sample(self, count: int, paths: Sequence[str], labels: Sequence[str]) -> list[int]:
        """Return ids of images spread evenly over the index, to start from."""
        self._check_count(count)
        within = self.selection(paths, labels)
        ids = self.index.ids if within is None else within.ids
        steps = np.linspace(0, len(ids), min(count, len(ids)), endpoint=False)
        return [int(image_id) for image_id in ids[steps.astype(np.int64)]]

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

    def _check_count(self, k: int) -> None:
        if not 1 <= k <= self.limits.neighbours:
            raise SearchError(f"k is {k}; allowed are 1..{self.limits.neighbours}.")

    def _query(self, request: SearchRequest) -> npt.NDArray[np.float64]:
        """Return one query as the index compares it, shape (1, d)."""
        if request.id is not None:
            vector = self.index.vectors_of([request.id])
            if request.box is None:
                return vector
            with self.pictures.original(request.id) as file:
                return self._prepared(file, request.box)
        assert request.image is not None
        return self._prepared(request.image, request.box)

    def _prepared(self, file: BinaryIO, box: str | None) -> npt.NDArray[np.float64]:
        with self._decoded(file) as image:
            return self.index.prepared(self._features(image, box))

    def _seen(self, file: BinaryIO, box: Region | None) -> Seen:
        with self._decoded(file) as image, self._network:
            return self._maps.seen(image, box)

    @contextmanager
    def _decoded(self, file: BinaryIO) -> Iterator[Image.Image]:
        """Give the image of a file once it is its turn, and let go of it with the block."""
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
        reading = self._search.extractor.reading | {"max_pixels": self.limits.pixels}
        # Until its features are there: while it waits for the network, it is in the memory.
        with decoding.taken(width * height):
            yield decode(file, **reading)

    def _features(self, image: Image.Image, box: str | None) -> npt.NDArray[Any]:
        part = None if box is None else Region.parse(box)
        with self._network:
            X, _, failures = self._search.features([image], part)
        if failures:
            raise ImageError(failures[0].reason)
        return X
