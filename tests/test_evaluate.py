"""The paper's protocols, run on miniatures of every dataset in its official layout."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from miniatures import annotation, classes_of, voc, write
from PIL import Image
from sklearn.metrics import average_precision_score, balanced_accuracy_score
from sklearn.svm import LinearSVC

import vggfeat
from vggfeat.cli import run
from vggfeat.datasets import DATASETS, Dataset, Published, SplitRule, open_dataset
from vggfeat.datasets.folders import FOLDER
from vggfeat.datasets.voc import CLASSES
from vggfeat.datasets.voc_action import ACTIONS
from vggfeat.errors import SourceError
from vggfeat.evaluation import rules_of, score_dataset
from vggfeat.probe import reading
from vggfeat.provenance import FeatureConfig, RunInfo, now
from vggfeat.store import FeatureStore, StoreWriter

QUICK = ["--networks", "vgg16-tiny", "--scales", "64", "--device", "cpu"]


def paint(file: Path, kinds: Sequence[int], seed: int) -> None:
    """Draw a stripe for each class, so that trained features can tell which are there."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (66, 72, 3))
    for k in kinds:
        colour = np.random.default_rng(1000 + k).integers(90, 256, 3)
        pixels[(3 * k) % 60 : (3 * k) % 60 + 6, :] = colour
        pixels[:, (7 * k) % 66 : (7 * k) % 66 + 4] = colour
    Image.fromarray(np.uint8(pixels)).save(file, quality=95)


def make_voc(above: Path, year: str) -> Path:
    """Make a VOC with every class in each set, a second one in some, and difficult labels."""
    rng = np.random.default_rng(0)
    names = {"2007": ("trainval", "test"), "2012": ("train", "val")}[year]
    sets: dict[str, dict[str, dict[str, int]]] = {}
    for s, name in enumerate(names):
        sets[name] = {}
        for i in range(60):
            image = f"{1000 * s + i:06d}" if year == "2007" else f"2008_{1000 * s + i:06d}"
            labels = {CLASSES[i % 20]: 1}
            if i % 3 == 0:
                labels.setdefault(CLASSES[int(rng.integers(20))], 1)
            labels.setdefault(CLASSES[(i + 7) % 20], 0)  # difficult
            sets[name][image] = labels
    folder = voc(above / "VOCdevkit" / f"VOC{year}", sets)
    for images in sets.values():
        for seed, (image, labels) in enumerate(images.items()):
            shown = [CLASSES.index(name) for name, value in labels.items() if value == 1]
            paint(folder / f"JPEGImages/{image}.jpg", shown, seed)
    return folder


def make_action(above: Path) -> Path:
    """Make people side by side, each with an action of its own."""
    folder = above / "VOCdevkit" / "VOC2012"
    for s, name in enumerate(("train", "val")):
        lines: dict[str, list[str]] = {action: [] for action in ACTIONS}
        for i in range(20):
            image = f"2010_{100 * s + i:06d}"
            acts = [ACTIONS[(i + j) % 10] for j in range(2)]
            things = [
                ("person", (acts[0],), "1 1 36 66"),
                ("horse", (), "1 1 72 66"),
                ("person", (acts[1],), "37 1 72 66"),
            ]
            write(folder / f"Annotations/{image}.xml", annotation(things))
            halves = []
            for j, act in enumerate(acts):
                part = folder / f"JPEGImages/{image}-{j}.png"
                part.parent.mkdir(parents=True, exist_ok=True)
                paint(part, [ACTIONS.index(act)], seed=i)
                halves.append(Image.open(part).convert("RGB").crop((0, 0, 36, 66)))
                part.unlink()
                for action in ACTIONS:
                    number = 1 if j == 0 else 3
                    lines[action].append(f"{image} {number} {1 if action == act else -1}\n")
            whole = Image.new("RGB", (72, 66))
            whole.paste(halves[0], (0, 0))
            whole.paste(halves[1], (36, 0))
            whole.save(folder / f"JPEGImages/{image}.jpg", quality=95)
        for action, told in lines.items():
            write(folder / f"ImageSets/Action/{action}_{name}.txt", "".join(told))
    return folder


