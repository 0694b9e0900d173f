"""The paper's protocol on a labelled dataset, from its images on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from vggfeat import datasets
from vggfeat.errors import LayerError, SourceError
from vggfeat.evaluation import Evaluation, rules_of, score_dataset
from vggfeat.extract import FeatureExtractor
from vggfeat.layers import architecture
from vggfeat.progress import Progress, bars
from vggfeat.protocols.keeping import STORES, RunOptions, kept_store
from vggfeat.store import open_features

if TYPE_CHECKING:
    from vggfeat.datasets import Dataset
    from vggfeat.datasets.protocols import AveragePrecision, Combine
    from vggfeat.feature_table import FeatureTable
    from vggfeat.probe.targets import Classifier

Path = str | os.PathLike[str]


def evaluate(
    dataset: str,
    root: Path,
    *,
    networks: str | Sequence[str] = "vgg16",
    weights: str | Mapping[str, str | None] | None = None,
    layer: str = "relu7",
    scales: str | Sequence[int] = (),
    combine: Combine | None = None,
    flip: bool = True,
    quick: bool = False,
    boxes: bool = True,
    stack: bool = True,
    classifier: Classifier = "svm",
    ap: AveragePrecision | None = None,
    splits: int | None = None,
    train_per_class: int | None = None,
    seed: int = 0,
    download: bool = False,
    stores: Path = STORES,
    progress: Progress | bool | None = None,
    **run: Unpack[RunOptions],
) -> Evaluation:
    """Run the paper's protocol on a dataset and set our number beside the paper's.

    Images are described densely: the whole image at several scales, with mirror images, the fully
    connected layers at every position, averaged. L2-normalised descriptors are classified by linear
    SVMs whose C is chosen on held-out training images (Simonyan & Zisserman, arXiv 1409.1556,
    appendix B). Features are extracted where they are not kept from a run before.

    Parameters
    ----------
    dataset : str
        One of :data:`vggfeat.datasets.DATASETS`.
    root : path
        Its folder, or the one that its archives were unpacked in.
    networks : str or sequence of str
        Networks to measure; one text may name several with commas between.
    weights : str or mapping of str to str, optional
        For all networks, or by network; by default ImageNet's, or for vgg16-tiny those in
        the package.
    layer : str
        What describes an image, as ``"relu7"`` (the paper's) or ``"pool5:spp"``.
    scales : sequence of int, optional
        Lengths of the image's smaller side in pixels; by default the protocol's.
    combine : {"mean", "stack"}, optional
        How scales are combined; by default as the protocol says.
    flip : bool
        Average mirror images in.
    quick : bool
        Take the first scale alone.
    boxes : bool
        Where a dataset marks objects, also stack the descriptor of the object's box.
    stack : bool
        Of several networks, also stack their features (the paper's D and E).
    classifier : {"svm", "logreg"}
        A linear SVM, as in the paper, or logistic regression.
    ap : {"11-point", "all-point"}, optional
        Definition of average precision; by default the dataset's devkit's.
    splits, train_per_class : int, optional
        Number of random splits, and training images of each class in them, where the dataset has
        no official sets; by default the protocol's. Of ``"folder"`` also instead of its folders
        train, val and test.
    seed : int
        Of random splits and of the images held out to choose C.
    download : bool
        Fetch the dataset into `root` first, unless it is there.
    stores : path
        Folder in which features are kept; those made in the same way are used again, and a run
        that was stopped continues there.
    progress : bool or Progress, optional
        Show bars on stderr, by default only on a terminal; or what is told of it.
    **run
        `batch_size`, `workers`, `device`, `precision`, `engine` and `preprocessing` of
        :class:`~vggfeat.FeatureExtractor`.

    Returns
    -------
    Evaluation
        Frozen; :meth:`~vggfeat.evaluation.Evaluation.to_json` gives all of it.

    Raises
    ------
    LayerError
        A network, layer or pooling is unknown, or a network is named twice or none is.
    SourceError
        The dataset is unknown, missing or damaged; or `splits` or `train_per_class` is given where
        there are official sets, or is too large.
    WeightsError, DeviceError, StoreError, ProbeError
        Weights, the machine, a kept store or the features cannot be used.

    Examples
    --------
    >>> import vggfeat
    >>> result = vggfeat.evaluate("caltech101", "data", quick=True)         # doctest: +SKIP
    >>> result.rows[0].score, result.rows[0].published.percent             # doctest: +SKIP
    """
    record = datasets.dataset_record(dataset)
    extractors = {
        network: FeatureExtractor(
            network,
            weights=weights if weights is None or isinstance(weights, str) else weights[network],
            layers=[layer],
            view="dense",
            scales=scales,
            flip=flip,
            **run,
        )
        for network in network_names(networks)
    }  # bad options end here, before anything is fetched or extracted
    if download:
        datasets.download(dataset, root)
    opened = _with_rule(record.open(root), splits, train_per_class)
    rules = rules_of(opened, classifier=classifier, ap=ap, seed=seed)
    opened.splits(rules.seed)  # refused now rather than after the extraction
    for network, extractor in extractors.items():
        sides = extractor.resolved_view.scales or record.protocol.scales_for(
            extractor.architecture.input_size
        )
        extractors[network] = replace(
            extractor,
            scales=sides[:1] if quick else sides,
            combine=combine or record.protocol.combine,
        )

    with ExitStack() as opening:

        def kept(*, boxes: bool) -> dict[str, FeatureTable]:
            source, tables = opened.source(boxes=boxes), {}
            for network, extractor in extractors.items():
                name = f"{dataset}-{network}{'-boxes' if boxes else ''}"
                path = kept_store(source, extractor, stores, name, progress)
                tables[network] = opening.enter_context(open_features(path))
            return tables

        images = kept(boxes=False)
        crops = kept(boxes=True) if boxes and opened.boxes is not None else {}
        told = opening.enter_context(bars("split", progress))
        return score_dataset(opened, images, boxes=crops, stack=stack, rules=rules, progress=told)


def network_names(networks: str | Sequence[str]) -> tuple[str, ...]:
    """Return the networks that are named, each once.

    Raises
    ------
    LayerError
        One is unknown or named twice, or there is none.
    """
    given = networks.split(",") if isinstance(networks, str) else networks
    names = tuple(architecture(name.strip()).name for name in given if name.strip())
    if not names:
        raise LayerError("No network is named. Give one or more, such as vgg16,vgg19.")
    if len(set(names)) < len(names):
        raise LayerError(f"{', '.join(names)} names a network twice; name each once.")
    return names


def _with_rule(dataset: Dataset, splits: int | None, train_per_class: int | None) -> Dataset:
    given = {"count": splits, "train_per_class": train_per_class}
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        return dataset
    dataset = dataset.undivided or dataset
    if dataset.rule is None:
        raise SourceError(
            f"{dataset.name} has {dataset.protocol.train} and {dataset.protocol.test}, and cannot "
            "be drawn from: it has official sets, or a class of a single image. Leave out splits "
            "and train_per_class."
        )
    return replace(dataset, rule=replace(dataset.rule, **changes))
