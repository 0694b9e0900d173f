"""Maps of the layer that training starts behind, computed once and kept on disk.

A folder of plain stores (docs/store-format.md) in float16: ``plain-....h5`` has every image as it
is tested, with the labels; ``drawn-001-....h5`` and so on have the training images as augmentation
draws them, a variant a store. Each holds the maps that go into the first trained layer, and the
features of the layer that the head reads. The end of its name stands for all that decides its
numbers, so that runs may share a folder. A run that was stopped goes on in them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Self

from vggfeat.errors import StoreError
from vggfeat.extract import ExtractSummary, FeatureExtractor
from vggfeat.layers import layer_of
from vggfeat.progress import Progress
from vggfeat.provenance import FeatureConfig
from vggfeat.sources import Entry, Source
from vggfeat.views import View
from vggfeat.views.drawn import DrawnView

_HALF = 2  # bytes of a number
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DrawnExtractor(FeatureExtractor):
    """A :class:`FeatureExtractor` of one of the views that augmentation draws."""

    drawn: DrawnView = field(default_factory=DrawnView)

    @classmethod
    def of(cls, plain: FeatureExtractor, drawn: DrawnView) -> Self:
        """Return one that shares another's settings and network."""
        made = cls(**plain.__getstate__(), drawn=drawn)
        made.__dict__["_network"] = plain.network
        return made

    @property
    def resolved_view(self) -> View:
        """The drawn view."""
        return self.drawn

    @cached_property
    def config(self) -> FeatureConfig:
        """The values that decide the numbers, the drawing among them."""
        return replace(super().config, view=self.drawn.text)


@dataclass(frozen=True)
class MapCache:
    """The folder of stores.

    Attributes
    ----------
    folder : Path
        Made if need be.
    extractor : FeatureExtractor
        Of the plain view; its layers are what is kept.
    """

    folder: Path
    extractor: FeatureExtractor

    @property
    def plain(self) -> Path:
        """The store of all images as they are tested."""
        return self.folder / f"plain-{_digest(self.extractor.config)}.h5"

    def drawn(self, view: DrawnView) -> Path:
        """Return the store of a drawn view."""
        config = replace(self.extractor.config, view=view.text)
        return self.folder / f"drawn-{view.variant:03d}-{_digest(config)}.h5"

    @property
    def row_bytes(self) -> int:
        """Bytes of one image in one store."""
        return _HALF * sum(math.prod(shape) for shape in self.extractor.shapes.values())

    def check_disk(self, rows: int, most: int | None) -> None:
        """Say how much disk the maps take, and refuse more than there may be.

        Parameters
        ----------
        rows : int
            Images, each as often as it has views, that are not there yet.
        most : int, optional
            Bytes; by default half of what is free.

        Raises
        ------
        StoreError
        """
        need = rows * self.row_bytes
        free = shutil.disk_usage(self.folder).free
        allowed = free // 2 if most is None else most
        _log.info(
            "Maps of %s views take %s of disk in %s (%s are free).",
            f"{rows:,}", size_text(need), self.folder, size_text(free),
        )  # fmt: skip
        if need > min(allowed, free):
            limit = "half of what is free" if most is None else "the limit"
            raise StoreError(
                f"The maps of {rows:,} views would take {size_text(need)} of disk in "
                f"{self.folder}; {limit} is {size_text(allowed)}, and {size_text(free)} are free. "
                "Draw fewer variants (--augment), start at a deeper layer (--from), give another "
                "place (--cache) or limit (--disk), or train without a cache (--no-cache)."
            )

    def missing(self, path: Path, images: int) -> int:
        """Return how many of so many images a store still lacks."""
        from vggfeat.store import FeatureStore

        if not path.exists():
            return images
        with FeatureStore(path) as store:
            return max(0, images - store.counts()["done"])

    def fill_plain(
        self, source: Source, progress: Progress | bool | None, **labels: Any
    ) -> ExtractSummary:
        """Compute the plain views of all images; see :meth:`FeatureExtractor.extract`."""
        return self.extractor.extract(source, self.plain, progress=progress, **labels)

    def fill_drawn(
        self,
        source: Source,
        paths: Sequence[str],
        view: DrawnView,
        progress: Progress | bool | None,
    ) -> ExtractSummary:
        """Compute one drawn view of some images; those that are there already stay."""
        extractor = DrawnExtractor.of(self.extractor, view)
        return extractor.extract(
            ChosenImages(source, paths),
            self.drawn(view),
            labels="none",
            split="none",
            group_by="none",
            partial=True,
            progress=progress,
        )


class ChosenImages(Source):
    """Some of another source's images."""

    def __init__(self, source: Source, paths: Sequence[str]) -> None:
        chosen = set(paths)
        entries = [entry for entry in source.entries if entry.path in chosen]
        super().__init__(source.root, source.spec, entries)
        self._source = source

    def open(self, entry: Entry) -> BinaryIO:
        """Open an image; see :meth:`Source.open`."""
        return self._source.open(entry)

    def seen(self, entry: Entry, file: BinaryIO) -> Entry:
        """Ask the opened file; see :meth:`Source.seen`."""
        return self._source.seen(entry, file)


def layers_kept(folder: Path, base: dict[str, Any], needed: Sequence[str]) -> Sequence[str]:
    """Return the layers of a store in a folder that has all that is needed, else those needed.

    Parameters
    ----------
    folder : Path
        It may be missing.
    base : dict
        Of the extractor, without its layers.
    needed : sequence of str
        Layers, each with its pooling.
    """
    from vggfeat.store import FeatureStore

    ours = FeatureExtractor(**base, layers=needed).config
    wanted = {layer_of(name): pool for name, pool in ours.layers.items()}
    for file in sorted(folder.glob("plain-*.h5")):
        with FeatureStore(file) as store:
            theirs = store.provenance.config
        same = replace(theirs, layers={}) == replace(ours, layers={})
        if same and all(theirs.column(name, pool) for name, pool in wanted.items()):
            return [
                f"{layer_of(name)}:{pool}" if pool else name for name, pool in theirs.layers.items()
            ]
    return needed


def _digest(config: FeatureConfig) -> str:
    text = json.dumps(config.to_json(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def size_text(count: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def folder_of(out: str | os.PathLike[str], cache: str | os.PathLike[str] | None) -> Path:
    """Return where maps and checkpoints are kept: what was given, or beside the result."""
    return Path(cache) if cache is not None else Path(f"{os.fspath(out)}.work")
