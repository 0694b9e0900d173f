"""PASCAL VOC classification, in the layout of its development kit.

Each class has a file for each image set, ``ImageSets/Main/<class>_<set>.txt``, with a line for
each image: its name and 1 (shows the class), -1 (does not), or 0 (shows only objects that are
marked difficult, which the evaluation leaves out).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vggfeat.datasets.dataset import ABSENT, IGNORED, PRESENT, Dataset
from vggfeat.datasets.layout import check_images, compare, find_folder, first, how_to_fetch
from vggfeat.datasets.protocols import PROTOCOLS
from vggfeat.datasets.splits import Positions
from vggfeat.errors import SourceError
from vggfeat.sources.base import as_text
from vggfeat.tables import read_text

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""The twenty classes of 2007 to 2012."""

NAMES = {"voc2007": re.compile(r"\d{6}"), "voc2012": re.compile(r"\d{4}_\d{6}")}
"""What images are called, by which the years are told apart."""

_SETS = {"voc2007": ("trainval", "test"), "voc2012": ("train", "val")}
_PARTS = {"voc2007": ("train", "val"), "voc2012": ()}  # lists of images that trainval is made of
_COUNTS = {
    "voc2007": {"images in trainval": 5011, "images in test": 4952},
    "voc2012": {"images in train": 5717, "images in val": 5823},
}
_MEANING = {"1": PRESENT, "-1": ABSENT, "0": IGNORED}

Key = tuple[str, ...]
"""What a line of an image set names: an image, or an image and an object's number."""


class Labelled(NamedTuple):
    """What image sets say.

    Attributes
    ----------
    keys : list of tuple of str
        All that is listed, once each, sorted.
    targets : ndarray of int8, shape (N, K)
        As in :class:`~vggfeat.datasets.Dataset`.
    sets : dict of str to ndarray of int64
        Positions in `keys`, ascending.
    """

    keys: list[Key]
    targets: npt.NDArray[np.int8]
    sets: dict[str, Positions]


def read_voc(name: str, root: str | os.PathLike[str]) -> Dataset:
    """Read VOC 2007 (sets trainval and test) or VOC 2012 (train and val).

    Parameters
    ----------
    name : str
        ``"voc2007"`` or ``"voc2012"``.
    root : path
        ``VOC2007``, ``VOCdevkit`` or the folder above it.

    Raises
    ------
    SourceError
        Files are missing, damaged, or another year's; images are listed that are not there.
    """
    folder = find_folder(
        name, root, lambda place: (place / "ImageSets/Main").is_dir(), "ImageSets/Main"
    )
    lists = folder / "ImageSets" / "Main"
    found = read_sets(name, lists, CLASSES, _SETS[name])
    ids = [key[0] for key in found.keys]
    check_names(name, lists, ids, NAMES[name])
    check_images(name, folder / "JPEGImages", [f"{image}.jpg" for image in ids])
    sets = dict(found.sets)
    place = {image: row for row, image in enumerate(ids)}
    for part in _PARTS[name]:
        if (file := lists / f"{part}.txt").is_file():
            rows = [place[image] for image in read_text(file).split() if image in place]
            sets[part] = np.array(sorted(rows), np.int64)
    return Dataset(
        name=name,
        root=as_text(str(folder)),
        images=tuple(f"JPEGImages/{image}.jpg" for image in ids),
        classes=CLASSES,
        targets=found.targets,
        protocol=PROTOCOLS[name],
        sets=sets,
        deviations=compare(
            {f"images in {s}": len(rows) for s, rows in sets.items()}, _COUNTS[name]
        ),
    )


read_voc2007 = partial(read_voc, "voc2007")
read_voc2012 = partial(read_voc, "voc2012")


