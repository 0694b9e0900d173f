"""PASCAL VOC 2012 action classification: people, marked by boxes, and what they are doing.

Each of the ten actions has a file for each image set, ``ImageSets/Action/<action>_<set>.txt``,
with a line for each person: image, number among the objects of the image's annotation (from 1,
objects that are no people counted as well), and 1 or -1. The eleventh class, other, has no such
files: the annotation says it, and the development kit leaves it out of training and scoring.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from vggfeat.datasets.dataset import Dataset
from vggfeat.datasets.protocols import D_AND_E, FIVE_SCALES, MEAN_AP, Protocol, Published
from vggfeat.datasets.record import DatasetRecord
from vggfeat.datasets.voc import NAMES_2012, VOC2012, check_names, read_sets
from vggfeat.errors import SourceError
from vggfeat.labels import ABSENT, PRESENT, UNKNOWN
from vggfeat.sources.base import as_text

ACTIONS = (
    "jumping", "phoning", "playinginstrument", "reading", "ridingbike", "ridinghorse", "running",
    "takingphoto", "usingcomputer", "walking",
)  # fmt: skip
OTHER = "other"

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_FAR = 1 << 24  # pixels; no image is as large
_OTHER_MEANING = {"1": PRESENT, "0": ABSENT}


def read_actions(record: DatasetRecord, root: str | os.PathLike[str]) -> Dataset:
    """Read the people of VOC 2012's action sets train and val.

    Parameters
    ----------
    record : DatasetRecord
        :data:`VOC2012_ACTION`.
    root : path
        ``VOC2012``, ``VOCdevkit`` or the folder above it.

    Returns
    -------
    Dataset
        An example is a person. Classes are the ten :data:`ACTIONS` and :data:`OTHER`.

    Raises
    ------
    SourceError
        Files are missing, damaged, or another year's; images are listed that are not there.
    """
    folder = record.find_folder(
        root, lambda place: (place / "ImageSets/Action").is_dir(), "ImageSets/Action"
    )
    lists = folder / "ImageSets" / "Action"
    image_sets = read_sets(record, lists, ACTIONS, ("train", "val"), fields=2)
    ids = [image for image, _ in image_sets.keys]
    numbers = [int(number) for _, number in image_sets.keys]
    check_names(record, lists, ids, NAMES_2012)
    record.check_images(folder / "JPEGImages", [f"{image}.jpg" for image in ids])
    boxes, others = _annotations(folder / "Annotations", ids, numbers)
    return Dataset(
        name=record.name,
        root=as_text(str(folder)),
        images=tuple(f"JPEGImages/{image}.jpg" for image in ids),
        classes=(*ACTIONS, OTHER),
        targets=np.column_stack([image_sets.targets, others]),
        protocol=record.protocol,
        sets=image_sets.sets,
        objects=tuple(numbers),
        boxes=boxes,
    )


def _annotations(
    folder: Path, ids: Sequence[str], numbers: Sequence[int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    """Return each person's box and whether the action is another one; images come grouped."""
    boxes = np.empty((len(ids), 4), np.int32)
    others = np.empty(len(ids), np.int8)
    opened, objects, file = "", list[ElementTree.Element](), folder
    for row, (image, number) in enumerate(zip(ids, numbers, strict=True)):
        if image != opened:
            file = folder / f"{image}.xml"
            opened, objects = image, _objects(file)
        thing = objects[number - 1] if 1 <= number <= len(objects) else None
        if thing is None or thing.findtext("name") != "person":
            what = "no such object" if thing is None else f"a {thing.findtext('name')}"
            raise SourceError(
                f"{str(file)!r}: object {number} should be a person and is {what}. "
                "Unpack the archive once more."
            )
        boxes[row] = _box(thing, file, number)
        # Unknown where the annotation is silent.
        others[row] = _OTHER_MEANING.get((thing.findtext("actions/other") or "").strip(), UNKNOWN)
    return boxes, others


def _objects(file: Path) -> list[ElementTree.Element]:
    try:
        return ElementTree.parse(file).getroot().findall("object")
    except FileNotFoundError:
        reason = "no such file"
    except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise SourceError(
        f"Cannot read the annotation {str(file)!r}: {reason}. Unpack the archive once more."
    )


def _box(thing: ElementTree.Element, file: Path, number: int) -> tuple[int, int, int, int]:
    """Return left, upper, right and lower edge; VOC counts pixels from 1 and means the last one.

    A few coordinates in VOC are fractions; they are rounded.
    """
    values = [thing.findtext(f"bndbox/{edge}") for edge in _EDGES]
    try:
        left, upper, right, lower = (round(float(value or "")) for value in values)
    except (ValueError, OverflowError):
        left = upper = 1
        right = lower = 0
    if not (-_FAR < left <= right < _FAR and -_FAR < upper <= lower < _FAR):
        raise SourceError(
            f"{str(file)!r}: object {number} has no usable box, but {' '.join(map(str, values))}. "
            "Unpack the archive once more."
        )
    return left - 1, upper - 1, right, lower


VOC2012_ACTION = DatasetRecord(
    name="voc2012-action",
    title="PASCAL VOC 2012 actions",
    read=read_actions,
    protocol=Protocol(
        MEAN_AP,
        FIVE_SCALES,
        "mean",
        ap="all-point",
        train="train",
        test="val",
        unscored=(OTHER,),
        published=(Published(D_AND_E, 79.2), Published(D_AND_E, 84.0, boxes=True)),
        caveat=f"{VOC2012.protocol.caveat} The scales are those of VOC classification.",
    ),
    archives=VOC2012.archives,
    folder=VOC2012.folder,
    places=VOC2012.places,
    download=VOC2012.download,
)
