"""From a source of images into a store: what is pending is computed, and nothing else."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from vggfeat import labels as label_rules
from vggfeat.errors import ImageError, SourceError
from vggfeat.extract.extractor import Batch, Failure, FeatureExtractor
from vggfeat.extract.summary import ExtractSummary
from vggfeat.labels import RawLabels
from vggfeat.pipeline import Background
from vggfeat.provenance import Happened, now, versions
from vggfeat.sources import Source, open_source
from vggfeat.store import StoreWriter

_log = logging.getLogger(__name__)


def extract(
    extractor: FeatureExtractor,
    source: str | os.PathLike[str],
    store: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str],
    on_error: str,
    overwrite: bool,
    retry_failed: bool,
    progress: bool | None,
) -> ExtractSummary:
    """Do what :meth:`FeatureExtractor.extract` says."""
    if on_error not in ("skip", "stop"):
        raise SourceError(f"on_error is {on_error!r}; allowed are 'skip' and 'stop'.")
    images = open_source(source)
    with StoreWriter.open(
        store,
        entries=images.entries,
        shapes=extractor.shapes,
        deciding=extractor.deciding,
        happened=lambda: _happened(extractor, images),
        labels=_labels(images, labels),
        overwrite=overwrite,
        retry_failed=retry_failed,
    ) as writer:
        computed, seconds = _fill(extractor, images, writer, on_error == "stop", progress)
        return _summary(writer, images, computed, seconds)


def _fill(
    extractor: FeatureExtractor,
    images: Source,
    writer: StoreWriter,
    stop: bool,
    progress: bool | None,
) -> tuple[int, float]:
    """Compute all pending rows whose image is at hand; return how many, and in what time."""
    by_path = {entry.path: entry for entry in images.entries}
    pending = ((row, writer.entry_path(row)) for row in writer.pending().tolist())
    rows = {row: by_path[path] for row, path in pending if path in by_path}
    if not rows:
        return 0, 0.0
    _ = extractor.network  # loaded before the clock starts and the bar appears
    computed = 0

    def load(row: int) -> AbstractContextManager[Image.Image]:
        return extractor.read(images, rows[row])

    def save(batch: Batch[int]) -> None:
        # The writer fails a row itself whose features cannot be stored.
        writer.write(np.asarray(batch.items, np.int64), batch.arrays())

    started = time.perf_counter()
    with (
        tqdm(
            total=len(rows),
            unit="img",
            file=sys.stderr,
            disable=None if progress is None else not progress,
        ) as bar,
        Background() as background,
        closing(extractor.stream(list(rows), load)) as results,
    ):
        for result in results:
            if isinstance(result, Failure):
                path = rows[result.item].path
                if stop:
                    raise ImageError(
                        f"{path}: {result.reason} (--on-error skip records it and goes on.)"
                    )
                _log.debug("%s: %s", path, result.reason)
                background.put(partial(writer.fail, result.item, result.reason))
                bar.update()
            else:
                background.put(partial(save, result))
                computed += len(result.items)
                bar.update(len(result.items))
    return computed, time.perf_counter() - started


def _happened(extractor: FeatureExtractor, images: Source) -> Happened:
    from vggfeat.network import resolve_device

    return Happened(
        source=images.root,
        weights=extractor.resolved_weights.spec,
        device=str(resolve_device(extractor.device)),
        precision=extractor.precision,
        start=now(),
        versions=versions(),
    )


def _labels(images: Source, labels: str | os.PathLike[str]) -> RawLabels | None:
    if labels == "none":
        return None
    if labels == "auto":
        if images.given_labels is not None:
            return images.given_labels
        return label_rules.from_folders([entry.path for entry in images.entries])
    path = Path(labels)
    if not path.is_file():
        raise SourceError(
            f"No label file {str(labels)!r}. Allowed for --labels are auto, none, or a CSV file."
        )
    return label_rules.from_csv(path)


def _summary(writer: StoreWriter, images: Source, computed: int, seconds: float) -> ExtractSummary:
    counts = writer.counts()
    return ExtractSummary(
        store=str(writer.path),
        images=sum(counts.values()),
        done=counts["done"],
        failed=counts["failed"],
        pending=counts["pending"],
        computed=computed,
        added=writer.added,
        changed=writer.changed,
        missing=writer.missing,
        left_out=images.left_out,
        failures=writer.failures(),
        seconds=seconds,
    )
