"""Numbers as targets: ages, scores, responses of a brain, one or many for each image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.labels import LabelFile, NamedLines, read_label_file
from vggfeat.labels.splits import GROUP_COLUMNS, SPLIT_COLUMNS
from vggfeat.solver.rows import Positions

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

_NO_NUMBERS = {*SPLIT_COLUMNS, *GROUP_COLUMNS, "id", "index", "row", ""}
_UNKNOWN = {"", "nan", "na", "n/a", "null"}
_LISTS = (".paths.csv", ".csv", ".txt")
_SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """The images of a table of which numbers are known.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the table, ascending: done, and with one known number at least.
    values : ndarray of float64, or float32 where a file has it, shape (n, t)
        NaN where unknown.
    names : tuple of str
        What the t targets are called.
    origin : str
        Where they came from.
    unmatched : int
        Lines of the file whose image is not among those that are done.
    """

    rows: Positions
    values: npt.NDArray[np.floating]
    names: tuple[str, ...]
    origin: str
    unmatched: int = 0


def numbers_of_labels(table: FeatureTable) -> Numbers:
    """Read class names as numbers, as of a column ``label`` that holds ages.

    Raises
    ------
    ProbeError
        The table has no labels, several an image, or a class name is no number.
    """
    targets = table.targets
    if targets is None or targets.multi_label:
        raise ProbeError(
            f"{table.path} has no numbers to predict: it has "
            f"{'no labels' if targets is None else 'several labels an image'}. Give them as "
            "--targets FILE, a table with a column of paths and columns of numbers."
        )
    values = numbers_in(targets.classes)
    if values is None:
        odd = next(name for name in targets.classes if numbers_in([name]) is None)
        raise ProbeError(
            f"The class {odd!r} of {table.path} is no number to predict. Give numbers as --targets "
            "FILE, or tell classes apart with --classifier svm."
        )
    rows = np.flatnonzero(np.asarray(table.done) & (targets.values >= 0))
    return Numbers(rows, values[targets.values[rows]][:, None], ("label",), "labels")


def numbers_of_file(
    table: FeatureTable,
    file: str | os.PathLike[str],
    columns: Sequence[str] = (),
    images: str | os.PathLike[str] | None = None,
) -> Numbers:
    """Read numbers from a file.

    Parameters
    ----------
    table : FeatureTable
        Whose images they are of.
    file : path
        A table (``.csv``, ``.tsv``) with a column of paths and columns of numbers, empty where
        unknown; or an array (``.npy``) of shape (n,) or (n, t), a row an image.
    columns : sequence of str
        Which columns of a table; by default all that hold nothing but numbers, except splits,
        groups and counts of lines.
    images : path, optional
        Of an array: the table or list of its n images, in their order. By default the file beside
        it that is called as it, with the ending ``.paths.csv``, ``.csv`` or ``.txt``; without one
        the rows of an array are those of the table.

    Raises
    ------
    ProbeError
        The file is something else; no image of it is in the table and done; a cell is no number;
        or two lines of an image differ.
    SourceError
        A table cannot be read.
    """
    path = Path(file)
    if path.suffix.lower() == ".npy":
        values, names = _array(path)
        if columns:
            raise ProbeError(f"{path} is an array, whose targets have no names to choose by.")
        listed = _listed(path, images)
        if listed is None:
            keys: list[str | None] = [str(name) for name in table.paths]
            said = f"the {len(table):,} rows of {table.path}"
        else:
            lines = NamedLines.of(listed, table.paths.tolist(), _root(table))
            keys, said = list(lines.keys), f"the {len(lines.keys):,} lines of {listed.file}"
        if len(keys) != len(values):
            raise ProbeError(
                f"{path} has {len(values):,} rows, and they cannot be {said}. Put a list of its "
                f"images beside it ({path.with_suffix('.paths.csv').name}), in their order."
            )
    else:
        listed = read_label_file(path)
        lines = NamedLines.of(listed, table.paths.tolist(), _root(table))
        keys, (values, names) = list(lines.keys), _columns(listed, columns)
    return _matched(table, str(path), keys, values, names)


def numbers_in(cells: Sequence[str]) -> npt.NDArray[np.float64] | None:
    """Read finite numbers, NaN for unknown cells; None where anything else is among them."""
    known = np.array([cell.strip().lower() not in _UNKNOWN for cell in cells], bool)
    values = np.full(len(cells), np.nan)
    try:
        values[known] = [float(cell) for cell, has in zip(cells, known, strict=True) if has]
    except ValueError:
        return None
    return values if known.any() and np.isfinite(values[known]).all() else None


def look_like_numbers(classes: Sequence[str], images: int) -> bool:
    """Tell whether class names are rather numbers to predict: many, and few images of each."""
    few = len(classes) >= 10 and images < 3 * len(classes)
    values = numbers_in(classes) if few else None
    return values is not None and not np.isnan(values).any()


def _array(path: Path) -> tuple[npt.NDArray[np.floating], tuple[str, ...]]:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ProbeError(f"{path} is no array of NumPy's: {error}.") from error
    if values.ndim not in (1, 2) or values.dtype.kind not in "fiu" or 0 in values.shape:
        raise ProbeError(
            f"{path} holds {values.dtype} of shape {values.shape}; give numbers of shape (n,) or "
            "(n, t), a row an image."
        )
    values = values.reshape(len(values), -1)
    kind = np.float32 if values.dtype.itemsize <= 4 and values.dtype.kind == "f" else np.float64
    return values.astype(kind), tuple(str(at) for at in range(values.shape[1]))


def _listed(path: Path, images: str | os.PathLike[str] | None) -> LabelFile | None:
    if images is not None:
        return read_label_file(images)
    beside = (path.with_suffix(ending) for ending in _LISTS)
    found = next((file for file in beside if file.is_file()), None)
    return None if found is None else read_label_file(found)


def _columns(
    file: LabelFile, chosen: Sequence[str]
) -> tuple[npt.NDArray[np.floating], tuple[str, ...]]:
    """Return the columns of a table as numbers, and their names."""
    cells = dict(file.columns)
    if len(file.used) == 1 and not file.classes:
        cells |= {file.used[0] or "label": ["|".join(names or ()) for names in file.names]}
    for name in file.classes:  # columns of 0 and 1 were read as classes; they are numbers, too
        shown = zip(file.names, file.unsure, strict=True)
        cells[name] = [
            "" if names is None or name in unsure else str(int(name in names))
            for names, unsure in shown
        ]
    unknown = [name for name in chosen if name not in cells]
    if unknown:
        raise ProbeError(
            f"{file.file!r} has no column {unknown[0]!r}; it has {_some(list(cells))}."
        )
    names = chosen or [n for n in cells if n.strip().lower() not in _NO_NUMBERS]
    read = {name: numbers_in(cells[name]) for name in names}
    if chosen:
        for name, values in read.items():
            if values is None:
                at = next(i for i, c in enumerate(cells[name]) if numbers_in(["0", c]) is None)
                raise ProbeError(
                    f"{file.file!r} has {cells[name][at]!r} in the column {name!r} (line "
                    f"{file.lines[at]}), which is no number. Leave unknown cells empty."
                )
    kept = {name: values for name, values in read.items() if values is not None}
    if not kept:
        raise ProbeError(
            f"No column of {file.file!r} holds numbers alone; it has {_some(list(cells))}."
        )
    return np.stack(list(kept.values()), axis=1), tuple(kept)


def _matched(
    table: FeatureTable,
    origin: str,
    keys: Sequence[str | None],
    values: npt.NDArray[np.floating],
    names: tuple[str, ...],
) -> Numbers:
    """Bring values by path into the order of a table's rows."""
    if np.isinf(values).any():
        raise ProbeError(f"{origin} holds infinite numbers. Leave what is unknown empty, or NaN.")
    done = np.asarray(table.done)
    number = {path: row for row, path in enumerate(table.paths.tolist()) if done[row]}
    line: dict[int, int] = {}
    unmatched = 0
    for at, key in enumerate(keys):
        row = number.get(key) if key is not None else None
        if row is None:
            unmatched += 1
        elif row in line and not np.array_equal(values[line[row]], values[at], equal_nan=True):
            raise ProbeError(f"{origin} gives the image {key!r} two different rows of numbers.")
        else:
            line[row] = at
    rows = np.array(sorted(line), np.int64)
    taken = values[[line[row] for row in rows.tolist()]]
    known = ~np.isnan(taken).all(axis=1)
    if not known.any():
        raise ProbeError(
            f"{origin} says no number of any image of {table.path} that is done, such as "
            f"{str(table.paths[0])!r}. Write paths as the store has them (`vggfeat export`)."
        )
    return Numbers(rows[known], taken[known], names, origin, unmatched)


def _root(table: FeatureTable) -> str:
    sources = table.sources
    return sources[0].root if len(sources) == 1 else ""


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
