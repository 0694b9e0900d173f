"""A benchmark of image retrieval, from its images on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Unpack

from vggfeat.datasets import open_benchmark
from vggfeat.errors import LayerError
from vggfeat.evaluation import RetrievalEvaluation, score_benchmark
from vggfeat.extract import FeatureExtractor
from vggfeat.progress import Progress, bars
from vggfeat.protocols.keeping import STORES, RunOptions, kept_store
from vggfeat.store import open_features

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable
    from vggfeat.index import Expansion
    from vggfeat.index.preparing import Metric
    from vggfeat.metrics.retrieval import Area
    from vggfeat.sources import Source
    from vggfeat.whitening import Whitening

Path = str | os.PathLike[str]


def evaluate_retrieval(
    benchmark: str,
    root: Path,
    *,
    files: Path | None = None,
    model: str = "vgg16",
    weights: str | None = None,
    layer: str = "pool5:rmac",
    view: str = "dense",
    scales: str | Sequence[int] = (),
    combine: str = "mean",
    flip: bool = False,
    metric: Metric = "cosine",
    whitening: Whitening | int | None = None,
    augment: Expansion | None = None,
    expand: Expansion | None = None,
    whole_queries: bool = False,
    ap: Area | None = None,
    stores: Path = STORES,
    progress: Progress | bool | None = None,
    **run: Unpack[RunOptions],
) -> RetrievalEvaluation:
    """Score features on a benchmark of image retrieval, by its own rules.

    Queries are cropped to their boxes and go the way of a search; the search is exact and ranks all
    images. Features are extracted where they are not kept from a run before.

    Parameters
    ----------
    benchmark : str
        One of :data:`vggfeat.datasets.BENCHMARKS`; ``"folders"``: sub-folders are classes.
    root : path
        Where the images are, at any depth.
    files : path, optional
        The ground truth, see :func:`vggfeat.datasets.open_benchmark`.
    model, weights, view, scales, combine, flip :
        See :class:`~vggfeat.FeatureExtractor`.
    layer : str
        What describes an image.
    metric : {"cosine", "l2", "ip"}
        How nearness is measured.
    whitening : Whitening or int, optional
        Whiten all features; a whole number: learnt on the searched images, keeping so many numbers.
    augment, expand : Expansion, optional
        Average each image, or each query, with its nearest.
    whole_queries : bool
        Search with whole images where queries have boxes.
    ap : {"trapezoid", "step"}, optional
        Definition of average precision; by default the benchmark's.
    stores, progress, **run :
        See :func:`vggfeat.evaluate`.

    Returns
    -------
    RetrievalEvaluation
        Frozen; its ``to_json()`` gives all of it.

    Raises
    ------
    SourceError
        The benchmark is unknown, or its images or ground truth are missing or damaged.
    LayerError
        The network, layer or pooling is unknown, or several layers are named.
    WeightsError, DeviceError, StoreError, SearchError
        Weights, the machine, a kept store or the features cannot be used.

    Examples
    --------
    >>> import vggfeat
    >>> result = vggfeat.evaluate_retrieval("folders", "photos")   # doctest: +SKIP
    >>> result.scores[0].score                                     # doctest: +SKIP
    """
    extractor = FeatureExtractor(
        model,
        weights=weights,
        layers=[layer],
        view=view,
        scales=scales,
        combine=combine,
        flip=flip,
        **run,
    )  # bad options end here, before anything is extracted
    if len(extractor.poolings) > 1:
        raise LayerError(f"{layer!r} names several layers; choose one.")
    opened = open_benchmark(benchmark, root, files)
    # Paths are relative to the root, so that another root needs another store.
    name = f"{benchmark}-{_digest(opened.root)}-{model}"
    with ExitStack() as opening:

        def kept(source: Source, name: str) -> FeatureTable:
            path = kept_store(source, extractor, stores, name, progress)
            return opening.enter_context(open_features(path))

        store, queries = kept(opened.source(), name), None
        if (source := opened.query_source(whole=whole_queries)) is not None:
            kind = "queries" if whole_queries or not opened.boxed else "crops"
            boxes = _digest(repr([one.box for one in opened.queries]))
            queries = kept(source, f"{name}-{kind}-{boxes}")
        return score_benchmark(
            opened,
            store,
            queries,
            metric=metric,
            whitening=whitening,
            augment=augment,
            expand=expand,
            area=ap,
            progress=opening.enter_context(bars("image", progress)),
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
