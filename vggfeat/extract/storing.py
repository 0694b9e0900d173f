"""From a source of images into a store: what is pending is computed, and nothing else."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vggfeat.errors import ImageError
from vggfeat.extract.requested import (
    Request,
    Sources,
    check_name,
    labels_of,
    look_at,
    name_of,
    origins_of,
    source_of,
)
from vggfeat.extract.stream import Batch, Failure, Sink
from vggfeat.extract.summary import ExtractSummary
from vggfeat.images import Reading, Tally, decoded
from vggfeat.pipeline import Background
from vggfeat.progress import Progress, bars
from vggfeat.provenance import FeatureConfig, RunInfo
from vggfeat.sources import (
    Entry,
    Source,
)
from vggfeat.sources.reading import opened
from vggfeat.store import StoreWriter

_log = logging.getLogger(__name__)


@contextmanager
def open_run(
    source: Sources,
    store: str | os.PathLike[str],
    request: Request,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    config: FeatureConfig,
    run: Callable[[str, int], RunInfo],
    reading: Reading,
    workers: int | None,
) -> Iterator[StoreRun]:
    """Bring a store up to its source, and give what is still to be computed.

    Parameters
    ----------
    source, store
        As for :meth:`FeatureExtractor.extract`.
    request : Request
        Its other options.
    shapes : dict of str to tuple of int
        One row's shape by layer.
    config : FeatureConfig
        What decides the numbers.
    run : callable
        Given what the source is called and the number of rows to compute, tells of the run;
        called only where there is something to do, before the store changes.
    reading : Reading
        How image files become pixels.
    workers : int, optional
        Threads that look whether images have changed; see
        :func:`~vggfeat.extract.requested.look_at`.

    Raises
    ------
    SourceError, StoreError
        Before anything is changed.
    """
    check_name(store)
    images = source_of(source)
    with StoreWriter.open(
        store,
        entries=images.entries,
        shapes=shapes,
        config=config,
        run=functools.partial(run, name_of(images)),
        sources=origins_of(images),
        labels=labels_of(images, request),
        overwrite=request.overwrite,
        retry_failed=request.retry_failed,
        prune=request.prune,
        partial=request.partial,
        look=functools.partial(look_at, images, workers, request.progress),
    ) as writer:
        entries = {entry.path: entry for entry in images.entries}
        yield StoreRun(
            writer, images, entries, reading, stop=request.stop, progress=request.progress
        )


class StoreRun:
    """What a run has to compute: rows of a store, the images they are of, and where they go.

    Attributes
    ----------
    rows : list of int
        Rows to compute, ascending.
    distant : bool
        Whether their images come over a network.
    """

    def __init__(
        self,
        writer: StoreWriter,
        images: Source,
        entries: Mapping[str, Entry],
        reading: Reading,
        *,
        stop: bool,
        progress: Progress | bool | None,
    ) -> None:
        self.distant = images.distant
        self.rows: list[int] = writer.pending().tolist()
        self._writer, self._images, self._reading = writer, images, reading
        self._stop, self._progress = stop, progress
        paths = {row: writer.entry_path(row) for row in self.rows}
        # Of an image that is gone since its part was cut, opening it gives the reason.
        self._entries = {row: entries.get(p) or Entry(p, 0, 0) for row, p in paths.items()}
        self._seen: dict[int, Entry] = {}
        self._tally = Tally()
        self._computed, self._seconds = 0, 0.0

    def load(self, row: int) -> AbstractContextManager[Image.Image]:
        """Open a row's image, and note what its file is now."""
        return open_entry(
            self._images,
            self._entries[row],
            self._reading,
            self._tally,
            lambda entry: self._seen.update({row: entry}),
        )

    @contextmanager
    def sink(self) -> Iterator[Sink[int]]:
        """Give the rows' sink: they are written by a thread, while a bar shows how many."""
        started = time.perf_counter()
        with (
            bars("img", self._progress, leave=True) as progress,
            Background() as background,
        ):
            progress("", 0, len(self.rows))
            yield _RowSink(
                self._save,
                self._fail,
                background,
                lambda count: progress("", count, len(self.rows)),
            )
        self._seconds = time.perf_counter() - started

    def summary(self) -> ExtractSummary:
        """Tell what was done."""
        writer, counts = self._writer, self._writer.counts()
        return ExtractSummary(
            store=str(writer.path),
            images=sum(counts.values()),
            done=counts["done"],
            failed=counts["failed"],
            pending=counts["pending"],
            tried=len(self.rows),
            computed=self._computed,
            added=writer.added,
            changed=writer.changed,
            moved=writer.moved,
            missing=writer.missing,
            pruned=writer.pruned,
            left_out=self._images.left_out,
            labels=writer.labels,
            failures=writer.failures(),
            seconds=self._seconds,
            truncated=self._tally["truncated"],
            several_pages=self._tally["pages"],
        )

    def _save(self, batch: Batch[int]) -> None:
        seen = {row: self._seen.pop(row) for row in batch.items}
        refused = self._writer.write(np.asarray(batch.items, np.int64), batch.arrays(), seen)
        self._computed += len(batch.items) - len(refused)
        for row, reason in refused.items():
            self._check(row, reason)

    def _fail(self, failure: Failure[int]) -> None:
        self._check(failure.item, failure.reason)
        self._writer.fail(failure.item, failure.reason, self._seen.pop(failure.item, None))

    def _check(self, row: int, reason: str) -> None:
        path = self._entries[row].path
        if self._stop:
            raise ImageError(f"{path}: {reason} (--on-error skip records such images and goes on.)")
        _log.debug("%s: %s", path, reason)


@dataclass(frozen=True, slots=True)
class _RowSink:
    """Hands results to a thread that writes them."""

    save: Callable[[Batch[int]], None]
    note: Callable[[Failure[int]], None]
    background: Background
    done: Callable[[int], object]

    def write(self, batch: Batch[int]) -> None:
        self.background.put(functools.partial(self.save, batch))
        self.done(len(batch.items))

    def fail(self, failure: Failure[int]) -> None:
        self.background.put(functools.partial(self.note, failure))
        self.done(1)


@contextmanager
def open_entry(
    images: Source,
    entry: Entry,
    reading: Reading,
    tally: Tally | None = None,
    note: Callable[[Entry], object] | None = None,
) -> Iterator[Image.Image]:
    """Decode one image of a source; huge ones wait for their turn, and keep it meanwhile.

    Parameters
    ----------
    images : Source
        Where it is.
    entry : Entry
        One of its entries.
    reading : Reading
        How image files become pixels.
    tally : Tally, optional
        Counts what was remarkable.
    note : callable, optional
        Told what the file is now, with the digest of its bytes, once they were read.
    """
    with opened(images, entry) as (file, seen):
        if note is not None:
            note(seen)
        with decoded(file, **reading, tally=tally) as image:
            yield image
