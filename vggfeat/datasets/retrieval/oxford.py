"""Oxford5k and Paris6k, from their official text files."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vggfeat.datasets.retrieval.query import Query
from vggfeat.datasets.retrieval.record import (
    BenchmarkRecord,
    Queries,
    RetrievalProtocol,
    vgg16_rows,
)
from vggfeat.errors import SourceError

_OXFORD_QUERY = "_query.txt"
_OXFORD_PREFIX = "oxc1_"  # before names of images in Oxford's query files, and there alone


def oxford_queries(ground_truth: str | os.PathLike[str], paths: Sequence[str]) -> list[Query]:
    """Read the ground truth of Oxford5k or Paris6k.

    For a query NAME there are four text files (Philbin et al., "Object retrieval with large
    vocabularies and fast spatial matching", CVPR 2007): NAME_query.txt holds the image's name,
    with ``oxc1_`` before it for Oxford, and the box; NAME_good.txt and NAME_ok.txt, a name a line,
    what is to be found; NAME_junk.txt what is neither right nor wrong. The query itself is in its
    good images and is to be found.

    Parameters
    ----------
    ground_truth : path
        The folder of these files.
    paths : sequence of str
        All images, whose file names without ending are the names in the files.

    Returns
    -------
    list of Query
        By name.

    Raises
    ------
    SourceError
        A file is missing or has another form, or an image that it names is missing.
    """
    folder = Path(ground_truth)
    files = sorted(folder.glob(f"*{_OXFORD_QUERY}"))
    if not files:
        raise SourceError(
            f"There is no NAME{_OXFORD_QUERY} in {folder}. Give the folder of the ground truth."
        )
    places = {PurePosixPath(path).stem: path for path in paths}
    return [_oxford_query(file, places) for file in files]


def _oxford_query(file: Path, places: dict[str, str]) -> Query:
    name = file.name.removesuffix(_OXFORD_QUERY)
    words = _text(file).split()
    try:
        image, (left, upper, right, lower) = words[0], map(float, words[1:])
        box = left, upper, right, lower
        good = all(map(math.isfinite, box)) and left < right and upper < lower
    except (IndexError, ValueError):
        good = False
    if not good:
        raise SourceError(
            f"{file} holds {' '.join(words)!r}; it should hold an image's name and the left, "
            "upper, right and lower edge of a box in pixels."
        )
    listed_as = {}
    for kind in ("good", "ok", "junk"):
        listed = file.with_name(f"{name}_{kind}.txt")
        listed_as[kind] = frozenset(_place(one, places, listed) for one in _text(listed).split())
    return Query(
        name,
        _place(image.removeprefix(_OXFORD_PREFIX), places, file),
        listed_as["good"] | listed_as["ok"],
        listed_as["junk"],
        box,
    )


def _place(name: str, places: dict[str, str], file: Path) -> str:
    if name not in places:
        raise SourceError(
            f"{file} names {name!r}, and no image has that name. Is the folder of images complete?"
        )
    return places[name]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{file} cannot be read: {error}. Unpack the ground truth anew.") from (
            error
        )


def _read(folder: Path, paths: Sequence[str]) -> Queries:
    return tuple(paths), {"": tuple(oxford_queries(folder, paths))}


_ITSELF = "in the images, and to be found"
_JUNK = "the images listed as junk, left out of the ranking"


def _record(name: str, images: int, spoc: float, crow: float, rmac: float) -> BenchmarkRecord:
    return BenchmarkRecord(
        name,
        _read,
        RetrievalProtocol(
            "mAP",
            "trapezoid",
            _ITSELF,
            _JUNK,
            counts={"images": images, "queries": 55},
            published=vgg16_rows(spoc, crow, rmac),
        ),
        files=f"*{_OXFORD_QUERY}",
    )


OXFORD5K = _record("oxford5k", 5062, 66.4, 68.4, 70.8)
PARIS6K = _record("paris6k", 6392, 78.5, 79.8, 83.5)
