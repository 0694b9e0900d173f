"""The demo's page, made from the files that its commands left."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vggfeat.demo.commands import NEIGHBOURS, some_images
from vggfeat.demo.diary import Diary
from vggfeat.demo.pages import pages
from vggfeat.extract import FeatureExtractor
from vggfeat.feature_table import FeatureTable
from vggfeat.index import SimilarityIndex
from vggfeat.probe import LinearProbe, Prediction, ProbeResult, SavedProbe, stratified_split
from vggfeat.probe.labelled import Labelled, LeftOut
from vggfeat.processors import usable_cores
from vggfeat.report import QueryResult, config_facts, originals, run_facts
from vggfeat.report.confusion import DENSITY
from vggfeat.report.page import write_page
from vggfeat.report.probe import probe_view, protocol_facts
from vggfeat.report.search import query_views
from vggfeat.report.thumbnails import picture, png_picture
from vggfeat.store import open_features


def write(path: Path, folder: Path, diary: Diary) -> str:
    """Write the page, and return the same in a few sentences.

    Parameters
    ----------
    path : Path
        The HTML file to make or replace.
    folder : Path
        The demo's folder, with all commands run.
    diary : Diary
        What the commands were.
    """
    probe = SavedProbe.load(folder / "digits.probe")
    result = _held_out(probe.held_out or {})
    digits = SimilarityIndex.open(folder / "digits.index")
    photos = SimilarityIndex.open(folder / "photos.index")
    with open_features(folder / "digits.h5") as store:
        config, run = store.provenance.config, store.provenance.run
        one_a_class = {name.partition("/")[0]: name for name in store.paths[::-1]}
        shown = [one_a_class[name] for name in sorted(one_a_class)]
        extractions = [_extraction(store, diary, "handwritten digits", shown)]
        pixels = _accuracy_on_pixels(store, probe.layer)
    with open_features(folder / "places.h5") as store:
        shown = [name for name in store.paths if name.startswith("china 2-2/")]
        extractions.append(_extraction(store, diary, "views of 24 places; ten of one", shown))
    with open_features(folder / "photos.h5") as store:
        shown = [name for name in store.paths if "/" not in name]
        extractions.append(_extraction(store, diary, "photographs and their tiles", shown))

    new = sorted((folder / "new-digits").glob("*.png"))
    crops = sorted((folder / "crops").glob("*.jpg"))
    layers = [f"{layer}:{pool}" if pool else layer for layer, pool in config.layers.items()]
    features = FeatureExtractor(config.model, weights=run.weights, layers=layers)([*new, *crops])
    names, _scores = probe.predict(features[probe.layer][: len(new)])
    guesses = [
        {
            "path": image.name, "said": str(name), "truth": image.name[0],
            "right": name == image.name[0], "picture": picture(image),
        }
        for image, name in zip(new, names, strict=True)
    ]  # fmt: skip
    searched = {Path(word).name for done in diary.done for word in shlex.split(done.command)}
    queries = [at for at, image in enumerate(new) if image.name in searched]
    sweeps = [
        _sweep(
            folder / "places-sweep.png",
            diary,
            "Where in the network does generality live?",
            "24 places in two photographs, ten views of each: nearer, farther, beside it, "
            "mirrored, in other light. Eight views of each are learnt from; each layer of "
            "the trained network, and of the same network with random weights, then names the "
            "others, by a linear classifier and by ten nearest neighbours.",
        ),
        _sweep(
            folder / "digits-sweep.png",
            diary,
            "And digits?",
            "Each layer judged on handwritten digits, which are nothing like the photographs "
            f"that the network learnt from. On the bare 8 x 8 pixels the same classifier reaches "
            f"{pixels:.1%}: digits are easy, so that photographs tell more of a network's worth.",
        ),
    ]
    searches = [
        _search(
            "Searched: digits",
            "Digits that are in no index, each with the images most like it by "
            f"{digits.layer}. A tick marks the same class.",
            _neighbours(
                digits, features[digits.layer][queries],
                {new[at]: new[at].name[0] for at in queries},
            ),
        ),
        _search(
            "Searched: photographs",
            "A part cut from each photograph, across the borders of the tiles, with the "
            f"tiles most like it by {photos.layer}.",
            _neighbours(
                photos, features[photos.layer][len(new) :], {crop: crop.stem for crop in crops}
            ),
        ),
    ]  # fmt: skip
    if diary.photos is not None:
        index = SimilarityIndex.open(folder / "own.index")
        with open_features(folder / "own.h5") as store:
            extractions.append(_extraction(store, diary, "your photos", some_images(store)))
            text = f"Some of them, each with the others most like it by {index.layer}."
            searches.insert(0, _search("Your photos", text, _own_neighbours(store, index)))
        own = _sweep(
            folder / "own-sweep.png",
            diary,
            "Your sub-folders as classes",
            "The same judgement of each layer on your own photos, their sub-folders "
            "being the classes.",
        )
        sweeps += [own] if own["table"] else []
    seconds = sum(done.seconds for done in diary.done)
    write_page(
        path,
        "demo.html",
        model=config.model,
        machine=f"{run.device.upper()}, {usable_cores()} cores",
        seconds=seconds,
        layers={
            photos.layer: "what the photographs are searched by",
            digits.layer: "what the digits are told apart and searched by",
        },
        extractions=extractions,
        sweeps=sweeps,
        probe=probe_view(result, originals(run.source), 12),
        pixels=pixels,
        guesses=guesses,
        guessed=sum(guess["right"] for guess in guesses),
        searches=searches,
        alike=png_picture((folder / "alike.png").read_bytes(), DENSITY),
        steps=[asdict(done) for done in diary.done],
        folder=str(Path.cwd()),
        pages=pages(),
        facts=protocol_facts(result) | config_facts(config, probe.layer) | run_facts(run),
    )
    return (
        f"{seconds:.0f} s of commands. The probe names {result.accuracy:.1%} of {result.n_test} "
        f"digits rightly that it was not trained on (chance is {result.chance:.0%}; the same "
        f"classifier on the 8 x 8 pixels alone: {pixels:.1%}, as digits are easy)."
    )


def _extraction(
    store: FeatureTable, diary: Diary, what: str, shown: Sequence[str]
) -> dict[str, Any]:
    """Return what an extraction made, with some of its images to show."""
    done = next(
        done
        for done in diary.done
        if done.command.startswith("vggfeat extract") and Path(store.path).name in done.command
    )
    image = originals(store.provenance.run.source)
    return {
        "what": what,
        **store.counts(),
        "seconds": done.seconds,
        "rate": done.images / done.seconds if done.seconds else 0.0,
        "samples": [(name, picture(image(name))) for name in shown],
    }


def _sweep(png: Path, diary: Diary, title: str, text: str) -> dict[str, Any]:
    """Return a sweep's picture and the table that it printed; no table where it was not run."""
    printed = (
        done.output for done in diary.done if png.name in done.command and " sweep " in done.command
    )
    table = next(printed, "").rstrip()
    figure = png_picture(png.read_bytes(), DENSITY) if table else None
    return {"title": title, "text": text, "table": table, "figure": figure}


