"""Datasets with one folder a class: Caltech-101, Caltech-256, and folders of one's own."""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from vggfeat.datasets.dataset import Dataset
from vggfeat.datasets.layout import absolute, compare, find_folder
from vggfeat.datasets.protocols import PROTOCOLS
from vggfeat.datasets.splits import SplitRule
from vggfeat.errors import SourceError
from vggfeat.labels import class_name, in_order
from vggfeat.sources import open_folder
from vggfeat.sources.base import as_text

# The official archives also hold a few files and a folder that were forgotten in them.
_IMAGES = {
    "caltech101": re.compile(r"([^/]+)/image_\d{4}\.jpg"),
    "caltech256": re.compile(r"(\d{3}\.[^/]+)/\d{3}_\d{4}\.jpg"),
    "folder": re.compile(r"([^/]+)/.+", re.DOTALL),
}
_COUNTS = {
    "caltech101": {"classes": 102, "images": 9144},
    "caltech256": {"classes": 257, "images": 30607},
}
_LOOK = {"caltech101": "*/image_[0-9][0-9][0-9][0-9].jpg", "caltech256": "[0-9][0-9][0-9].*/*.jpg"}
_WHAT = {"caltech101": "<category>/image_0001.jpg", "caltech256": "001.ak47/001_0001.jpg"}
_MOST = 30


def read_caltech(name: str, root: str | os.PathLike[str]) -> Dataset:
    """Read Caltech-101 or Caltech-256, each with its class of background or clutter.

    Parameters
    ----------
    name : str
        ``"caltech101"`` (102 classes, ``BACKGROUND_Google`` among them) or ``"caltech256"`` (257,
        ``257.clutter`` among them).
    root : path
        ``101_ObjectCategories`` or ``256_ObjectCategories``, or a folder above.

    Raises
    ------
    SourceError
        It is not there.
    """
    look = _LOOK[name]
    folder = find_folder(name, root, lambda place: any(place.glob(look)), _WHAT[name])
    return _read(name, folder, PROTOCOLS[name].rule)


read_caltech101 = partial(read_caltech, "caltech101")
read_caltech256 = partial(read_caltech, "caltech256")


def read_folder(root: str | os.PathLike[str]) -> Dataset:
    """Read a folder with one sub-folder a class, images at any depth inside.

    Its rule is three splits with half of the smallest class's images of each class for training,
    at most 30, and all others for the test.

    Parameters
    ----------
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
    return _read("folder", folder, None)


def _read(name: str, folder: Path, rule: SplitRule | None) -> Dataset:
    paths = [entry.path for entry in open_folder(str(folder)).entries]
    found = ((path, _IMAGES[name].fullmatch(path)) for path in paths)
    matches = [(path, class_name(match[1])) for path, match in found if match]
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
    return Dataset(
        name=name,
        root=as_text(str(folder)),
        images=tuple(path for path, _ in matches),
        classes=classes,
        targets=np.array([number[label] for _, label in matches], np.int64),
        protocol=PROTOCOLS[name],
        sets={},
        rule=rule,
        deviations=compare(
            {"classes": len(classes), "images": len(matches)}, _COUNTS.get(name, {})
        ),
    )
