"""What is trained, and from which layer on, settled before any image is read."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import TrainingError
from vggfeat.extract import FeatureExtractor
from vggfeat.extract.requested import Request, labels_of
from vggfeat.finetuning.caching import layers_kept
from vggfeat.finetuning.recipe import HEAD, Recipe, first_layer, last_map
from vggfeat.labels import TRAIN, Targets
from vggfeat.labels.splits import usable
from vggfeat.layers import Architecture
from vggfeat.pooling import parse_layers
from vggfeat.probe.division import TEST_SIZE
from vggfeat.sources import Source
from vggfeat.store.labelling import label
from vggfeat.views.drawn import DrawnView

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Size:
    """How many images there are, before any is read.

    Attributes
    ----------
    images, train, classes : int
        In all; to train on, as far as that is known; and classes, 1 of numbers.
    """

    images: int
    train: int
    classes: int

    @classmethod
    def of(
        cls, source: Source, asked: dict[str, Any], dividing: dict[str, Any], *, numbers: bool
    ) -> Size:
        """Count images from their paths and labels.

        Parameters
        ----------
        source : Source
        asked : dict
            `labels`, `split`, `group_by` and `groups`.
        dividing : dict
            `test_size` and `train_per_class`.
        numbers : bool
            Whether there are numbers instead of classes.
        """
        paths = [entry.path for entry in source.entries]
        request = labels_of(source, Request(**asked))
        named, _ = label({}, [], paths, np.arange(len(paths)), request)
        classes: Targets | None = named["targets"]
        splits: Targets | None = named["splits"]
        known: npt.NDArray[np.bool_] = np.ones(len(paths), bool)
        count = 1
        if classes is not None and classes.classes and not numbers:
            values = classes.values
            known = np.asarray(values >= 0 if values.ndim == 1 else (values >= 0).any(axis=1))
            count = len(classes.classes)
        share, each = dividing["test_size"], dividing["train_per_class"]
        if each is not None:
            train = each * count
        elif share is None and splits is not None and usable(splits.classes):
            train = int((known & (splits.values == splits.classes.index(TRAIN))).sum())
        else:
            train = round(int(known.sum()) * (1 - (TEST_SIZE if share is None else share)))
        return cls(len(paths), max(1, train), count)


@dataclass(frozen=True, slots=True)
class Job:
    """What is trained, from which layer on.

    Attributes
    ----------
    recipe : Recipe
        Complete.
    why : str
        Why it begins there.
    extractor : FeatureExtractor
        Of the frozen layers.
    column, layer, pool : str
        What the head's features are called in a store; their layer, and its pooling.
    before : str
        Layer before the first trained one; empty where that is the network's first.
    maps : str
        What the maps are called in a store; empty where none are kept.
    shape : tuple of int
        Of what goes into the first trained layer.
    """

    recipe: Recipe
    why: str
    extractor: FeatureExtractor
    column: str
    layer: str
    pool: str
    before: str
    maps: str
    shape: tuple[int, ...]

    @classmethod
    def of(
        cls, base: dict[str, Any], recipe: Recipe, size: Size, folder: Path, *, cached: bool
    ) -> Job:
        """Settle what is trained.

        Parameters
        ----------
        base : dict
            Of the extractor, without its layers.
        recipe : Recipe
        size : Size
        folder : Path
            Where maps may be already.
        cached : bool
            Whether maps are kept.

        Raises
        ------
        TrainingError, LayerError
            A layer is unknown, or nothing can be trained so.
        """
        network = FeatureExtractor(model=base["model"]).architecture
        ((column, pool),) = parse_layers(recipe.layer or last_map(network), "avg", network).items()
        layer = column.partition(":")[0]
        why = "it was asked for"
        first = recipe.first.strip().lower()
        if not first:
            first, why = first_layer(network, size.train, size.classes)
        if first != HEAD:
            first = network.layer(first).name
            _check_order(network, first, layer)
        at = 0 if first == HEAD else network.names.index(first)
        before = network.names[at - 1] if at else ""
        head = f"{layer}:{pool}" if pool else layer
        kept = [head]
        if first == HEAD:
            before, shape = layer, FeatureExtractor(**base | {"layers": [head]}).shapes[layer]
        elif before:
            shape = network.output_shape(before)
            if cached:
                kept.append(f"{before}:none" if network.layer(before).spatial else before)
        else:
            side = network.input_size
            shape = (3, side, side)
        extractor = FeatureExtractor(**base | {"layers": layers_kept(folder, base, kept)})
        pools = dict(extractor.poolings)
        column = next(
            name for name, own in pools.items() if name.partition(":")[0] == layer and own == pool
        )
        maps = ""
        if first == HEAD:
            maps = column
        elif before and cached:
            wanted = "none" if network.layer(before).spatial else ""
            maps = next(
                name for name, own in pools.items()
                if name.partition(":")[0] == before and own == wanted
            )  # fmt: skip
        if recipe.first:
            _log.info("Training from %s on.", first)
        else:
            _log.info("Training from %s on: %s (--from chooses).", first, why)
        recipe = replace(recipe, first=first, layer=head)
        return cls(recipe, why, extractor, column, layer, pool, before, maps, shape)

    def view(self, variant: int) -> DrawnView:
        """Return the view of a variant; 0 is the plain one."""
        recipe = self.recipe
        return DrawnView(
            variant=variant, seed=recipe.seed, crop=recipe.crop, colour=recipe.colour,
            mirror=recipe.mirror,
        )  # fmt: skip


def _check_order(network: Architecture, first: str, layer: str) -> None:
    if network.names.index(first) > network.names.index(layer):
        raise TrainingError(
            f"Training from {first} on changes nothing of {layer}, which the head reads. Start at "
            f"{layer} or before, or train the head alone (--from {HEAD})."
        )
    between = network.layers[network.names.index(first) : network.names.index(layer) + 1]
    if not any(one.kind in ("conv", "linear", "bn") for one in between):
        raise TrainingError(
            f"From {first} to {layer} nothing can be trained. Start at a convolution before, such "
            f"as {next(o.name for o in reversed(network.layers) if o.kind == 'conv')}, or train "
            f"the head alone (--from {HEAD})."
        )
