"""The demo's page, made from the files that its commands left."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggfeat.cli import demo_steps

if TYPE_CHECKING:
    from vggfeat.cli.demo_diary import Diary
    from vggfeat.index import SimilarityIndex
    from vggfeat.probe import ProbeResult
    from vggfeat.provenance import FeatureConfig
    from vggfeat.report import Extraction, QueryResult, SearchBlock
    from vggfeat.store import FeatureStore


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
    from vggfeat.index import SimilarityIndex
    from vggfeat.pipeline import usable_cores
    from vggfeat.probe import SavedProbe
    from vggfeat.report import (
        DemoReport,
        Guess,
        SearchBlock,
        SweepBlock,
        config_facts,
        demo_page,
        originals,
        run_facts,
    )
    from vggfeat.report import Step as Told
    from vggfeat.store import FeatureStore

    probe = SavedProbe.load(folder / "digits.probe")
    digits = SimilarityIndex.load(folder / "digits.index")
    photos = SimilarityIndex.load(folder / "photos.index")
    new = sorted((folder / "new-digits").glob("*.png"))
    crops = sorted((folder / "crops").glob("*.jpg"))
    with FeatureStore(folder / "digits.h5") as store:
        config, run = store.provenance.config, store.provenance.run
        extractions = [_extraction(store, diary, "handwritten digits", _one_a_class(store))]
        pixels = _from_raw_pixels(store, probe.layer)
    with FeatureStore(folder / "places.h5") as store:
        views = [name for name in store.paths if name.startswith("china 2-2/")]
        extractions.append(_extraction(store, diary, "views of 24 places; ten of one", views))
    with FeatureStore(folder / "photos.h5") as store:
        whole = [name for name in store.paths if "/" not in name]
        extractions.append(_extraction(store, diary, "photographs and their tiles", whole))

    features = _features(config, run.weights, [*new, *crops])
    said, _scores = probe.predict(features[probe.layer][: len(new)])
    asked = [at for at, one in enumerate(new) if one.name in _searched(diary)]
    truth = [one.name[0] for one in new]
    of_crops = list(range(len(new), len(new) + len(crops)))
    result = _held_out(probe.held_out or {})
    sweeps = [
        SweepBlock(
            "Where in the network does generality live?",
            "24 places in two photographs, ten views of each: nearer, farther, beside it, "
            "mirrored, in other light. Eight views of each are learnt from; each layer of "
            "the trained network, and of the same network with random weights, then names the "
            "others, by a linear classifier and by ten nearest neighbours.",
            folder / "places-sweep.png",
            _said(diary, "sweep", "places.h5"),
        ),
        SweepBlock(
            "And digits?",
            "Each layer judged on handwritten digits, which are nothing like the photographs "
            f"that the network learnt from. On the bare 8 x 8 pixels the same classifier reaches "
            f"{pixels:.1%}: digits are easy, so that photographs tell more of a network's worth.",
            folder / "digits-sweep.png",
            _said(diary, "sweep", "digits.h5"),
        ),
    ]
    searches = [
        SearchBlock(
            "Searched: digits",
            "Digits that are in no index, each with the images most like it by "
            f"{digits.layer}. A tick marks the same class.",
            _answers(digits, features, [new[at] for at in asked], asked,
                     [truth[at] for at in asked]),
        ),
        SearchBlock(
            "Searched: photographs",
            "A part cut from each photograph, across the borders of the tiles, with the "
            f"tiles most like it by {photos.layer}.",
            _answers(photos, features, crops, of_crops, [one.stem for one in crops]),
        ),
    ]  # fmt: skip
    if diary.photos is not None:
        with FeatureStore(folder / "own.h5") as store:
            extractions.append(_extraction(store, diary, "your photos", demo_steps.chosen(store)))
            searches.insert(0, _own_neighbours(store, SimilarityIndex.load(folder / "own.index")))
        if told := _said(diary, "sweep", "own.h5"):
            sweeps.append(
                SweepBlock(
                    "Your sub-folders as classes",
                    "The same judgement of each layer on your own photos, their sub-folders "
                    "being the classes.",
                    folder / "own-sweep.png",
                    told,
                )
            )
    demo_page(
        path,
        DemoReport(
            model=config.model,
            layers={
                photos.layer: "what the photographs are searched by",
                digits.layer: "what the digits are told apart and searched by",
            },
            extractions=extractions,
            sweeps=sweeps,
            probe=result,
            pixels=pixels,
            probe_images=originals(run.source),
            facts=config_facts(config, probe.layer) | run_facts(run),
            searches=searches,
            guesses=[
                Guess(one.name, str(name), right, one)
                for one, name, right in zip(new, said, truth, strict=True)
            ],
            steps=[Told(one.command, one.why, one.output, one.seconds) for one in diary.done],
            folder=str(Path.cwd()),
            machine=f"{run.device.upper()}, {usable_cores()} cores",
        ),
    )
    seconds = sum(one.seconds for one in diary.done)
    return (
        f"{seconds:.0f} s of commands. The probe names {result.accuracy:.1%} of {result.n_test} "
        f"digits rightly that it was not trained on (chance is {result.chance:.0%}; the same "
        f"classifier on the 8 x 8 pixels alone: {pixels:.1%}, as digits are easy)."
    )


def _own_neighbours(store: FeatureStore, index: SimilarityIndex) -> SearchBlock:
    """Return the neighbours of some of the user's photos, but for each photo itself."""
    from vggfeat.report import QueryResult, SearchBlock, originals

    images = originals(store.latest.source)
    queries = []
    for name in demo_steps.chosen(store):
        (row,) = store.rows_of([name])
        (found,) = index.search(store[index.layer][row], demo_steps.NEIGHBOURS + 1)
        others = [one for one in found if one.path != name][: demo_steps.NEIGHBOURS]
        queries.append(QueryResult.of(name, others, images, image=images(name)))
    return SearchBlock(
        "Your photos",
        f"Some of them, each with the others most like it by {index.layer}.",
        queries,
    )


