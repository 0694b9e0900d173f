"""Which image of a table each trial showed: a wrong answer would be a wrong result, silently.

So trials are matched by the paths of images or the numbers of stimuli where they are told; by order
alone only where there are as many trials as images and nothing speaks against the order; and each
result says how it was done.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.array_files import is_array_file
from vggfeat.encoding.responses import Responses
from vggfeat.errors import EncodingError
from vggfeat.labels.matching import match

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Positions = npt.NDArray[np.int64]
_DIGITS = re.compile(r"(\d+)")
_LISTS = (".txt", ".csv", ".tsv")
_SHOWN = 3


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """The images that trials showed.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the table, ascending: done, and shown in one trial at least.
    image : ndarray of int64, shape (m,)
        Of each trial, which of `rows` it showed; -1 where it is left out.
    how : str
        How trials were matched, in words.
    blank : int
        Trials that showed no image.
    missing : int
        Trials left out since the table has no features of their image.
    without : int
        Images of the table that are done and were shown in no trial.
    """

    rows: Positions
    image: Positions
    how: str
    blank: int
    missing: int
    without: int

    @property
    def repeats(self) -> Positions:
        """In how many trials each image was shown, (n,)."""
        return np.bincount(self.image[self.image >= 0], minlength=len(self.rows))


def matched(table: FeatureTable, responses: Responses, *, skip_missing: bool = False) -> Matched:
    """Find the image of each trial.

    Parameters
    ----------
    table : FeatureTable
        Whose images they are.
    responses : Responses
    skip_missing : bool
        Leave out trials of images that are not in the table, or failed; by default they are an
        error.

    Raises
    ------
    EncodingError
        Counts, names or numbers do not fit; the order of the stimuli is not certain; or no trial
        shows an image that is done.
    """
    m = responses.trials.shape[0]
    images = responses.images
    if images is None:
        rows, how = _in_order(table, m, responses.origin)
    elif isinstance(images, np.ndarray):
        rows, how = _by_number(table, images, responses)
    else:
        rows, how = _by_path(table, images, responses.origin)
    blank = 0 if not isinstance(images, tuple) else sum(path is None for path in images)
    done = np.asarray(table.done)
    usable = (rows >= 0) & done[rows]
    missing = m - int(usable.sum()) - blank
    if missing and not skip_missing:
        raise EncodingError(_missing(table, rows, usable, responses, missing))
    if not usable.any():
        raise EncodingError(
            f"No trial of {responses.origin} shows an image of {table.path} that is done. Paths "
            f"there are such as {str(table.paths[0])!r}."
        )
    found, image = np.unique(rows[usable], return_inverse=True)
    positions = np.full(m, -1, np.int64)
    positions[usable] = image
    return Matched(found, positions, how, blank, missing, int(done.sum()) - len(found))


def _in_order(table: FeatureTable, m: int, origin: str) -> tuple[Positions, str]:
    n = len(table)
    remedy = "Say which image each row shows: --images LIST, a path a line."
    if m != n:
        times = f", {m // n} times as many: repeats, perhaps" if n and m % n == 0 else ""
        failed = int(n - np.asarray(table.done).sum())
        some = f" ({failed:,} of them failed, pending or gone)" if failed else ""
        raise EncodingError(
            f"{origin} has {m:,} rows and {table.path} {n:,} images{some}{times}. {remedy}"
        )
    rows = stimulus_rows(table, remedy)
    first, last = (str(table.paths[row]) for row in (rows[0], rows[-1]))
    return rows, f"by order alone: the first row is {first!r}, the last {last!r}"


def stimulus_rows(table: FeatureTable, remedy: str) -> Positions:
    """Return the rows of a table in the order of its stimuli; refuse where that is uncertain.

    A list's order, an array's and that of a folder's names are those of the rows, as long as all
    images are still there. Names with numbers that the alphabet sorts otherwise (``im10`` before
    ``im2``) leave the order open.

    Raises
    ------
    EncodingError
        See above; `remedy` ends the message.
    """
    paths = [str(path) for path in table.paths]
    if not np.asarray(table.present).all():
        raise EncodingError(
            f"Some images of {table.path} have left their source since, so that the order of its "
            f"rows is not that of the stimuli. {remedy}"
        )
    spec = table.sources[0].spec if len(table.sources) == 1 else ""
    rows = np.arange(len(paths))
    if is_array_file(spec) and all(path.isdigit() for path in paths):
        return np.argsort([int(path) for path in paths], kind="stable")
    if len(table.sources) == 1 and spec.lower().endswith(_LISTS):
        return rows
    if paths != sorted(paths):
        raise EncodingError(
            f"Rows of {table.path} are not sorted by path: images were added later, so that the "
            f"order of the stimuli is not certain. {remedy}"
        )
    natural = sorted(paths, key=_natural)
    if natural != paths:
        at = next(at for at, (a, b) in enumerate(zip(paths, natural, strict=True)) if a != b)
        raise EncodingError(
            f"Rows of {table.path} are sorted by the alphabet ({paths[at]!r} is row {at}), and by "
            f"their numbers they would be otherwise ({natural[at]!r}): which is the order of the "
            f"stimuli? {remedy}"
        )
    return rows


def _natural(path: str) -> list[Any]:
    """Return what sorts paths with their numbers as numbers."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in _DIGITS.split(path)]


