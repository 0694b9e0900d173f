"""Copies among the images of an index: candidates by features, verified by pixels, the best kept.

Features propose, pixels decide. A group is a star: one image to keep, and images each of which was
compared with it, so that no chain of likenesses ties together what is unlike. Identical bytes are
copies whatever features say.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vggfeat.duplicates import candidates
from vggfeat.duplicates.aligning import Picture
from vggfeat.duplicates.candidates import Threshold
from vggfeat.duplicates.originality import FileFacts, facts_of, rank, second_is_original
from vggfeat.duplicates.verifying import Verification, compared
from vggfeat.errors import ImageError, SourceError
from vggfeat.files import decode_path
from vggfeat.images import decoded
from vggfeat.progress import Progress, silent
from vggfeat.sources import Originals, within

if TYPE_CHECKING:
    from collections.abc import Container

    from vggfeat.index import SimilarityIndex

Verdict = Literal["best", "identical", "copy", "likely"]

CANDIDATES = 32
"""Nearest images by features that each is compared with at most."""

_RESIZED = 0.02  # share by which the resolution of one size may be mistaken
_TONES = 4.0  # grey levels on the average that are told as lighter or darker
_PICTURES = 48  # decoded pictures that are kept
_SWAPS = 4  # times that a more original image may take the place of the one to keep


@dataclass(frozen=True, slots=True)
class Copy:
    """One image of a group.

    Attributes
    ----------
    path : str
        As the index names it.
    source : str
        The folder or archive that it is in now; of several sources ``NAME=root``.
    score : float
        Cosine, or Euclidean distance, of its features to those of the best of its group.
    verdict : {"best", "identical", "copy", "likely"}
        The image to keep; the same bytes; a copy verified by pixels; near by features, but not
        verified.
    spare : bool
        Whether the best has all that it has, so that it may go: identical, or a copy that shows
        no more than the best and is not finer.
    file : FileFacts
        What its file tells.
    differences : tuple of str
        What differs from the best, in words: size, crop, mirrored, lighter, quality.
    where : tuple of float or None
        Of a likely image whose pixels were compared: what of the best differs most, as left,
        upper, right and lower border in shares of its width and height.
    """

    path: str
    source: str
    score: float
    verdict: Verdict
    spare: bool
    file: FileFacts
    differences: tuple[str, ...] = ()
    where: tuple[float, float, float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "path": self.path,
            "source": self.source,
            "score": self.score,
            "verdict": self.verdict,
            "spare": self.spare,
            "differences": list(self.differences),
            "where": self.where and list(self.where),
        } | self.file.to_json()


@dataclass(frozen=True, slots=True)
class Copies:
    """An image to keep, and what was compared with it.

    Attributes
    ----------
    images : tuple of Copy
        The best first, then identical, verified and likely ones.
    """

    images: tuple[Copy, ...]

    @property
    def spare(self) -> tuple[Copy, ...]:
        """The images that may go."""
        return tuple(one for one in self.images if one.spare)

    @property
    def verified(self) -> bool:
        """Whether there is any copy that was verified."""
        return any(one.verdict in ("identical", "copy") for one in self.images)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"images": [one.to_json() for one in self.images]}


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found in an index.

    Attributes
    ----------
    threshold : Threshold
        From where on features are near enough to compare pixels, and how that was found.
    groups : tuple of Copies
        Those with verified copies first, the largest first.
    images : int
        How many were compared by features.
    metric : str
        Of the index.
    compared : int
        Pairs whose pixels were compared.
    different : int
        Of those, pairs that are plainly different pictures; they are in no group.
    left_out : int
        Pairs near by features that were not compared, since an image had more than
        :data:`CANDIDATES` nearer ones.
    """

    threshold: Threshold
    groups: tuple[Copies, ...]
    images: int
    metric: str
    compared: int = 0
    different: int = 0
    left_out: int = 0

    @property
    def spare(self) -> tuple[Copy, ...]:
        """The images of all groups that may go."""
        return tuple(one for group in self.groups for one in group.spare)

    def count(self, *verdicts: Verdict) -> int:
        """Return how many images have one of some verdicts."""
        return sum(one.verdict in verdicts for group in self.groups for one in group.images)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "images": self.images,
            "metric": self.metric,
            "threshold": self.threshold.to_json(),
            "compared": self.compared,
            "different": self.different,
            "left_out": self.left_out,
            "groups": [group.to_json() for group in self.groups],
        }


