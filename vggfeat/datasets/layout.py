"""Finding a dataset's folder, and saying what to fetch where it is not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vggfeat.errors import SourceError
from vggfeat.files import encode_path, system_reason


@dataclass(frozen=True, slots=True)
class Official:
    """A dataset as its makers publish it.

    Attributes
    ----------
    title : str
        Its full name.
    archives : tuple of str
        File names of all that must be fetched.
    folder : str
        What the archives make below the folder they are unpacked in.
    places : tuple of str
        Where else below a given root its folder may be, the likeliest first.
    """

    title: str
    archives: tuple[str, ...]
    folder: str
    places: tuple[str, ...] = ()


OFFICIAL: dict[str, Official] = {
    "voc2007": Official(
        "PASCAL VOC 2007",
        ("VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar"),
        "VOCdevkit/VOC2007",
        ("VOC2007",),
    ),
    "voc2012": Official(
        "PASCAL VOC 2012",
        ("VOCtrainval_11-May-2012.tar",),
        "VOCdevkit/VOC2012",
        ("VOC2012",),
    ),
    "voc2012-action": Official(
        "PASCAL VOC 2012",
        ("VOCtrainval_11-May-2012.tar",),
        "VOCdevkit/VOC2012",
        ("VOC2012",),
    ),
    "caltech101": Official(
        "Caltech-101",
        ("caltech-101.zip (and 101_ObjectCategories.tar.gz inside it)",),
        "101_ObjectCategories",
        ("caltech101/101_ObjectCategories", "caltech-101/101_ObjectCategories"),
    ),
    "caltech256": Official(
        "Caltech-256",
        ("256_ObjectCategories.tar",),
        "256_ObjectCategories",
        ("caltech256/256_ObjectCategories", "caltech-256/256_ObjectCategories"),
    ),
}
"""By dataset name."""


def find_folder(
    name: str, root: str | os.PathLike[str], is_it: Callable[[Path], bool], what: str
) -> Path:
    """Find a dataset's own folder at or below a root.

    Parameters
    ----------
    name : str
        A key of :data:`OFFICIAL`.
    root : path
        The folder itself or one above it, as :class:`Official` lists them.
    is_it : callable
        Whether a folder is the dataset's.
    what : str
        What `is_it` looks for, for the message.

    Raises
    ------
    SourceError
        It is at none of these places.
    """
    official, above = OFFICIAL[name], absolute(root)
    if not above.is_dir():
        raise SourceError(f"There is no folder {str(above)!r}. {how_to_fetch(name, above)}")
    places = (official.folder, *official.places, ".")
    for place in places:
        if (above / place).is_dir() and is_it(above / place):
            return Path(os.path.normpath(above / place))
    raise SourceError(
        f"No {official.title} in {str(above)!r}: there is no {what} in it, nor in "
        f"{', '.join(places[:-1])} below it. {how_to_fetch(name, above)}"
    )


def how_to_fetch(name: str, root: Path) -> str:
    """Return a sentence that says what to download and where to unpack it."""
    official = OFFICIAL[name]
    files = " and ".join(official.archives)
    return (
        f"Fetch {files} of {official.title} and unpack into {str(root)!r}, so that there is "
        f"{str(root / official.folder)!r}; --download does both."
    )


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


def check_images(name: str, folder: Path, images: Iterable[str]) -> None:
    """Raise :class:`SourceError` where listed images are not there.

    Parameters
    ----------
    name : str
        The dataset.
    folder : Path
        Where the images lie.
    images : iterable of str
        File names in `folder`.
    """
    try:
        with os.scandir(folder) as items:
            there = {encode_path(item.name) for item in items}
    except OSError as error:
        raise SourceError(f"Cannot read {str(folder)!r}: {system_reason(error)}.") from error
    listed = list(dict.fromkeys(images))
    if missing := [image for image in listed if image not in there]:
        shown = first(missing, 3)
        raise SourceError(
            f"{len(missing):,} of the {len(listed):,} images that {name} lists are missing in "
            f"{str(folder)!r}: {shown}. Unpack {' and '.join(OFFICIAL[name].archives)} once more."
        )


def first(names: Sequence[str], most: int) -> str:
    """Return the first of several names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def compare(found: dict[str, int], official: dict[str, int]) -> tuple[str, ...]:
    """Return one phrase for each count that is not the complete dataset's."""
    return tuple(
        f"{found[what]:,} {what} instead of {count:,}"
        for what, count in official.items()
        if found[what] != count
    )