def _said(diary: Diary, verb: str, store: str) -> str:
    """Return what a command of the demo printed; nothing where it was not run."""
    for done in diary.done:
        words = shlex.split(done.command)
        if words[1] == verb and Path(words[2]).name == store:
            return done.output
    return ""


def _from_raw_pixels(store: FeatureStore, layer: str) -> float:
    """Return the accuracy of the probe's classifier, in its split, on the digits' 64 pixels."""
    from sklearn.datasets import load_digits

    from vggfeat.probe import LinearProbe, stratified_split
    from vggfeat.probe.labelled import Labelled

    data = Labelled.of(store, layer)
    train, test = stratified_split(data.y)
    X = load_digits().data[[int(Path(path).stem) for path in store.paths[data.rows]]]
    probe = LinearProbe(max_iter=20_000).fit(X[train], data.y[train])
    return float(np.mean(probe.predict(X[test]) == data.y[test]))


def _extraction(store: FeatureStore, diary: Diary, what: str, shown: Sequence[str]) -> Extraction:
    from vggfeat.report import Extraction, originals

    counts = store.counts()
    name = store.path.name
    done = next(one for one in diary.done if one.command.startswith("vggfeat extract")
                and name in one.command)  # fmt: skip
    image = originals(store.provenance.run.source)
    samples = [(path, image(path)) for path in shown]
    return Extraction(what, counts["done"], counts["failed"], done.seconds, done.images, samples)


def _one_a_class(store: FeatureStore) -> list[str]:
    first: dict[str, str] = {}
    for path in store.paths:
        first.setdefault(path.partition("/")[0], path)
    return list(first.values())


def _features(config: FeatureConfig, weights: str, images: list[Path]) -> dict[str, Any]:
    from vggfeat.extract import FeatureExtractor

    asked = [f"{layer}:{pool}" if pool else layer for layer, pool in config.layers.items()]
    return FeatureExtractor(config.model, weights=weights, layers=asked)(images)


def _searched(diary: Diary) -> set[str]:
    """Return the names of the images that were asked for in commands of the demo."""
    searches = (done.command for done in diary.done if done.command.startswith("vggfeat search"))
    return {Path(word).name for command in searches for word in shlex.split(command)}


def _answers(
    index: SimilarityIndex, features: dict[str, Any], paths: list[Path], rows: list[int],
    labels: list[str],
) -> list[QueryResult]:  # fmt: skip
    from vggfeat.report import QueryResult, originals

    if not rows:
        return []
    images = originals(index.provenance.run.source)
    found = index.search(features[index.layer][rows], demo_steps.NEIGHBOURS)
    return [
        QueryResult.of(
            f"{path.parent.name}/{path.name}", neighbours, images, image=path, label=label
        )
        for path, neighbours, label in zip(paths, found, labels, strict=True)
    ]


def _held_out(told: dict[str, Any]) -> ProbeResult:
    """Rebuild the score that the probe's file tells of; only its mistakes are known singly."""
    from vggfeat.probe import Prediction, ProbeResult
    from vggfeat.probe.labelled import LeftOut

    return ProbeResult(
        confusion=np.array(told["confusion"], np.int64),
        classes=tuple(told["classes"]),
        left_out=LeftOut(**told["left_out"]),
        predictions=tuple(Prediction(**mistake) for mistake in told["mistakes"]),
        layer=told["layer"],
        classifier=told["classifier"],
        normalize=told["normalize"],
        C=told["C"],
        seed=told["seed"],
        n_train=told["n_train"],
        majority=told["majority"],
    )
