"""Ground truth of revisited Oxford and Paris, from its official pickles.

F. Radenović, A. Iscen, G. Tolias, Y. Avrithis and O. Chum, "Revisiting Oxford and Paris:
Large-Scale Image Retrieval Benchmarking", CVPR 2018.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from vggfeat.datasets.plain_pickle import load_plain, values
from vggfeat.datasets.retrieval.query import Query
from vggfeat.datasets.retrieval.record import BenchmarkRecord, RetrievalProtocol
from vggfeat.errors import SourceError

LEVELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
"""By level: which of a query's lists are to be found, and which are neither right nor wrong."""

_LISTS = ("easy", "hard", "junk")


def revisited_queries(
    ground_truth: str | os.PathLike[str], paths: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, tuple[Query, ...]]]:
    """Read ``gnd_roxford5k.pkl`` or ``gnd_rparis6k.pkl``, running nothing that it holds.

    The file holds a dictionary: ``imlist``, names of the images to search in; ``qimlist``, names of
    the query images, which are not among them; and ``gnd``, for each query a dictionary of ``bbx``
    (left, upper, right and lower edge in pixels) and ``easy``, ``hard`` and ``junk``, places in
    ``imlist`` from 0.

    Parameters
    ----------
    ground_truth : path
        The file.
    paths : sequence of str
        All images, queries among them, whose file names without ending are the names in the file.

    Returns
    -------
    images : tuple of str
        Paths of the images to search in.
    queries : dict of str to tuple of Query
        By level, see :data:`LEVELS`. A query may have nothing to be found at a level.

    Raises
    ------
    SourceError
        The file is missing, damaged, of another form or holds objects; or an image that it names
        is missing.
    """
    payload = load_plain(ground_truth)
    try:
        images, names = (_names(payload[key]) for key in ("imlist", "qimlist"))
        entries = values(payload["gnd"])
        if len(entries) != len(names) or not entries:
            raise ValueError(f"{len(names)} query images and {len(entries)} lists of what to find")
        ground_truths = [_lists(one, len(images)) for one in entries]
    except (TypeError, LookupError, ValueError, ArithmeticError) as error:
        raise SourceError(
            f"{ground_truth} is no ground truth of revisited Oxford or Paris: {error!r}. It should "
            "hold imlist, qimlist, and for each query bbx, easy, hard and junk."
        ) from error
    path_of = {PurePosixPath(path).stem: path for path in paths}
    every = (*images, *names)
    if missing := [name for name in every if name not in path_of]:
        raise SourceError(
            f"{len(missing):,} of the {len(every):,} images that {ground_truth} names are missing, "
            f"as {missing[0]!r}. Is the folder of images complete?"
        )
    database = [path_of[name] for name in images]

    def paths_of(lists: dict[str, list[int]], keys: tuple[str, ...]) -> frozenset[str]:
        return frozenset(database[i] for key in keys for i in lists[key])

    queries = {
        level: tuple(
            Query(name, path_of[name], paths_of(lists, right), paths_of(lists, neither), box)
            for name, (box, lists) in zip(names, ground_truths, strict=True)
        )
        for level, (right, neither) in LEVELS.items()
    }
    return tuple(database), queries


def _names(given: Any) -> list[str]:
    names = values(given)
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise TypeError("names that are no texts, or one of them twice")
    return names


def _lists(one: Any, count: int) -> tuple[tuple[float, float, float, float], dict[str, list[int]]]:
    left, upper, right, lower = (float(edge) for edge in values(one["bbx"]))
    if not all(map(math.isfinite, (left, upper, right, lower))) or left >= right or upper >= lower:
        raise ValueError(f"the box {(left, upper, right, lower)}")
    lists = {key: values(one[key]) for key in _LISTS}
    for key, numbers in lists.items():
        if len(numbers) > count or not all(isinstance(i, int | float) for i in numbers):
            raise TypeError(f"{key} that is no list of places")
        lists[key] = [int(i) for i in numbers]
        if not all(0 <= i < count for i in numbers):
            raise ValueError(f"a place in {key} that is not in 0..{count - 1}")
    return (left, upper, right, lower), lists


_ITSELF = "not among the images"
_JUNK = (
    "those listed as junk, at easy also the hard images and at hard the easy ones, left out of the "
    "ranking"
)


def _record(name: str, file: str, images: int) -> BenchmarkRecord:
    return BenchmarkRecord(
        name,
        revisited_queries,
        RetrievalProtocol(
            "mAP",
            "trapezoid",
            _ITSELF,
            _JUNK,
            at=(1, 5, 10),
            capped=True,
            counts={"images": images, "queries": 70},
        ),
        files=file,
    )


ROXFORD5K = _record("roxford5k", "gnd_roxford5k.pkl", 4993)
RPARIS6K = _record("rparis6k", "gnd_rparis6k.pkl", 6322)
