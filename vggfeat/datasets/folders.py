"""Datasets with one folder a class, such as folders of one's own."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np

from vggfeat.datasets.dataset import Dataset
from vggfeat.datasets.layout import absolute, compare
from vggfeat.datasets.protocols import MEAN_RECALL, THREE_SCALES, Protocol
from vggfeat.datasets.record import DatasetRecord
from vggfeat.datasets.splits import SplitRule
from vggfeat.errors import SourceError
from vggfeat.labels import class_name, in_order
from vggfeat.sources import open_folder
from vggfeat.sources.base import as_text

_IN_A_FOLDER = re.compile(r"([^/]+)/.+", re.DOTALL)
_MOST = 30


def read_class_folders(
    record: DatasetRecord, folder: Path, names: re.Pattern[str], rule: SplitRule | None
) -> Dataset:
    """Read a folder in which a sub-folder is a class.

    Parameters
    ----------
    record : DatasetRecord
        Of the dataset; its counts are of ``classes`` and ``images``.
    folder : Path
        The folder.
    names : re.Pattern
        Paths of images, relative to `folder`, the class as their first group; others are left out.
    rule : SplitRule or None
        None: three splits with half of the smallest class's images of each class for training, at
        most 30, and all others for the test.

    Raises
    ------
    SourceError
        There are fewer than two classes, or without a rule one of a single image.
    """
    paths = [entry.path for entry in open_folder(str(folder)).entries]
    named = ((path, names.fullmatch(path)) for path in paths)
    matches = [(path, class_name(match[1])) for path, match in named if match]
    sizes = Counter(label for _, label in matches)
    classes = in_order(sizes)
    if len(classes) < 2:
        only = f"only {classes[0]!r}" if classes else "none"
        raise SourceError(
            f"{str(folder)!r} has {only} for a class, and two are the least. Put the images of "
            "each class into a sub-folder of its own."
        )
    if rule is None:
        smallest = min(classes, key=lambda label: sizes[label])
        if sizes[smallest] < 2:
            raise SourceError(
                f"The class {smallest!r} in {str(folder)!r} has a single image; one to train and "
                "one to test on are the least."
            )
        rule = SplitRule(3, min(_MOST, sizes[smallest] // 2))
    number = {label: k for k, label in enumerate(classes)}
    counts = {"classes": len(classes), "images": len(matches)}
    return Dataset(
        name=record.name,
        root=as_text(str(folder)),
        images=tuple(path for path, _ in matches),
        classes=classes,
        targets=np.array([number[label] for _, label in matches], np.int64),
        protocol=record.protocol,
        sets={},
        rule=rule,
        deviations=compare(counts, record.counts),
    )


def read_folder(record: DatasetRecord, root: str | os.PathLike[str]) -> Dataset:
    """Read a folder with one sub-folder a class, images at any depth inside.

    Parameters
    ----------
    record : DatasetRecord
        :data:`FOLDER`.
    root : path
        The folder. Images that lie directly in it belong to no class and are left out.

    Raises
    ------
    SourceError
        There is no such folder, or fewer than two classes of two images in it.
    """
    folder = absolute(root)
    if not folder.is_dir():
        raise SourceError(
            f"There is no folder {str(folder)!r}. Give one that has a sub-folder for each class."
        )
    return read_class_folders(record, folder, _IN_A_FOLDER, None)


FOLDER = DatasetRecord(
    name="folder",
    title="images of your own, in a folder for each class",
    read=read_folder,
    protocol=Protocol(MEAN_RECALL, THREE_SCALES, "stack", validation=0.2),  # as of Caltech-101
)
