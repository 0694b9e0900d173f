"""Files that name images and, perhaps, what they show: CSV tables and lists of lines."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from vggfeat.errors import SourceError
from vggfeat.files import IMAGE_EXTENSIONS, extension
from vggfeat.labels.names import FixedLabels, RawLabels, class_name, class_names, in_order
from vggfeat.tables import Records, legible, read_records, read_text, text_of

PATH_COLUMNS = (
    "path", "file", "filename", "image", "file_name", "filepath", "file_path", "image_path",
    "image_name", "imagename", "image_file", "img", "img_path", "stim_file", "stimulus",
    "image_id", "id",
)  # fmt: skip
"""Headings that mark a table's column of paths, the first one present wins."""

LABEL_COLUMNS = (
    "label", "class", "labels", "classes", "class_name", "classname", "class_label", "category",
    "categories", "target", "tags",
)  # fmt: skip
"""Headings that mark a table's column of class names, the first one present wins."""

SEVERAL_COLUMNS = frozenset({"labels", "classes", "categories", "tags"})
"""Headings that say that an image may have several, so that its lines add up."""

NO_CLASSES = frozenset({
    "split", "subset", "set", "partition", "fold", "group", "groups", "patient", "patient_id",
    "subject", "subject_id", "index", "is_train", "is_test", "is_valid",
})  # fmt: skip
"""Headings of columns that are no classes, though they may hold nothing but 0 and 1."""

_TABLES = (".csv", ".tsv")
_MARKS = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0, "-1": -1, "-1.0": -1, "": -1}
_ENDINGS = "|".join(sorted(ending[1:] for ending in IMAGE_EXTENSIONS))
_PATH_LABEL = re.compile(rf"(.*\.(?:{_ENDINGS}))(?:\s*[,;]\s*|\s+)(\S.*)", re.IGNORECASE)
_NUMBERS = re.compile(r"-?\d+(\.\d+)?(\s+-?\d+(\.\d+)?)+")
_SHOWN = 3
_SEVERAL = (
    "If images may show several classes, call the column 'labels', or write them in one line with "
    "| between them. Otherwise: "
)


