"""What an index knows of each vector: whose it is. A vector's number is the id of its image."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from vggfeat.index.preparing import Integers
from vggfeat.storage.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vggfeat.feature_table import FeatureTable
    from vggfeat.provenance import RunInfo


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Many texts in little memory, decoded when they are read.

    Attributes
    ----------
    bytes : ndarray of uint8
        UTF-8, one text directly behind the other.
    ends : ndarray of int64, shape (n,)
        Where each one ends.
    """

    bytes: npt.NDArray[np.uint8]
    ends: npt.NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Keep some texts."""
        whole, sizes = bytearray(), array("q")
        for text in texts:
            encoded = text.encode()
            whole += encoded
            sizes.append(len(encoded))
        return cls(np.frombuffer(whole, np.uint8), np.cumsum(sizes, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> str:
        start = int(self.ends[number - 1]) if number else 0
        return self.bytes[start : int(self.ends[number])].tobytes().decode()

    def several(self, numbers: Integers) -> list[str]:
        """Return those of some numbers."""
        starts, ends = self.ends.take(numbers - 1).tolist(), self.ends.take(numbers).tolist()
        whole, known = self.bytes.data, zip(numbers.tolist(), starts, ends, strict=True)
        return [str(whole[a if number else 0 : b], "utf-8") for number, a, b in known]

    def __iter__(self) -> Iterator[str]:
        whole, start = self.bytes.tobytes(), 0
        for end in self.ends.tolist():
            yield whole[start:end].decode()
            start = end

    def taken(self, numbers: Integers) -> Self:
        """Return those of some numbers, in that order."""
        if len(numbers) == len(self) and (numbers == np.arange(len(self))).all():
            return self
        whole = self.bytes.tobytes()
        starts = np.concatenate([[0], self.ends[:-1]])[numbers] if len(numbers) else numbers
        ends = self.ends[numbers]
        parts = [whole[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
        return type(self)(np.frombuffer(b"".join(parts), np.uint8), np.cumsum(ends - starts))

    def followed_by(self, other: Texts) -> Self:
        """Return these and then those."""
        shift = int(self.ends[-1]) if len(self) else 0
        return type(self)(
            np.concatenate([self.bytes, other.bytes]),
            np.concatenate([self.ends, other.ends + shift]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """One entry a vector, in the order of the vectors in their file.

    Attributes
    ----------
    paths : Texts
        Images, as their stores name them; unique among those not removed.
    row : ndarray of int64, shape (n,)
        Rows in their stores.
    origin : ndarray of uint16, shape (n,)
        Which of the index's sources an image came from.
    checksum : ndarray of uint32, shape (n,)
        CRC-32 of the store's row, which says whether an image has changed since.
    label : ndarray of int32, shape (n,)
        Numbers of labels, -1 where unknown.
    names : tuple of str
        Labels; the classes of an image that has several are joined by ``|``.
    removed : ndarray of bool, shape (n,)
        Vectors that are still in the files, and in no answer.
    """

    paths: Texts
    row: Integers
    origin: npt.NDArray[np.uint16]
    checksum: npt.NDArray[np.uint32]
    label: npt.NDArray[np.int32]
    names: tuple[str, ...]
    removed: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def alive(self) -> Integers:
        """Ids of images that are not removed."""
        return np.flatnonzero(~self.removed)

    @property
    def order(self) -> Integers:
        """Which of equally near images comes first: the lower, by origin and row."""
        return (self.origin.astype(np.int64) << 40) | self.row

    def labels_of(self, ids: Integers) -> list[str]:
        """Return the labels of several images."""
        return [self.names[number] if number >= 0 else "" for number in self.label[ids].tolist()]

    def taken(self, ids: Integers) -> Self:
        """Return those of some ids, in that order."""
        return type(self)(
            self.paths.taken(ids),
            self.row[ids],
            self.origin[ids],
            self.checksum[ids],
            self.label[ids],
            self.names,
            self.removed[ids],
        )

    def without(self, ids: Integers) -> Self:
        """Return them with some more removed."""
        removed = self.removed.copy()
        removed[ids] = True
        return replace(self, removed=removed)

    def followed_by(self, other: Rows, origins: Sequence[int]) -> Self:
        """Return these and then those, whose sources have new numbers: `origins`."""
        names = list(dict.fromkeys([*self.names, *other.names]))
        renamed = np.array([names.index(name) for name in other.names] + [-1], np.int32)
        renumbered = np.array(origins, np.uint16)
        return type(self)(
            self.paths.followed_by(other.paths),
            np.concatenate([self.row, other.row]),
            np.concatenate([self.origin, renumbered[other.origin]]),
            np.concatenate([self.checksum, other.checksum]),
            np.concatenate([self.label, renamed[other.label]]),
            tuple(names),
            np.concatenate([self.removed, other.removed]),
        )


def rows_of(store: FeatureTable, layer: str, rows: Integers) -> Rows:
    """Read what is to be known of some rows of a store."""
    label, names = _labels(store, rows)
    return Rows(
        Texts.of(store.paths[rows]),
        rows.astype(np.int64),
        store.source_numbers(rows).astype(np.uint16),
        store.checksums(layer)[rows],
        label,
        names,
        np.zeros(len(rows), np.bool_),
    )


def name_of(store: FeatureTable) -> str:
    """Return the path by which an index knows a store again: absolute, links followed."""
    text = os.fspath(store.path)
    return text if is_remote(text) else os.path.realpath(text)


def sources_of(store: FeatureTable) -> tuple[RunInfo, ...]:
    """Return the last run of a store once for each of its sources, in their order."""
    return tuple(replace(store.latest, source=one.text) for one in store.sources)


def _labels(store: FeatureTable, rows: Integers) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Return a number for the labels of each row, and the labels that the numbers stand for."""
    if not store.has_labels:
        return np.full(len(rows), -1, np.int32), ()
    targets, classes = store.labels[rows], store.classes
    if targets.ndim == 1:
        return targets.astype(np.int32), tuple(classes)
    if not len(rows):
        return np.zeros(0, np.int32), ()
    kinds, number = np.unique(targets == 1, axis=0, return_inverse=True)
    texts = ["|".join(np.array(classes, object)[kind]) for kind in kinds]
    names = tuple(text for text in texts if text)
    ids = np.array([names.index(text) if text else -1 for text in texts], np.int32)
    return ids[number.reshape(-1)], names