def read_sets(
    name: str, lists: Path, classes: Sequence[str], sets: Sequence[str], fields: int = 1
) -> Labelled:
    """Read the files ``<class>_<set>.txt`` of a folder.

    Parameters
    ----------
    name : str
        The dataset, for messages.
    lists : Path
        The folder.
    classes, sets : sequence of str
        Which files to read; trainval is added where train and val are read.
    fields : int
        Fields of a line in front of the label.

    Raises
    ------
    SourceError
        A file is missing or damaged, the files of a set name different images, or two sets
        contradict one another.
    """
    tables = {s: [_read(name, lists, f"{c}_{s}.txt", fields) for c in classes] for s in sets}
    for s, columns in tables.items():
        for c, column in zip(classes, columns, strict=True):
            if column.keys() != columns[0].keys():
                odd = " ".join(min(column.keys() ^ columns[0].keys()))
                raise SourceError(
                    f"{str(lists / f'{c}_{s}.txt')!r} and '{classes[0]}_{s}.txt' do not list the "
                    f"same: only one of them has {odd!r}. {how_to_fetch(name, _above(lists))}"
                )
    keys = sorted({key for columns in tables.values() for key in columns[0]}, key=_order)
    place = {key: row for row, key in enumerate(keys)}
    targets = np.full((len(keys), len(classes)), -2, np.int8)
    positions = {}
    for s, columns in tables.items():
        for k, column in enumerate(columns):
            rows = np.array([place[key] for key in column], np.int64)
            values = np.fromiter(column.values(), np.int8, len(column))
            if (clash := rows[(targets[rows, k] != -2) & (targets[rows, k] != values)]).size:
                raise SourceError(
                    f"{name}: the image sets {' and '.join(sets)} contradict one another about "
                    f"{classes[k]} in {keys[clash[0]][0]!r}. {how_to_fetch(name, _above(lists))}"
                )
            targets[rows, k] = values
        positions[s] = np.array(sorted(place[key] for key in columns[0]), np.int64)
    if {"train", "val"} <= positions.keys():
        positions["trainval"] = np.union1d(positions["train"], positions["val"])
    return Labelled(keys, targets, positions)


def check_names(name: str, lists: Path, ids: Sequence[str], pattern: re.Pattern[str]) -> None:
    """Raise :class:`SourceError` where images are called as in another year, or not at all so."""
    if odd := [image for image in ids if not pattern.fullmatch(image)]:
        raise SourceError(
            f"{str(lists)!r} is not {name}'s: it lists {first(odd, 3)}. "
            f"{how_to_fetch(name, _above(lists))}"
        )


def _read(name: str, lists: Path, file: str, fields: int) -> Mapping[Key, int]:
    if not (lists / file).is_file():
        raise SourceError(
            f"{file} is missing in {str(lists)!r}. {how_to_fetch(name, _above(lists))}"
        )
    table: dict[Key, int] = {}
    for number, line in enumerate(read_text(lists / file).splitlines(), 1):
        *key, label = line.split() or [""]
        if not key and not label:
            continue
        if len(key) != fields or label not in _MEANING or (fields > 1 and not key[1].isdecimal()):
            wanted = "an image, an object's number" if fields > 1 else "an image"
            raise SourceError(
                f"{str(lists / file)!r}, line {number}: {line.strip()!r} is not {wanted} and a "
                "label of 1, -1 or 0. Unpack the archive once more."
            )
        if tuple(key) in table:
            raise SourceError(
                f"{str(lists / file)!r}, line {number}: {' '.join(key)!r} is listed twice. "
                "Unpack the archive once more."
            )
        table[tuple(key)] = _MEANING[label]
    if not table:
        raise SourceError(f"{str(lists / file)!r} lists no image. Unpack the archive once more.")
    return table


def _order(key: Key) -> tuple[str, int]:
    return key[0], int(key[1]) if len(key) > 1 else 0


def _above(lists: Path) -> Path:
    """Return the folder that the archives belong in: above VOCdevkit/VOC20xx/ImageSets/Main."""
    return lists.parents[3] if lists.parents[2].name == "VOCdevkit" else lists.parents[2]