@dataclass(frozen=True, slots=True)
class LabelFile:
    """What a table or list says about images, line by line.

    Attributes
    ----------
    file : str
        Its name.
    paths : list of str
        As written, never blank; a path may come more than once.
    names : list of (tuple of str or None)
        Class names; an empty tuple of an image known to show none of the classes, None where the
        line does not say.
    lines : list of int
        Line numbers, from 1 on.
    used : tuple of str
        Headings of the columns that the names come from; ``("",)`` of a file without headings.
        Empty: the file has no labels.
    columns : dict of str to list of str
        Cells of the other columns by heading, which nothing here has used.
    classes : tuple of str
        Of a table with a column a class: the classes. Otherwise empty.
    unsure : list of tuple of str
        Of such a table: the classes that a line leaves open.
    multi_label : bool
        Whether it is said that an image may have several labels, or none.
    notes : list of str
        What a person should know about how the file was read.
    """

    file: str
    paths: list[str]
    names: list[tuple[str, ...] | None]
    lines: list[int]
    used: tuple[str, ...] = ()
    columns: dict[str, list[str]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    unsure: list[tuple[str, ...]] = field(default_factory=list)
    multi_label: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def unused(self) -> tuple[str, ...]:
        """Headings of the columns that were not used."""
        return tuple(self.columns)

    def by_key(self, keys: Sequence[str | None]) -> RawLabels:
        """Bring the labels of each image together.

        Parameters
        ----------
        keys : sequence of (str or None)
            Entry path of each line; None of lines whose image is not there.

        Returns
        -------
        dict of str to tuple of str
            :class:`FixedLabels` where images may have several.

        Raises
        ------
        SourceError
            Two lines give an image different labels, and the file does not say that it may have
            several.
        """
        labels_of: dict[str, dict[str, None]] = {}
        unsure: RawLabels = {}
        first: dict[str, int] = {}
        add_up = self.multi_label and not self.classes  # 1 in one line and 0 in another cannot
        for at, key in enumerate(keys):
            names = self.names[at]
            if key is None or names is None:
                continue
            before = first.setdefault(key, at)
            known = labels_of.setdefault(key, {})
            left_open = self.unsure[at] if self.unsure else ()
            same = known.keys() == set(names) and unsure.get(key) == left_open
            if before != at and not add_up and not same:
                self._refuse(before, at)
            known.update(dict.fromkeys(names))
            unsure[key] = left_open
        labels = {key: tuple(names) for key, names in labels_of.items()}
        if not self.classes and all(len(names) == 1 for names in labels.values()):
            return labels
        classes = self.classes or in_order(name for known in labels.values() for name in known)
        return FixedLabels(labels, classes, multi_label=True, unsure=unsure)

    def _refuse(self, first: int, second: int) -> None:
        given = [
            f"{'|'.join(self.names[at] or ()) or 'none'!r} (line {self.lines[at]})"
            for at in (first, second)
        ]
        raise SourceError(
            f"{self.file!r} gives the image {legible(self.paths[second])!r} the labels {given[0]} "
            f"and {given[1]}. "
            + ("" if self.classes else _SEVERAL)
            + "Correct one of the lines, or leave it out."
        )


def read_label_file(
    file: str | os.PathLike[str],
    *,
    need_labels: bool = False,
    is_image: Callable[[str], bool] = lambda _: False,
    data: bytes | None = None,
) -> LabelFile:
    """Read a table (``.csv``, ``.tsv``, or any file with a heading) or a list of lines.

    A table has a heading with a column of paths (:data:`PATH_COLUMNS`, or the one column in which
    all cells are names of images) and perhaps one of labels (:data:`LABEL_COLUMNS`). ``|`` stands
    between several labels of an image, ``|`` alone says that it shows none of the classes, and an
    empty cell that nobody knows. Without a column of labels, two or more columns of nothing but 1
    (present), 0 (absent) and -1 or empty (unknown) are a class each. A table of two columns, one
    of them with names of images, needs no heading.

    A list has a path a line, or ``path label`` with a tab, blanks or a comma between them. Blank
    lines and lines that start with ``#`` are left out.

    Parameters
    ----------
    file : path
        The file.
    need_labels : bool
        Refuse a file without labels.
    is_image : callable
        Tells whether a whole line is the path of an image, where its form leaves that open.
    data : bytes, optional
        What is in the file, where that has been read.

    Raises
    ------
    SourceError
        The file cannot be read, or it is not clear what its columns are.
    """
    name = os.fspath(file)
    text = read_text(name) if data is None else text_of(data)
    if extension(name) in _TABLES or _has_heading(text):
        labels = _table(read_records(name, text), need_labels)
    else:
        labels = _list(name, text, is_image)
    if need_labels and not labels.used:
        raise SourceError(
            f"{name!r} names images and no labels. Write 'path label' into each line, or give a "
            "CSV file with the columns path and label."
        )
    odd = next((n for several in labels.names for n in several or () if not n.isascii()), "")
    if odd and not _is_utf8(text):
        labels.notes.append(
            f"{name!r} is not UTF-8 and was read as Windows-1252, for example {odd!r}; save it as "
            "UTF-8 if that is wrong"
        )
    return labels


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates stand for its bytes
        return False
    return True


def _has_heading(text: str) -> bool:
    """Tell whether the first line of a text file is a heading with a path and other columns."""
    heading = text.partition("\n")[0]
    cells = [_plain(cell) for cell in re.split(r"[,;\t]", heading)]
    return len(cells) > 1 and any(cell in PATH_COLUMNS for cell in cells)


def _plain(heading: str) -> str:
    return re.sub(r"[\s-]+", "_", heading.strip().strip('"').lower())


def _list(file: str, text: str, is_image: Callable[[str], bool]) -> LabelFile:
    labels = LabelFile(file, [], [], [])
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        path, label = _path_and_label(line.strip(), is_image)
        if _NUMBERS.fullmatch(label) or "\t" in label:
            raise SourceError(
                f"Line {number} of {file!r} has several values behind its path: {label!r}. Give a "
                "CSV file with a heading, or write several labels as 2|5."
            )
        labels.paths.append(path)
        labels.names.append(class_names(label))
        labels.lines.append(number)
    if all(names is None for names in labels.names):
        return labels
    return replace(labels, used=("",), multi_label=_several(labels.names))


def _path_and_label(text: str, is_image: Callable[[str], bool]) -> tuple[str, str]:
    if "\t" in text:
        path, _, label = text.partition("\t")
        return path.rstrip(), label.strip()
    if extension(text) in IMAGE_EXTENSIONS:
        return text, ""
    if match := _PATH_LABEL.fullmatch(text):
        return (text, "") if is_image(text) else (match[1], match[2])
    path, blank, label = text.rpartition(" ")
    if blank and is_image(path.rstrip()) and not is_image(text):
        return path.rstrip(), label
    return text, ""


def _several(names: Sequence[tuple[str, ...] | None]) -> bool:
    return any(one is not None and len(one) != 1 for one in names)


def _table(records: Records, need_labels: bool) -> LabelFile:
    cells, lines = records.cells, records.lines
    at_path, headings = _heading(records)
    if headings:
        cells, lines = cells[1:], lines[1:]
    else:
        headings = [""] * len(cells[0])
    plain = [_plain(heading) for heading in headings]
    width = len(headings)
    full = [[*record, *[""] * (width - len(record))] for record in cells]
    kept = [n for n, record in enumerate(full) if record[at_path].strip()]
    full, lines = [full[n] for n in kept], [lines[n] for n in kept]
    paths = [record[at_path].strip() for record in full]
    others = [at for at in range(width) if at != at_path]
    at_label = next((plain.index(name) for name in LABEL_COLUMNS if name in plain), -1)
    if not any(headings) and others:
        at_label = others[0]

    def rest(*used: int) -> dict[str, list[str]]:
        left = [at for at in others if at not in used and (headings[at] or any(
            record[at].strip() for record in full))]  # fmt: skip
        return {headings[at] or f"column {at + 1}": [r[at] for r in full] for at in left}

    if at_label >= 0:
        names = [class_names(record[at_label]) for record in full]
        several = plain[at_label] in SEVERAL_COLUMNS or _several(names)
        return LabelFile(
            records.file, paths, names, lines,
            used=(headings[at_label],), columns=rest(at_label), multi_label=several,
        )  # fmt: skip
    marks = {at: _marks([record[at] for record in full]) for at in others
             if plain[at] and plain[at] not in NO_CLASSES}  # fmt: skip
    classes = [at for at, column in marks.items() if column is not None]
    if len(classes) > 1:
        _check_code(records.file, [record[at].strip() for at in classes for record in full])
        return _columns_of_classes(
            records.file, paths, lines, {headings[at]: marks[at] or [] for at in classes},
            rest(*classes),
        )  # fmt: skip
    if need_labels:
        raise SourceError(
            f"{records.file!r} has the columns {', '.join(map(repr, plain))}; one must be called "
            f"label or class, or two or more must hold nothing but 1, 0 and -1, one for each "
            "class. Give the file a first line with column names."
        )
    return LabelFile(records.file, paths, [None] * len(paths), lines, columns=rest())


def _heading(records: Records) -> tuple[int, list[str]]:
    """Return which column holds paths, and the headings; none where the file has no heading."""
    first = records.cells[0] if records.cells else []
    plain = [_plain(cell) for cell in first]
    at = next((plain.index(name) for name in PATH_COLUMNS if name in plain), -1)
    if at >= 0:
        return at, _distinct(first)
    images = [at for at in range(len(first)) if _names_images(records.cells, at)]
    if images and any(extension(cell.strip()) in IMAGE_EXTENSIONS for cell in first):
        if len(first) <= 2:
            return images[0], []
        raise SourceError(
            f"{records.file!r} has {len(first)} columns and no line that names them. Give it a "
            "first line such as path,label."
        )
    if len(images) == 1:
        return images[0], _distinct(first)
    raise SourceError(
        f"{records.file!r} has the columns {', '.join(map(repr, plain)) or 'none'}; one must be "
        f"called {', '.join(PATH_COLUMNS[:3])} or {PATH_COLUMNS[3]}. "
        "Give the file a first line with column names."
    )


def _names_images(cells: list[list[str]], at: int) -> bool:
    """Tell whether a column holds names of images and nothing else, below its heading."""
    below = [record[at].strip() for record in cells[1:] if len(record) > at]
    below = [cell for cell in below if cell] or [cells[0][at].strip()]
    return all(extension(cell) in IMAGE_EXTENSIONS for cell in below)


def _distinct(headings: list[str]) -> list[str]:
    """Return headings as they can be shown and looked up: legible, none twice."""
    distinct: list[str] = []
    for at, heading in enumerate(headings):
        name = class_name(heading)
        distinct.append(name if name not in distinct or not name else f"{name} ({at + 1})")
    return distinct


def _marks(column: list[str]) -> list[int] | None:
    """Read a column of 1, 0 and -1; None where it holds anything else, or nothing."""
    marks = [_MARKS.get(cell.strip().lower()) for cell in column]
    known = [mark for mark in marks if mark is not None]
    return known if len(known) == len(marks) and any(cell.strip() for cell in column) else None


def _check_code(file: str, cells: list[str]) -> None:
    """Refuse what may be VOC's code, in which -1 is absent and 0 is left out."""
    unknown = sum(cell in ("-1", "-1.0") for cell in cells)
    absent = sum(_MARKS.get(cell.lower()) == 0 for cell in cells)
    if 0 < absent < unknown:
        raise SourceError(
            f"{file!r} holds -1 {unknown:,} times and 0 {absent:,} times. Here 0 is absent and -1 "
            "unknown; in VOC's files it is the other way round. Write absent as 0, and leave the "
            "cells of what is unknown empty."
        )


def _columns_of_classes(
    file: str,
    paths: list[str],
    lines: list[int],
    marks: dict[str, list[int]],
    columns: dict[str, list[str]],
) -> LabelFile:
    counts = {value: sum(column.count(value) for column in marks.values()) for value in (1, 0, -1)}
    if not counts[0] or not counts[1]:
        missing = "0 (absent)" if counts[1] else "1 (present)"
        raise SourceError(
            f"The columns {', '.join(map(repr, list(marks)[:_SHOWN]))} of {file!r} never hold "
            f"{missing}. Write 1 where an image shows the class, 0 where it does not, and -1 or "
            "nothing where that is unknown."
        )
    names: list[tuple[str, ...] | None] = []
    unsure: list[tuple[str, ...]] = []
    for row in zip(*marks.values(), strict=True):
        values = dict(zip(marks, row, strict=True))
        known = any(value >= 0 for value in row)
        names.append(tuple(n for n, value in values.items() if value == 1) if known else None)
        unsure.append(tuple(n for n, value in values.items() if value < 0))
    notes = [f"{counts[-1]} cells of {file!r} that are -1 or empty were read as unknown"]
    return LabelFile(
        file, paths, names, lines,
        used=tuple(marks), columns=columns, classes=tuple(marks), unsure=unsure, multi_label=True,
        notes=notes if counts[-1] else [],
    )  # fmt: skip
