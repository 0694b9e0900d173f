"""Which images train and test, and which belong together, as folders, lists and patterns say.

A split is a name; ``train``, ``val`` and ``test`` are what all goes by that trains and scores. A
group is a name, too, such as a patient's: no division of images puts it on both sides.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from vggfeat.errors import SourceError
from vggfeat.labels.files import LabelFile, read_label_file
from vggfeat.labels.matching import match
from vggfeat.labels.names import class_name, folder_level
from vggfeat.labels.origin import Origin

TRAIN, VAL, TEST = "train", "val", "test"

SPLIT_NAMES = {
    TRAIN: ("train", "training"),
    VAL: ("val", "valid", "validation", "dev"),
    TEST: ("test", "testing"),
}
"""Names of folders and cells by the split that they mean, in any case."""

MEANT = {word: name for name, words in SPLIT_NAMES.items() for word in words}
"""The split that a folder or cell means, by its name in lower case."""

_FLAGS = ("is_train", "is_test")
SPLIT_COLUMNS = ("split", "subset", "partition", "set", *_FLAGS)
"""Headings that mark a table's column of splits, the first one present wins."""

GROUP_COLUMNS = (
    "group", "groups", "group_id", "patient", "patient_id", "subject", "subject_id",
)  # fmt: skip
"""Headings that mark a table's column of groups, the first one present wins."""

NamesByPath = dict[str, str]
"""Entry path to the name of the image's split or group; an absent path has none."""

Kind = Literal["auto", "none", "folder", "pattern", "given"]

_FOLDER = re.compile(r"folder:([1-9][0-9]*)")
_YES = {"1": True, "1.0": True, "true": True, "yes": True,
        "0": False, "0.0": False, "false": False, "no": False}  # fmt: skip
_SHOWN = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NamedLines:
    """A table or list, with the image that each of its lines names.

    Attributes
    ----------
    file : LabelFile
        What was read.
    keys : sequence of (str or None)
        Entry path of each line; None of lines whose image is not there.
    """

    file: LabelFile
    keys: Sequence[str | None]

    @classmethod
    def of(cls, file: LabelFile, paths: Sequence[str], root: str = "") -> Self:
        """Find the images that a table names."""
        return cls(file, match(file.paths, paths, root).keys)

    @property
    def name(self) -> str:
        """What the file is called."""
        return class_name(Path(self.file.file).name)

    @property
    def origin(self) -> Origin:
        """What a store remembers of it."""
        return Origin("table", self.name)

    def labels(self) -> NamesByPath:
        """Return its labels as names; an image of several has them all."""
        return {path: "|".join(names) for path, names in self.file.by_key(self.keys).items()}

    def names(self, headings: Sequence[str], *, splits: bool) -> tuple[str, NamesByPath]:
        """Take names from a column.

        Parameters
        ----------
        headings : sequence of str
            What the column may be called; the first one present is taken.
        splits : bool
            Whether the names are splits.

        Returns
        -------
        heading : str
            The column's; empty where there is none.
        names : dict of str to str
            Empty cells name nothing.

        Raises
        ------
        SourceError
            Two lines give an image different names, or a cell of ``is_train`` or ``is_test`` is
            neither yes nor no.
        """
        file = self.file
        plain = {re.sub(r"[\s-]+", "_", name.strip().lower()): name for name in file.columns}
        meant = next((name for name in headings if name in plain), "")
        heading = plain.get(meant, "")
        names: NamesByPath = {}
        first: dict[str, int] = {}
        for at, cell in enumerate(file.columns.get(heading, ())):
            if meant in _FLAGS and cell.strip():
                name = self._flag(meant, cell, file.lines[at])
            else:
                name = split_name(cell) if splits else class_name(cell)
            key = self.keys[at]
            if key is None or not name:
                continue
            if names.setdefault(key, name) != name:
                raise SourceError(
                    f"{file.file!r} gives the image {key!r} the {heading} {names[key]!r} (line "
                    f"{file.lines[first[key]]}) and {name!r} (line {file.lines[at]}). Correct one."
                )
            first.setdefault(key, at)
        return heading, names

    def _flag(self, meant: str, cell: str, line: int) -> str:
        """Read a cell of a column ``is_train`` or ``is_test``."""
        yes = _YES.get(cell.strip().lower())
        if yes is None:
            raise SourceError(
                f"{self.file.file!r} has {cell!r} in the column {meant} (line {line}). Write 1 or "
                "0, or nothing where it is unknown."
            )
        return TRAIN if yes == (meant == "is_train") else TEST


