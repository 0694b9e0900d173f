"""INRIA Holidays and UKBench, whose file names say what is to be found."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from vggfeat.datasets.retrieval.query import Query
from vggfeat.datasets.retrieval.record import (
    BenchmarkRecord,
    Queries,
    RetrievalProtocol,
    vgg16_rows,
)
from vggfeat.errors import SourceError

_HOLIDAYS = re.compile(r"(\d{4})(\d{2})")
_UKBENCH = re.compile(r"ukbench(\d{5})")


def holidays_queries(paths: Iterable[str]) -> list[Query]:
    """Read INRIA Holidays' queries off its file names.

    A name has six digits: four for the scene and two for the photograph of it, of which ``00`` is
    the query and not itself to be found (Jegou et al., "Hamming embedding and weak geometric
    consistency", ECCV 2008).

    Parameters
    ----------
    paths : iterable of str
        All images.

    Returns
    -------
    list of Query
        By name. The query itself is junk.

    Raises
    ------
    SourceError
        A name is another, a scene has no ``00``, or that alone.
    """
    scenes: dict[str, dict[str, str]] = defaultdict(dict)
    for path in paths:
        scene, number = _parts(path, _HOLIDAYS, "Holidays", "six digits, as 100000.jpg")
        scenes[scene][number] = path
    queries = []
    for scene, images in sorted(scenes.items()):
        if "00" not in images or len(images) < 2:
            raise SourceError(
                f"Scene {scene} of Holidays has {', '.join(sorted(images.values()))}; it needs a "
                f"query {scene}00 and another image. Is the folder complete?"
            )
        query = images.pop("00")
        queries.append(
            Query(f"{scene}00", query, frozenset(images.values()), junk=frozenset([query]))
        )
    return queries


def ukbench_queries(paths: Iterable[str]) -> list[Query]:
    """Read UKBench's queries off its file names.

    ``ukbench00000.jpg`` to ``ukbench00003.jpg`` show one object, the next four another, and so on;
    each is a query, and itself to be found (Nister and Stewenius, "Scalable recognition with a
    vocabulary tree", CVPR 2006).

    Parameters
    ----------
    paths : iterable of str
        All images, or all of some objects.

    Returns
    -------
    list of Query
        By name.

    Raises
    ------
    SourceError
        A name is another, or an object has not four images.
    """
    objects: dict[int, dict[str, str]] = defaultdict(dict)
    for path in paths:
        (number,) = _parts(path, _UKBENCH, "UKBench", "as ukbench00000.jpg")
        objects[int(number) // 4][number] = path
    queries = []
    for thing, images in sorted(objects.items()):
        if len(images) != 4:
            raise SourceError(
                f"Object {thing} of UKBench has {len(images)} of its 4 images: "
                f"{', '.join(sorted(images.values()))}. Is the folder complete?"
            )
        relevant = frozenset(images.values())
        queries += [
            Query(f"ukbench{name}", image, relevant) for name, image in sorted(images.items())
        ]
    return queries


def _parts(path: str, form: re.Pattern[str], benchmark: str, names: str) -> tuple[str, ...]:
    match = form.fullmatch(PurePosixPath(path).stem)
    if match is None:
        raise SourceError(f"{path!r} is no image of {benchmark}, whose names are {names}.")
    return match.groups()


def _read_holidays(_root: Path, paths: Sequence[str]) -> Queries:
    return tuple(paths), {"": tuple(holidays_queries(paths))}


def _read_ukbench(_root: Path, paths: Sequence[str]) -> Queries:
    return tuple(paths), {"": tuple(ukbench_queries(paths))}


HOLIDAYS = BenchmarkRecord(
    "holidays",
    _read_holidays,
    RetrievalProtocol(
        "mAP",
        "trapezoid",
        "in the images, left out of the ranking",
        counts={"images": 1491, "queries": 500},
        published=vgg16_rows(83.4, 83.2, 83.5),
    ),
)

UKBENCH = BenchmarkRecord(
    "ukbench",
    _read_ukbench,
    RetrievalProtocol(
        "N-S score",
        "trapezoid",
        "in the images, and one of the four",
        counts={"images": 10200, "queries": 10200},
    ),
)
