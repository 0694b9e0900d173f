"""Folders, lists of names and counts, as all readers of datasets need them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vggfeat.errors import SourceError


def absolute(root: str | os.PathLike[str]) -> Path:
    """Return a folder's absolute name, links kept.

    Raises
    ------
    SourceError
        The name is empty or holds a NUL.
    """
    given = os.fsdecode(root)
    if not given or "\0" in given:
        raise SourceError(f"{given!r} is not a folder. Give the one that the dataset is in.")
    return Path(given).expanduser().absolute()


def first(names: Sequence[str], most: int) -> str:
    """Return the first of several names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def compare(counted: Mapping[str, int], official: Mapping[str, int]) -> tuple[str, ...]:
    """Return one phrase for each count that is not the complete dataset's."""
    return tuple(
        f"{counted[what]:,} {what} instead of {count:,}"
        for what, count in official.items()
        if counted[what] != count
    )