@dataclass(frozen=True, slots=True)
class OwnNames:
    """Splits and groups that a source says itself without being a table of lines.

    Attributes
    ----------
    name : str
        What the source is called.
    splits, groups : dict of str to str
        Names by entry path; empty where it says none.
    """

    name: str
    splits: NamesByPath
    groups: NamesByPath

    def names(self, headings: Sequence[str], *, splits: bool) -> tuple[str, NamesByPath]:
        """Return them as :meth:`NamedLines.names` does; there is no heading."""
        del headings
        return "", self.splits if splits else self.groups


@dataclass(frozen=True, slots=True)
class NamesRequest:
    """The splits, or the groups, that a run asks for; a store decides what that means for its rows.

    Attributes
    ----------
    kind : str
        ``"auto"``: in a new store what the source says itself, else (of splits) folders that are
        called so; in a store that has some whatever they came from. ``"none"``: images get none.
        ``"folder"``, ``"pattern"``: of their paths. ``"given"``: `names`.
    detail : str
        Which folder, 1 for the first, or the regular expression.
    names : dict of str to str
        Names by path from lists, or a table.
    origin : Origin
        What a store remembers of `names`.
    from_source : dict or None
        Names that the source says itself.
    source_name : str
        What the source is called.
    of_splits : bool
        Whether the names are splits, so that folders may say them.
    heading : str
        Of the column that names come from.
    """

    kind: Kind = "auto"
    detail: str = ""
    names: NamesByPath = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)
    from_source: NamesByPath | None = None
    source_name: str = ""
    of_splits: bool = False
    heading: str = ""

    def from_paths(self, origin: Origin, paths: Sequence[str]) -> NamesByPath:
        """Return names that come of paths, as `origin` says."""
        if origin.kind == "pattern":
            return groups_from_pattern(origin.detail, paths)
        return names_from_folders(paths, origin.level, splits=self.of_splits)


def usable(names: Collection[str]) -> bool:
    """Tell whether splits say what trains and what tests: ``train``, and ``test`` or ``val``."""
    return TRAIN in names and (TEST in names or VAL in names)


def split_name(text: str) -> str:
    """Return the split that a folder or cell means: ``train``, ``val``, ``test``, or its name."""
    name = class_name(text)
    return MEANT.get(name.lower(), name)


def split_level(paths: Sequence[str]) -> int | None:
    """Return which folder of the paths is the split, where their folders look like it.

    It is the first folder in which paths differ, if all its names are those of :data:`SPLIT_NAMES`
    and mean two splits or more.

    Returns
    -------
    int or None
        From 1 on; None where folders are no splits.
    """
    level = folder_level(paths)
    folders = {path.split("/")[level - 1] for path in paths if path.count("/") >= level}
    meant = [MEANT.get(class_name(name).lower()) for name in folders]
    return level if None not in meant and len(set(meant)) > 1 else None


def names_from_folders(paths: Sequence[str], level: int, *, splits: bool) -> NamesByPath:
    """Take the name of each image from the `level`-th folder it lies in, 1 for the first."""
    folders = {path: path.split("/")[:-1] for path in paths}
    names = {path: folder[level - 1] for path, folder in folders.items() if len(folder) >= level}
    return {path: split_name(name) if splits else class_name(name) for path, name in names.items()}


def splits_from_lists(
    lists: Mapping[str, LabelFile], paths: Sequence[str], root: str = ""
) -> NamesByPath:
    """Take splits from a list of images each.

    Parameters
    ----------
    lists : dict of str to LabelFile
        What was read of each split's list.
    paths : sequence of str
        Entry paths of the source.
    root : str
        Absolute path that entries' paths are relative to.

    Raises
    ------
    SourceError
        A list names no image of the source, or an image is in two lists.
    """
    splits: NamesByPath = {}
    for name, file in lists.items():
        keys = match(file.paths, paths, root)
        if not keys.count:
            listed = ", ".join(map(repr, file.paths[:_SHOWN]))
            raise SourceError(
                f"None of the {len(file.paths):,} lines of {file.file!r} is an image of the "
                f"source, for example {listed}. Write paths relative to the source, such as "
                f"{paths[0]!r}."
            )
        if lost := len(file.paths) - keys.count:
            _log.warning(
                "%s: %d of %d lines name no image of the source.",
                *(file.file, lost, len(file.paths)),
            )
        for key in keys.keys:
            if key is not None and splits.setdefault(key, name) != name:
                raise SourceError(
                    f"{key!r} is in the lists of both {splits[key]} and {name}. An image cannot "
                    "train and test: take it out of one."
                )
    return splits


