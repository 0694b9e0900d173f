"""Responses to images - of voxels, neurons, people - as files have them, a row a trial."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vggfeat.array_files import SUFFIXES, StoredArray, open_array, parts_of
from vggfeat.errors import EncodingError
from vggfeat.labels.files import PATH_COLUMNS
from vggfeat.tables import Records, legible, read_records, read_text

TABLES = (".csv", ".tsv")
NO_RESPONSES = frozenset({
    "onset", "duration", "sample", "trial", "trial_number", "trial_type", "run", "session",
    "block", "subject", "subject_id", "participant_id", "repeat", "repetition", "presentation",
    "split", "subset", "set", "fold", "group", "index", "row", "label", "class", "",
})  # fmt: skip
"""Headings of columns of numbers that are no responses, unless they are asked for."""

NUMBER_COLUMNS = ("stimulus_number", "stim_id", "image_number", "nsd_id", "nsdid", "73kid")
"""Headings of columns that say which image a trial showed by its number, beside those of paths."""

_UNKNOWN = {"", "nan", "na", "n/a", "null"}
_SHOWN = 5


class Trials(Protocol):
    """Numbers of m trials and t targets, of which some targets are read at a time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, (m, t)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its type."""

    def columns(self, where: slice, /) -> npt.NDArray[Any]:
        """Return all trials of some targets, (m, b)."""


class _Held:
    """Trials in memory."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def columns(self, where: slice, /) -> npt.NDArray[Any]:
        return self.values[:, where]


@dataclass(frozen=True, slots=True, eq=False)
class Responses:
    """Responses of t targets in m trials, and which image each trial showed.

    Attributes
    ----------
    trials : Trials of shape (m, t)
        NaN where a target was not measured.
    names : tuple of str
        Of the targets.
    images : tuple of (str or None), ndarray of int64, or None
        Of each trial the path of its image as somebody wrote it (None: no image was shown), or the
        number of its stimulus; None where trials are the stimuli in their order, one each.
    origin : str
        Where they came from.
    first : int or None
        The number of the first stimulus, 0 or 1; None where numbers are to tell it.
    """

    trials: Trials
    names: tuple[str, ...]
    images: tuple[str | None, ...] | npt.NDArray[np.int64] | None
    origin: str
    first: int | None = None

    @classmethod
    def of(
        cls,
        values: npt.ArrayLike,
        images: Sequence[str | None] | npt.ArrayLike | None = None,
        *,
        names: Sequence[str] = (),
        first: int | None = None,
    ) -> Responses:
        """Take responses that are in memory.

        Parameters
        ----------
        values : array_like of shape (m,) or (m, t)
            Numbers, a row a trial; NaN where not measured.
        images : sequence of str, or array_like of int, of length m, optional
            Of each trial the path of its image in the store, or the number of its stimulus. None
            where trials are the stimuli in their order.
        names : sequence of str
            Of the targets; by default their numbers.
        first : int, optional
            Number of the first stimulus, 0 or 1, where `images` are numbers.

        Raises
        ------
        EncodingError
            Shapes or types are others.
        """
        array = np.asarray(values)
        if array.ndim == 1:
            array = array[:, None]
        if not _are_numbers(array.shape, array.dtype):
            raise EncodingError(
                f"Responses are {array.dtype} of shape {array.shape}; give numbers of shape (m,) "
                "or (m, t), a row a trial."
            )
        return _responses(_Held(array), images, names, "an array", first)

    def close(self) -> None:
        """Let go of the file."""
        if isinstance(self.trials, StoredArray):
            self.trials.close()


def read_responses(
    file: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    columns: Sequence[str] = (),
    first: int | None = None,
) -> Responses:
    """Open responses in a file.

    Parameters
    ----------
    file : path
        A table (``.csv``, ``.tsv``) with a column of paths or of numbers of stimuli and a column a
        target; or an array (``.npy``, ``.h5#NAME``, ``.mat#NAME``) of shape (m,) or (m, t), a row
        a trial, which stays in the file.
    images : path, optional
        Which image each row of an array showed: a table or list of paths, a row a trial (of BIDS'
        ``events.tsv`` the column ``stim_file``), or an array of whole numbers (``.npy``,
        ``.h5#NAME``, ``.mat#NAME``). By default the file beside it that ends in ``.paths.csv``;
        without one, rows are the stimuli in their order.
    columns : sequence of str
        Which columns of a table are targets; by default all that hold nothing but numbers, except
        those that say something of the trial (:data:`NO_RESPONSES`).
    first : int, optional
        Number of the first stimulus, 0 or 1, where images are told by numbers.

    Raises
    ------
    EncodingError
        The file cannot be read, or is something else; rows of both files differ in number.
    SourceError
        A table cannot be read.
    """
    path = parts_of(file)[0]
    if path.suffix.lower() in TABLES:
        if images is not None:
            raise EncodingError(
                f"{path} is a table, which names its images itself; leave out {os.fspath(images)}."
            )
        return _of_table(path, columns, first)
    if columns:
        raise EncodingError(f"{path} is an array, whose targets have no names to choose by.")
    if path.suffix.lower() not in SUFFIXES:
        raise EncodingError(
            f"{path} is no file of responses by its name; give one that ends in "
            f"{', '.join((*TABLES, *SUFFIXES))}."
        )
    array = open_array(file, _are_numbers, "numbers of shape (m,) or (m, t)", EncodingError)
    try:
        beside = path.with_suffix(".paths.csv")
        if images is None and beside.is_file():
            images = beside
        shown = None if images is None else read_images(images)
        trials: Trials = array if len(array.shape) == 2 else _Held(np.array(array[:])[:, None])
        return _responses(trials, shown, (), array.spec, first)
    except BaseException:
        array.close()
        raise


