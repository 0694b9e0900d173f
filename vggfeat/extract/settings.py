"""What features are to be made: settings, checked and brought together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from vggfeat.engines import AUTO as AUTO_ENGINE
from vggfeat.engines import check_engine
from vggfeat.errors import DeviceError, ImageError
from vggfeat.images import MAX_PIXELS, Reading
from vggfeat.layers import Architecture, architecture, layer_of
from vggfeat.pooling import feature_shape, parse_layers
from vggfeat.preprocessing import ByHand, Preprocessing
from vggfeat.provenance import FeatureConfig, Provenance
from vggfeat.rgb import FULL, parse_range
from vggfeat.truncation import REFUSE, TRUNCATED
from vggfeat.views import View, parse_view
from vggfeat.weights import AUTO, Weights, resolve, usual

DTYPES = ("float32", "float16")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Settings:
    """Everything that a :class:`~vggfeat.extract.FeatureExtractor` is made with.

    The fields are its parameters, which its docstring explains. Nothing here loads a network,
    so that a finished store is recognised at once.

    Raises
    ------
    LayerError
        Unknown model, layer, pooling or view; or what does not go together, such as whole maps
        and a view that averages.
    DeviceError
        Unknown dtype or engine, or a size that is not positive.
    ImageError
        What `truncated` or `value_range` may not be.
    """

    model: str = "vgg16"
    weights: str | os.PathLike[str] | None = None
    layers: str | Sequence[str] = ("relu7",)
    view: str = "center"
    scales: str | Sequence[int] = ()
    flip: bool = False
    combine: str = "mean"
    pool: str = "avg"
    batch_size: int | None = None
    workers: int | None = None
    device: str = "auto"
    precision: str = "float32"
    engine: str = AUTO_ENGINE
    dtype: str = "float32"
    preprocessing: str | Preprocessing | ByHand = AUTO
    max_pixels: int = MAX_PIXELS
    truncated: str = REFUSE
    value_range: str = FULL

    def __post_init__(self) -> None:
        _ = self.shapes
        if self.dtype not in DTYPES:
            raise DeviceError(f"Unknown dtype {self.dtype!r}. Known are {', '.join(DTYPES)}.")
        if self.precision not in PRECISIONS:
            raise DeviceError(
                f"Unknown precision {self.precision!r}. Known are {', '.join(PRECISIONS)}."
            )
        check_engine(self.engine)
        for name in ("batch_size", "workers", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DeviceError(f"{name} is {value}; it must be at least 1.")
        if self.truncated not in TRUNCATED:
            raise ImageError(
                f"truncated is {self.truncated!r}; allowed are {' and '.join(TRUNCATED)}."
            )
        parse_range(self.value_range)

    @classmethod
    def like(
        cls, provenance: Provenance, weights: str | os.PathLike[str] | None = None, **options: Any
    ) -> Self:
        """Make the extractor that a store, probe or index was made with.

        Parameters
        ----------
        provenance : Provenance
            Theirs.
        weights : str or path, optional
            Where the weights are now; by default where they were. Whether they are the same
            ones, the probe's or index's ``check`` says.
        **options
            `batch_size`, `workers`, `device`, `precision` (by default theirs), `engine`,
            `max_pixels`.
        """
        config = provenance.config
        options["precision"] = options.get("precision") or provenance.run.precision
        layers = [
            f"{layer_of(name)}:{pool}" if pool else name for name, pool in config.layers.items()
        ]
        same = ("model", "view", "scales", "flip", "combine", "dtype", "truncated", "value_range")
        return cls(
            weights=weights or provenance.run.weights,
            layers=layers,
            preprocessing=stored_preprocessing(config.preprocessing),
            **{name: getattr(config, name) for name in same},
            **options,
        )

    @cached_property
    def architecture(self) -> Architecture:
        """The network's table of layers."""
        return architecture(self.model)

    @cached_property
    def poolings(self) -> dict[str, str]:
        """Canonical layer names, each with its pooling (``""`` for vectors).

        A layer with several poolings is there as ``LAYER:POOL`` with each.
        """
        return parse_layers(self.layers, self.pool, self.architecture)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one image's feature for each layer."""
        shapes = {}
        for layer, pool in self.poolings.items():
            single = feature_shape(self.architecture, layer_of(layer), pool)
            shapes[layer] = self.resolved_view.shape(layer_of(layer), single)
        return shapes

    @cached_property
    def resolved_view(self) -> View:
        """The view, with all that belongs to it."""
        return parse_view(self.view, self.scales, self.flip, self.combine, self.architecture)

    @cached_property
    def resolved_weights(self) -> Weights:
        """The weights, found (downloaded, if need be) and identified."""
        spec = usual(self.architecture) if self.weights is None else os.fspath(self.weights)
        return resolve(spec, self.architecture, self.preprocessing)

    @cached_property
    def config(self) -> FeatureConfig:
        """Every setting that changes the features."""
        view, spec = self.resolved_view, self.resolved_weights.preprocessing
        return FeatureConfig(
            model=self.model,
            weights_sha256=self.resolved_weights.sha256,
            preprocessing=spec.to_json(),
            view=view.name,
            layers=self.poolings,
            dtype=self.dtype,
            scales=view.sides(spec) if view.dense else (),
            flip=view.flip,
            combine=view.combine,
            truncated=self.truncated,
            value_range=parse_range(self.value_range),
        )

    @property
    def reading(self) -> Reading:
        """How image files become pixels: keyword arguments of :func:`vggfeat.images.decode`."""
        return {
            "max_pixels": self.max_pixels,
            "truncated": self.truncated,
            "value_range": parse_range(self.value_range),
        }


def stored_preprocessing(preprocessing: dict[str, Any]) -> str | Preprocessing:
    """Return a store's preprocessing, or what belongs to its weights where it is another's."""
    try:
        return Preprocessing.from_json(preprocessing)
    except ValueError:
        return AUTO
