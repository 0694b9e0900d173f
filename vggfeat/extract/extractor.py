"""Images in, features of named layers out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggfeat.errors import DeviceError, ImageError, LayerError
from vggfeat.extract.stream import Batch, Failure, Item, stream
from vggfeat.images import MAX_PIXELS, as_image, decoded
from vggfeat.layers import Architecture, architecture
from vggfeat.pipeline import usable_cores
from vggfeat.pooling import feature_shape, parse_layers
from vggfeat.provenance import Deciding, Provenance
from vggfeat.sources import Entry, Source, open_source
from vggfeat.views import VIEWS
from vggfeat.weights import Weights, resolve, usual

if TYPE_CHECKING:
    from vggfeat.extract.summary import ExtractSummary
    from vggfeat.network import Network

DTYPES = ("float32", "float16")
PRECISIONS = ("float32", "bfloat16", "float16")
_BATCH_BYTES = 1 << 28  # features of a batch, where its size is chosen here
_WORKERS = 8  # by default at most; more than that many decoders outrun any one network


@dataclass(frozen=True)
class FeatureExtractor:
    """Turns images into features of named layers.

    The network is built at the first use, only as deep as the deepest layer, and kept.

    Parameters
    ----------
    model : str
        ``"vgg11"``, ``"vgg13"``, ``"vgg16"``, ``"vgg19"`` or ``"vgg16-tiny"``.
    weights : str or path, optional
        ``"imagenet"``, ``"builtin"``, a ``.pth``/``.pt``/``.safetensors`` file, or
        ``"random[:SEED]"``; by default :func:`~vggfeat.weights.usual` for the model: imagenet,
        and builtin for vgg16-tiny.
    layers : str or sequence of str
        Names or aliases, each optionally with its pooling, as ``"conv5_3:max"``.
    view : str
        ``"center"`` (the weights' own transforms) or ``"squash"`` (the whole image).
    pool : str
        ``"avg"``, ``"max"`` or ``"none"``, for convolutional layers that name none.
    batch_size : int, optional
        Images that run at a time; chosen for the device by default.
    workers : int, optional
        Threads that decode images; by default one for each processor, at most 8.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
    precision : str
        Type the network runs in: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    dtype : str
        Type of the features: ``"float32"`` or ``"float16"``.
    max_pixels : int
        Images with more pixels are refused.

    Raises
    ------
    LayerError
        Unknown model, layer, pooling or view.
    DeviceError
        Unknown dtype, or a size that is not positive.

    Examples
    --------
    >>> extractor = FeatureExtractor(weights="random", layers=["conv5_3", "relu7"])
    >>> features = extractor(["a.jpg", "b.jpg"])          # doctest: +SKIP
    >>> features["relu7"].shape                           # doctest: +SKIP
    (2, 4096)
    """

    model: str = "vgg16"
    weights: str | os.PathLike[str] | None = None
    layers: str | Sequence[str] = ("relu7",)
    view: str = "center"
    pool: str = "avg"
    batch_size: int | None = None
    workers: int | None = None
    device: str = "auto"
    precision: str = "float32"
    dtype: str = "float32"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        _ = self.poolings
        if self.view not in VIEWS:
            raise LayerError(f"Unknown view {self.view!r}. Known views: {', '.join(VIEWS)}.")
        if self.dtype not in DTYPES:
            raise DeviceError(f"Unknown dtype {self.dtype!r}. Known are {', '.join(DTYPES)}.")
        if self.precision not in PRECISIONS:
            raise DeviceError(
                f"Unknown precision {self.precision!r}. Known are {', '.join(PRECISIONS)}."
            )
        for name in ("batch_size", "workers", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DeviceError(f"{name} is {value}; it must be at least 1.")

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
            `batch_size`, `workers`, `device`, `precision` (by default theirs), `max_pixels`.
        """
        deciding = provenance.deciding
        options["precision"] = options.get("precision") or provenance.happened.precision
        layers = [f"{name}:{pool}" if pool else name for name, pool in deciding.layers.items()]
        return cls(
            model=deciding.model,
            weights=weights or provenance.happened.weights,
            layers=layers,
            view=deciding.view,
            dtype=deciding.dtype,
            **options,
        )

    @cached_property
    def architecture(self) -> Architecture:
        """The network's table of layers."""
        return architecture(self.model)

    @cached_property
    def poolings(self) -> dict[str, str]:
        """Canonical layer names, each with its pooling (``""`` for vectors)."""
        return parse_layers(self.layers, self.pool, self.architecture)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one image's feature for each layer."""
        pairs = self.poolings.items()
        return {layer: feature_shape(self.architecture, layer, pool) for layer, pool in pairs}

    @cached_property
    def resolved_weights(self) -> Weights:
        """The weights, found (downloaded, if need be) and identified."""
        spec = usual(self.architecture) if self.weights is None else os.fspath(self.weights)
        return resolve(spec, self.architecture)

    @cached_property
    def deciding(self) -> Deciding:
        """The values that decide the numbers."""
        return Deciding(
            model=self.model,
            weights_sha256=self.resolved_weights.sha256,
            preprocessing=self.resolved_weights.preprocessing.to_json(),
            view=self.view,
            layers=self.poolings,
            dtype=self.dtype,
        )

    @cached_property
    def network(self) -> Network:
        """The network, built and loaded at the first use."""
        from vggfeat.network import Network

        return Network.load(
            self.architecture, self.resolved_weights, self.poolings, self.device, self.precision
        )

    def __call__(self, images: Any) -> dict[str, NDArray[Any]]:
        """Compute features of images in memory.

        Parameters
        ----------
        images : iterable
            Paths, Pillow images, uint8 arrays (H, W), (H, W, 3) or (H, W, 4), or uint8 tensors
            (3, H, W) - or one of them.

        Returns
        -------
        dict of str to ndarray
            Canonical layer name to features (N, D), or (N, C, H, W) with pooling ``"none"``; of
            type `dtype`, rows in the order of the images.

        Raises
        ------
        ImageError
            An image cannot be decoded; the message names it.
        """
        items = _as_list(images)
        parts: dict[str, list[NDArray[Any]]] = {
            name: [np.empty((0, *shape), self.dtype)] for name, shape in self.shapes.items()
        }
        with closing(self.stream(range(len(items)), lambda i: self.held(items[i]))) as results:
            for result in results:
                if isinstance(result, Failure):
                    value = items[result.item]
                    named = isinstance(value, str | os.PathLike)
                    which = os.fspath(value) if named else f"image {result.item}"
                    raise ImageError(f"{which}: {result.reason}")
                for name, array in result.arrays().items():
                    parts[name].append(array.astype(self.dtype))
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def over(
        self, source: str | os.PathLike[str] | Source
    ) -> Iterator[Batch[Entry] | Failure[Entry]]:
        """Compute features of all images of a source, batch by batch, keeping none.

        Parameters
        ----------
        source : path or Source
            A folder, an image, a ``.txt`` or ``.csv`` list, or ``.tar`` shards.

        Yields
        ------
        Batch or Failure
            In the order of the source, but for a failure's coming before its batch.

        Raises
        ------
        SourceError
            The source cannot be read, or has no images.
        """
        images = source if isinstance(source, Source) else open_source(source)
        yield from self.stream(images.entries, lambda entry: self.read(images, entry))

    @contextmanager
    def held(self, value: Any) -> Iterator[Image.Image]:
        """Give an image in any of the forms that :meth:`__call__` takes."""
        if isinstance(value, str | os.PathLike):
            with decoded(value, max_pixels=self.max_pixels) as image:
                yield image
        else:
            yield as_image(value)

    @contextmanager
    def read(self, images: Source, entry: Entry) -> Iterator[Image.Image]:
        """Decode one image of a source; huge ones wait for their turn, and keep it meanwhile."""
        with images.open(entry) as file, decoded(file, max_pixels=self.max_pixels) as image:
            yield image

    def stream(
        self, items: Sequence[Item], load: Callable[[Item], AbstractContextManager[Image.Image]]
    ) -> Generator[Batch[Item] | Failure[Item], None, None]:
        """Lead items through decoding, in threads ahead of the network, and through the network.

        Parameters
        ----------
        items : sequence
            Anything that stands for an image.
        load : callable
            Item to a context manager of its RGB image. Whatever it raises makes a
            :class:`Failure` of that item alone.

        Yields
        ------
        Batch or Failure
            Items in order; on a GPU a batch's features may still be under way.
        """
        if not items:
            return
        yield from stream(
            items,
            load,
            self.network,
            view=self.view,
            batch_size=self._batch_size,
            workers=self.workers or min(_WORKERS, usable_cores()),
        )

    def extract(
        self,
        source: str | os.PathLike[str],
        store: str | os.PathLike[str],
        *,
        labels: str | os.PathLike[str] = "auto",
        on_error: str = "skip",
        overwrite: bool = False,
        retry_failed: bool = False,
        progress: bool | None = None,
    ) -> ExtractSummary:
        """Extract features of a source of images into a store, going on where a run stopped.

        Parameters
        ----------
        source : path
            A folder, an image, a ``.txt`` or ``.csv`` list, or ``.tar`` shards.
        store : path
            The HDF5 file. If it exists it is resumed: rows done stay, new images are appended,
            changed and pending ones are computed.
        labels : str or path
            ``"auto"`` (the source's own, else its folders), ``"none"``, or a CSV file with the
            columns path and label.
        on_error : str
            ``"skip"`` records a bad image as failed and goes on, ``"stop"`` raises.
        overwrite : bool
            Begin the store anew.
        retry_failed : bool
            Try failed rows again.
        progress : bool, optional
            Show a bar on stderr; by default only on a terminal.

        Returns
        -------
        ExtractSummary

        Raises
        ------
        SourceError, StoreError, WeightsError, DeviceError
            Before anything is changed.
        ImageError
            With ``on_error="stop"``.
        """
        from vggfeat.extract import filling

        return filling.extract(
            self,
            source,
            store,
            labels=labels,
            on_error=on_error,
            overwrite=overwrite,
            retry_failed=retry_failed,
            progress=progress,
        )

    @property
    def _batch_size(self) -> int:
        from vggfeat.devices import default_batch_size

        side = self.network.preprocessing.crop
        each = 4 * sum(math.prod(shape) for shape in self.shapes.values())
        fitting = max(1, _BATCH_BYTES // each)  # several batches wait to be written
        return self.batch_size or min(fitting, default_batch_size(self.network.device, side))


def _as_list(images: Any) -> list[Any]:
    single = isinstance(images, str | os.PathLike | Image.Image)
    # An array of one dimension holds paths; of two or three, the pixels of one image.
    return [images] if single or getattr(images, "ndim", 1) in (2, 3) else list(images)
