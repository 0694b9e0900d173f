"""What a run of extraction is asked for, and what its source gives: images, places, labels."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from vggfeat.errors import SourceError, StoreError
from vggfeat.extract.stream import WAITING
from vggfeat.files import IMAGE_EXTENSIONS
from vggfeat.labels import (
    LabelRequest,
    NamedLines,
    OwnNames,
    class_name,
    requested_groups,
    requested_splits,
)
from vggfeat.pipeline import prefetch
from vggfeat.processors import usable_cores
from vggfeat.progress import Progress, bars
from vggfeat.provenance import SourcePlace
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
from vggfeat.sources.reading import look
from vggfeat.storage.urls import shown

_log = logging.getLogger(__name__)
Sources = str | os.PathLike[str] | Source | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a run, whether it fills one file or parts, here or on a cluster.

    The attributes are the options of :meth:`vggfeat.FeatureExtractor.extract` of the same names.

    Raises
    ------
    SourceError
        `on_error` is neither ``"skip"`` nor ``"stop"``.
    """

    labels: str | os.PathLike[str] = "auto"
    split: str | Mapping[str, str | os.PathLike[str]] = "auto"
    group_by: str | None = None
    groups: str | os.PathLike[str] | None = None
    on_error: str = "skip"
    overwrite: bool = False
    retry_failed: bool = False
    prune: bool = False
    partial: bool = False
    progress: Progress | bool | None = None

    def __post_init__(self) -> None:
        if self.on_error not in ("skip", "stop"):
            raise SourceError(f"on_error is {self.on_error!r}; allowed are 'skip' and 'stop'.")

    @property
    def stop(self) -> bool:
        """Whether an image that cannot be read ends the run."""
        return self.on_error == "stop"


def check_name(store: str | os.PathLike[str]) -> None:
    """Refuse names of stores that are other files' names; raises StoreError."""
    ending = Path(store).suffix.lower()
    if ending in IMAGE_EXTENSIONS or ending in (*LISTS, *ARCHIVES, SUFFIX):
        raise StoreError(
            f"{shown(os.fspath(store))!r} has the name of an image, a list or an archive. "
            "Give the store a name of its own, such as photos.h5."
        )


def source_of(source: Sources) -> Source:
    """List the images of a source, or of several."""
    if isinstance(source, Source):
        return source
    return open_sources([source] if isinstance(source, str | os.PathLike) else source)


def name_of(images: Source) -> str:
    """Return what a source is called in the circumstances of a run."""
    return ", ".join(origin.text for origin in origins_of(images))


def look_at(
    images: Source, workers: int | None, progress: Progress | bool | None, entries: Sequence[Entry]
) -> list[Entry | None]:
    """Read images whose size and times do not say whether they are as they were.

    By default in one thread a processor, or in more where images come over a network.
    """
    if not entries:
        return []
    workers = workers or (WAITING if images.distant else usable_cores())
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


def origins_of(images: Source) -> list[SourcePlace]:
    """Return where images come from, as a store keeps it."""
    if isinstance(images, SeveralSources):
        return [SourcePlace(name, part.root, part.spec) for name, part in images.parts.items()]
    return [SourcePlace("", images.root, images.spec)]


def labels_of(images: Source, asked: Request) -> LabelRequest:
    """Understand what a run asks of labels, splits and groups."""
    parts = images.parts if isinstance(images, SeveralSources) else {}
    paths = [entry.path for entry in images.entries]
    request = LabelRequest.of(
        asked.labels,
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
        splits=requested_splits(asked.split, paths, root=root, source=source, table=table),
        groups=requested_groups(
            asked.group_by, asked.groups, paths, root=root, source=source, table=table
        ),
    )
