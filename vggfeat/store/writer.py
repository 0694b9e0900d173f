"""Writing a store so that a kill at any moment leaves a readable file of right rows."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreError
from vggfeat.feature_table import PENDING, count
from vggfeat.locking import WriterLock, destination, sweep
from vggfeat.provenance import NEVER, FeatureConfig, Provenance, RunInfo, SourcePlace
from vggfeat.store.building import build
from vggfeat.store.changes import Changes
from vggfeat.store.following import follow
from vggfeat.store.opening import open_hdf5
from vggfeat.store.origins import EntryLike, Look, SeenLike
from vggfeat.store.planning import Plan, begin, check
from vggfeat.store.reader import FeatureStore
from vggfeat.store.rows import runs_of

if TYPE_CHECKING:
    from vggfeat.labels import LabelRequest, RawLabels

Rows = npt.NDArray[np.int64]
_log = logging.getLogger(__name__)


class StoreWriter:
    """The only thing that changes a store; made by :meth:`open`, used in a ``with`` statement.

    Once the file is there, rows are written in place by the operating system's own calls: first
    features and checksums, then the status that makes them count. The HDF5 library takes no
    part, so its metadata cannot be caught half-written.

    Attributes
    ----------
    path : Path
        The store, links followed.
    layers : tuple of str
        Layers of each row.
    added, changed, moved : int
        Images new to the store, changed since they were done, and found under another path.
    missing, pruned : int
        Rows whose images are in no source now, and rows removed for that.
    labels : LabelReport
        What the labels are now, and where they came from.
    """

    def __init__(self, lock: WriterLock, changes: Changes, plan: Plan) -> None:
        self.path = lock.path
        self.layers = tuple(plan.contents.shapes)
        self.added, self.changed, self.moved = plan.added, plan.changed, plan.moved
        self.missing, self.pruned = plan.missing, plan.pruned
        self.labels = plan.labels
        self._lock, self._changes, self._contents = lock, changes, plan.contents
        self._requested = plan.requested
        self._complete = plan.contents.provenance.run.end != NEVER
        self._open = True

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        entries: Sequence[EntryLike],
        shapes: Mapping[str, tuple[int, ...]],
        provenance: Provenance | None = None,
        config: FeatureConfig | None = None,
        run: RunInfo | Callable[[int], RunInfo] | None = None,
        sources: Sequence[SourcePlace] = (),
        labels: RawLabels | LabelRequest | None = None,
        overwrite: bool = False,
        retry_failed: bool = False,
        prune: bool = False,
        partial: bool = False,
        look: Look | None = None,
    ) -> Self:
        """Make a store, or go on with one.

        Parameters
        ----------
        path : path
            The store; its folder must exist.
        entries : sequence of entries
            All images of the sources, in the order that new rows shall have; each has `path`,
            `size` and `mtime_ns`, and perhaps `ctime_ns`.
        shapes : dict of str to tuple of int
            One row's shape by layer, (D,) or (C, H, W).
        provenance : Provenance
            Deciding values, which must equal those of an existing store, and this run's
            circumstances.
        config, run : FeatureConfig, RunInfo or function
            The two halves instead of `provenance`. A function is given the number of rows to
            compute, and called only when there are some, before the store changes, so that a
            finished store need not wait for its answer.
        sources : sequence of SourcePlace
            Where the images come from; several have names, which are the first parts of their
            images' paths. By default where the store says, or the run.
        labels : dict of str to tuple of str, or LabelRequest, optional
            Class names by path, or what a person asks for; None or empty leaves the labels that
            the store has.
        overwrite : bool
            Start anew where a store exists.
        retry_failed : bool
            Make failed rows pending.
        prune : bool
            Remove rows whose images have left the source, for good.
        partial : bool
            `entries` are not all images of their source: others have not left.
        look : callable, optional
            Reads images: given entries, returns them with what their files are now and the
            digest of their bytes, or None. Without it an image whose times prove nothing counts
            as changed, and one that has moved as new.

        Raises
        ------
        StoreMismatchError
            The existing store was made with other deciding values.
        StoreLockedError
            Another process is writing the store.
        StoreError
            `path` is something else than a store; the store has other images of the same names
            from another source; or the disk is full.
        """
        if provenance is not None:
            config, run = provenance.config, provenance.run
        if config is None or run is None:
            raise TypeError("give provenance, or config and run")
        info = cache(run if callable(run) else lambda _pending: run)
        check(entries, shapes, config)
        lock = WriterLock(destination(path)).acquire()
        try:
            sweep(lock.path)
            if lock.path.exists() and not overwrite:
                plan = follow(
                    lock,
                    entries,
                    shapes,
                    config,
                    sources,
                    labels,
                    info,
                    retry_failed=retry_failed,
                    prune=prune,
                    partial=partial,
                    look=look,
                )
            else:
                if lock.path.exists():
                    open_hdf5(lock.path, newer=True).close()  # raises over anything but a store
                made = info(len(entries))
                given = sources or [SourcePlace("", made.source, made.source)]
                plan = begin(entries, shapes, Provenance(config, made), labels, given)
                build(lock.path, plan.contents, lock)
            return cls.begun(lock, plan, info)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def begun(cls, lock: WriterLock, plan: Plan, info: Callable[[int], RunInfo]) -> Self:
        """Write a file that holds what a plan says; `info` tells of the run, if there is work.

        The caller holds the lock, which the writer releases when it is closed.
        """
        changes = Changes(lock.path, plan.contents)
        try:
            writer = cls(lock, changes, plan)
            if pending := len(writer.pending()):
                _warn_of_changes(lock, info(pending))
                changes.begin_run(info(pending))
                writer._complete = False
        except BaseException:
            changes.close()
            raise
        return writer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close(finished=True)
            return
        try:
            self.close()
        except StoreError as error:  # the first error tells more
            _log.warning("%s", error)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._changes.status)

    def pending(self) -> Rows:
        """Return the rows still to do whose images are in the source, int64, ascending."""
        rows: Rows = self._requested[self._changes.status[self._requested] == PENDING]
        return rows

    def entry_path(self, row: int) -> str:
        """Return the path of a row's image."""
        return self._contents.paths[row]

    def counts(self) -> dict[str, int]:
        """Return how many images are ``done``, ``failed`` and ``pending``; left ones are none."""
        return count(self._changes.status[self._contents.present])

    def failures(self) -> list[tuple[str, str]]:
        """Return path and reason of each failed row, in row order."""
        present = self._contents.present
        return [
            (self.entry_path(row), why)
            for row, why in sorted(self._changes.reasons.items())
            if present[row]
        ]

    def write(
        self,
        rows: Sequence[int] | Rows,
        features: Mapping[str, npt.NDArray[Any]],
        seen: Mapping[int, SeenLike] | None = None,
    ) -> dict[int, str]:
        """Store the features of some images and mark them done.

        Parameters
        ----------
        rows : sequence of int, shape (n,)
            Row numbers, each once, in any order; none is allowed.
        features : dict of str to ndarray, shape (n, D) or (n, C, H, W)
            Every layer of the store.
        seen : dict of int to entry, optional
            By row, what the file was that the features were made of; by default what was listed,
            of unknown digest.

        Returns
        -------
        dict of int to str
            Rows that were marked failed instead, with the reason: values that are not finite or
            do not fit the store's type are never stored.

        Raises
        ------
        StoreError
            The disk is full. Rows written before stay.
        """
        chosen = np.asarray(rows, dtype=np.int64).reshape(-1)
        order = np.argsort(chosen)
        chosen = chosen[order]
        if len(chosen) and (
            chosen[0] < 0 or chosen[-1] >= len(self) or (np.diff(chosen) == 0).any()
        ):
            raise ValueError(f"rows {chosen.tolist()} are not {len(chosen)} rows of {len(self)}")
        stored: dict[str, npt.NDArray[Any]] = {}
        refused: dict[int, str] = {}
        for layer, shape in self._contents.shapes.items():
            given = np.asarray(features[layer])
            if given.shape != (len(chosen), *shape):
                requested = (len(chosen), *shape)
                raise ValueError(f"{layer} has the shape {given.shape}, not {requested}")
            stored[layer], reasons = _fit(layer, given[order], self._contents.dtype)
            refused |= {int(chosen[i]): reason for i, reason in reasons.items()}
        good = ~np.isin(chosen, list(refused))
        positions = np.flatnonzero(good)
        for run in runs_of(chosen[positions]):
            part = positions[run]
            first, last = int(part[0]), int(part[-1]) + 1  # consecutive rows are adjacent here
            self._changes.done(
                int(chosen[first]),
                {name: values[first:last] for name, values in stored.items()},
                seen,
            )
        for row, reason in refused.items():
            self.fail(row, reason, (seen or {}).get(row))
        return refused

    def fail(self, row: int, reason: str, seen: SeenLike | None = None) -> None:
        """Mark a row failed.

        Parameters
        ----------
        row : int
            Row number.
        reason : str
            Why; made one line of at most 256 bytes.
        seen : entry, optional
            What the file was, as for :meth:`write`.
        """
        self._changes.failed(row, reason, seen)

    def close(self, finished: bool = False) -> None:
        """Let go of the store; more than once does no harm.

        Parameters
        ----------
        finished : bool
            Whether the run reached its end, whose time is then noted.
        """
        if not self._open:
            return
        self._open = False
        try:
            if finished and not self._complete:
                self._changes.end_run()
            self._changes.sync()
            if finished:
                self._settle()
        finally:
            self._changes.close()
            self._lock.release()

    def _settle(self) -> None:
        """Do what is to be done under the lock once a run has reached its end."""


