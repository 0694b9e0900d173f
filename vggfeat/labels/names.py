"""Class names of images, by path."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from vggfeat.tables import legible

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
    multi_label : bool
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
        multi_label: bool = False,
        unsure: RawLabels | None = None,
    ) -> None:
        super().__init__(names)
        self.classes, self.multi_label, self.unsure = classes, multi_label, unsure or {}


def class_name(text: str) -> str:
    """Return a class name as a store holds it: without outer blanks, valid UTF-8, in NFC.

    Macs write an accented letter as two characters (NFD), other systems as one; both are one
    class. Bytes that are not UTF-8 are read as Windows-1252.
    """
    name = text.strip()
    if name.isascii():
        return name
    name = legible(name).encode("utf-8", "backslashreplace").decode()
    return unicodedata.normalize("NFC", name).strip()


def class_names(cell: str) -> tuple[str, ...] | None:
    """Read a cell of labels.

    Returns
    -------
    tuple of str or None
        Names, ``|`` between them; an empty tuple of ``|`` alone, which says that the image shows
        none of the classes; None of an empty cell: nobody knows.
    """
    if not cell.strip():
        return None
    return tuple(dict.fromkeys(name for part in cell.split("|") if (name := class_name(part))))


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort class names: numbers by value and first, then text by code point."""
    return tuple(sorted(set(names), key=_place))


def from_folders(paths: Sequence[str], level: int | None = None) -> RawLabels:
    """Take the class of each image from the folder it lies in.

    Parameters
    ----------
    paths : sequence of str
        Entry paths.
    level : int, optional
        Which folder of a path is the class, 1 for the first; :func:`folder_level` by default.

    Returns
    -------
    dict of str to tuple of str
        One class name for each labelled path; a path with fewer folders is unlabelled.
    """
    at = (folder_level(paths) if level is None else level) - 1
    folders = {path: path.split("/")[:-1] for path in paths}
    names = {parts[at] for parts in folders.values() if len(parts) > at}
    shown = {name: class_name(name) or name for name in names}  # a name may be a blank
    return {path: (shown[parts[at]],) for path, parts in folders.items() if len(parts) > at}


def folder_level(paths: Sequence[str]) -> int:
    """Return which folder of the paths is the class: the first that is not common to all of them.

    Returns
    -------
    int
        From 1 on; a level at which no path has a folder where all images lie beside each other.
    """
    folders = [path.split("/")[:-1] for path in paths]
    if not folders:
        return 1
    first, last = min(folders), max(folders)  # all share what these two share
    common = 0
    while common < min(len(first), len(last)) and first[common] == last[common]:
        common += 1
    return common + 1


def _place(name: str) -> tuple[bool, float, str]:
    try:
        value = float(name)
    except ValueError:
        return True, 0.0, name
    return (False, value, name) if value - value == 0 else (True, 0.0, name)  # nan and inf: text
