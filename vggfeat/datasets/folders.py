"""Datasets with one folder a class, such as folders of one's own.

Folders of one's own may be divided by folders ``train``, ``val`` and ``test`` above the classes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vggfeat.datasets.dataset import Dataset
from vggfeat.datasets.layout import absolute, compare, first
from vggfeat.datasets.protocols import MEAN_RECALL, THREE_SCALES, Protocol
from vggfeat.datasets.record import DatasetRecord
from vggfeat.datasets.splits import SplitRule
from vggfeat.errors import SourceError
from vggfeat.labels import TEST, TRAIN, VAL, class_name, in_order, split_level
from vggfeat.labels.splits import names_from_folders
from vggfeat.sources import open_folder
from vggfeat.sources.base import as_text

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
    dataset = _of_classes(record, folder, paths, names)
    return replace(dataset, rule=rule or _usual_rule(dataset))


def _of_classes(
    record: DatasetRecord, folder: Path, paths: Sequence[str], names: re.Pattern[str]
) -> Dataset:
    """Return a dataset that says nothing yet of how it is divided."""
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
        deviations=compare(counts, record.counts),
    )


def _usual_rule(dataset: Dataset) -> SplitRule:
    """Return the rule for datasets that have none: half of the smallest class, at most 30."""
    sizes = np.bincount(dataset.targets, minlength=len(dataset.classes))
    if sizes.min() < 2:
        raise SourceError(
            f"The class {dataset.classes[sizes.argmin()]!r} in {dataset.root!r} has a single "
            "image; one to train and one to test on are the least."
        )
    return SplitRule(3, min(_MOST, int(sizes.min()) // 2))


def _by_folders(dataset: Dataset, level: int) -> Dataset:
    """Divide a dataset by its `level`-th folders, which are splits.

    As the splits of stores: what is called ``val`` chooses the classifier's parameter and trains,
    too; without ``test`` it is tested on. Test images of classes that are never learnt from are
    left out. Where nothing is called ``train``, or nothing else, splits are drawn.
    """
    split = names_from_folders(dataset.images, level, splits=True)
    of = np.array([split[path] for path in dataset.images])
    tested = TEST if TEST in of else VAL
    if TRAIN not in of or tested not in of:
        return replace(dataset, rule=_usual_rule(dataset))
    learnt = np.unique(dataset.targets[of != tested])
    kept = (of != tested) | np.isin(dataset.targets, learnt)
    deviations = dataset.deviations
    if not kept.all():
        unseen = [dataset.classes[k] for k in np.unique(dataset.targets[~kept])]
        deviations += (
            f"{int((~kept).sum()):,} test images are left out, of {len(unseen)} classes that are "
            f"never learnt from: {first(unseen, 3)}",
        )
    if len(learnt) < 2:
        raise SourceError(
            f"{dataset.root!r} has {len(learnt)} class to learn from in {TRAIN}, and two are the "
            "least. Put the images of each class into a sub-folder of its own there."
        )
    of = of[kept]
    if tested not in of:
        raise SourceError(
            f"No image of {tested} in {dataset.root!r} is of a class that {TRAIN} has. Name the "
            "folders of classes alike in both."
        )
    sets = {name: np.flatnonzero(of == name) for name in (TRAIN, VAL, TEST) if name in of}
    val = VAL if VAL in of and tested == TEST else ""
    return replace(
        dataset,
        images=tuple(path for path, keep in zip(dataset.images, kept, strict=True) if keep),
        classes=tuple(dataset.classes[k] for k in learnt),
        targets=np.searchsorted(learnt, dataset.targets[kept]),
        protocol=replace(dataset.protocol, train=TRAIN, val=val, test=tested),
        sets=sets,
        deviations=deviations,
        undivided=replace(dataset, rule=_usual_rule(dataset)) if _can_be_drawn(dataset) else None,
    )


def _can_be_drawn(dataset: Dataset) -> bool:
    return int(np.bincount(dataset.targets, minlength=len(dataset.classes)).min()) > 1


def read_folder(record: DatasetRecord, root: str | os.PathLike[str]) -> Dataset:
    """Read a folder with one sub-folder a class, images at any depth inside.

    Folders above the classes that are called ``train``, ``val`` and ``test`` (or as
    :func:`vggfeat.labels.split_level` says) divide the images.

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
    paths = [entry.path for entry in open_folder(str(folder)).entries]
    level = split_level(paths)
    below = re.compile(rf"(?:[^/]+/){{{level or 0}}}([^/]+)/.+", re.DOTALL)
    dataset = _of_classes(record, folder, paths, below)
    if level is None:
        return replace(dataset, rule=_usual_rule(dataset))
    return _by_folders(dataset, level)


FOLDER = DatasetRecord(
    name="folder",
    title="images of your own, in a folder for each class",
    read=read_folder,
    protocol=Protocol(MEAN_RECALL, THREE_SCALES, "stack", validation=0.2),  # as of Caltech-101
)
