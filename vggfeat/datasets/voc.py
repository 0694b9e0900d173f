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

from vggfeat.datasets.dataset import Dataset
from vggfeat.datasets.layout import compare, first
from vggfeat.datasets.protocols import D_AND_E, FIVE_SCALES, MEAN_AP, D, E, Protocol, Published
from vggfeat.datasets.record import Archive, DatasetRecord
from vggfeat.datasets.splits import Positions
from vggfeat.errors import SourceError
from vggfeat.labels import ABSENT, PRESENT, UNKNOWN
from vggfeat.sources.base import as_text
from vggfeat.tables import read_text

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""The twenty classes of 2007 to 2012."""

NAMES_2012 = re.compile(r"\d{4}_\d{6}")
"""What images of 2012 are called; other years have other names."""

_MEANING = {"1": PRESENT, "-1": ABSENT, "0": UNKNOWN}

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


def read_voc(
    record: DatasetRecord,
    root: str | os.PathLike[str],
    *,
    names: re.Pattern[str],
    sets: Sequence[str],
    parts: Sequence[str] = (),
) -> Dataset:
    """Read the classification of one of VOC's years.

    Parameters
    ----------
    record : DatasetRecord
        Of the year.
    root : path
        ``VOC2007``, ``VOCdevkit`` or the folder above it.
    names : re.Pattern
        What images are called, by which the years are told apart.
    sets : sequence of str
        The image sets to read.
    parts : sequence of str
        Lists of images that a set is made of, which are sets as well where they are there.

    Raises
    ------
    SourceError
        Files are missing, damaged, or another year's; images are listed that are not there.
    """
    folder = record.find_folder(
        root, lambda place: (place / "ImageSets/Main").is_dir(), "ImageSets/Main"
    )
    lists = folder / "ImageSets" / "Main"
    image_sets = read_sets(record, lists, CLASSES, sets)
    ids = [key[0] for key in image_sets.keys]
    check_names(record, lists, ids, names)
    record.check_images(folder / "JPEGImages", [f"{image}.jpg" for image in ids])
    positions = dict(image_sets.sets)
    place = {image: row for row, image in enumerate(ids)}
    for part in parts:
        if (file := lists / f"{part}.txt").is_file():
            rows = [place[image] for image in read_text(file).split() if image in place]
            positions[part] = np.array(sorted(rows), np.int64)
    return Dataset(
        name=record.name,
        root=as_text(str(folder)),
        images=tuple(f"JPEGImages/{image}.jpg" for image in ids),
        classes=CLASSES,
        targets=image_sets.targets,
        protocol=record.protocol,
        sets=positions,
        deviations=compare(
            {f"images in {s}": len(rows) for s, rows in positions.items()}, record.counts
        ),
    )


def read_sets(
    record: DatasetRecord,
    lists: Path,
    classes: Sequence[str],
    sets: Sequence[str],
    fields: int = 1,
) -> Labelled:
    """Read the files ``<class>_<set>.txt`` of a folder.

    Parameters
    ----------
    record : DatasetRecord
        For messages.
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
    tables = {s: [_read(record, lists, f"{c}_{s}.txt", fields) for c in classes] for s in sets}
    for s, columns in tables.items():
        for c, column in zip(classes, columns, strict=True):
            if column.keys() != columns[0].keys():
                odd = " ".join(min(column.keys() ^ columns[0].keys()))
                raise SourceError(
                    f"{str(lists / f'{c}_{s}.txt')!r} and '{classes[0]}_{s}.txt' do not list the "
                    f"same: only one of them has {odd!r}. {record.how_to_fetch(_above(lists))}"
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
                    f"{record.name}: the image sets {' and '.join(sets)} contradict one another "
                    f"about {classes[k]} in {keys[clash[0]][0]!r}. "
                    f"{record.how_to_fetch(_above(lists))}"
                )
            targets[rows, k] = values
        positions[s] = np.array(sorted(place[key] for key in columns[0]), np.int64)
    if {"train", "val"} <= positions.keys():
        positions["trainval"] = np.union1d(positions["train"], positions["val"])
    return Labelled(keys, targets, positions)


def check_names(
    record: DatasetRecord, lists: Path, ids: Sequence[str], pattern: re.Pattern[str]
) -> None:
    """Raise :class:`SourceError` where images are called as in another year, or not at all so."""
    if odd := [image for image in ids if not pattern.fullmatch(image)]:
        raise SourceError(
            f"{str(lists)!r} is not {record.name}'s: it lists {first(odd, 3)}. "
            f"{record.how_to_fetch(_above(lists))}"
        )


def _read(record: DatasetRecord, lists: Path, file: str, fields: int) -> Mapping[Key, int]:
    if not (lists / file).is_file():
        raise SourceError(
            f"{file} is missing in {str(lists)!r}. {record.how_to_fetch(_above(lists))}"
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


VOC2007 = DatasetRecord(
    name="voc2007",
    title="PASCAL VOC 2007",
    read=partial(
        read_voc,
        names=re.compile(r"\d{6}"),
        sets=("trainval", "test"),
        parts=("train", "val"),
    ),
    protocol=Protocol(
        MEAN_AP,
        FIVE_SCALES,
        "mean",
        ap="11-point",
        train="trainval",
        test="test",
        published=(Published(D, 89.3), Published(E, 89.3), Published(D_AND_E, 89.7)),
    ),
    archives=(
        Archive("VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64"),
        Archive("VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f"),
    ),
    folder="VOCdevkit/VOC2007",
    places=("VOC2007",),
    counts={"images in trainval": 5011, "images in test": 4952},
    download=(
        ("VOCDetection", {"year": "2007", "image_set": "trainval"}),
        ("VOCDetection", {"year": "2007", "image_set": "test"}),
    ),
)

VOC2012 = DatasetRecord(
    name="voc2012",
    title="PASCAL VOC 2012",
    read=partial(read_voc, names=NAMES_2012, sets=("train", "val")),
    protocol=Protocol(
        MEAN_AP,
        FIVE_SCALES,
        "mean",
        ap="all-point",
        train="train",
        test="val",
        published=(Published(D, 89.0), Published(E, 89.0), Published(D_AND_E, 89.3)),
        caveat="Trained on train and tested on val, since only the official server knows the "
        "test labels; the paper trained on trainval and was scored there on test.",
    ),
    archives=(Archive("VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd"),),
    folder="VOCdevkit/VOC2012",
    places=("VOC2012",),
    counts={"images in train": 5717, "images in val": 5823},
    download=(("VOCDetection", {"year": "2012", "image_set": "trainval"}),),
)
