"""Measure what vgg16-tiny's features are worth on images of other kinds, and how fast they come.

caltech  photographs of Caltech-101: 30 training images a class, at most 50 others for the test
digits   scikit-learn's 1,797 handwritten digits, a quarter of each class for the test
speed    images a second, beside VGG-16

Features of each layer are judged beside those of the same network with random weights and beside
baselines that nobody had to train (`benchmarks/baselines.py`; HOG needs `pip install ".[bench]"`).
All see the same views, are divided by the same seeds, and train the same linear SVM, whose C is
chosen on held-out training images. Figures are means over the seeds +- their standard deviation;
which layer or baseline is the best of its kind, the mean on the test images says.

    python benchmarks/transfer.py caltech caltech101/101_ObjectCategories --png caltech.png
    python benchmarks/transfer.py digits --json digits.json
    python benchmarks/transfer.py speed
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np
from baselines import BASELINES
from contest import (
    MEASURES,
    RANDOM,
    TRAINED,
    Contest,
    Features,
    Rows,
    Split,
    draw,
    margin,
    spread,
    tables,
)
from tiny_speed import speed

from vggfeat import FeatureExtractor, FeatureStore, __version__
from vggfeat.demo.pictures import digit_picture, put
from vggfeat.layers import architecture
from vggfeat.probe import stratified_split
from vggfeat.probe.labelled import Labelled
from vggfeat.weights import Weights, resolve

TINY = "vgg16-tiny"
LAYERS = (
    "conv1_2,pool1,pool2,pool3,pool3:none,pool4,pool4:none,conv5_3,relu5_3,pool5,pool5:none,"
    "fc6,relu6,fc7,relu7,fc8"
)
Others = Callable[[list[str]], Iterable[tuple[str, str, Features]]]


def caltech_split(y: Rows, seed: int) -> tuple[Rows, Rows]:
    """Divide by the protocol of Simonyan and Zisserman, arXiv 1409.1556, appendix B."""
    train, test = stratified_split(y, train_per_class=30, seed=seed)
    shuffled = np.random.default_rng(seed).permutation(test)
    kept = [shuffled[y[shuffled] == k][:50] for k in np.unique(y)]
    return train, np.sort(np.concatenate(kept))


def digits_split(y: Rows, seed: int) -> tuple[Rows, Rows]:
    """Divide as `vggfeat probe` does: digits of one writer may be in both parts."""
    return stratified_split(y, test_size=0.25, seed=seed)


def extracted(
    folder: Path, weights: str, layers: list[str]
) -> tuple[list[str], Labelled, dict[str, Features]]:
    """Return the images' paths and classes, and by layer their features (n, d)."""
    found = {}
    # A store holds a layer once, so those whose pooling is named get a store of their own.
    parts = [[name for name in layers if (":" in name) == named] for named in (False, True)]
    for names in filter(None, parts):
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "store.h5"
            extractor = FeatureExtractor(TINY, weights, names, device="cpu")
            extractor.extract(folder, path, progress=False)
            with FeatureStore(path) as store:
                for name in names:
                    data = Labelled.of(store, name.partition(":")[0])
                    found[name] = data.reader(store)[:]
                paths = store.paths[data.rows].tolist()
    return paths, data, {name: found[name] for name in layers}


def compete(
    data_set: str,
    folder: Path,
    others: Others,
    split: Split,
    measures: list[str],
    *,
    weights: str,
    layers: str,
    seeds: str,
    json_path: Path | None,
    png_path: Path | None,
) -> None:
    """Judge all contestants on a folder's images; print, draw and write what is found."""

    def contestants() -> Iterator[tuple[str, str, Features]]:
        for family, (_, _, features) in networks.items():
            yield from ((family, name, X) for name, X in features.items())
        yield from others(paths)

    specs = {TRAINED: weights, RANDOM: "random:0"}
    check_views(specs)
    networks = {f: extracted(folder, spec, layers.split(",")) for f, spec in specs.items()}
    paths, data, _ = networks[TRAINED]
    contest = Contest(data.y, split, [int(seed) for seed in seeds.split(",")])
    for family, name, X in contestants():
        result = contest.enter(family, name, X)
        told = [f"{title} {spread(result.values(m))}" for m, title in MEASURES.items()]
        seconds = sum(score.seconds for score in result.scores)
        click.echo(f"{result.title}: {', '.join(told)} ({seconds:.1f} s)", err=True)
    publish(data_set, data, contest, measures, specs, json_path, png_path)