def _by_number(
    table: FeatureTable, numbers: Positions, responses: Responses
) -> tuple[Positions, str]:
    n, first = len(table), responses.first
    low, high = int(numbers.min()), int(numbers.max())
    remedy = "Say which number the first stimulus has (--first 0 or --first 1), or give paths."
    if first is None:
        if low == 0 and high == n:
            raise EncodingError(
                f"{responses.origin} numbers images from 0 to {high}, and {table.path} has "
                f"{n:,}. Give the store of all stimuli."
            )
        if low > 0 and high < n:
            raise EncodingError(
                f"{responses.origin} numbers images from {low} to {high}, of {n:,}: the first "
                f"stimulus may be 0 or 1. {remedy}"
            )
        first = 0 if low == 0 else 1
    rows = stimulus_rows(table, "Give paths instead of numbers.")
    at = numbers - first
    if at.min() < 0 or at.max() >= n:
        raise EncodingError(
            f"{responses.origin} numbers images from {low} to {high}, which with the first one "
            f"{first} are not among the {n:,} of {table.path}. {remedy}"
        )
    return rows[at], f"by the numbers of stimuli, the first one {first} ({table.paths[rows[0]]!r})"


def _by_path(
    table: FeatureTable, written: Sequence[str | None], origin: str
) -> tuple[Positions, str]:
    sources = table.sources
    root = sources[0].root if len(sources) == 1 else ""
    keys = [str(path) for path in table.paths]
    named = [path for path in written if path is not None]
    if not named:
        raise EncodingError(f"{origin} names no images.")
    found = match(named, keys, root)
    number = {key: row for row, key in enumerate(keys)}
    row_of = {
        path: -1 if key is None else number[key]
        for path, key in zip(named, found.keys, strict=True)
    }
    rows = np.array([-1 if path is None else row_of[path] for path in written], np.int64)
    return rows, "by paths" + (f", {found.how}" if found.how else "")


def _missing(
    table: FeatureTable, rows: Positions, usable: Any, responses: Responses, missing: int
) -> str:
    images = responses.images
    names = []
    for at in np.flatnonzero(~usable):
        name = None
        if rows[at] >= 0:
            name = f"{str(table.paths[rows[at]])!r} (without features)"
        elif isinstance(images, tuple) and images[at] is not None:
            name = repr(images[at])
        if name is not None and name not in names:
            names.append(name)
        if len(names) == _SHOWN:
            break
    return (
        f"{missing:,} of {len(rows):,} trials of {responses.origin} show images of which "
        f"{table.path} has no features: {', '.join(names)} ... Its paths are such as "
        f"{str(table.paths[0])!r}. Extract them, or leave such trials out with --skip-missing."
    )