def groups_from_pattern(pattern: str, paths: Sequence[str], *, needed: bool = False) -> NamesByPath:
    r"""Take the group of each image from its path.

    Parameters
    ----------
    pattern : str
        A regular expression, such as ``patient_(\d+)``, searched for anywhere in a path. The group
        is what its parentheses match (joined by ``-`` where there are several), or all that it
        matches.
    paths : sequence of str
        Entry paths. One in which it does not occur is in no group.
    needed : bool
        Refuse a pattern that occurs in no path.

    Raises
    ------
    SourceError
        It is no regular expression, or occurs in no path.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise SourceError(
            f"{pattern!r} is no regular expression: {error}. An example: 'patient_(\\d+)'."
        ) from error
    groups: NamesByPath = {}
    for path in paths:
        if hit := regex.search(path):
            parts = [part for part in hit.groups() if part is not None]
            groups[path] = class_name("-".join(parts) or hit[0]) or hit[0]
    if needed and not groups:
        raise SourceError(
            f"{pattern!r} occurs in none of the {len(paths):,} paths, for example {paths[0]!r}. It "
            "is a regular expression that is searched for in each, such as 'patient_(\\d+)'."
        )
    return groups


def requested_splits(
    requested: str | Mapping[str, str | os.PathLike[str]],
    paths: Sequence[str],
    *,
    root: str = "",
    source: NamedLines | OwnNames | None = None,
    table: NamedLines | None = None,
) -> NamesRequest:
    """Understand which splits a person asks for.

    Parameters
    ----------
    requested : str or dict
        ``auto``, ``none``, ``folder:N``; or a list of images by the name of their split.
    paths : sequence of str
        Entry paths of the source.
    root : str
        Absolute path that they are relative to.
    source, table : NamedLines (or of a source OwnNames), optional
        What the source, and a table of labels, say themselves.

    Raises
    ------
    SourceError
        It is nothing of the kind, or a list cannot be read or contradicts another.
    """
    if isinstance(requested, str):
        if match := _FOLDER.fullmatch(requested):
            return NamesRequest("folder", match[1], of_splits=True)
        if requested == "none":
            return NamesRequest("none", of_splits=True)
        if requested != "auto":
            raise SourceError(
                f"{requested!r} says no split. Allowed are auto, none, folder:N, and lists such as "
                "train=train.txt."
            )
        return _of_columns(source, table, SPLIT_COLUMNS, splits=True)
    lists = {split_name(name): read_label_file(file) for name, file in requested.items()}
    if len(lists) < len(requested):
        raise SourceError(
            f"Two lists are for one split, as training is train: {', '.join(requested)}. Give each "
            "split one list."
        )
    names = splits_from_lists(lists, paths, root)
    files = ", ".join(class_name(Path(file.file).name) for file in lists.values())
    return NamesRequest("given", names=names, origin=Origin("lists", files), of_splits=True)


def requested_groups(
    by: str | None,
    file: str | os.PathLike[str] | None,
    paths: Sequence[str],
    *,
    root: str = "",
    source: NamedLines | OwnNames | None = None,
    table: NamedLines | None = None,
) -> NamesRequest:
    """Understand which groups a person asks for.

    Parameters
    ----------
    by : str, optional
        A regular expression, ``folder:N`` or ``none``.
    file : path, optional
        A table with a column of groups, or a list of lines ``path group``.
    paths, root, source, table : as for :func:`requested_splits`

    Raises
    ------
    SourceError
        The file cannot be read, or says no group; both were given; or the expression is none.
    """
    if by is not None and file is not None:
        raise SourceError("Groups come by a pattern or from a file: give one of them.")
    if file is not None:
        column = NamedLines.of(read_label_file(file), paths, root)
        request = _of_columns(None, column, GROUP_COLUMNS, splits=False)
        if request.kind == "given":
            return request
        names = column.labels()
        if not names:
            raise SourceError(
                f"{os.fspath(file)!r} gives no image of the source a group. Give a CSV file with "
                "the columns path and group, or write 'path group' into each line."
            )
        return NamesRequest("given", names=names, origin=column.origin)
    if by is None:
        return _of_columns(source, table, GROUP_COLUMNS, splits=False)
    if by == "none":
        return NamesRequest("none")
    if match := _FOLDER.fullmatch(by):
        return NamesRequest("folder", match[1])
    groups_from_pattern(by, paths, needed=True)  # refused now rather than when a store is open
    return NamesRequest("pattern", by)


def _of_columns(
    source: NamedLines | OwnNames | None,
    table: NamedLines | None,
    headings: Sequence[str],
    *,
    splits: bool,
) -> NamesRequest:
    """Ask for what tables say, and else for what is there."""
    heading, names = source.names(headings, splits=splits) if source else ("", None)
    if table is not None:
        column, given = table.names(headings, splits=splits)
        if given:
            return NamesRequest(
                "given", names=given, origin=table.origin, of_splits=splits, heading=column
            )
    return NamesRequest(
        from_source=names or None,
        source_name=source.name if source else "",
        of_splits=splits,
        heading=heading,
    )