def publish(
    data_set: str,
    data: Labelled,
    contest: Contest,
    measures: list[str],
    specs: dict[str, str],
    json_path: Path | None,
    png_path: Path | None,
) -> None:
    """Print what was found, and draw and write it where asked to."""
    one = contest.results[0].scores[0]
    title = (
        f"{data_set}: {len(data.classes)} classes, {one.n_train:,} images to train and "
        f"{one.n_test:,} to test, seeds {', '.join(map(str, contest.seeds))}"
    )
    margins = [margin(contest.results, measure) for measure in measures]
    click.echo(f"{title}; {TINY} with {specs[TRAINED]} weights; percent\n")
    click.echo(tables(contest.results, measures))
    click.echo("\n" + "\n".join(found["told"] for found in margins))
    if png_path:
        draw(contest.results, measures, 1 / len(data.classes), title, png_path)
    if json_path:
        told = {
            "data": data_set,
            "classes": data.classes,
            "seeds": contest.seeds,
            "weights": {f: [spec, identity(spec).sha256] for f, spec in specs.items()},
            "versions": versions(),
            "margins": margins,
            "results": [result.to_json() for result in contest.results],
        }
        json_path.write_text(json.dumps(told, indent=2) + "\n")


def check_views(specs: dict[str, str]) -> None:
    """Stop where the weights' own preprocessing would show the network other views."""
    views = [identity(spec).preprocessing for spec in specs.values()]
    if len({(view.resize, view.crop, view.interpolation) for view in views}) > 1:
        raise click.ClickException(f"{' and '.join(specs.values())} see differing views")


def identity(weights: str) -> Weights:
    return resolve(weights, architecture(TINY))


def versions() -> dict[str, str]:
    found = {"vggfeat": __version__}
    for name in ("torch", "scikit-learn", "scikit-image", "pillow", "numpy"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@click.group(help=__doc__.partition("\n\n")[0])
def main() -> None: ...


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of :func:`compete`."""
    path = click.Path(dir_okay=False, path_type=Path)
    for option in (
        click.option("--png", "png_path", type=path, help="Draw the scores by layer."),
        click.option("--json", "json_path", type=path, help="Write everything measured."),
        click.option("--seeds", default="0,1,2", show_default=True, help="One split each."),
        click.option("--layers", default=LAYERS, show_default=True),
        click.option("--weights", default="builtin", show_default=True, help="The trained ones."),
    ):
        command = option(command)
    return command


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@options
def caltech(folder: Path, **options: Any) -> None:
    """Score layers on FOLDER, Caltech-101 or categories of it in its official layout."""
    if find_spec("skimage") is None:
        raise click.ClickException('HOG needs scikit-image: pip install ".[bench]"')
    inner = folder / "101_ObjectCategories"
    folder = inner if inner.is_dir() else folder
    preprocessing = identity(options["weights"]).preprocessing

    def others(paths: list[str]) -> Iterator[tuple[str, str, Features]]:
        for one in BASELINES:
            yield one.family, one.name, one.features(folder, paths, preprocessing)

    compete("Caltech-101", folder, others, caltech_split, ["mean_class_recall"], **options)


@main.command()
@options
def digits(**options: Any) -> None:
    """Score layers on scikit-learn's digits, drawn as pictures."""
    from sklearn.datasets import load_digits

    data = load_digits()

    def others(paths: list[str]) -> Iterator[tuple[str, str, Features]]:
        rows = [int(Path(path).stem) for path in paths]
        yield "pixels", "pixels 8", data.data[rows].astype(np.float32)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for row, (kind, values) in enumerate(zip(data.target, data.images, strict=True)):
            put(folder / str(kind) / f"{row:04d}.png", digit_picture(values))
        measures = ["accuracy", "knn_accuracy"]
        compete("digits", folder, others, digits_split, measures, **options)


main.add_command(speed)

if __name__ == "__main__":
    main()
