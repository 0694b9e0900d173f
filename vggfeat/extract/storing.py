"""From a source of images into a store: what is pending is computed, and nothing else."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from vggfeat.errors import ImageError, SourceError, StoreError
from vggfeat.extract.stream import Batch, Failure, Sink
from vggfeat.extract.summary import ExtractSummary
from vggfeat.files import IMAGE_EXTENSIONS
from vggfeat.images import Reading, Tally, decoded
from vggfeat.labels import (
    LabelRequest,
    NamedLines,
    OwnNames,
    class_name,
    requested_groups,
    requested_splits,
)
from vggfeat.pipeline import Background, prefetch
from vggfeat.progress import Progress, bars
from vggfeat.provenance import FeatureConfig, RunInfo
from vggfeat.sources import (
    ARCHIVES,
    LISTS,
    Entry,
    ListSource,
    SeveralSources,
    Source,
    open_sources,
)
from vggfeat.sources.parquet import SUFFIX
from vggfeat.sources.reading import look, opened
from vggfeat.store import SourcePlace, StoreWriter

_log = logging.getLogger(__name__)


@contextmanager
def open_run(
    source: str | os.PathLike[str] | Source | Sequence[str | os.PathLike[str]],
    store: str | os.PathLike[str],
    *,
    shapes: Mapping[str, tuple[int, ...]],
    config: FeatureConfig,
    run: Callable[[str, int], RunInfo],
    reading: Reading,
    workers: int,
    labels: str | os.PathLike[str],
    split: str | Mapping[str, str | os.PathLike[str]],
    group_by: str | None,
    groups: str | os.PathLike[str] | None,
    on_error: str,
    overwrite: bool,
    retry_failed: bool,
    prune: bool,
    partial: bool,
    progress: Progress | bool | None,
) -> Iterator[StoreRun]:
    """Bring a store up to its source, and give what is still to be computed.

    Parameters
    ----------
    source, store, labels, split, group_by, groups, on_error, overwrite, retry_failed, prune, \
    partial, progress
        As for :meth:`FeatureExtractor.extract`.
    shapes : dict of str to tuple of int
        One row's shape by layer.
    config : FeatureConfig
        What decides the numbers.
    run : callable
        Given what the source is called and the number of rows to compute, tells of the run;
        called only where there is something to do, before the store changes.
    reading : Reading
        How image files become pixels.
    workers : int
        Threads that look whether images have changed.

    Raises
    ------
    SourceError, StoreError
        Before anything is changed.
    """
    if on_error not in ("skip", "stop"):
        raise SourceError(f"on_error is {on_error!r}; allowed are 'skip' and 'stop'.")
    ending = Path(store).suffix.lower()
    if ending in IMAGE_EXTENSIONS or ending in (*LISTS, *ARCHIVES, SUFFIX):
        raise StoreError(
            f"{os.fspath(store)!r} has the name of an image, a list or an archive. "
            "Give the store a name of its own, such as photos.h5."
        )
    if isinstance(source, Source):
        images = source
    else:
        images = open_sources([source] if isinstance(source, str | os.PathLike) else source)
    origins = _origins(images)
    name = ", ".join(origin.text for origin in origins)
    with StoreWriter.open(
        store,
        entries=images.entries,
        shapes=shapes,
        config=config,
        run=functools.partial(run, name),
        sources=origins,
        labels=_labels(images, labels, split, group_by, groups),
        overwrite=overwrite,
        retry_failed=retry_failed,
        prune=prune,
        partial=partial,
        look=lambda entries: _look(images, workers, progress, entries),
    ) as writer:
        yield StoreRun(writer, images, reading, stop=on_error == "stop", progress=progress)


class StoreRun:
    """What a run has to compute: rows of a store, the images they are of, and where they go.

    Attributes
    ----------
    rows : list of int
        Rows to compute, ascending.
    """

    def __init__(
        self,
        writer: StoreWriter,
        images: Source,
        reading: Reading,
        *,
        stop: bool,
        progress: Progress | bool | None,
    ) -> None:
        self.rows: list[int] = writer.pending().tolist()
        self._writer, self._images, self._reading = writer, images, reading
        self._stop, self._progress = stop, progress
        by_path = {entry.path: entry for entry in images.entries} if self.rows else {}
        self._entries = {row: by_path[writer.entry_path(row)] for row in self.rows}
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


def _look(
    images: Source, workers: int, progress: Progress | bool | None, entries: Sequence[Entry]
) -> list[Entry | None]:
    """Read images whose size and times do not say whether they are as they were."""
    if not entries:
        return []
    _log.info("Reading %d images to see whether they have changed.", len(entries))
    seen: list[Entry | None] = []
    with (
        bars("img", progress, delay=1) as report,
        closing(
            prefetch(functools.partial(look, images), entries, workers=workers, ahead=4 * workers)
        ) as results,
    ):
        for entry in results:
            seen.append(entry)
            report("comparing", 1, len(entries))
    return seen


def _origins(images: Source) -> list[SourcePlace]:
    if isinstance(images, SeveralSources):
        return [SourcePlace(name, part.root, part.spec) for name, part in images.parts.items()]
    return [SourcePlace("", images.root, images.spec)]


def _labels(
    images: Source,
    labels: str | os.PathLike[str],
    split: str | Mapping[str, str | os.PathLike[str]],
    group_by: str | None,
    groups: str | os.PathLike[str] | None,
) -> LabelRequest:
    parts = images.parts if isinstance(images, SeveralSources) else {}
    paths = [entry.path for entry in images.entries]
    request = LabelRequest.of(
        labels,
        paths=paths,
        from_source=images.given_labels,
        source_name=", ".join(parts) or class_name(Path(images.spec).name),
        source_list=images.file if isinstance(images, ListSource) else None,
        root=images.root,
    )
    root = images.root
    source: NamedLines | OwnNames | None = None
    if isinstance(images, ListSource):
        source = NamedLines(images.file, images.keys)
    elif images.given_splits or images.given_groups:
        own = images.given_splits or {}, images.given_groups or {}
        source = OwnNames(request.source_name, *own)
    table = NamedLines.of(request.table, paths, root) if request.table else None
    return replace(
        request,
        several_sources=bool(parts),
        splits=requested_splits(split, paths, root=root, source=source, table=table),
        groups=requested_groups(group_by, groups, paths, root=root, source=source, table=table),
    )
