"""Features of images as a table: all that probes, indexes, evaluations and reports see."""

from __future__ import annotations

import difflib
import math
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vggfeat.errors import LayerError, StoreError
from vggfeat.labels import Targets, as_floats
from vggfeat.layers import ARCHITECTURES, layer_of, split_layers
from vggfeat.provenance import FeatureConfig, Provenance, RunInfo, SourcePlace
from vggfeat.showing import Shown

PENDING, DONE, FAILED = 0, 1, 2
"""Status of a row."""

Rows = npt.NDArray[np.int64]
_BLOCK_BYTES, _BLOCK_ROWS = 64 << 20, 1024


class FeatureTable(Shown, ABC):
    """Images as rows, layers as columns.

    As of a table of pandas, ``len(table)`` is the number of rows, and ``layer in table`` says
    whether there is such a column. :class:`~vggfeat.store.FeatureStore` is one in a file; whatever
    gives what is abstract here can be probed, indexed, evaluated and shown alike.

    Attributes
    ----------
    path : Path or str
        Where it is, by which messages and results name it; a URL is a text.
    provenance : Provenance
        Every setting that changes the features, and how they were computed.
    """

    shown_as = "table"
    path: Path | str
    provenance: Provenance

    @abstractmethod
    def close(self) -> None:
        """Let go of files; nothing can be read any more."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows, done or not, also of images that have left the source."""

    @property
    @abstractmethod
    def paths(self) -> npt.NDArray[np.object_]:
        """Images as text objects, shape (N,): relative to the source, '/'-separated, unique."""

    @property
    @abstractmethod
    def status(self) -> npt.NDArray[np.uint8]:
        """Status at this moment, uint8, shape (N,): 0 pending, 1 done, 2 failed."""

    @property
    @abstractmethod
    def present(self) -> npt.NDArray[np.bool_]:
        """Which images were in their source when that was last listed, bool, shape (N,)."""

    @property
    @abstractmethod
    def file_sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of each image's file when it was read, int64, shape (N,)."""

    @property
    @abstractmethod
    def digests(self) -> npt.NDArray[np.uint8]:
        """Digest of the bytes that were decoded, uint8, shape (N, 16); zeros where unknown."""

    @property
    @abstractmethod
    def targets(self) -> Targets | None:
        """Classes and which of them each image shows; None without labels."""

    @property
    @abstractmethod
    def splits(self) -> Targets | None:
        """The split of each image, such as train and test; None where there are none."""

    @property
    @abstractmethod
    def groups(self) -> Targets | None:
        """The group of each image, such as its patient; None where there are none."""

    @property
    @abstractmethod
    def sources(self) -> list[SourcePlace]:
        """Where the images come from."""

    @abstractmethod
    def source_numbers(self, rows: Sequence[int] | Rows | None = None) -> npt.NDArray[np.int32]:
        """Return which of :attr:`sources` each of `rows` (all by default) belongs to."""

    @property
    @abstractmethod
    def runs(self) -> list[RunInfo]:
        """The runs that made the features, oldest first."""

    @abstractmethod
    def shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of one row of a layer: (D,), or (C, H, W) where it was not pooled."""

    @abstractmethod
    def checksums(self, layer: str) -> npt.NDArray[np.uint32]:
        """Return the CRC-32 of each row of a layer, uint32, shape (N,)."""

    @abstractmethod
    def read_rows(self, layer: str, rows: Rows, vectors: npt.NDArray[np.float32]) -> None:
        """Read rows, in any order and also repeated, into `vectors`, (n, D); done or not."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, layer: object) -> bool:
        try:
            return isinstance(layer, str) and bool(self.layer(layer))
        except LayerError:
            return False

    def __repr__(self) -> str:
        try:
            told = f"{len(self)} images, {', '.join(self.layers)}"
        except Exception:  # whatever became of its file
            told = "closed"
        return f"<{type(self).__name__} {self.path}: {told}>"

    __iter__ = None  # neither over rows nor over layers: say which

    @property
    def layers(self) -> tuple[str, ...]:
        """Canonical names of the layers; ``LAYER:POOL`` where there are several poolings of one."""
        return tuple(self.provenance.config.layers)

    def layer(self, name: str) -> str:
        """Return the canonical name of one of the layers.

        Parameters
        ----------
        name : str
            Name or alias, or ``LAYER:POOL``; the plain name finds the only pooling of a layer.

        Raises
        ------
        LayerError
            It is none of them, or there are several poolings of it.
        """
        config, key = self.provenance.config, str(name).strip()
        if key in self.layers:
            return key
        plain, _, pool = key.partition(":")
        network = ARCHITECTURES.get(config.model)
        plain = network.canonical(plain) if network is not None else plain
        columns = config.columns(plain)
        if pool:
            pool = pool.strip().lower().replace(",", "+")
            columns = [one for one in columns if f"{config.layers[one]}:".startswith(f"{pool}:")]
        if len(columns) > 1:
            raise LayerError(
                f"{self.path} has {plain} with several poolings; choose one: {', '.join(columns)}."
            )
        if columns:
            return columns[0]
        key = network.canonical(key) if network is not None and not pool else key
        if key not in self.layers:
            near = difflib.get_close_matches(key, self.layers, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise LayerError(
                f"{self.path} has no layer {name!r}; it has {', '.join(self.layers)}. {hint}"
                "Take one of these, or extract a store with --layers."
            )
        return key

    def column(self, config: FeatureConfig) -> str:
        """Return the name of the layer that `config` has, which is one alone, as it has it."""
        ((layer, pool),) = config.layers.items()
        return self.provenance.config.column(layer, pool) or self.layer(layer)

    def dimension(self, layer: str) -> int:
        """Return the length of a row as a vector: D, or C * H * W."""
        return math.prod(self.shape(layer))

    @property
    def has_labels(self) -> bool:
        """Whether classes are known."""
        return self.targets is not None

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        targets = self.targets
        return targets is not None and targets.multi_label

    @property
    def labels(self) -> npt.NDArray[Any]:
        """Targets, which the caller may change.

        (N,) int32 class numbers, -1 unknown; or (N, K) int8, 1 present, 0 absent, -1 left out or
        unknown.

        Raises
        ------
        StoreError
            There are no labels.
        """
        targets = self.targets
        if targets is None:
            raise StoreError(
                f"{self.path} has no labels. Run `vggfeat extract` again with --labels FILE.csv, "
                "or on a folder with one sub-folder a class; what is done is not done again."
            )
        return targets.values.copy()

    @property
    def classes(self) -> list[str]:
        """Class names by number; empty without labels."""
        targets = self.targets
        return [] if targets is None else list(targets.classes)

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """Which rows hold features of images that are in the source, bool, shape (N,)."""
        return np.equal(self.status, DONE) & self.present

    def counts(self) -> dict[str, int]:
        """Return how many images are ``done``, ``failed`` and ``pending`` at this moment.

        Those that have left the source are none of them; see :attr:`present`.
        """
        return count(self.status[self.present])

    def origins(self, rows: Sequence[int] | Rows | None = None) -> list[str]:
        """Return where rows' images are: what :func:`vggfeat.sources.open_stored` takes.

        Parameters
        ----------
        rows : sequence of int, optional
            Row numbers; all by default.

        Returns
        -------
        list of str
            A folder or archive; ``name=folder`` where there are several sources.
        """
        texts = [one.text for one in self.sources]
        return [texts[number] for number in self.source_numbers(rows).tolist()]

    @property
    def latest(self) -> RunInfo:
        """The circumstances of the last run, with where the images are now as its source."""
        runs = self.runs
        last = runs[-1] if runs else self.provenance.run
        return replace(last, source=", ".join(one.text for one in self.sources))

    @cached_property
    def _row_numbers(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.paths)}

    def row(self, path: str) -> int:
        """Return the row of an image; StoreError where there is none of that path.

        Accents count alike in both forms of Unicode, composed and decomposed.
        """
        try:
            return self._row_numbers[path]
        except KeyError:
            form = unicodedata.normalize("NFC", path)
            for name, number in self._row_numbers.items():  # as macOS writes accents, or not
                if not name.isascii() and unicodedata.normalize("NFC", name) == form:
                    return number
            raise StoreError(
                f"{self.path} has no image {path!r}. Paths are relative to the extracted source "
                f"({self.provenance.run.source}), with '/' between folders."
            ) from None

    def rows_of(self, paths: Sequence[str]) -> Rows:
        """Return the rows of several images, int64, in the order of `paths`."""
        return np.array([self.row(path) for path in paths], dtype=np.int64)

    def blocks(
        self, layer: str, rows: Sequence[int] | Rows | None = None, size: int = _BLOCK_ROWS
    ) -> Iterator[tuple[Rows, npt.NDArray[np.float32]]]:
        """Read a layer in blocks, as vectors.

        Parameters
        ----------
        layer : str
            Name or alias.
        rows : sequence of int, optional
            Which rows, in which order, also repeated; all done ones by default.
        size : int
            Most rows in a block; fewer where rows are large (a block stays below 64 MiB).

        Yields
        ------
        rows : ndarray of int64, shape (n,)
            Row numbers.
        features : ndarray of float32, shape (n, D)
            Their features; maps (C, H, W) flattened to C * H * W.

        Raises
        ------
        StoreError
            One of `rows` is not done.
        """
        name, chosen = self.layer(layer), self._done_rows(rows)
        width = self.dimension(name)
        for part in _parts(len(chosen), width, size):
            block = np.empty((len(chosen[part]), width), np.float32)
            self.read_rows(name, chosen[part], block)
            yield chosen[part], block

    def matrix(
        self, layer: str, rows: Sequence[int] | Rows | None = None
    ) -> tuple[Rows, npt.NDArray[np.float32]]:
        """Read a layer as one matrix in memory.

        Parameters
        ----------
        layer, rows :
            As for :meth:`blocks`.

        Returns
        -------
        rows : ndarray of int64, shape (n,)
            Row numbers.
        X : ndarray of float32, shape (n, D)
            Their features; see :meth:`blocks`.
        """
        name, chosen = self.layer(layer), self._done_rows(rows)
        whole = np.empty((len(chosen), self.dimension(name)), np.float32)
        in_order = bool((np.diff(chosen) > 0).all())
        order = np.argsort(chosen, kind="stable")  # in which files are read fastest
        for part in _parts(*whole.shape):
            if in_order:
                self.read_rows(name, chosen[part], whole[part])
            else:
                block = np.empty_like(whole[part])
                self.read_rows(name, chosen[order[part]], block)
                whole[order[part]] = block
        return chosen, whole

    def xy(self, layer: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
        """Read what a classifier learns from: the rows that are done and labelled, in row order.

        Parameters
        ----------
        layer : str
            Name or alias.

        Returns
        -------
        X : ndarray of float32, shape (n, D)
            Features; maps (C, H, W) are vectors of length C * H * W.
        y : ndarray
            (n,) int64, positions in :attr:`classes`. Where images may have several labels,
            (n, K) float64: 1 present, 0 absent, NaN left out. As
            :class:`~vggfeat.probe.LinearProbe` takes them.

        Raises
        ------
        StoreError
            There are no labels.
        LayerError
            There is no such layer.
        """
        labels = self.labels
        known = labels >= 0 if labels.ndim == 1 else (labels >= 0).any(axis=1)
        rows, X = self.matrix(layer, np.flatnonzero(self.done & known))
        return X, labels[rows].astype(np.int64) if labels.ndim == 1 else as_floats(labels[rows])

    def _done_rows(self, rows: Sequence[int] | Rows | None) -> Rows:
        done = self.done
        if rows is None:
            return np.flatnonzero(done).astype(np.int64)
        chosen = np.asarray(rows, dtype=np.int64).reshape(-1)
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(done)):
            raise StoreError(f"{self.path} has rows 0 to {len(done) - 1}; others were requested.")
        if not done[chosen].all():
            row = int(chosen[~done[chosen]][0])
            state = {DONE: "no longer in its source", FAILED: "failed and has no features"}.get(
                int(self.status[row]), "pending and has no features"
            )
            raise StoreError(
                f"{self.path}: row {row} ({self.paths[row]!r}) is {state}. "
                "Leave it out, or run `vggfeat extract` again."
            )
        return chosen


