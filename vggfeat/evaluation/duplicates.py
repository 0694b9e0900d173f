"""Groups of near-identical images as files: how large each is, which is the best, what may go."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from vggfeat.errors import ImageError, SourceError
from vggfeat.evaluation.beneath import sha256_of
from vggfeat.images import size_of
from vggfeat.index import duplicates
from vggfeat.sources import open_stored

if TYPE_CHECKING:
    from vggfeat.index import SimilarityIndex
    from vggfeat.index.building import Progress
    from vggfeat.index.duplicates import Group, Threshold


@dataclass(frozen=True, slots=True)
class Copy:
    """One image of a group.

    Attributes
    ----------
    path : str
        As the index names it.
    source : str
        The folder, list or archive that it came from.
    score : float
        Cosine, or Euclidean distance, to the best of its group.
    near : bool
        Whether that score reaches the threshold. An image for which it does not is in the group
        through others, and is no copy of the best.
    width, height : int
        In pixels, upright; 0 where the file cannot be read.
    bytes : int
        Of its file; 0 where that cannot be read.
    problem : str
        Why the file cannot be read; empty where it can.
    digest : str
        SHA-256 of the file's bytes in hexadecimal; empty where they cannot be read.
    mtime_ns : int
        Time of the file's last change when it was read, in nanoseconds since 1970; 0 in archives.
    """

    path: str
    source: str
    score: float
    near: bool
    width: int = 0
    height: int = 0
    bytes: int = 0
    problem: str = ""
    digest: str = ""
    mtime_ns: int = 0

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Copies:
    """A group of near-identical images.

    Attributes
    ----------
    images : tuple of Copy
        The best first: the most pixels, then the most bytes, then the first path.
    least : float
        Score of the two that are least alike.
    chain : bool
        Whether that misses the threshold: ends of the group are tied by images between them.
    """

    images: tuple[Copy, ...]
    least: float
    chain: bool

    @property
    def spare(self) -> tuple[Copy, ...]:
        """The readable images that are near-identical to the best; empty where that is unread."""
        best, *others = self.images
        return () if best.problem else tuple(one for one in others if one.near and not one.problem)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "least": self.least,
            "chain": self.chain,
            "images": [one.to_json() for one in self.images],
        }


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found in an index.

    Attributes
    ----------
    threshold : Threshold
        From where on images count as near-identical, and how that was found.
    groups : tuple of Copies
        The largest first.
    images : int
        How many were compared.
    metric : str
        Of the index.
    """

    threshold: Threshold
    groups: tuple[Copies, ...]
    images: int
    metric: str

    @property
    def spare(self) -> tuple[Copy, ...]:
        """The images of all groups that are copies of the best of theirs."""
        return tuple(one for group in self.groups for one in group.spare)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "images": self.images,
            "metric": self.metric,
            "threshold": self.threshold.to_json(),
            "groups": [group.to_json() for group in self.groups],
        }


def find_duplicates(
    index: SimilarityIndex,
    threshold: float | None = None,
    progress: Progress = lambda _stage, _done, _total: None,
) -> Duplicates:
    """Find groups of near-identical images, and look at their files.

    Parameters
    ----------
    index : SimilarityIndex
        By cosine or Euclidean distance.
    threshold : float, optional
        Least cosine, or greatest distance, of a near-identical pair; by default read off the
        index, see :func:`vggfeat.index.duplicates.calibrated`.
    progress : callable
        Told the stage, how many more of it are done, and how many there are.

    Raises
    ------
    SearchError
        The index is by inner product or augmented, or, for a default, too small.
    """
    chosen = (
        duplicates.calibrated(index, progress=progress)
        if threshold is None
        else duplicates.Threshold(threshold)
    )
    found = duplicates.groups(index, chosen.score, progress)
    total = sum(len(group.places) for group in found)
    seen = []
    for group in found:
        seen.append(_seen(index, group, chosen.score))
        progress("Looking at files", len(group.places), total)
    seen.sort(key=lambda group: -len(group.images))
    return Duplicates(chosen, tuple(seen), len(index), index.metric)


def _seen(index: SimilarityIndex, group: Group, threshold: float) -> Copies:
    """Look at the files of a group and put the best first."""
    near = partial(duplicates.near_enough, index, threshold=threshold)
    files = [_file(index.source(place), index.path(place)) for place in group.places.tolist()]
    paths = [index.path(place) for place in group.places.tolist()]
    order = sorted(range(len(files)), key=lambda number: _worth(files[number], paths[number]))
    places = group.places[np.array(order)]
    scores = duplicates.similarities(index, int(places[0]), places)
    images = tuple(
        Copy(
            index.path(place),
            index.source(place),
            float(score),
            bool(near(score)),
            **files[number],
        )
        for number, place, score in zip(order, places.tolist(), scores, strict=True)
    )
    return Copies(images, group.least, not near(group.least))


def _file(source: str, path: str) -> dict[str, Any]:
    try:
        with open_stored(source, path) as file:
            width, height = size_of(file)
            size = file.seek(0, os.SEEK_END)
            digest = sha256_of(file)
            time = _mtime_ns(file)
    except (ImageError, SourceError) as error:
        return {"problem": str(error)}
    return {
        "width": width, "height": height, "bytes": size, "digest": digest, "mtime_ns": time,
    }  # fmt: skip


def _mtime_ns(file: BinaryIO) -> int:
    try:
        return os.fstat(file.fileno()).st_mtime_ns
    except OSError:  # a part of an archive
        return 0


def _worth(file: dict[str, Any], path: str) -> tuple[int, int, str]:
    """Sort by this for the best first."""
    return -file.get("width", 0) * file.get("height", 0), -file.get("bytes", 0), path
