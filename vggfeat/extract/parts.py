"""From a source of images into a store of parts: each part is a run of its own."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vggfeat.errors import StoreError, StoreLockedError, StoreMismatchError
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
from vggfeat.extract.storing import StoreRun
from vggfeat.extract.stream import drain
from vggfeat.extract.summary import ExtractSummary
from vggfeat.progress import Progress, bars
from vggfeat.provenance import RunInfo
from vggfeat.sources import Entry, Source
from vggfeat.sources.base import as_text
from vggfeat.sources.reopening import reopen
from vggfeat.store import FeatureStore
from vggfeat.store.parts import PartPlan, find_parts, open_part, plan, wants_parts
from vggfeat.store.parts.planning import planned_by_somebody
from vggfeat.store.parts.working import note_failure

if TYPE_CHECKING:
    from vggfeat.extract.extractor import FeatureExtractor

_log = logging.getLogger(__name__)
MANY = 200_000
"""Images from which a store whose name has no ending is one of parts."""


def in_parts(store: str | os.PathLike[str], images: int) -> bool:
    """Return whether a store is to be one of parts.

    It is where its name ends in ``/`` or ``.store``, and where it is one already; a new store whose
    name has no ending is one from 200,000 images on. ``photos.h5`` is one file.
    """
    if wants_parts(store):
        return True
    path = Path(store)
    return not path.suffix and images > MANY and not path.is_file()


@dataclass(frozen=True, slots=True)
class PartResult:
    """What became of one part in a run.

    Attributes
    ----------
    part : int
        Its number.
    tried, computed : int
        Images that were taken up, and those whose features were written.
    seconds : float
        From the first image to the last.
    truncated, several_pages : int
        As in :class:`ExtractSummary`.
    """

    part: int
    tried: int = 0
    computed: int = 0
    seconds: float = 0.0
    truncated: int = 0
    several_pages: int = 0


@dataclass(frozen=True)
class PartsJob:
    """Parts of a store that are to be computed, for whoever schedules them.

    Who schedules calls :meth:`run` with numbers of parts, here or elsewhere, in any order, and
    more than once where that cannot be told: a part that is done takes no time, and none is
    ever written by two at a time.

    Attributes
    ----------
    extractor : FeatureExtractor
        Computes features.
    plan : PartPlan
        The store.
    images : Source
        Opens images.
    entries : dict of str to Entry
        Images by path.
    stop : bool
        Whether an image that cannot be read ends the run.
    """

    extractor: FeatureExtractor
    plan: PartPlan
    images: Source
    entries: Mapping[str, Entry] = field(repr=False)
    stop: bool = False

    @classmethod
    def of_store(
        cls, extractor: FeatureExtractor, store: str | os.PathLike[str], *, stop: bool = False
    ) -> PartsJob:
        """Take up a store that has been planned, without listing its sources.

        Raises
        ------
        StoreMismatchError
            The store was made with other deciding values than the extractor's.
        StoreError, SourceError
            There is no such store, or a source is gone.
        """
        found = find_parts(store, extractor.config)
        contents = found.contents
        entries = [
            Entry(path, size, mtime, ctime)
            for path, size, mtime, ctime in zip(
                contents.paths,
                contents.sizes.tolist(),
                contents.mtimes.tolist(),
                contents.ctimes.tolist(),
                strict=True,
            )
        ]
        images = reopen(contents.sources, entries)
        by_path = {entry.path: entry for entry in images.entries}
        return cls(extractor, found, images, by_path, stop)

    def chosen(self, numbers: Sequence[int] | None) -> list[int]:
        """Return the parts to be taken up: those asked for, by default all that are not done."""
        if numbers is not None:
            return list(numbers)
        return sorted({*self.plan.waiting(), *(part.number for part in self.plan.unmarked())})

    def run(self, number: int, progress: Progress | bool | None = False) -> PartResult:
        """Compute what is to be computed of a part, and mark it as done.

        Parameters
        ----------
        number : int
            Of the part.
        progress : bool or Progress, optional
            Told of images.

        Raises
        ------
        StoreLockedError
            Another process writes the part.
        VggfeatError
            It cannot be done; the reason is noted beside it.
        """
        extractor, found = self.extractor, self.plan
        if found.whole(number):
            return PartResult(number)
        name, rows = name_of(self.images), found.manifest.rows

        def info(_pending: int) -> RunInfo:
            return extractor.run_info(name, rows)

        try:
            with open_part(found.path, found.manifest, number, found.contents, info) as writer:
                run = StoreRun(
                    writer,
                    self.images,
                    self.entries,
                    extractor.reading,
                    stop=self.stop,
                    progress=progress,
                )
                if run.rows:
                    with run.sink() as sink:
                        drain(extractor.stream(run.rows, run.load, distant=run.distant), sink)
                told = run.summary()
        except StoreLockedError:
            raise
        except Exception as error:
            note_failure(found.path, found.manifest, number, str(error) or repr(error))
            raise
        return PartResult(
            number, told.tried, told.computed, told.seconds, told.truncated, told.several_pages
        )


def plan_parts(
    extractor: FeatureExtractor,
    source: Sources,
    store: str | os.PathLike[str],
    request: Request,
    *,
    part_rows: int | None,
    known: bool,
) -> PartsJob:
    """Bring a store of parts up to its source.

    Parameters
    ----------
    extractor : FeatureExtractor
        Computes features.
    source, store
        As for :meth:`FeatureExtractor.extract`.
    request : Request
        Its other options.
    part_rows : int, optional
        Most images of a part that is cut now.
    known : bool
        Take a store that is there as it is, without listing its source again.

    Raises
    ------
    SourceError, StoreError
        Before anything is changed.
    """
    check_name(store)
    if request.prune:
        raise StoreError(
            "--prune would write all parts anew. Leave it out: images that have left their source "
            "are not used. `vggfeat merge OUT.h5 STORE` makes one file, which can be pruned."
        )
    if known and request.retry_failed:
        raise StoreError(
            "--retry-failed makes rows of all parts pending, so that it cannot go with --part, "
            f"which several tasks may be given at once. `vggfeat parts {os.fspath(store)} --retry` "
            "does it for all; then run the parts again."
        )
    if Path(store).is_file():
        raise StoreError(
            f"{os.fspath(store)} is one file. Give a new name for the store of parts, such as "
            f"{Path(store).stem}.store."
        )
    while True:
        if known and not request.overwrite and planned_by_somebody(store):
            job = PartsJob.of_store(extractor, store, stop=request.stop)
            _check_source(job, source)
            return job
        try:
            images = source_of(source)
            found = plan(
                store,
                entries=images.entries,
                shapes=extractor.shapes,
                config=extractor.config,
                planned=extractor.planned_info(name_of(images)),
                sources=origins_of(images),
                part_rows=part_rows,
                labels=labels_of(images, request),
                overwrite=request.overwrite,
                retry_failed=request.retry_failed,
                partial=request.partial,
                look=functools.partial(look_at, images, extractor.workers, request.progress),
            )
        except StoreLockedError:
            if request.overwrite or not known:
                raise
            continue  # another task has begun to list the images, for all
        entries = {entry.path: entry for entry in images.entries}
        return PartsJob(extractor, found, images, entries, request.stop)


def run_parts(
    job: PartsJob, numbers: Sequence[int] | None, progress: Progress | bool | None
) -> list[PartResult]:
    """Compute parts one after the other in this process.

    Parts that other processes are writing are left to them: several may run the same command.

    Parameters
    ----------
    job : PartsJob
        The store.
    numbers : sequence of int, optional
        Which parts; all that are not done by default.
    progress : bool or Progress, optional
        As for :meth:`FeatureExtractor.extract`.
    """
    waiting, chosen = job.plan.waiting(), job.chosen(numbers)
    total = sum(waiting.get(number, 0) for number in chosen)
    results, locked = [], []
    with bars("img", progress, leave=True) as report:
        if total:
            report("", 0, total)
        for number in chosen:
            try:
                results.append(job.run(number, lambda _stage, more, _all: report("", more, total)))
            except StoreLockedError:
                if numbers is not None:
                    raise
                locked.append(number)
    if locked:
        _log.warning(
            "%d parts are being written by other processes and were left to them: %s.",
            len(locked), ", ".join(map(str, locked[:20])) + (", ..." if len(locked) > 20 else ""),
        )  # fmt: skip
    return results


def summarise(
    job: PartsJob, results: Sequence[PartResult], seconds: float | None = None
) -> ExtractSummary:
    """Tell how the whole store stands, and what a run did.

    Parameters
    ----------
    job : PartsJob
        The store, as it was planned.
    results : sequence of PartResult
        Of the parts that the run took up.
    seconds : float, optional
        What the run took, without listing files; by default what all parts took together.
    """
    found = job.plan
    with FeatureStore(found.path) as store:
        counts, failures = store.counts(), store.failures()
    return ExtractSummary(
        store=str(found.path),
        images=sum(counts.values()),
        done=counts["done"],
        failed=counts["failed"],
        pending=counts["pending"],
        tried=sum(one.tried for one in results),
        computed=sum(one.computed for one in results),
        added=found.added,
        changed=found.changed,
        moved=found.moved,
        missing=found.missing,
        pruned=0,
        left_out=job.images.left_out,
        failures=failures,
        seconds=sum(one.seconds for one in results) if seconds is None else seconds,
        truncated=sum(one.truncated for one in results),
        several_pages=sum(one.several_pages for one in results),
        labels=found.labels,
        parts=len(found.manifest.parts),
        parts_left=len(found.unmarked()),
    )


def _check_source(job: PartsJob, source: Sources) -> None:
    """Refuse a source that is certainly not the store's; it is not listed."""
    specs = [source] if isinstance(source, str | os.PathLike) else source
    if isinstance(specs, Source):
        specs = [specs.spec]
    places = {text for one in job.plan.contents.sources for text in (one.spec, one.root)}
    for spec in specs:
        text = os.fspath(spec)
        _, sign, path = text.partition("=")
        names = {text, path} if sign else {text}
        if not places & (names | {as_text(str(Path(name).absolute())) for name in names}):
            raise StoreMismatchError(
                f"{job.plan.path} is of {', '.join(sorted(places))}, not of {text}. Give that "
                "source; or run the command once without --part to add another one."
            )
