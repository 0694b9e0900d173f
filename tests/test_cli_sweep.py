"""A sweep as a person runs it: a table, JSON, a picture, and clear refusals."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import store_rows
from commands import cli
from PIL import Image

from vggfeat.cli import run
from vggfeat.evaluation import compare, low_shot, score_neighbours
from vggfeat.store import FeatureStore


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Make two stores of the same 24 images, and one of others."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("one.h5", "two.h5"):
        store_rows.finished(folder / name, 24)
    store_rows.finished(folder / "other.h5", 18)
    return folder


def test_a_sweep_prints_every_layer_with_the_best_values_marked(work):
    done = cli("sweep", work / "one.h5", "-k", "3")
    assert done.returncode == 0, done.stderr
    assert "18 images to train, 6 to test, 3 classes; svm, k = 3, seed 0" in done.stdout
    assert "guessing: 33.33%, always the commonest class: 33.33%" in done.stdout
    lines = done.stdout.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if re.match(r"(pool5|relu7) ", line)}
    assert list(rows) == ["pool5", "relu7"]
    assert rows["pool5"][1:3] == ["none", "36"]
    assert rows["relu7"][1:3] == ["-", "64"]
    for column in (3, 4, 5):
        shares = {layer: float(row[column].rstrip("%*~")) for layer, row in rows.items()}
        best = max(shares.values())
        for layer, row in rows.items():
            assert row[column].endswith("*") == (shares[layer] == best)
    assert "~ not told apart from it by 6 test images" in done.stdout


def test_a_sweep_s_numbers_are_those_of_the_probe(work):
    options = ["--seed", "2", "--train-per-class", "5", "--classifier", "logreg", "--json"]
    done = cli("sweep", work / "one.h5", "--layers", "fc7,relu7", *options)
    assert done.returncode == 1
    assert "has no layer 'fc7'" in done.stderr
    done = cli("sweep", work / "one.h5", "--layers", "relu7", *options)
    told = json.loads(done.stdout)
    (store,) = told["stores"]
    (score,) = store["layers"]
    probe = json.loads(cli("probe", work / "one.h5", "--layer", "relu7", *options).stdout)
    for name in ("accuracy", "mean_class_recall", "C", "n_train", "n_test"):
        assert score[name] == probe[name], name
    for name in ("chance", "majority", "classes", "n_train", "n_test", "classifier", "seed"):
        assert told[name] == probe[name], name
    assert (store["model"], store["weights"], store["left_out"]) == ("vgg16", "random:0", [])
    assert (told["k"], told["train_per_class"]) == (10, 5)
    assert store["from_best"] == []
    assert 0 <= score["knn_accuracy"] <= 1


def test_several_stores_stand_side_by_side_with_a_picture(work):
    picture = work / "sweep.png"
    stores = work / "one.h5", work / "two.h5"
    done = cli("sweep", *stores, "--png", picture)
    assert done.returncode == 0, done.stderr
    assert f"(2) {stores[1]}: vgg16, weights random:0" in done.stdout
    assert "accuracy(1)  kNN(1)  accuracy(2)  kNN(2)" in re.sub("  +", "  ", done.stdout)
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("relu7"))
    assert row[1:3] == row[3:5], "the same features score alike"
    assert row[5] == "1", "nor is their difference more than chance"
    assert f"Picture: {picture}" in done.stdout
    assert [path.name for path in work.iterdir() if "sweep.png" in path.name] == ["sweep.png"]
    with Image.open(picture) as image:
        image.load()
        assert image.format == "PNG"


def test_what_cannot_be_compared_is_refused_in_a_line(work):
    one = work / "one.h5"
    for arguments, message in (
        ([one, work / "other.h5"], "cannot be compared, their labelled images differ: 6 only in"),
        ([work / "none.h5"], "There is no store"),
        ([one, "--png", work / "nowhere" / "a.png"], "does not exist"),
        ([one, "--layers", " , "], "No layer was requested"),
    ):
        done = cli("sweep", *arguments)
        assert done.returncode == 1, arguments
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not done.stdout
    for arguments in ([], [one, one], [one, "-k", "0"], [one, "--test-size", "1"]):
        done = cli("sweep", *arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_a_damaged_layer_is_named_and_the_others_are_scored(work, tmp_path):
    import h5py

    damaged = store_rows.finished(tmp_path / "damaged.h5", 24)
    with h5py.File(damaged, "r+") as file:
        file["features/pool5"][3] = float("nan")
    done = cli("sweep", damaged)
    assert done.returncode == 0, done.stderr
    assert "pool5 is left out" in done.stderr
    assert re.search(r"^pool5 +(- +)+", done.stdout, re.MULTILINE)
    assert re.search(r"^relu7 +- +64 +\d", done.stdout, re.MULTILINE)
    done = cli("sweep", damaged, work / "one.h5", "--json")
    first, second = json.loads(done.stdout)["stores"]
    assert [pair["layer"] for pair in second["from_first"]] == ["relu7", "relu7"]
    assert first["left_out"] == ["pool5"]
    assert [score["layer"] for score in second["layers"]] == ["pool5", "relu7"]


def test_a_sweep_runs_where_no_network_does(work):
    code = (
        "import sys\nfrom vggfeat.cli import run\n"
        f"try: run(['sweep', {str(work / 'one.h5')!r}, '--png', {str(work / 'x.png')!r}])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(sorted({'torch', 'torchvision', 'faiss'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("command", "judge", "options"),
    [
        ("sweep", compare, {"seed": 3, "k": 2}),
        ("knn", score_neighbours, {"k": (1, 3), "leave_one_out": True}),
        ("lowshot", low_shot, {"shots": (1, 2), "repeats": 2, "classifiers": ("mean", "mean")}),
    ],
)
def test_results_in_python_give_the_json_of_the_command(work, capsys, command, judge, options):
    with FeatureStore(work / "one.h5") as one, FeatureStore(work / "two.h5") as two:
        result = judge([one, two], ["relu7"], **options)
    given = {
        "sweep": ["--layers", "relu7", "--seed", "3", "-k", "2"],
        "knn": ["--layer", "relu7", "-k", "1,3", "--leave-one-out"],
        "lowshot": ["--layer", "relu7", "--shots", "1,2", "--repeats", "2", "--classifier", "mean"],
    }[command]
    with pytest.raises(SystemExit) as stop:
        run([command, str(work / "one.h5"), str(work / "two.h5"), *given, "--json"])
    assert stop.value.code == 0
    told, found = json.loads(capsys.readouterr().out), json.loads(json.dumps(result.to_json()))
    for timed in (told, found):
        timed.pop("seconds", None)
        for layer in [layer for store in timed["stores"] for layer in store.get("layers", ())]:
            layer.pop("seconds", None)
    assert told == found
    assert [store["model"] for store in told["stores"]] == ["vgg16", "vgg16"]