def read_images(
    file: str | os.PathLike[str],
) -> tuple[str | None, ...] | npt.NDArray[np.int64]:
    """Read which image each trial showed, as :func:`read_responses` takes it."""
    path = parts_of(file)[0]
    if path.suffix.lower() in SUFFIXES:
        what = "whole numbers of shape (m,), (m, 1) or (1, m)"
        with open_array(file, _may_be_ids, what, EncodingError) as array:
            values = np.asarray(array[:]).ravel()
        return _whole(values, str(path))
    if path.suffix.lower() in TABLES:
        records = read_records(path)
        found = _shown(records)
        if found is not None:
            return found[1]
        if len(records.cells[0]) > 1:
            raise EncodingError(
                f"{path} has no column of images; it has {_some(records.cells[0])}. Call it "
                f"{PATH_COLUMNS[0]!r} (paths) or {NUMBER_COLUMNS[0]!r} (numbers)."
            )
        lines = [cells[0] for cells in records.cells]
    else:
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    return _paths_or_numbers(lines)


def _responses(
    trials: Trials,
    images: Sequence[str | None] | npt.ArrayLike | None,
    names: Sequence[str],
    origin: str,
    first: int | None,
) -> Responses:
    m, t = trials.shape
    if names and len(names) != t:
        raise EncodingError(f"{len(names)} names for {t} targets; give one a target.")
    if first not in (None, 0, 1):
        raise EncodingError(f"The first stimulus is number {first}; give 0 or 1.")
    shown: tuple[str | None, ...] | npt.NDArray[np.int64] | None = None
    if images is not None:
        given = np.asarray(images, None if _numeric(images) else object)
        if given.shape != (m,):
            raise EncodingError(
                f"{origin} has {m:,} rows, and images are told of {given.size:,} trials. Give an "
                "image for each row, in their order."
            )
        shown = _whole(given, origin) if _numeric(images) else tuple(given.tolist())
    called = tuple(names) or tuple(str(at) for at in range(t))
    return Responses(trials, called, shown, origin, first)


def _of_table(path: Path, chosen: Sequence[str], first: int | None) -> Responses:
    records = read_records(path)
    heading = [legible(cell).strip() for cell in records.cells[0]] if records.cells else []
    rows = records.cells[1:]
    if not rows:
        raise EncodingError(f"{path} has no rows; give a heading, and a line a trial below it.")
    for cells, line in zip(rows, records.lines[1:], strict=True):
        if len(cells) != len(heading):
            raise EncodingError(
                f"{path} has {len(cells)} cells in line {line}, and {len(heading)} headings."
            )
    found = _shown(records)
    at_images = found[0] if found is not None else -1
    wanted = list(chosen) or [
        name
        for at, name in enumerate(heading)
        if at != at_images and name.lower() not in {*NO_RESPONSES, *NUMBER_COLUMNS}
    ]
    kept: dict[str, npt.NDArray[np.float64]] = {}
    for name in wanted:
        if name not in heading:
            raise EncodingError(f"{path} has no column {name!r}; it has {_some(heading)}.")
        at = heading.index(name)
        values = _numbers([cells[at] for cells in rows])
        if isinstance(values, int):
            if chosen:
                raise EncodingError(
                    f"{path} has {rows[values][at]!r} in the column {name!r} (line "
                    f"{records.lines[values + 1]}), which is no number. Leave unknown cells empty."
                )
            continue
        kept[name] = values
    if not kept:
        raise EncodingError(
            f"No column of {path} holds responses; it has {_some(heading)}. Name some with "
            "--columns."
        )
    trials = _Held(np.stack(list(kept.values()), axis=1))
    return _responses(trials, None if found is None else found[1], tuple(kept), str(path), first)


def _shown(
    records: Records,
) -> tuple[int, tuple[str | None, ...] | npt.NDArray[np.int64]] | None:
    """Find the column that tells images, and read it."""
    heading = [legible(cell).strip().lower() for cell in records.cells[0]]
    at = next((heading.index(n) for n in (*PATH_COLUMNS, *NUMBER_COLUMNS) if n in heading), None)
    if at is None:
        return None
    return at, _paths_or_numbers([row[at] for row in records.cells[1:] if at < len(row)])


def _paths_or_numbers(cells: Sequence[str]) -> tuple[str | None, ...] | npt.NDArray[np.int64]:
    """Read numbers where all cells are whole numbers without leading zeros, else paths."""
    bare = [cell.strip() for cell in cells]
    if all(cell.isascii() and cell.isdigit() and str(int(cell)) == cell for cell in bare):
        return np.array([int(cell) for cell in bare], np.int64)
    return tuple(None if cell.strip().lower() in _UNKNOWN else cell for cell in cells)


def _numbers(cells: Sequence[str]) -> npt.NDArray[np.float64] | int:
    """Read numbers, NaN for unknown cells; or return which cell is none."""
    values = np.full(len(cells), np.nan)
    for at, cell in enumerate(cells):
        text = cell.strip()
        if text.lower() in _UNKNOWN:
            continue
        try:
            values[at] = float(text)
        except ValueError:
            return at
    return values


def _numeric(images: Any) -> bool:
    return np.asarray(images).dtype.kind in "iuf"


def _whole(values: npt.NDArray[Any], origin: str) -> npt.NDArray[np.int64]:
    if not np.isfinite(values).all() or (values != np.floor(values)).any() or (values < 0).any():
        raise EncodingError(
            f"{origin}: images are told by numbers that are not whole, or negative. Give the "
            "number of each trial's stimulus."
        )
    return values.astype(np.int64)


def _are_numbers(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fiu" and len(shape) in (1, 2) and 0 not in shape


def _may_be_ids(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fiu" and 0 not in shape and max(shape, default=0) == np.prod(shape)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
