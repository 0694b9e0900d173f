"""Parquet files with a column of images, as the Hugging Face hub ships datasets."""

from __future__ import annotations

import io
import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from vggfeat.errors import ImageError, SourceError
from vggfeat.files import encode_path
from vggfeat.labels import FixedLabels, RawLabels, class_name, from_folders
from vggfeat.labels.names import in_order
from vggfeat.labels.splits import MEANT, split_name
from vggfeat.sources.base import Entry, Source
from vggfeat.sources.members import clean
from vggfeat.sources.parquet_columns import Choice
from vggfeat.sources.parquet_rows import Rows, Table
from vggfeat.storage.places import LocalPlace, Place, as_posix, each_listed, relative_names

SUFFIX = ".parquet"

_LONGEST = 1024  # letters of a path
_WORD = re.compile(r"[A-Za-z]+")


def open_tables(files: Sequence[str], spec: str, choice: Choice) -> Source:
    """List the images of Parquet files of this machine.

    Parameters
    ----------
    files : sequence of str
        Absolute paths; one alone that is `spec` is called by its rows alone.
    spec : str
        What they were named by: a file, a pattern, or a folder that they are in.
    choice : Choice
        Columns that a person names.

    Raises
    ------
    SourceError
        See :class:`ParquetSource`.
    """
    several = list(files) != [spec]
    if os.path.isdir(spec):  # noqa: PTH112
        names = [Path(file).relative_to(spec).as_posix() for file in files]
    else:
        names = relative_names([as_posix(file) for file in files])
    places = [LocalPlace(file) for file in files]
    return ParquetSource(places, names, spec, spec, choice, several=several)


class ParquetSource(Source):
    """Images in a column of one or several Parquet files, in the order of their rows.

    An entry's path is what the table calls the image where it does so for all of its rows with
    no name twice, else the row's number behind the file's name; with several files always behind
    the file's name. Sizes are not known before an image is read, and are 0.

    Parameters
    ----------
    places : sequence of Place
        The files, at least one.
    names : sequence of str
        Of each file, relative to what they have in common.
    root, spec : str
        See :class:`Source`; without the choice of columns.
    choice : Choice
        Columns that a person names.
    several : bool
        Whether paths begin with the file's name.

    Raises
    ------
    SourceError
        A file cannot be read, or it is not clear which of its columns holds the images.
    """

    def __init__(
        self,
        places: Sequence[Place],
        names: Sequence[str],
        root: str,
        spec: str,
        choice: Choice,
        *,
        several: bool,
    ) -> None:
        self._rows: dict[str, tuple[int, int]] = {}
        tables, entries = [], []
        labels = _Labels()
        splits: dict[str, str] = {}
        groups: dict[str, str] = {}
        inner: dict[str, str] = {}
        self._distant = any(place.distant for place in places)
        listed = each_listed(lambda place: _listed(place, choice), places)
        for number, ((table, columns), name) in enumerate(zip(listed, names, strict=True)):
            tables.append(table)
            paths = _paths(table, columns, name, several=several)
            said = split_of_file(name)
            for row, (path, key) in enumerate(paths):
                self._rows[key], inner[key] = (number, row), path
                entries.append(Entry(key, 0, table.state.mtime_ns, table.state.ctime_ns))
            keys = [key for _, key in paths]
            labels.add(table, keys, columns.get("label", ()))
            splits |= {key: said for key in keys if said}
            splits |= _names(keys, columns.get("split", ()), split_name)
            groups |= _names(keys, columns.get("group", ()), class_name)
        if not entries:
            raise SourceError(f"No images in {spec!r}: the table has no rows.")
        given = labels.given()
        if given is None and several:  # a file's name is no class
            folders = from_folders(list(inner.values()))
            given = {key: folders[path] for key, path in inner.items() if path in folders}
        super().__init__(root + choice.text("image", "path"), spec + choice.text(), (), given)
        self.entries = entries
        self.given_splits, self.given_groups = splits or None, groups or None
        self._images = Rows(tables)

    @property
    def distant(self) -> bool:
        """Whether the files are."""
        return self._distant

    def open(self, entry: Entry) -> BinaryIO:
        """Read a row's image; see :meth:`Source.open`."""
        try:
            table, row = self._rows[entry.path]
        except KeyError:
            raise ImageError("no such row in the table") from None
        return io.BytesIO(self._images.image(table, row))