def _warn_of_changes(lock: WriterLock, run: RunInfo) -> None:
    """Say where a run differs from the one before in ways that are allowed, but may surprise."""
    with FeatureStore(lock.path) as store:
        before = store.latest
    if before.precision != run.precision:
        _log.warning(
            "%s was computed in %s so far, and goes on in %s; the numbers differ a little.",
            lock.path, before.precision, run.precision,
        )  # fmt: skip


def _fit(
    layer: str, values: npt.NDArray[Any], dtype: np.dtype[Any]
) -> tuple[npt.NDArray[Any], dict[int, str]]:
    """Convert to the stored type; give reasons by position for rows that do not fit."""
    with np.errstate(over="ignore", invalid="ignore"):
        cast = np.ascontiguousarray(values, dtype=dtype)
    finite = np.isfinite(cast).all(axis=tuple(range(1, cast.ndim)))
    reasons = {}
    for i in np.flatnonzero(~finite).tolist():
        row = values[i]
        if np.isfinite(row).all():
            most = f"{np.finfo(dtype).max:g}"
            reasons[i] = (
                f"{layer}: value {row.flat[np.abs(row).argmax()]:g} exceeds {dtype.name}'s {most};"
                " use --dtype float32"
            )
        else:
            reasons[i] = f"{layer}: not finite (NaN or infinity)"
    return cast, reasons
