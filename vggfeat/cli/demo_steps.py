"""The demo's commands, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from vggfeat.store import FeatureStore

MODEL = "vgg16-tiny"
DIGITS_LAYER = "pool4"
PHOTOS_LAYER = "relu6"
LAYERS = "pool2,pool3,pool4,pool5,relu6,relu7"
ASKED = 5
"""The user's own photos that are searched with."""

NEIGHBOURS = 5
_LEAST = 8  # images of each class, so that a quarter of them says something


class Step(NamedTuple):
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


def steps(folder: str, photos: str | None) -> Iterator[Step]:
    """Yield the commands of a demo; each must have been run before the next is asked for.

    Parameters
    ----------
    folder : str
        The demo's folder, as the user wrote it, with its pictures in place.
    photos : str or None
        The user's own source of images.
    """
    yield from _extractions(folder)
    yield from _digits(folder)
    yield from _photos(folder)
    if photos is not None:
        yield from _own(folder, photos)


def _extractions(folder: str) -> Iterator[Step]:
    chosen = ["--model", MODEL, "--layers", LAYERS]
    randomly = ["--weights", "random:0"]
    for source, name, weights, why in (
        ("digits", "digits", [], "Features of the digits, from six layers in one pass"),
        ("places", "places", [], "Views of 24 places in two photographs"),
        ("places", "places-random", randomly, "The same with random weights, to compare with"),
        ("photos", "photos", [], "The photographs and their tiles"),
    ):
        store = f"{name}.h5"
        yield Step(
            ["extract", _at(folder, source), _at(folder, store), *chosen, *weights],
            why,
            Path(folder, store),
        )
    yield Step(["info", _at(folder, "digits.h5")], "What is in the file")
    for name, others in (("places", ["places-random"]), ("digits", [])):
        stores = [_at(folder, f"{each}.h5") for each in (name, *others)]
        yield Step(
            ["sweep", *stores, "--png", _at(folder, f"{name}-sweep.png")],
            f"Every layer judged on the {name}: by a linear classifier, and by nearest neighbours",
        )


def _digits(folder: str) -> Iterator[Step]:
    store, index = _at(folder, "digits.h5"), _at(folder, "digits.index")
    unseen = sorted(path.name for path in Path(folder, "new-digits").glob("*.png"))
    asked = [_at(folder, "new-digits", name) for name in unseen if name[0] in "0368"]
    yield Step(
        ["probe", store, "--layer", DIGITS_LAYER, "--save", _at(folder, "digits.probe"),
         "--html", _at(folder, "probe.html")],
        "A linear classifier that tells the digits apart, scored on a quarter held out",
    )  # fmt: skip
    yield Step(
        ["predict", _at(folder, "digits.probe"), _at(folder, "new-digits")],
        "The classifier on ten digits it has never seen; their names begin with the truth",
    )
    yield Step(
        ["index", "build", store, index, "--layer", DIGITS_LAYER],
        "An index of the digits to search in",
    )
    yield Step(
        ["search", index, *asked, "-k", str(NEIGHBOURS), "--html", _at(folder, "search.html")],
        "The digits most like four that are not in the index",
    )


def _photos(folder: str) -> Iterator[Step]:
    index = _at(folder, "photos.index")
    crops = [_at(folder, "crops", name) for name in ("china.jpg", "flower.jpg")]
    yield Step(
        ["index", "build", _at(folder, "photos.h5"), index, "--layer", PHOTOS_LAYER],
        "An index of the photographs and their tiles",
    )
    yield Step(
        ["search", index, *crops, "-k", str(NEIGHBOURS)],
        "The tiles most like a part cut from each photograph",
    )


def _own(folder: str, photos: str) -> Iterator[Step]:
    from vggfeat.store import FeatureStore

    store, index = _at(folder, "own.h5"), _at(folder, "own.index")
    yield Step(
        ["extract", _no_option(photos), store, "--model", MODEL, "--layers", LAYERS],
        "Your photos",
        Path(folder, "own.h5"),
    )
    yield Step(["index", "build", store, index, "--layer", PHOTOS_LAYER], "An index of them")
    with FeatureStore(Path(folder, "own.h5")) as opened:
        asked, classes = chosen(opened), labelled(opened)
    if Path(photos).is_dir():
        queries = [_no_option(str(Path(photos, name))) for name in asked]
        yield Step(
            ["search", index, *queries, "-k", str(NEIGHBOURS + 1), "--html",
             _at(folder, "own.html")],
            "The photos most like some of them; each finds itself first",
        )  # fmt: skip
    if classes:
        yield Step(
            ["sweep", store, "--png", _at(folder, "own-sweep.png")],
            f"Your {classes} sub-folders as classes: which layer tells them apart?",
        )


def chosen(store: FeatureStore) -> list[str]:
    """Return some images of a store, as it names them: spread evenly over all that are done."""
    done = store.paths[store.done]
    at = np.linspace(0, len(done) - 1, min(ASKED, len(done))).round().astype(int)
    return [str(name) for name in done[at]]


def labelled(store: FeatureStore) -> int:
    """Return the number of classes that a store's images can be judged by; 0 if they cannot."""
    if not store.has_labels or store.multi_label:
        return 0
    targets = store.labels[store.done]
    counts = np.unique(targets[targets >= 0], return_counts=True)[1]
    return len(counts) if len(counts) > 1 and counts.min() >= _LEAST else 0


def _at(folder: str, *names: str) -> str:
    return _no_option(str(Path(folder, *names)))


def _no_option(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path