def find_duplicates(
    index: SimilarityIndex,
    threshold: float | None = None,
    progress: Progress = silent,
    images: Originals | None = None,
) -> Duplicates:
    """Find copies: near by features, and verified by pixels.

    Parameters
    ----------
    index : SimilarityIndex
        By cosine or Euclidean distance.
    threshold : float, optional
        Least cosine, or greatest distance, of images whose pixels are compared; by default read
        off the index, see :func:`vggfeat.duplicates.candidates.calibrated`.
    progress : callable
        Told the stage, how many more of it are done, and how many there are.
    images : Originals, optional
        Opens them; by default where the index says that they are.

    Raises
    ------
    SearchError
        The index is by inner product or augmented, or, for a default, too small.
    """
    chosen = (
        candidates.calibrated(index, progress=progress)
        if threshold is None
        else Threshold(threshold)
    )
    near, left_out = candidates.near(index, chosen.score, CANDIDATES, progress)
    images = images or Originals(index.sources)
    search = _Finding(index, near, images)
    groups = search.groups(progress)
    groups.sort(key=lambda group: (not group.verified, -len(group.images), group.images[0].path))
    return Duplicates(
        chosen, tuple(groups), len(index), index.metric, search.compared, search.different, left_out
    )


class _Finding:
    """The files of an index's candidates, and which of them are copies of which."""

    def __init__(
        self, index: SimilarityIndex, near: dict[int, list[int]], images: Originals
    ) -> None:
        self._index = index
        self._images = images
        same_size = _of_equal_size(index, images)
        self._facts = {
            image_id: facts_of(images, index.source(image_id), index.path(image_id))
            for image_id in sorted({*near, *chain.from_iterable(near.values()), *same_size})
        }
        self._near = near
        self._same: dict[str, list[int]] = defaultdict(list)
        for image_id, facts in self._facts.items():
            if facts.digest:
                self._same[facts.digest].append(image_id)
        self._verified: dict[tuple[int, int], Verification | None] = {}
        self._picture = lru_cache(maxsize=_PICTURES)(self._decoded)

    @property
    def compared(self) -> int:
        """Pairs whose pixels were compared."""
        return sum(one is not None for one in self._verified.values())

    @property
    def different(self) -> int:
        """Of these, plainly different ones."""
        return sum(
            one is not None and one.outcome == "different" for one in self._verified.values()
        )

    def groups(self, progress: Progress) -> list[Copies]:
        """Take the most original image that is left, and what is a copy of it, again and again."""
        order = sorted(self._facts, key=self._rank)
        total, left = len(order), dict.fromkeys(order)
        kept: dict[int, list[int]] = {}
        for image_id in order:
            if image_id not in left:
                continue
            best = self._most_original(image_id, left)
            members = [one for one in self._candidates(best, left) if self._is(best, one, "copy")]
            for one in (best, *members):
                del left[one]
            kept[best] = members
            progress("Comparing pixels", 1 + len(members), total)
            if best != image_id and image_id in left:  # it was no copy of what is a copy of it
                kept[image_id] = []
                del left[image_id]
        return self._with_likely(kept)

    def _with_likely(self, kept: dict[int, list[int]]) -> list[Copies]:
        alone = dict.fromkeys(image_id for image_id, members in kept.items() if not members)
        groups = []
        for best, members in sorted(kept.items(), key=lambda one: not one[1]):
            if not members and best not in alone:
                continue
            likely = [one for one in self._candidates(best, alone) if self._is(best, one, "unsure")]
            for one in (best, *likely):
                alone.pop(one, None)
            if members or likely:
                groups.append(self._group(best, members, likely))
        return groups

    def _group(self, best: int, members: list[int], likely: list[int]) -> Copies:
        ids = [best, *members, *likely]
        scores = candidates.similarities(self._index, best, np.array(ids))
        images = [
            self._image(best, image_id, float(score), image_id in likely)
            for image_id, score in zip(ids, scores, strict=True)
        ]
        order = ("best", "identical", "copy", "likely")
        images.sort(key=lambda one: (order.index(one.verdict), one.path))
        return Copies(tuple(images))

    def _image(self, best: int, image_id: int, score: float, likely: bool) -> Copy:
        facts, kept = self._facts[image_id], self._facts[best]
        path, source = self._index.path(image_id), self._images.place(self._index.source(image_id))
        if image_id == best:
            return Copy(path, source, score, "best", False, facts)
        if facts.digest and facts.digest == kept.digest:
            return Copy(path, source, score, "identical", True, facts, ("the same bytes",))
        verification = self._verification(best, image_id)
        differences = _differences(kept, facts, verification)
        if likely:
            return Copy(
                path,
                source,
                score,
                "likely",
                False,
                facts,
                differences,
                verification.where if verification else None,
            )
        assert verification is not None
        spare = verification.finer < 1 + _RESIZED and not verification.beyond[1].more
        return Copy(path, source, score, "copy", spare, facts, differences)

    def _rank(self, image_id: int) -> tuple[Any, ...]:
        return rank(self._facts[image_id], self._index.path(image_id))

    def _candidates(self, best: int, among: Container[int]) -> list[int]:
        """Return what may be a copy of an image, by its bytes or its features."""
        chosen = dict.fromkeys(self._same.get(self._facts[best].digest, ()))
        for one in self._near.get(best, ()):
            chosen[one] = None
            chosen.update(dict.fromkeys(self._same.get(self._facts[one].digest, ())))
        chosen.pop(best, None)
        return [one for one in chosen if one in among]

    def _most_original(self, image_id: int, left: dict[int, None]) -> int:
        """Return the image, or a copy of it that is more original though its file is ranked lower.

        Comparing whole images finds what a file does not tell: a border, cut-off tones, that it
        was saved again at a higher quality.
        """
        best = image_id
        for _ in range(_SWAPS):
            for one in self._candidates(best, left):
                if self._facts[one].digest == self._facts[best].digest or not self._is(
                    best, one, "copy"
                ):
                    continue
                verification = self._verification(best, one)
                assert verification is not None
                where = tuple((self._index.source(n), self._index.path(n)) for n in (best, one))
                if second_is_original(
                    self._facts[best],
                    self._facts[one],
                    verification,
                    self._images,
                    (where[0], where[1]),
                ):
                    best = one
                    break
            else:
                break
        return best

    def _is(self, first: int, second: int, outcome: str) -> bool:
        """Say whether a comparison has an outcome: what cannot be compared is unsure."""
        a, b = self._facts[first].digest, self._facts[second].digest
        if a and a == b:
            return outcome == "copy"
        verification = self._verification(first, second)
        return (verification.outcome if verification else "unsure") == outcome

    def _verification(self, first: int, second: int) -> Verification | None:
        """Compare two images, or return None where one cannot be decoded."""
        key = first, second
        if key not in self._verified:
            pictures = self._picture(first), self._picture(second)
            one, other = pictures
            self._verified[key] = compared(one, other) if one and other else None
        return self._verified[key]

    def _decoded(self, image_id: int) -> Picture | None:
        if self._facts[image_id].problem:
            return None
        try:
            source, path = self._index.source(image_id), self._index.path(image_id)
            with self._images.open(source, path) as file, decoded(file) as image:
                return Picture(image)
        except (ImageError, SourceError):
            return None


