"""From a source of images into a store: what is pending is computed, and nothing else."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from vggfeat.errors import ImageError, SourceError, StoreError
from vggfeat.extract.extractor import FeatureExtractor
from vggfeat.extract.stream import Batch, Failure
from vggfeat.extract.summary import ExtractSummary
from vggfeat.files import IMAGE_EXTENSIONS
from vggfeat.images import Tally
from vggfeat.labels import Wanted, class_name
from vggfeat.pipeline import Background, prefetch, usable_cores
from vggfeat.progress import progress_bar
from vggfeat.provenance import Happened, now, versions
from vggfeat.sources import (
    LISTS,
    Entry,
    ListSource,
    SeveralSources,
    Source,
    open_sources,
)
from vggfeat.sources.reading import look
from vggfeat.store import SourcePlace, StoreWriter

_log = logging.getLogger(__name__)


def extract(
    extractor: FeatureExtractor,
    source: str | os.PathLike[str] | Source | Sequence[str | os.PathLike[str]],
    store: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str],
    on_error: str,
    overwrite: bool,
    retry_failed: bool,
    prune: bool,
    partial: bool,
    progress: bool | None,
) -> ExtractSummary:
    """Do what :meth:`FeatureExtractor.extract` says."""
    if on_error not in ("skip", "stop"):
        raise SourceError(f"on_error is {on_error!r}; allowed are 'skip' and 'stop'.")
    ending = Path(store).suffix.lower()
    if ending in IMAGE_EXTENSIONS or ending in (*LISTS, ".tar"):
        raise StoreError(
            f"{os.fspath(store)!r} has the name of an image, a list or an archive. "
            "Give the store a name of its own, such as photos.h5."
        )
    if isinstance(source, Source):
        images = source
    else:
        images = open_sources([source] if isinstance(source, str | os.PathLike) else source)
    origins = _origins(images)
    with StoreWriter.open(
        store,
        entries=images.entries,
        shapes=extractor.shapes,
        deciding=extractor.deciding,
        happened=lambda: _happened(extractor, images, origins),
        sources=origins,
        labels=_labels(images, labels),
        overwrite=overwrite,
        retry_failed=retry_failed,
        prune=prune,
        partial=partial,
        look=lambda entries: _look(images, extractor.workers or usable_cores(), progress, entries),
    ) as writer:
        tally = Tally()
        filled = _fill(extractor, images, writer, on_error == "stop", progress, tally)
        return _summary(writer, images, *filled, tally)


def _fill(
    extractor: FeatureExtractor,
    images: Source,
    writer: StoreWriter,
    stop: bool,
    progress: bool | None,
    tally: Tally,
) -> tuple[int, int, float]:
    """Compute pending rows; return how many were tried and done, and in what time."""
    pending = writer.pending().tolist()
    if not pending:
        return 0, 0, 0.0
    by_path = {entry.path: entry for entry in images.entries}
    rows = {row: by_path[writer.entry_path(row)] for row in pending}
    seen: dict[int, Entry] = {}
    computed = 0

    def load(row: int) -> AbstractContextManager[Image.Image]:
        return extractor.read(images, rows[row], tally, lambda entry: seen.update({row: entry}))

    def fail(row: int, reason: str) -> None:
        writer.fail(row, reason, seen.pop(row, None))

    def save(batch: Batch[int]) -> None:
        nonlocal computed
        noted = {row: seen.pop(row) for row in batch.items}
        refused = writer.write(np.asarray(batch.items, np.int64), batch.arrays(), noted)
        computed += len(batch.items) - len(refused)
        for row, reason in refused.items():
            _log.debug("%s: %s", rows[row].path, reason)
            if stop:
                raise ImageError(_stopped(rows[row].path, reason))

    started = time.perf_counter()
    with (
        progress_bar(progress, total=len(rows), unit="img") as bar,
        Background() as background,
        closing(extractor.stream(list(rows), load)) as results,
    ):
        for result in results:
            if isinstance(result, Failure):
                path = rows[result.item].path
                if stop:
                    raise ImageError(_stopped(path, result.reason))
                _log.debug("%s: %s", path, result.reason)
                background.put(partial(fail, result.item, result.reason))
                bar.update()
            else:
                background.put(partial(save, result))
                bar.update(len(result.items))
    return len(rows), computed, time.perf_counter() - started


def _look(
    images: Source, workers: int, progress: bool | None, entries: Sequence[Entry]
) -> list[Entry | None]:
    """Read images whose size and times do not say whether they are as they were."""
    if not entries:
        return []
    _log.info("Reading %d images to see whether they have changed.", len(entries))
    found: list[Entry | None] = []
    with (
        progress_bar(
            progress, total=len(entries), desc="comparing", unit="img", leave=False, delay=1
        ) as bar,
        closing(
            prefetch(partial(look, images), entries, workers=workers, ahead=4 * workers)
        ) as results,
    ):
        for seen in results:
            found.append(seen)
            bar.update()
    return found


def _origins(images: Source) -> list[SourcePlace]:
    if isinstance(images, SeveralSources):
        return [SourcePlace(name, part.root, part.spec) for name, part in images.parts.items()]
    return [SourcePlace("", images.root, images.spec)]


def _stopped(path: str, reason: str) -> str:
    return f"{path}: {reason} (--on-error skip records such images and goes on.)"


def _happened(extractor: FeatureExtractor, images: Source, origins: list[SourcePlace]) -> Happened:
    """Tell of the run, once it is certain that it can be: called before the store changes."""
    device = str(extractor.network.device)  # loads the network, with all that can go wrong
    extractor.expect(len(images.entries))
    return Happened(
        source=", ".join(origin.text for origin in origins),
        weights=extractor.resolved_weights.spec,
        device=device,
        precision=extractor.precision,
        engine=extractor.network.engine.name,
        start=now(),
        versions=versions(),
        preprocessing=extractor.resolved_weights.why,
    )


def _labels(images: Source, labels: str | os.PathLike[str]) -> Wanted:
    parts = images.parts if isinstance(images, SeveralSources) else {}
    wanted = Wanted.of(
        labels,
        paths=[entry.path for entry in images.entries],
        own=images.given_labels,
        own_name=", ".join(parts) or class_name(Path(images.spec).name),
        own_file=images.file if isinstance(images, ListSource) else None,
        root=images.root,
    )
    return replace(wanted, several=bool(parts))


def _summary(
    writer: StoreWriter, images: Source, tried: int, computed: int, seconds: float, tally: Tally
) -> ExtractSummary:
    counts = writer.counts()
    return ExtractSummary(
        store=str(writer.path),
        images=sum(counts.values()),
        done=counts["done"],
        failed=counts["failed"],
        pending=counts["pending"],
        tried=tried,
        computed=computed,
        added=writer.added,
        changed=writer.changed,
        moved=writer.moved,
        missing=writer.missing,
        pruned=writer.pruned,
        left_out=images.left_out,
        labels=writer.labels,
        failures=writer.failures(),
        seconds=seconds,
        truncated=tally["truncated"],
        several_pages=tally["pages"],
    )