def count(status: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Return how many rows are ``done``, ``failed`` and ``pending``."""
    codes = {"done": DONE, "failed": FAILED, "pending": PENDING}
    return {name: int((status == code).sum()) for name, code in codes.items()}


def requested_layers(store: FeatureTable, layers: Iterable[str] | None) -> list[str]:
    """Return the canonical names of the requested layers, in the order they run.

    Parameters
    ----------
    store : FeatureTable
        That must have them.
    layers : iterable of str, optional
        Names or aliases, also in one text with commas between; all of the store by default.

    Raises
    ------
    LayerError
        The store has no such layer, or none is named.
    """
    network = ARCHITECTURES.get(store.provenance.config.model)
    depth = {name: at for at, name in enumerate(network.names if network else store.layers)}
    in_order = sorted(store.layers, key=lambda name: depth.get(layer_of(name), len(depth)))
    if layers is None:
        return in_order
    texts = split_layers(layers) if isinstance(layers, str) else layers
    requested = {store.layer(name) for name in texts if name.strip()}
    if not requested:
        raise LayerError(f"No layer was requested. {store.path} has {', '.join(in_order)}.")
    return [name for name in in_order if name in requested]


def _parts(rows: int, width: int, size: int = _BLOCK_ROWS) -> Iterator[slice]:
    """Cut rows of `width` numbers into blocks."""
    size = max(1, min(size, _BLOCK_BYTES // (4 * width)))
    return (slice(first, first + size) for first in range(0, rows, size))