def _differences(
    kept: FileFacts, facts: FileFacts, verification: Verification | None
) -> tuple[str, ...]:
    """Say in words what differs from the image to keep."""
    differences: list[str] = []
    if facts.problem or kept.problem:
        return ("its file cannot be read" if facts.problem else "the best's file cannot be read",)
    if verification is None:
        return ("it cannot be decoded",)
    if verification.outcome != "copy":
        differences.append("something in it differs")
    if verification.placing.turn:
        differences.append(verification.placing.turn)
    if abs(verification.finer - 1) > _RESIZED:
        differences.append(f"{100 * verification.finer:.0f} % of the resolution")
    for side, more, border in (
        (verification.beyond[0], "{:.0f} % cut off", "without {:.0f} % of border"),
        (verification.beyond[1], "shows {:.0f} % more", "with {:.0f} % of border"),
    ):
        if side.share > _RESIZED / 2:
            differences.append((border if side.border else more).format(100 * side.share))
    if abs(verification.lighter) > _TONES:
        differences.append("lighter" if verification.lighter > 0 else "darker")
    if facts.format != kept.format:
        differences.append(f"{facts.format}, not {kept.format}")
    elif facts.quality != kept.quality:
        differences.append(f"JPEG quality {facts.quality}, not {kept.quality}")
    return tuple(differences)


def _of_equal_size(index: SimilarityIndex, images: Originals) -> set[int]:
    """Return the images of plain folders whose files are as large as another's."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for image_id in index.ids.tolist():
        by_size[_size(images.place(index.source(image_id)), index.path(image_id))].append(image_id)
    return {
        image_id for size, ids in by_size.items() if size > 0 and len(ids) > 1 for image_id in ids
    }


def _size(source: str, path: str) -> int:
    try:
        root, inner = within(source, path)
        return os.stat(os.path.join(decode_path(root), decode_path(inner))).st_size  # noqa: PTH116, PTH118
    except (OSError, ValueError):
        return 0
