"""A labelled collection of images with its splits, as an evaluation needs it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vggfeat.datasets.protocols import Protocol
from vggfeat.datasets.splits import Positions, Split, SplitRule
from vggfeat.errors import SourceError
from vggfeat.files import decode_path
from vggfeat.labels import PRESENT, UNKNOWN, FixedLabels, RawLabels, as_floats
from vggfeat.sources import CropSource, FileSource, Source
from vggfeat.sources.base import entry_of


@dataclass(frozen=True, eq=False)
class Dataset:
    """N labelled examples: images, or marked objects in them.

    Attributes
    ----------
    name : str
        As in :data:`vggfeat.datasets.DATASETS`.
    root : str
        Absolute path of the folder that images are named from; names that are not UTF-8 are
        spelt as in a store.
    images : tuple of str, length N
        The image of each example, relative to `root`, ``/`` between parts, sorted. Images of
        several marked objects occur several times.
    classes : tuple of str, length K
        Class names.
    targets : ndarray
        One label an example: (N,) int64, positions in `classes`. Several: (N, K) int8,
        1 present, 0 absent, or -1 left out, which takes part neither in training nor in scoring
        (:mod:`vggfeat.labels.codes`).
    protocol : Protocol
        What to measure, and how the paper did.
    sets : dict of str to ndarray of int64
        Official sets, as ascending positions of examples; empty where there are none.
    rule : SplitRule or None
        How splits are drawn where there are no official sets.
    objects : tuple of int, length N, or None
        Numbers of the marked objects within their images, from 1.
    boxes : ndarray of int32, shape (N, 4), or None
        Their left, upper, right and lower edges, in pixels from 0, right and lower ones outside.
    deviations : tuple of str
        In what the files differ from the complete dataset, one phrase each.
    undivided : Dataset or None
        The same files with a rule instead of `sets`, for those who wish to draw; None where the
        sets are official.
    """

    name: str
    root: str
    images: tuple[str, ...]
    classes: tuple[str, ...]
    targets: npt.NDArray[Any]
    protocol: Protocol
    sets: Mapping[str, Positions]
    rule: SplitRule | None = None
    objects: tuple[int, ...] | None = None
    boxes: npt.NDArray[np.int32] | None = None
    deviations: tuple[str, ...] = ()
    undivided: Self | None = None

    def __post_init__(self) -> None:
        for array in (self.targets, self.boxes, *self.sets.values()):
            if array is not None:
                array.flags.writeable = False

    def __len__(self) -> int:
        """Return N."""
        return len(self.images)

    @property
    def multi_label(self) -> bool:
        """Whether an example may have several labels."""
        return self.targets.ndim == 2

    @property
    def presence(self) -> npt.NDArray[np.float64]:
        """Labels as probes and metrics take them: (N, K), 1 present, 0 absent, NaN left out."""
        if not self.multi_label:
            return np.asarray(self.targets[:, None] == np.arange(len(self.classes)), np.float64)
        return as_floats(self.targets)

    @property
    def scored(self) -> Positions:
        """Positions of the classes that the metric's mean is taken over, int64."""
        names = enumerate(self.classes)
        return np.array([k for k, name in names if name not in self.protocol.unscored], np.int64)

    @property
    def crops(self) -> tuple[str, ...]:
        """The path of each example's box: its image's with ``#`` and the object's number.

        Raises
        ------
        SourceError
            The dataset marks no objects.
        """
        if self.objects is None or self.boxes is None:
            raise SourceError(f"{self.name} has no boxes: it marks no objects. Take whole images.")
        pairs = zip(self.images, self.objects, strict=True)
        return tuple(f"{image}#{number}" for image, number in pairs)

    @property
    def sha256(self) -> str:
        """Digest of examples, classes and targets: what the splits' positions stand for."""
        names = self.images if self.objects is None else self.crops
        digest = hashlib.sha256("\n".join([*names, "", *self.classes]).encode())
        digest.update(np.ascontiguousarray(self.targets, "<i8").tobytes())
        return digest.hexdigest()

    def splits(self, seed: int | None = None) -> tuple[Split, ...]:
        """Return what to train and to test on.

        Parameters
        ----------
        seed : int, optional
            Instead of the rule's own; official sets know no chance.

        Returns
        -------
        tuple of Split
            The protocol's sets as the only one, or as many as the rule says. They are the same on
            every machine.

        Raises
        ------
        SourceError
            Classes are too small for the rule.
        """
        if self.rule is None:
            train, test = self.sets[self.protocol.train], self.sets[self.protocol.test]
            if not self.protocol.val:
                return (Split(train, test),)
            held_out = self.sets[self.protocol.val]
            return (Split(np.union1d(train, held_out), test, held_out),)
        rule = self.rule if seed is None else replace(self.rule, seed=seed)
        return rule.splits(self.targets, self.classes)

    def source(self, *, boxes: bool = False) -> Source:
        """Return the images as a source that features can be extracted from.

        Parameters
        ----------
        boxes : bool
            Take the boxes instead, each an image of its own that is called as :attr:`crops` says.

        Returns
        -------
        Source
            Every image once. Its labels are :attr:`targets`, and none where examples share an
            image.
        """
        folder = decode_path(self.root)
        if boxes:
            keys = self.crops
            assert self.boxes is not None  # or there were no crops
            parts = {
                key: (image, (left, upper, right, lower))
                for key, image, (left, upper, right, lower) in zip(
                    keys, self.images, self.boxes.tolist(), strict=True
                )
            }
            return CropSource(folder, parts, self._labels(keys))
        entries = [entry_of(folder, path) for path in dict.fromkeys(self.images)]
        labels = self._labels(self.images) if self.objects is None else {}
        return FileSource(folder, folder, entries, labels)

    def rows(self, paths: Sequence[str], *, boxes: bool = False) -> Positions:
        """Find each example's row in a store of :meth:`source`'s images.

        Parameters
        ----------
        paths : sequence of str
            The store's paths, in row order.
        boxes : bool
            Whether the store is of the boxes.

        Returns
        -------
        ndarray of int64, shape (N,)
            -1 where the store lacks it.
        """
        place = {path: row for row, path in enumerate(paths)}
        names = self.crops if boxes else self.images
        return np.array([place.get(name, -1) for name in names], np.int64)

    def to_json(self) -> dict[str, Any]:
        """Return what decides a result, JSON-ready; with the seed, all splits follow from it."""
        return {
            "name": self.name,
            "examples": len(self),
            "images": len(set(self.images)),
            "classes": list(self.classes),
            "sets": {name: len(rows) for name, rows in self.sets.items()},
            "rule": None if self.rule is None else self.rule.to_json(),
            "protocol": self.protocol.to_json(),
            "deviations": list(self.deviations),
            "sha256": self.sha256,
        }

    def _labels(self, names: Sequence[str]) -> RawLabels:
        if not self.multi_label:
            numbers = zip(names, self.targets.tolist(), strict=True)
            return FixedLabels({name: (self.classes[k],) for name, k in numbers}, self.classes)
        present, ignored = (
            {
                name: tuple(self.classes[k] for k in np.flatnonzero(row == meaning))
                for name, row in zip(names, self.targets, strict=True)
            }
            for meaning in (PRESENT, UNKNOWN)
        )
        return FixedLabels(present, self.classes, multi_label=True, unsure=ignored)
