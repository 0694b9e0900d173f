"""Class names of images, from the folders they lie in or from a table."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggfeat.errors import SourceError
from vggfeat.files import as_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RawLabels = dict[str, tuple[str, ...]]
"""Entry path to the image's class names. A path that is absent is unlabelled; where any image has
more than one name the labels are multi-label."""


class FixedLabels(RawLabels):
    """Labels whose classes are known beforehand, such as a benchmark's.

    Other than bare :data:`RawLabels` they keep the classes' order and those that no image shows,
    say whether images may have several, and can leave open whether an image shows a class.

    Parameters
    ----------
    names : dict of str to tuple of str
        Entry path to the classes that the image shows.
    classes : tuple of str
        All class names; the position is the class's number.
    multi : bool
        Whether images may have several.
    unsure : dict of str to tuple of str
        Entry path to classes of which it is not known, or not to be asked, whether the image
        shows them; only for several labels, and of paths in `names`.
    """

    def __init__(
        self,
        names: RawLabels,
        classes: tuple[str, ...],
        *,
        multi: bool = False,
        unsure: RawLabels | None = None,
    ) -> None:
        super().__init__(names)
        self.classes, self.multi, self.unsure = classes, multi, unsure or {}


PATH_COLUMNS = ("path", "file", "filename", "image")
"""Headings that mark a table's column of paths, the first one present wins."""

LABEL_COLUMNS = ("label", "class")
"""Headings that mark a table's column of class names."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a CSV file says about images.

    Attributes
    ----------
    rows : list of (str, tuple of str)
        Path as written, and class names; blank paths are left out.
    labelled : bool
        Whether there is a column of labels.
    """

    rows: list[tuple[str, tuple[str, ...]]]
    labelled: bool


def from_folders(paths: Sequence[str]) -> RawLabels:
    """Take the class of each image from the folder it lies in.

    Parameters
    ----------
    paths : sequence of str
        Entry paths. Leading folders common to all are not classes and are stripped; the first
        folder that remains is the class, and an image with none is unlabelled.

    Returns
    -------
    dict of str to tuple of str
        One class name for each labelled path.
    """
    folders = {path: path.split("/")[:-1] for path in paths}
    if not folders:
        return {}
    first, last = min(folders.values()), max(folders.values())  # all share what these two share
    common = 0
    while common < min(len(first), len(last)) and first[common] == last[common]:
        common += 1
    return {path: (parts[common],) for path, parts in folders.items() if len(parts) > common}


def from_csv(file: str | os.PathLike[str]) -> RawLabels:
    """Read class names from a table.

    Parameters
    ----------
    file : path
        A CSV file with a heading: a column ``path`` (or ``file``, ``filename``, ``image``) with
        paths as the source has them, and a column ``label`` (or ``class``). ``|`` separates
        several labels of one image; rows of one image add up; an empty label means unknown.

    Raises
    ------
    SourceError
        The file cannot be read, or lacks one of the columns.
    """
    table = read_table(file, need_labels=True)
    return gather((as_key(path), names) for path, names in table.rows)


def gather(rows: Iterable[tuple[str, tuple[str, ...]]]) -> RawLabels:
    """Bring the class names of each path together, in the order they come, none twice."""
    found: dict[str, dict[str, None]] = {}
    for path, names in rows:
        if names:
            found.setdefault(path, {}).update(dict.fromkeys(names))
    return {path: tuple(names) for path, names in found.items()}


def read_table(file: str | os.PathLike[str], *, need_labels: bool = False) -> Table:
    """Read a CSV file of images; :func:`from_csv` says what it may look like."""
    text = read_text(file)
    heading = text.partition("\n")[0]
    delimiter = max(",;\t", key=heading.count)  # spreadsheets write ; where , is the decimal mark
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        lines = [line for line in reader if line]
    except csv.Error as error:
        raise SourceError(f"{os.fspath(file)!r} is not a CSV file: {error}.") from error
    columns = [cell.strip().lower() for cell in lines[0]] if lines else []
    at_path = _column(columns, PATH_COLUMNS)
    at_label = _column(columns, LABEL_COLUMNS)
    for at, allowed in ((at_path, PATH_COLUMNS), (at_label, LABEL_COLUMNS)):
        if at < 0 and (need_labels or allowed is PATH_COLUMNS):
            raise SourceError(
                f"{os.fspath(file)!r} has the columns {', '.join(map(repr, columns)) or 'none'}; "
                f"one must be called {', '.join(allowed[:-1])} or {allowed[-1]}. "
                "Give the file a first line with column names."
            )
    rows = [
        (line[at_path].strip(), _names(line[at_label]) if 0 <= at_label < len(line) else ())
        for line in lines[1:]
        if at_path < len(line) and line[at_path].strip()
    ]
    return Table(rows, labelled=at_label >= 0)


def read_text(file: str | os.PathLike[str]) -> str:
    """Read a text file that any editor may have written.

    Returns
    -------
    str
        Without byte order mark; bytes that are not UTF-8 become lone surrogates, as in file names.

    Raises
    ------
    SourceError
        The file cannot be read.
    """
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise SourceError(f"Cannot read {os.fspath(file)!r}: {error.strerror}.") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # Windows PowerShell's redirection
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "surrogateescape")


def _column(columns: Sequence[str], allowed: Sequence[str]) -> int:
    return next((columns.index(name) for name in allowed if name in columns), -1)


def class_name(text: str) -> str:
    """Return a class name as a store can hold it: without outer blanks, valid UTF-8."""
    return text.strip().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _names(cell: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in cell.split("|") if (name := class_name(part))))
