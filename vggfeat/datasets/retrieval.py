"""What is to be found for each query of the benchmarks of image retrieval, from their own files.

Images are named as a store of their folder names them: by path, ``/`` between parts.
"""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vggfeat.errors import SourceError

_HOLIDAYS = re.compile(r"(\d{4})(\d{2})")
_UKBENCH = re.compile(r"ukbench(\d{5})")
_OXFORD_QUERY = "_query.txt"
_OXFORD_PREFIX = "oxc1_"  # before names of images in Oxford's query files, and there alone


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a benchmark.

    Attributes
    ----------
    name : str
        Of the query, as the benchmark calls it.
    image : str
        Path of the image to search with.
    relevant : frozenset of str
        Paths of what is to be found.
    junk : frozenset of str
        Paths of what is neither right nor wrong.
    box : tuple of float, optional
        Part of the image that is the query: left, upper, right and lower edge in pixels.
    """

    name: str
    image: str
    relevant: frozenset[str]
    junk: frozenset[str] = frozenset()
    box: tuple[float, float, float, float] | None = None


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
        found = frozenset(images.values())
        queries += [Query(f"ukbench{name}", image, found) for name, image in sorted(images.items())]
    return queries


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
    found = {}
    for kind in ("good", "ok", "junk"):
        listed = file.with_name(f"{name}_{kind}.txt")
        found[kind] = frozenset(_place(one, places, listed) for one in _text(listed).split())
    return Query(
        name,
        _place(image.removeprefix(_OXFORD_PREFIX), places, file),
        found["good"] | found["ok"],
        found["junk"],
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


def _parts(path: str, form: re.Pattern[str], benchmark: str, names: str) -> tuple[str, ...]:
    match = form.fullmatch(PurePosixPath(path).stem)
    if match is None:
        raise SourceError(f"{path!r} is no image of {benchmark}, whose names are {names}.")
    return match.groups()