def _search(title: str, text: str, queries: Sequence[QueryResult]) -> dict[str, Any]:
    return {"title": title, "text": text, "queries": query_views(queries)}


def _neighbours(index: SimilarityIndex, X: Any, labels: dict[Path, str]) -> list[QueryResult]:
    """Search with features of images whose labels are known, a row an image."""
    images = originals(index.provenance.run.source)
    results = index.search(X, NEIGHBOURS) if labels else []
    return [
        QueryResult.of(
            f"{path.parent.name}/{path.name}", neighbours, images, image=path, label=label
        )
        for (path, label), neighbours in zip(labels.items(), results, strict=True)
    ]


def _own_neighbours(store: FeatureTable, index: SimilarityIndex) -> list[QueryResult]:
    """Return the neighbours of some of the user's photos, but for each photo itself."""
    images = originals(store.latest.source)
    queries = []
    for name in some_images(store):
        _, query = store.matrix(index.layer, store.rows_of([name]))
        (neighbours,) = index.search(query, NEIGHBOURS + 1)
        others = [one for one in neighbours if one.path != name][:NEIGHBOURS]
        queries.append(QueryResult.of(name, others, images, image=images(name)))
    return queries


def _accuracy_on_pixels(store: FeatureTable, layer: str) -> float:
    """Return the accuracy of the probe's classifier, in its split, on the digits' 64 pixels."""
    from sklearn.datasets import load_digits

    data = Labelled.of(store, layer)
    train, test = stratified_split(data.y)
    X = load_digits().data[[int(Path(path).stem) for path in store.paths[data.rows]]]
    probe = LinearProbe(max_iter=20_000).fit(X[train], data.y[train])
    return float(np.mean(probe.predict(X[test]) == data.y[test]))


def _held_out(stored: dict[str, Any]) -> ProbeResult:
    """Rebuild the score that the probe's file tells of; only its mistakes are known singly."""
    same = ("layer", "classifier", "normalize", "C", "seed", "n_train", "majority")
    return ProbeResult(
        confusion=np.array(stored["confusion"], np.int64),
        classes=tuple(stored["classes"]),
        left_out=LeftOut(**stored["left_out"]),
        predictions=tuple(Prediction(**mistake) for mistake in stored["mistakes"]),
        **{name: stored[name] for name in same},
    )
