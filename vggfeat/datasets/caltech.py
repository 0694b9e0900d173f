"""Caltech-101 and Caltech-256, each with its class of background or clutter."""

from __future__ import annotations

import os
import re
from functools import partial

from vggfeat.datasets.dataset import Dataset
from vggfeat.datasets.folders import read_class_folders
from vggfeat.datasets.protocols import (
    D_AND_E,
    MEAN_RECALL,
    THREE_SCALES,
    D,
    E,
    Protocol,
    Published,
)
from vggfeat.datasets.record import Archive, DatasetRecord
from vggfeat.datasets.splits import SplitRule

_OWN_SPLITS = "The paper drew three random splits of its own."


def read_caltech(
    record: DatasetRecord,
    root: str | os.PathLike[str],
    *,
    names: re.Pattern[str],
    look: str,
    example: str,
) -> Dataset:
    """Read Caltech-101 or Caltech-256.

    Parameters
    ----------
    record : DatasetRecord
        Which of the two.
    root : path
        ``101_ObjectCategories`` or ``256_ObjectCategories``, or a folder above.
    names : re.Pattern
        Paths of images; the archives also hold a few files and a folder that were forgotten in
        them.
    look : str
        Glob pattern by which the folder is known.
    example : str
        What `look` looks for, for messages.

    Raises
    ------
    SourceError
        It is not there.
    """
    folder = record.find_folder(root, lambda place: any(place.glob(look)), example)
    return read_class_folders(record, folder, names, record.protocol.rule)


CALTECH101 = DatasetRecord(
    name="caltech101",
    title="Caltech-101",
    read=partial(
        read_caltech,
        names=re.compile(r"([^/]+)/image_\d{4}\.jpg"),
        look="*/image_[0-9][0-9][0-9][0-9].jpg",
        example="<category>/image_0001.jpg",
    ),
    protocol=Protocol(
        MEAN_RECALL,
        THREE_SCALES,
        "stack",
        rule=SplitRule(3, 30, 50),
        validation=0.2,
        published=(
            Published(D, 91.8, 1.0),
            Published(E, 92.3, 0.5),
            Published(D_AND_E, 92.7, 0.5),
        ),
        caveat=_OWN_SPLITS,
    ),
    archives=(
        Archive(
            "caltech-101.zip",
            "3138e1922a9193bfa496528edbbc45d0",
            inner="101_ObjectCategories.tar.gz",
        ),
    ),
    folder="101_ObjectCategories",
    places=("caltech101/101_ObjectCategories", "caltech-101/101_ObjectCategories"),
    counts={"classes": 102, "images": 9144},
    download=(("Caltech101", {}),),
)

CALTECH256 = DatasetRecord(
    name="caltech256",
    title="Caltech-256",
    read=partial(
        read_caltech,
        names=re.compile(r"(\d{3}\.[^/]+)/\d{3}_\d{4}\.jpg"),
        look="[0-9][0-9][0-9].*/*.jpg",
        example="001.ak47/001_0001.jpg",
    ),
    protocol=Protocol(
        MEAN_RECALL,
        THREE_SCALES,
        "stack",
        rule=SplitRule(3, 60),
        validation=0.2,
        published=(
            Published(D, 85.0, 0.2),
            Published(E, 85.1, 0.3),
            Published(D_AND_E, 86.2, 0.3),
        ),
        caveat=_OWN_SPLITS,
    ),
    archives=(Archive("256_ObjectCategories.tar", "67b4f42ca05d46448c6bb8ecd2220f6d"),),
    folder="256_ObjectCategories",
    places=("caltech256/256_ObjectCategories", "caltech-256/256_ObjectCategories"),
    counts={"classes": 257, "images": 30607},
    download=(("Caltech256", {}),),
)
