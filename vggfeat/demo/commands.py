"""The demo's commands, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

DIGITS_LAYER = "pool4"
PHOTOS_LAYER = "relu6"
EXTRACTED = ["--model", "vgg16-tiny", "--layers", "pool2,pool3,pool4,pool5,relu6,relu7"]
NEIGHBOURS = 5
_QUERIES = 5  # of the user's own photos
_LEAST = 8  # images of each class, so that a quarter of them says something


class Command(NamedTuple):
    """A command to run.

    Attributes
    ----------
    arguments : list of str
        After ``vggfeat``, with paths as the user wrote them.
    why : str
        What it is for, in one sentence.
    store : Path or None
        Where it extracts to.
    """

    arguments: list[str]
    why: str
    store: Path | None = None


def commands(folder: str, photos: str | None) -> Iterator[Command]:
    """Yield the commands of a demo; each must have been run before the next is asked for.

    Parameters
    ----------
    folder : str
        The demo's folder, as the user wrote it, with its pictures in place.
    photos : str or None
        The user's own source of images.
    """

    def at(*names: str) -> str:
        return _no_option(str(Path(folder, *names)))

    def extract(source: str, name: str, why: str, *options: str) -> Command:
        arguments = ["extract", source, at(name), *EXTRACTED, *options]
        return Command(arguments, why, Path(folder, name))

    yield extract(at("digits"), "digits.h5", "Features of the digits, from six layers in one pass")
    yield extract(at("places"), "places.h5", "Views of 24 places in two photographs")
    yield extract(
        at("places"), "places-random.h5", "The same with random weights, to compare with",
        "--weights", "random:0",
    )  # fmt: skip
    yield extract(at("photos"), "photos.h5", "The photographs and their tiles")
    yield Command(["info", at("digits.h5")], "What is in the file")
    for name, stores in (("places", ["places.h5", "places-random.h5"]), ("digits", ["digits.h5"])):
        yield Command(
            ["sweep", *map(at, stores), "--png", at(f"{name}-sweep.png")],
            f"Every layer judged on the {name}: by a linear classifier, and by nearest neighbours",
        )
    digits, photographs = at("digits.index"), at("photos.index")
    yield Command(
        ["probe", at("digits.h5"), "--layer", DIGITS_LAYER, "--save", at("digits.probe"),
         "--html", at("probe.html")],
        "A linear classifier that tells the digits apart, scored on a quarter held out",
    )  # fmt: skip
    yield Command(
        ["predict", at("digits.probe"), at("new-digits")],
        "The classifier on ten digits it has never seen; their names begin with the truth",
    )
    yield Command(
        ["index", "build", at("digits.h5"), digits, "--layer", DIGITS_LAYER],
        "An index of the digits to search in",
    )
    unseen = sorted(path.name for path in Path(folder, "new-digits").glob("[0368]*.png"))
    queries = [at("new-digits", name) for name in unseen]
    yield Command(
        ["search", digits, *queries, "-k", str(NEIGHBOURS), "--html", at("search.html")],
        "The digits most like four that are not in the index",
    )
    yield Command(
        ["index", "build", at("photos.h5"), photographs, "--layer", PHOTOS_LAYER],
        "An index of the photographs and their tiles",
    )
    crops = [at("crops", name) for name in ("china.jpg", "flower.jpg")]
    yield Command(
        ["search", photographs, *crops, "-k", str(NEIGHBOURS)],
        "The tiles most like a part cut from each photograph",
    )
    yield Command(
        ["plot", "--image", at("crops", "flower.jpg"), "--index", photographs, at("alike.png")],
        "Where the flower's part and the tile most like it are alike",
    )
    if photos is None:
        return
    from vggfeat.store import open_features

    yield extract(_no_option(photos), "own.h5", "Your photos")
    yield Command(
        ["index", "build", at("own.h5"), at("own.index"), "--layer", PHOTOS_LAYER],
        "An index of them",
    )
    with open_features(Path(folder, "own.h5")) as opened:
        chosen, classes = some_images(opened), judged_classes(opened)
    if Path(photos).is_dir():
        queries = [_no_option(str(Path(photos, name))) for name in chosen]
        yield Command(
            ["search", at("own.index"), *queries, "-k", str(NEIGHBOURS + 1), "--html",
             at("own.html")],
            "The photos most like some of them; each finds itself first",
        )  # fmt: skip
    if classes:
        yield Command(
            ["sweep", at("own.h5"), "--png", at("own-sweep.png")],
            f"Your {classes} sub-folders as classes: which layer tells them apart?",
        )


def some_images(store: FeatureTable) -> list[str]:
    """Return some images of a store, as it names them: spread evenly over all that are done."""
    done = store.paths[store.done]
    at = np.linspace(0, len(done) - 1, min(_QUERIES, len(done))).round().astype(int)
    return [str(name) for name in done[at]]


def judged_classes(store: FeatureTable) -> int:
    """Return the number of classes that a store's images can be judged by; 0 if they cannot."""
    if not store.has_labels or store.multi_label:
        return 0
    targets = store.labels[store.done]
    counts = np.unique(targets[targets >= 0], return_counts=True)[1]
    return len(counts) if len(counts) > 1 and counts.min() >= _LEAST else 0


def _no_option(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path
