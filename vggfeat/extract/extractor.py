"""Images in, features of named layers out."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggfeat.errors import ImageError
from vggfeat.extract.continuing import check_given, check_weights, settings_of
from vggfeat.extract.memory import Features, MemorySink
from vggfeat.extract.on_ray import extract_on_ray
from vggfeat.extract.parts import in_parts, plan_parts, run_parts, summarise
from vggfeat.extract.requested import Request, source_of
from vggfeat.extract.settings import Settings, stored_preprocessing
from vggfeat.extract.storing import open_entry, open_run
from vggfeat.extract.stream import WAITING, Batch, Failure, Item, Load, drain, stream
from vggfeat.images import as_image, decoded
from vggfeat.processors import usable_cores
from vggfeat.progress import Progress
from vggfeat.provenance import RunInfo, now, versions
from vggfeat.sources import Entry, Source, open_source
from vggfeat.store import FeatureStore
from vggfeat.store.parts import wants_parts

if TYPE_CHECKING:
    from torch import Tensor

    from vggfeat.extract.summary import ExtractSummary
    from vggfeat.network import Network

_BATCH_BYTES = 1 << 28  # features, or inputs, of a batch, where its size is chosen here
_building = threading.Lock()  # a network for all threads; building one takes all processors
_WORKERS = 8  # by default at most; more than that many decoders outrun any one network


@dataclass(frozen=True)
class FeatureExtractor(Settings):
    """Turns images into features of named layers.

    The network is built at the first use, only as deep as the deepest layer, and kept.

    Parameters
    ----------
    model : str
        A name of :data:`vggfeat.layers.ARCHITECTURES`, such as ``"vgg16"`` or ``"vgg19_bn"``.
    weights : str or path, optional
        ``"imagenet"``, ``"imagenet-features"``, ``"builtin"``, a file in any of
        :data:`vggfeat.weights.FORMATS`, or ``"random[:SEED]"``; by default
        :func:`~vggfeat.weights.usual` for the model: imagenet, and builtin for vgg16-tiny.
    layers : str or sequence of str
        Names or aliases, each optionally with its pooling, as ``"conv5_3:max"``.
    view : str
        ``"center"`` (the weights' own transforms), ``"squash"`` (the whole image), ``"tencrop"``
        (corners, centre and their mirror images) or ``"dense"`` (the network at all positions
        of the whole image, of any size and shape).
    scales : str or sequence of int
        Of the dense view, as ``(256, 384, 512)``: lengths in pixels that the smaller side is
        resized to. By default the one that the weights' own transforms resize to (256).
    flip : bool
        Average with the mirror image.
    combine : str
        What becomes of several scales: ``"mean"``, or ``"stack"`` (one behind the other).
    pool : str
        For convolutional layers that name none: ``"avg"``, ``"max"``, ``"none"`` or another of
        :data:`vggfeat.pooling.POOLINGS`.
    batch_size : int, optional
        Images that run at a time; chosen for the device by default.
    workers : int, optional
        Threads that decode images; by default one for each processor, at most 8.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
    precision : str
        Type the network runs in: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    engine : str
        What runs the layers: ``"torch"``, ``"winograd"`` (two to three times as fast on x86-64
        processors, with numba and in float32; results agree to 1e-5), or ``"auto"``, which takes
        that one where it can run and there are enough images to repay its start.
    dtype : str
        Type of the features: ``"float32"`` or ``"float16"``.
    preprocessing : str, Preprocessing or ByHand
        ``"auto"`` for what belongs to the weights, ``"strict"`` for the same or a refusal where
        that is only assumed, a name of :data:`vggfeat.preprocessing.PRESETS`, or the
        preprocessing itself, or its values by hand (:class:`vggfeat.preprocessing.ByHand`).
    max_pixels : int
        Images with more pixels are refused.
    truncated : str
        What becomes of files whose end is missing: ``"refuse"``, or ``"accept"`` what is there.
    value_range : str
        Which values of more than 8 bits become 0..255: ``"full"`` (those that the file's type
        allows), ``"minmax"`` (each image's own) or ``"LOW:HIGH"``; see docs/images.md.

    Raises
    ------
    LayerError
        Unknown model, layer, pooling or view; or what does not go together, such as whole maps
        and a view that averages.
    DeviceError
        Unknown dtype or engine, or a size that is not positive.
    ImageError
        What `truncated` or `value_range` may not be.

    Notes
    -----
    Any number of threads may use one extractor, and each gets the rows that it would get alone, bit
    for bit (with ``engine="auto"``: to 1e-5, where a large job of one of them changes the engine).
    What the caller has set in torch - autocast, default dtype or device, reduced precision -
    does not reach the network (``docs/threads.md``). A used extractor pickles, without its network.

    Examples
    --------
    >>> extractor = FeatureExtractor(weights="random", layers=["conv5_3", "relu7"])
    >>> features = extractor(["a.jpg", "b.jpg"])          # doctest: +SKIP
    >>> features["relu7"].shape                           # doctest: +SKIP
    (2, 4096)
    """

    @classmethod
    def for_store(cls, store: str | os.PathLike[str], **given: Any) -> Self:
        """Make the extractor that continues an existing store, as the command does.

        Parameters
        ----------
        store : path
            The store.
        **given
            Parameters of the extractor. Those that decide the features must be the store's: they
            may be left out, and are the store's then. So is `precision`.

        Raises
        ------
        StoreMismatchError
            One differs from the store's. Nothing was downloaded.
        StoreError
            There is no store, or it cannot be read.
        WeightsError
            The store's weights were a file that is no longer where it was.
        """
        with FeatureStore(store) as held:
            provenance = held.provenance
        name = os.fspath(store)
        check_given(name, provenance, given)
        settings = settings_of(provenance) | given
        if "weights" not in given:
            check_weights(name, provenance)
        if "layers" in given or "pool" in given:
            settings["layers"] = settings_of(provenance)["layers"]  # the same, written in full
        extractor = cls(**settings)
        stored = provenance.config.preprocessing
        if "preprocessing" not in given and extractor.config.preprocessing != stored:
            extractor = replace(extractor, preprocessing=stored_preprocessing(stored))
        return extractor

    @property
    def network(self) -> Network:
        """The network, built and loaded at the first use, once for all threads."""
        from vggfeat.network import Network

        with _building:
            if "_network" not in self.__dict__:
                self.__dict__["_network"] = Network.load(
                    self.architecture,
                    self.resolved_weights,
                    self.poolings,
                    self.device,
                    self.precision,
                    self.engine,
                )
            network: Network = self.__dict__["_network"]
        return network

    def __getstate__(self) -> dict[str, Any]:
        """Return the parameters alone: weights are found, and the network built, where it goes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def hint_workload(self, images: int) -> None:
        """Say how many images are to come, so that ``auto`` can choose an engine."""
        view = self.resolved_view
        pixels = view.pixels(self.network.preprocessing) * (1 + view.flip)
        self.network.hint_workload(images * pixels)

    def __call__(self, images: Any, *, on_error: str = "stop") -> Features:
        """Compute features of images in memory.

        Parameters
        ----------
        images : iterable
            Paths, Pillow images, uint8 arrays (H, W), (H, W, 3) or (H, W, 4), or uint8 tensors
            (3, H, W) - or one of them.
        on_error : str
            ``"stop"`` raises at the first image that cannot be used, ``"skip"`` continues.

        Returns
        -------
        Features
            A dict of canonical layer name to features (N, D), or (N, C, H, W) with pooling
            ``"none"``; of type `dtype`, rows in the order of the images. With ``"skip"`` the rows
            of images that cannot be used are NaN, and its attribute `failures` says why, by
            position.

        Raises
        ------
        ImageError
            An image cannot be decoded, and `on_error` is ``"stop"``; the message names it.
        """
        if on_error not in ("stop", "skip"):
            raise ImageError(f"on_error is {on_error!r}; allowed are 'stop' and 'skip'.")
        items = _as_list(images)
        sink = MemorySink(items, self.shapes, self.dtype, stop=on_error == "stop")
        drain(self.stream(range(len(items)), lambda i: self.open_image(items[i])), sink)
        return sink.features

    def inputs(self, image: Any) -> list[NDArray[np.uint8]]:
        """Return what the network sees of an image, but for mirror images that `flip` asks for.

        Parameters
        ----------
        image : path, PIL image, array or tensor
            As for :meth:`__call__`.

        Returns
        -------
        list of ndarray of uint8, (H, W, 3)
            Scale by scale, crop by crop; one for the views center and squash. RGB, 0..255.

        Raises
        ------
        ImageError
            The image cannot be decoded.
        """
        with self.open_image(image) as whole:
            return self.resolved_view.inputs(whole, self.resolved_weights.preprocessing)

    def activations(self, image: Any, *, gradients: bool = False) -> list[dict[str, Tensor]]:
        """Return what the layers put out for one image, unpooled.

        Its features are these, pooled (fully connected layers: averaged over positions) and then
        put together by ``resolved_view.combined``.
        :meth:`vggfeat.network.Network.activations` runs batches, and starts at any layer.

        Parameters
        ----------
        image : path, PIL image, array or tensor
            As for :meth:`__call__`.
        gradients : bool
            Let autograd record the run.

        Returns
        -------
        list of dict of str to Tensor
            For each of :meth:`inputs`, followed where `flip` asks for it by its mirror image:
            canonical layer name to float32 (C, H, W) or (D,), and (D, h, w) for the fully connected
            layers of a dense view; on the network's device.

        Raises
        ------
        ImageError
            The image cannot be decoded.
        LayerError
            ``flatten`` of a dense view, which is a vector.
        """
        view, results = self.resolved_view, []
        for array in self.inputs(image):
            for own in (array, array[:, ::-1]) if view.flip else (array,):
                one = self.network.activations([own], dense=view.dense, gradients=gradients)
                results.append({name: batch[0] for name, batch in one.items()})
        return results

    def iter_features(
        self, source: str | os.PathLike[str] | Source
    ) -> Iterator[Batch[Entry] | Failure[Entry]]:
        """Compute features of all images of a source, batch by batch, keeping none.

        Parameters
        ----------
        source : path or Source
            A folder, an image, a ``.txt`` or ``.csv`` list, ``.tar`` or ``.zip`` archives.

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
        yield from self.stream(
            images.entries,
            lambda entry: open_entry(images, entry, self.reading),
            distant=images.distant,
        )

    @contextmanager
    def open_image(self, value: Any) -> Iterator[Image.Image]:
        """Give an image in any of the forms that :meth:`__call__` takes."""
        if isinstance(value, str | os.PathLike):
            with decoded(value, **self.reading) as image:
                yield image
        else:
            yield as_image(value, **self.reading)

    def stream(
        self, items: Sequence[Item], load: Load[Item], *, distant: bool = False
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
        self.hint_workload(len(items))
        yield from stream(
            items,
            load,
            self.network,
            view=self.resolved_view,
            batch_size=self._batch_size,
            workers=self.workers or (WAITING if distant else min(_WORKERS, usable_cores())),
        )

    def extract(
        self,
        source: str | os.PathLike[str] | Source | Sequence[str | os.PathLike[str]],
        store: str | os.PathLike[str],
        *,
        labels: str | os.PathLike[str] = "auto",
        split: str | Mapping[str, str | os.PathLike[str]] = "auto",
        group_by: str | None = None,
        groups: str | os.PathLike[str] | None = None,
        on_error: str = "skip",
        overwrite: bool = False,
        retry_failed: bool = False,
        prune: bool = False,
        partial: bool = False,
        part_rows: int | None = None,
        parts: Sequence[int] | None = None,
        plan_only: bool = False,
        ray: str | None = None,
        progress: Progress | bool | None = None,
    ) -> ExtractSummary:
        """Extract features of a source of images into a store, continuing where a run stopped.

        Parameters
        ----------
        source : path, Source or sequence of paths
            A folder, an image, a ``.txt`` or ``.csv`` list, ``.tar`` or ``.zip`` archives; or what
            :meth:`vggfeat.datasets.Dataset.source` gives. Several, or ``NAME=PATH``, are kept
            each under its name; see :func:`vggfeat.sources.open_sources`.
        store : path
            The HDF5 file. If it exists it is resumed: rows done stay, new images are appended,
            changed and pending ones are computed, moved ones (same bytes, other path) keep their
            features, and those no longer in the source are left out until they return. A name
            that ends in ``/`` or ``.store`` is a folder of parts, and so is one without an ending
            from 200,000 images on.
        labels : str or path
            ``"auto"`` (the source's own, else its folders; in a store that has labels, whatever
            they came from), ``"none"``, ``"folder"`` or ``"folder:N"``, ``"source"``, or a table
            or list; see docs/labels.md.
        split : str or dict
            Which images train and which test: ``"auto"`` (a column ``split`` of a list or table,
            else top folders called train, val and test), ``"none"``, ``"folder:N"``, or a list of
            images by the name of their split.
        group_by, groups : str, path
            Which images belong together, as a patient's do: a regular expression over their paths
            or ``"folder:N"``; or a table. By default a column ``group`` of a list or table.
        on_error : str
            ``"skip"`` records a bad image as failed and continues, ``"stop"`` raises.
        overwrite : bool
            Begin the store anew.
        retry_failed : bool
            Try failed rows again.
        prune : bool
            Remove rows whose images are no longer in the source, for good.
        partial : bool
            The source is part of what the store is made of: other rows stay as they are.
        part_rows : int, optional
            Make a store of parts, with at most so many images in each; by default 50,000, or what
            takes 2 GiB if that is fewer.
        parts : sequence of int, optional
            Compute these parts alone; the source is listed only if the store is not there yet.
        plan_only : bool
            List the source and cut it into parts, and compute nothing.
        ray : str, optional
            Let a Ray cluster compute the parts: ``"auto"``, ``"HOST:PORT"`` or ``"ray://..."``; or
            ``"local"``, where Ray is started on this machine. Without `part_rows` a new store gets
            parts so small that all workers are busy. See docs/clusters.md.
        progress : bool or Progress, optional
            Show a bar on stderr or in a notebook; by default only where somebody looks. Or what is
            told of images instead.

        Returns
        -------
        ExtractSummary

        Raises
        ------
        SourceError, StoreError, WeightsError, DeviceError
            Before anything is changed.
        ImageError
            With ``on_error="stop"``.
        ClusterError
            There is no Ray, or none of its workers can compute. Parts that failed three times are
            in the summary.
        """
        request = Request(
            labels=labels,
            split=split,
            group_by=group_by,
            groups=groups,
            on_error=on_error,
            overwrite=overwrite,
            retry_failed=retry_failed,
            prune=prune,
            partial=partial,
            progress=progress,
        )
        if ray is not None and not plan_only:
            return extract_on_ray(
                self, source, store, request, address=ray, parts=parts, part_rows=part_rows
            )
        of_parts = part_rows is not None or parts is not None or plan_only or wants_parts(store)
        if not of_parts:
            source = source_of(source)
            of_parts = in_parts(store, len(source.entries))
        if of_parts:
            job = plan_parts(
                self, source, store, request, part_rows=part_rows, known=parts is not None
            )
            return summarise(job, [] if plan_only else run_parts(job, parts, progress))
        with open_run(
            source,
            store,
            request,
            shapes=self.shapes,
            config=self.config,
            run=self.run_info,
            reading=self.reading,
            workers=self.workers,
        ) as run:
            if run.rows:
                with run.sink() as sink:
                    drain(self.stream(run.rows, run.load, distant=run.distant), sink)
            return run.summary()

    def run_info(self, source: str, pending: int) -> RunInfo:
        """Tell of a run, once it is certain that it can be: called before a store changes.

        Parameters
        ----------
        source : str
            What the source is called.
        pending : int
            Images to come, by which an engine is chosen; of parts all of their store, so that one
            engine computes all parts, whichever process does them.
        """
        network = self.network  # loads it, with all that can go wrong
        self.hint_workload(pending)
        planned = self.planned_info(source)
        return replace(planned, device=str(network.device), engine=network.engine.name)

    def planned_info(self, source: str) -> RunInfo:
        """Tell what is known of a run before its network is loaded: no device, no engine."""
        return RunInfo(
            source=source,
            weights=self.resolved_weights.spec,
            device="",
            precision=self.precision,
            start=now(),
            versions=versions(),
            preprocessing=self.resolved_weights.why,
        )

    @property
    def _batch_size(self) -> int:
        from vggfeat.devices import default_batch_size

        spec, view = self.network.preprocessing, self.resolved_view
        features = 4 * sum(math.prod(shape) for shape in self.shapes.values())
        inputs = 3 * view.pixels(spec)
        fitting = max(1, _BATCH_BYTES // max(features, inputs))  # several batches wait
        return self.batch_size or min(fitting, default_batch_size(self.network.device, spec.crop))


def _as_list(images: Any) -> list[Any]:
    single = isinstance(images, str | os.PathLike | Image.Image)
    # An array of one dimension holds paths; of two or three, the pixels of one image.
    return [images] if single or getattr(images, "ndim", 1) in (2, 3) else list(images)