def make_classes(folder: Path, names: dict[str, tuple[str, int]]) -> Path:
    classes_of(folder, names)
    for k, name in enumerate(names):
        for seed, file in enumerate(sorted((folder / name).iterdir())):
            paint(file, [3 * k + 1], seed)
    return folder


def make(name: str, above: Path) -> Path:
    if name in ("voc2007", "voc2012"):
        return make_voc(above, name[3:])
    if name == "voc2012-action":
        return make_action(above)
    if name == "caltech101":
        names = {"BACKGROUND_Google": 33, "accordion": 36, "ant": 33}
        return make_classes(
            above / "101_ObjectCategories", {n: ("image_{:04d}.jpg", c) for n, c in names.items()}
        )
    if name == "caltech256":
        names = {"001.ak47": 63, "257.clutter": 62}
        return make_classes(
            above / "256_ObjectCategories",
            {n: (n[:3] + "_{:04d}.jpg", c) for n, c in names.items()},
        )
    return make_classes(above / "own", {"cat": ("{}.png", 6), "dog": ("{}.jpg", 8)})


@pytest.fixture
def evaluate(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command in a folder of its own: its JSON."""
    monkeypatch.chdir(tmp_path)

    def call(name: str, root: Path, *more: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as stop:
            run(["evaluate", name, "--root", str(root), *QUICK, "--json", *more])
        out, err = capsys.readouterr()
        assert stop.value.code == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    return call


def features_of(found: dict[str, Any], number: int = 0) -> tuple[list[str], np.ndarray]:
    """Read a store of a result with plain h5py: paths and L2-normalised features."""
    with h5py.File(found["settings"]["stores"][number]["path"]) as file:
        X = file["features/relu7"][:].astype(np.float64)
        return file["images/path"].asstr()[:].tolist(), X / np.linalg.norm(X, axis=1)[:, None]


# Every dataset


@pytest.mark.parametrize(
    ("name", "metric", "rows"),
    [
        ("voc2007", "mean average precision (11-point)", [False]),
        ("voc2012", "mean average precision (all-point)", [False]),
        ("voc2012-action", "mean average precision (all-point)", [False, True]),
        ("caltech101", "mean class recall", [False]),
        ("caltech256", "mean class recall", [False]),
        ("folder", "mean class recall", [False]),
    ],
)
def test_a_dataset_is_evaluated_from_its_official_layout(tmp_path, evaluate, name, metric, rows):
    root = make(name, tmp_path)
    found = evaluate(name, root, "--html", "page.html")
    assert found["metric"] == metric
    assert [row["boxes"] for row in found["rows"]] == rows
    assert [row["published"] for row in found["rows"]] == [None] * len(rows)
    for row in found["rows"]:
        assert row["networks"] == ["vgg16-tiny"]
        assert row["dimension"] == 1024 * (1 + row["boxes"])
        assert row["score"] == pytest.approx(np.mean([s["score"] for s in row["splits"]]))
        assert 0 < row["score"] <= 1
        assert all(s["n_test"] > 0 for s in row["splits"])
    page = Path("page.html").read_text()
    assert f"{100 * found['rows'][0]['score']:.1f} %" in page
    assert "http" not in page.replace("http-equiv", "")


def test_people_are_told_apart_better_with_their_boxes(tmp_path, evaluate):
    found = evaluate("voc2012-action", make_action(tmp_path))
    image, both = (row["score"] for row in found["rows"])
    assert len(found["classes"]) == 10  # other is not scored
    assert "other" not in found["classes"]
    assert both > image + 0.1  # two people share an image, and only boxes tell them apart
    [pair] = found["paired"]
    assert pair["difference"] == pytest.approx(image - both)
    assert pair["p"] < 0.05


# The numbers


def test_recall_is_that_of_a_linear_svm_by_scikit_learn(tmp_path, evaluate):
    root = make("caltech101", tmp_path)
    found = evaluate("caltech101", root, "--train-per-class", "12", "--splits", "2")
    paths, X = features_of(found)
    dataset = open_dataset("caltech101", root)
    place = dataset.rows(paths)
    splits = SplitRule(2, 12, 50).splits(dataset.targets, dataset.classes)
    for split, told in zip(splits, found["rows"][0]["splits"], strict=True):
        train, test = place[split.train], place[split.test]
        svm = LinearSVC(C=told["C"][0], tol=1e-8, max_iter=100_000, random_state=0)
        svm.fit(X[train], dataset.targets[split.train])
        named = svm.predict(X[test])
        expected = balanced_accuracy_score(dataset.targets[split.test], named)
        assert told["score"] == pytest.approx(expected)
        assert (told["n_train"], told["n_test"]) == (36, len(split.test))
    confusion = np.array(found["rows"][0]["confusion"])
    assert confusion.sum() == sum(len(split.test) for split in splits)


def test_average_precision_leaves_difficult_images_out_of_training_and_test(tmp_path, evaluate):
    root = make("voc2012", tmp_path)
    found = evaluate("voc2012", root)
    paths, X = features_of(found)
    dataset = open_dataset("voc2012", root)
    place, [split] = dataset.rows(paths), dataset.splits()
    [told] = found["rows"][0]["splits"]
    for k in (0, 7, 14):
        y = dataset.targets[:, k]
        train = split.train[y[split.train] != -1]  # ignored
        test = split.test[y[split.test] != -1]
        assert len(train) < len(split.train)
        assert len(test) < len(split.test)
        svm = LinearSVC(C=told["C"][k], tol=1e-10, max_iter=1_000_000, dual=True, random_state=0)
        svm.fit(X[place[train]], y[train])
        scores = svm.decision_function(X[place[test]])
        # scikit-learn's has no envelope, so it is never above VOC's
        step = average_precision_score(y[test], scores)
        assert step - 1e-6 <= told["by_class"][k]
        assert told["by_class"][k] == pytest.approx(envelope(y[test] == 1, scores), abs=1e-3)


def envelope(present: np.ndarray, scores: np.ndarray) -> float:
    """VOC 2010's development kit, as its own code goes: precision made monotonous from behind."""
    hits = present[np.argsort(-scores)]
    recall = np.concatenate([[0], np.cumsum(hits) / hits.sum(), [1]])
    precision = np.concatenate([[0], np.cumsum(hits) / np.arange(1, len(hits) + 1), [0]])
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(((recall[steps + 1] - recall[steps]) * precision[steps + 1]).sum())


def test_both_definitions_of_average_precision_are_there_and_one_is_named(tmp_path, evaluate):
    root = make("voc2007", tmp_path)
    by_devkit, later = evaluate("voc2007", root), evaluate("voc2007", root, "--ap", "all-point")
    ours, theirs = (found["rows"][0]["splits"][0] for found in (by_devkit, later))
    assert ours["score"] == ours["mAP 11-point"] == theirs["mAP 11-point"]
    assert theirs["score"] == theirs["mAP all-point"] == ours["mAP all-point"]
    assert any("devkit is 11-point" in phrase for phrase in later["departures"])
    assert not any("devkit" in phrase for phrase in by_devkit["departures"])


# Beside the paper


def made_up(path: Path, dataset: Dataset, model: str, offset: float, **more: Any) -> FeatureStore:
    """Write a store of the dataset with features that know the classes, and some noise."""
    rng = np.random.default_rng(int(offset * 10))
    config = FeatureConfig(
        model, "00" * 32, {"channels": "RGB", "scale": 1 / 255}, "dense", {"relu7": ""},
        scales=(256, 384, 512), flip=True, combine="stack",
    )  # fmt: skip
    source = dataset.source()
    run = RunInfo(dataset.root, "imagenet", "cpu", "float32", now())
    d = more.get("d", 40)
    with StoreWriter.open(
        path,
        entries=source.entries,
        shapes={"relu7": (d,)},
        config=config,
        run=lambda _: run,
        labels=None,
    ) as writer:
        X = rng.normal(size=(len(dataset), d)).astype(np.float32) + 3
        X[np.arange(len(dataset)), dataset.targets] += offset
        failing = more.get("failing", [])
        rows = np.setdiff1d(np.arange(len(dataset)), failing)
        writer.write(rows, {"relu7": X[rows]})
        for row in failing:
            writer.fail(row, "broken")
    return FeatureStore(path)


def test_the_paper_s_numbers_stand_beside_ours_alone_and_stacked(tmp_path):
    dataset = open_dataset("caltech101", make("caltech101", tmp_path))
    with (
        made_up(tmp_path / "d.h5", dataset, "vgg16", 1.2) as d,
        made_up(tmp_path / "e.h5", dataset, "vgg19", 1.4) as e,
    ):
        found = score_dataset(dataset, {"vgg16": d, "vgg19": e})
        alone = score_dataset(dataset, {"vgg19": e})
    assert [row.name for row in found.rows] == ["vgg16", "vgg19", "vgg16 + vgg19"]
    papers = [row.published for row in found.rows]
    assert [(p.percent, p.deviation) for p in papers if p] == [
        (91.8, 1.0),
        (92.3, 0.5),
        (92.7, 0.5),
    ]
    for row in found.rows:
        assert row.difference == pytest.approx(100 * row.score - row.published.percent)
    assert [row.dimension for row in found.rows] == [40, 40, 80]
    assert [split.score for split in alone.rows[0].splits] == [
        split.score for split in found.rows[1].splits
    ]
    assert [(pair.first, pair.second) for pair in found.paired] == [(0, 1), (0, 2), (1, 2)]
    for pair in found.paired:
        assert pair.low <= pair.difference <= pair.high


def test_what_differs_from_the_paper_is_said(tmp_path, evaluate):
    root = make("caltech101", tmp_path)
    dataset = open_dataset("caltech101", root)
    with made_up(tmp_path / "d.h5", dataset, "vgg16", 2) as store:
        told = " ".join(score_dataset(dataset, {"vgg16": store}).departures)
    assert "weights are 'imagenet'" in told
    assert "classes instead of 102" in told
    for absent in ("scales", "mirror", "layer", "logistic", "Splits:"):
        assert absent not in told
    found = evaluate(
        "caltech101", root, "--quick", "--no-flip", "--layer", "pool5:gem",
        "--classifier", "logreg", "--train-per-class", "12",
    )  # fmt: skip
    told = " ".join(found["departures"])
    for phrase in (
        "vgg16-tiny is none of the paper's networks", "the layer is pool5", "mirror images are not",
        "scales are 64; the protocol's are 73, 110, 146", "logistic regression",
        "Splits: 3 of 12 training images a class",
    ):  # fmt: skip
        assert phrase in told


def test_images_without_features_are_counted_and_take_no_part(tmp_path):
    dataset = open_dataset("caltech101", make("caltech101", tmp_path))
    with made_up(tmp_path / "d.h5", dataset, "vgg16", 2, failing=[3, 50]) as store:
        found = score_dataset(dataset, {"vgg16": store})
    assert found.settings["without_features"] == 2
    assert "2 images have no features and took no part." in found.departures
    for split, part in zip(dataset.splits(), found.rows[0].splits, strict=True):
        lost = np.isin([3, 50], split.train).sum(), np.isin([3, 50], split.test).sum()
        assert (part.n_train, part.n_test) == (
            len(split.train) - lost[0], len(split.test) - lost[1],
        )  # fmt: skip


def test_training_that_does_not_fit_into_memory_gives_the_same(tmp_path, monkeypatch, caplog):
    dataset = open_dataset("folder", make("folder", tmp_path))
    with made_up(tmp_path / "d.h5", dataset, "vgg16", 1, d=30) as store:
        whole = score_dataset(dataset, {"vgg16": store})
        monkeypatch.setattr(reading, "available_memory", lambda: 1000)
        with caplog.at_level(logging.INFO, "vggfeat"):
            parts = score_dataset(dataset, {"vgg16": store})
    assert "block by block" in caplog.text
    for one, other in zip(whole.rows[0].splits, parts.rows[0].splits, strict=True):
        assert one.score == other.score
        assert list(one.C) == pytest.approx(list(other.C))


def test_mistakes_name_each_image_once_the_most_confident_first(tmp_path):
    dataset = open_dataset("caltech101", make("caltech101", tmp_path))
    with made_up(tmp_path / "d.h5", dataset, "vgg16", 0.3) as store:
        [row] = score_dataset(dataset, {"vgg16": store}).rows
    margins = [mistake.margin for mistake in row.mistakes]
    assert margins == sorted(margins, reverse=True)
    assert min(margins) > 0
    paths = [mistake.path for mistake in row.mistakes]
    assert len(set(paths)) == len(paths) > 0
    truth = dict(zip(dataset.images, dataset.targets, strict=True))
    for mistake in row.mistakes:
        assert mistake.true == dataset.classes[truth[mistake.path]] != mistake.predicted


# The command


def test_features_are_reused_and_other_settings_have_a_store_of_their_own(tmp_path, evaluate):
    root = make("folder", tmp_path)
    first = evaluate("folder", root)
    [store] = Path("vggfeat-stores").glob("*.h5")
    before = store.stat().st_mtime_ns, store.read_bytes()
    again = evaluate("folder", root, "--seed", "3")
    assert (store.stat().st_mtime_ns, store.read_bytes()) == before
    assert again["settings"]["seed"] == 3
    evaluate("folder", root, "--no-flip")
    assert len(list(Path("vggfeat-stores").glob("*.h5"))) == 2
    assert evaluate("folder", root)["rows"][0]["score"] == first["rows"][0]["score"]


def test_python_gives_what_the_command_gives(tmp_path, evaluate):
    root = make("folder", tmp_path)
    told = evaluate("folder", root, "--classifier", "logreg", "--splits", "2", "--quick")
    [store] = Path("vggfeat-stores").glob("*.h5")
    before = store.stat().st_mtime_ns
    result = vggfeat.evaluate(
        "folder", root, networks=["vgg16-tiny"], scales=[64], device="cpu", classifier="logreg",
        splits=2, quick=True,
    )  # fmt: skip
    assert store.stat().st_mtime_ns == before, "its features are used again"
    found = json.loads(json.dumps(result.to_json()))
    for rows in (told["rows"], found["rows"]):
        assert rows[0].pop("seconds") > 0
    assert found == told
    with pytest.raises(FrozenInstanceError):
        result.metric = "another"  # type: ignore[misc]


def test_one_record_is_all_that_a_dataset_takes(tmp_path, monkeypatch, caplog):
    root = make("folder", tmp_path)
    protocol = replace(FOLDER.protocol, published=(Published(("vgg16-tiny",), 12.5),))
    record = replace(FOLDER, name="mine", protocol=protocol, counts={"images": 20})
    monkeypatch.setitem(DATASETS, "mine", record)
    found = vggfeat.evaluate(
        "mine", root, networks="vgg16-tiny", scales="64", device="cpu", stores=tmp_path / "s"
    )
    assert found.rows[0].published.percent == 12.5
    assert found.dataset["name"] == "mine"
    assert any("14 images instead of 20" in phrase for phrase in found.departures)
    assert [store.name[:16] for store in (tmp_path / "s").iterdir()] == ["mine-vgg16-tiny-"]


def test_two_networks_are_evaluated_alone_and_stacked(tmp_path, evaluate, capsys):
    root = make("folder", tmp_path)
    more = ["--networks", "vgg16-tiny,vgg11", "--weights", "vgg11=random:1", "--scales", "224"]
    found = evaluate("folder", root, *more)
    assert [row["networks"] for row in found["rows"]] == [
        ["vgg16-tiny"], ["vgg11"], ["vgg16-tiny", "vgg11"],
    ]  # fmt: skip
    assert [row["dimension"] for row in found["rows"]] == [1024, 4096, 5120]
    weights = {store["model"]: store["weights"] for store in found["settings"]["stores"]}
    assert weights == {"vgg16-tiny": "builtin", "vgg11": "random:1"}
    alone = evaluate("folder", root, *more, "--no-stack")
    assert len(alone["rows"]) == 2
    with pytest.raises(SystemExit) as stop:
        run(["evaluate", "folder", "--root", str(root), *QUICK, *more])
    assert stop.value.code == 0
    table = capsys.readouterr().out
    for text in (
        "vgg16-tiny + vgg11",
        "Settings that change these numbers",
        "SHA-256",
        "95 % interval",
    ):
        assert text in table


@pytest.mark.parametrize(
    ("name", "more", "status", "message"),
    [
        ("voc2007", [], 1, "VOCtrainval_06-Nov-2007.tar"),
        ("caltech101", [], 1, "101_ObjectCategories"),
        ("caltech1", [], 2, "caltech101"),
        ("folder", ["--networks", "vgg17"], 2, "vgg16"),
        ("folder", ["--networks", "vgg16,vgg16"], 2, "twice"),
        ("folder", ["--scales", "20"], 1, "from 64"),
        ("folder", ["--layer", "relu9"], 1, "relu7"),
        ("folder", ["--html", "nowhere/x.html"], 1, "does not exist"),
        ("folder", ["--download"], 1, "cannot be downloaded"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(
    tmp_path, monkeypatch, capsys, name, more, status, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run(["evaluate", name, "--root", str(tmp_path), *QUICK, *more])
    out, err = capsys.readouterr()
    assert stop.value.code == status
    assert message in err
    assert not out
    assert not Path("vggfeat-stores").exists()


def test_scales_need_not_be_given(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run(["evaluate", "caltech101", "--root", str(tmp_path), "--networks", "vgg16-tiny"])
    assert stop.value.code == 1
    assert "101_ObjectCategories" in capsys.readouterr().err


def test_a_rule_is_for_datasets_without_official_sets(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = make("voc2007", tmp_path)
    with pytest.raises(SystemExit) as stop:
        run(["evaluate", "voc2007", "--root", str(root), *QUICK, "--splits", "3"])
    assert stop.value.code == 2
    assert "official sets" in capsys.readouterr().err


def test_rules_are_the_protocol_s_but_for_what_is_asked(tmp_path):
    dataset = open_dataset("voc2007", make("voc2007", tmp_path))
    assert (rules_of(dataset).ap, rules_of(dataset).validation) == ("11-point", 0.2)
    assert rules_of(dataset, ap="all-point", seed=None).ap == "all-point"


# Folders that are divided already


def make_divided(above: Path, parts: dict[str, dict[str, int]]) -> Path:
    for s, (part, classes) in enumerate(parts.items()):
        for name, count in classes.items():
            folder = above / "own" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                paint(folder / f"{i}.png", [3 * (len(name) % 5) + 1], seed=100 * s + i)
    return above / "own"


def test_folders_train_val_and_test_are_the_split_and_those_below_the_classes(
    tmp_path, evaluate, capsys
):
    parts = {
        "Training": {"cat": 5, "horse": 4, "crow": 3},
        "valid": {"cat": 2, "horse": 2},
        "test": {"cat": 4, "horse": 3, "crow": 2, "eel": 2},
    }
    root = make_divided(tmp_path, parts)
    found = evaluate("folder", root)
    assert found["dataset"]["classes"] == ["cat", "crow", "horse"]
    assert found["dataset"]["sets"] == {"train": 12, "val": 4, "test": 9}
    assert found["settings"]["validation"] == "val"
    [split] = found["rows"][0]["splits"]
    assert (split["n_train"], split["n_test"]) == (16, 9)

    paths, X = features_of(found)
    of, y = ([path.split("/")[at] for path in paths] for at in (0, 1))
    train, test = np.array([part != "test" for part in of]), np.array(of) == "test"
    named = np.array(y)
    svm = LinearSVC(C=split["C"][0], dual=False, tol=1e-10, max_iter=100_000)
    said = svm.fit(X[train], named[train]).predict(X[test])
    assert split["score"] == pytest.approx(balanced_accuracy_score(named[test], said))
    assert split["accuracy"] == pytest.approx(np.mean(said == named[test]))
    assert split["majority"] == pytest.approx(4 / 9), "cats are the commonest in training"
    dataset = open_dataset("folder", root)
    [parts_of] = dataset.splits()
    assert {dataset.images[i].split("/")[0] for i in parts_of.held_out} == {"valid"}

    drawn = evaluate("folder", root, "--splits", "2", "--train-per-class", "1", "--html", "p.html")
    assert drawn["dataset"]["sets"] == {}
    assert [s["n_train"] for s in drawn["rows"][0]["splits"]] == [4, 4], "eels, too"
    with pytest.raises(SystemExit):
        run(["evaluate", "folder", "--root", str(root), *QUICK])
    told = capsys.readouterr().out
    said_so = "by folders: trained on train and val (val chose C), tested on test"
    assert f"{said_so} (--splits draws instead)\n" in told
    assert "C chosen on the images of val" in told
    assert "(always the commonest class: 44.4)" in told
    assert "2 test images are left out, of 1 classes that are never learnt from: eel" in told


def test_without_a_test_folder_val_is_tested_on_and_one_kind_of_folder_divides_nothing(tmp_path):
    divided = make_divided(tmp_path / "a", {"train": {"cat": 3, "horse": 1}, "val": {"cat": 2}})
    dataset = open_dataset("folder", divided)
    [split] = dataset.splits()
    assert (len(split.train), len(split.test), len(split.held_out)) == (4, 2, 0)
    assert (dataset.protocol.train, dataset.protocol.val, dataset.protocol.test) == (
        "train", "", "val",
    )  # fmt: skip
    assert dataset.undivided is None, "a single horse cannot be drawn from"
    with pytest.raises(SourceError, match="a class of a single image"):
        vggfeat.evaluate("folder", divided, networks="vgg16-tiny", splits=2)
    (divided / "val").rename(divided / "beach")
    assert open_dataset("folder", divided).classes == ("beach", "train"), "no split's name"
    untrained = make_divided(tmp_path / "b", {"val": {"cat": 2, "ox": 2}, "test": {"cat": 2}})
    dataset = open_dataset("folder", untrained)
    assert (dataset.classes, dataset.sets, dataset.rule) == (("cat", "ox"), {}, SplitRule(3, 1))
    alone = make_divided(tmp_path / "c", {"train": {"cat": 2}, "test": {"cat": 2, "ox": 2}})
    with pytest.raises(SourceError, match="1 class to learn from in train"):
        open_dataset("folder", alone)
    strange = make_divided(tmp_path / "d", {"train": {"a": 1, "bb": 1}, "test": {"ccc": 2}})
    with pytest.raises(SourceError, match="of a class that train has"):
        open_dataset("folder", strange)