def split_of_file(name: str) -> str:
    """Return the split that a file's name says: its first word, or its folder; empty if none.

    So it is with ``train-00000-of-00004.parquet``, ``data/test-00000-of-00001.parquet`` and
    ``default/validation/0000.parquet``.
    """
    for part in reversed(name.split("/")):
        word = _WORD.match(part)
        if word is not None and word[0].lower() in MEANT:
            return split_name(word[0])
    return ""


def _listed(place: Place, choice: Choice) -> tuple[Table, dict[str, list[Any]]]:
    """Return a table, and its columns beside the images."""
    table = Table(place, choice)
    columns: dict[str, list[Any]] = {}
    for block in table.listed():
        for kind, values in block.items():
            columns.setdefault(kind, []).extend(values)
    return table, columns


def _paths(
    table: Table, columns: dict[str, list[Any]], name: str, *, several: bool
) -> list[tuple[str, str]]:
    """Return each row's path in its file and in the source."""
    prefix = f"{name}/" if several else ""
    paths = _unique(columns.get("path", ()), table.rows)
    if paths is None:
        prefix = prefix or f"{posixpath.basename(name)}/"
        paths = [f"{row:08}" for row in range(table.rows)]
    return [(path, encode_path(prefix) + path) for path in paths]


def _unique(texts: Sequence[Any], count: int) -> list[str] | None:
    """Return the paths that a table gives its images; None where not each has one of its own."""
    paths = [encode_path(clean(text).lstrip("/")) for text in texts if isinstance(text, str)]
    fit = len(paths) == count and all(path and len(path) <= _LONGEST for path in paths)
    return paths if fit and len(set(paths)) == count else None


def _names(keys: Sequence[str], values: Sequence[Any], spelt: Any) -> dict[str, str]:
    named = zip(keys, values, strict=False)
    return {key: spelt(str(value)) for key, value in named if value not in (None, "")}


class _Labels:
    """Class names by path, from the columns of several files."""

    def __init__(self) -> None:
        self._labels: RawLabels = {}
        self._classes: dict[str, None] = {}
        self._several = self._there = False

    def add(self, table: Table, keys: Sequence[str], values: Sequence[Any]) -> None:
        columns = table.columns
        self._there |= bool(columns.label)
        self._classes |= dict.fromkeys(map(class_name, columns.names))
        for key, value in zip(keys, values, strict=False):
            if isinstance(value, list):
                self._several = True
                several = (_class(one, table) for one in value)
                self._labels[key] = tuple(dict.fromkeys(n for n in several if n))
            elif name := _class(value, table):
                self._labels[key] = (name,)

    def given(self) -> RawLabels | None:
        """Return what the files say; None where none has a column of classes."""
        if not self._there:
            return None
        if not self._several and not self._classes:
            return self._labels
        shown = in_order(n for names in self._labels.values() for n in names)
        classes = tuple(dict.fromkeys([*self._classes, *shown]))
        return FixedLabels(self._labels, classes, multi_label=self._several)


def _class(value: Any, table: Table) -> str:
    """Return the class name that a cell means; empty for none."""
    names = table.columns.names
    if value is None or value != value:  # NaN
        return ""
    if not names or isinstance(value, str):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return class_name(text)
    if value == -1:  # so the hub marks test images without a class
        return ""
    if not isinstance(value, int) or not 0 <= value < len(names):
        raise SourceError(
            f"{table.place.name!r} has the label {value} in {table.columns.label}, and names "
            f"{len(names)} classes, from 0 on. Correct it, or leave labels out with #label:none."
        )
    return class_name(names[value])
