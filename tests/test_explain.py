"""Maps of what speaks for a class: they sum to the score, and point to where the class is."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from commands import cli
from conftest import draw
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

from vggfeat import FeatureExtractor, FeatureStore
from vggfeat.analysis import Cells, HeatMap, rank_correlation
from vggfeat.errors import LayerError, PlotError, ProbeError, WeightsError
from vggfeat.explain import METHODS, Explanation, explain
from vggfeat.explain.scores import Score
from vggfeat.explain.subjects import ProbeClasses, Subject
from vggfeat.layers import ARCHITECTURES, Architecture, architecture
from vggfeat.placements import Placement
from vggfeat.predictions import predict
from vggfeat.probe import LinearProbe, SavedProbe
from vggfeat.probe.saved import train
from vggfeat.provenance import Provenance, RunInfo, now
from vggfeat.regions import Region
from vggfeat.report.explain import HOW
from vggfeat.views import VIEWS, View
from vggfeat.weights import PREPROCESSING_KEY, resolve
from vggfeat.weights import names as weight_names
from vggfeat.weights.trained_head import BIAS, HEAD_KEY, WEIGHT, TrainedHead

KINDS: dict[str, dict[str, Any]] = {
    "avg": {"layers": "relu5_3:avg"},
    "gem, ten crops, float16": {"layers": "relu5_3:gem", "view": "tencrop", "dtype": "float16"},
    "rmac, scales averaged": {"layers": "pool4:rmac", "view": "dense", "scales": (64, 100)},
    "max, scales stacked, mirrored": {
        **{"layers": "pool4:max", "view": "dense", "scales": (64, 90)},
        **{"combine": "stack", "flip": True},
    },
    "spp": {"layers": "conv5_3:spp:1,2", "view": "squash"},
    "crow": {"layers": "relu4_3:crow", "flip": True},
    "whole map": {"layers": "pool5:none"},
}


@pytest.fixture(scope="module")
def scenes_probe(scenes, tmp_path_factory) -> SavedProbe:
    """Train a probe of china and flower, on small dense images."""
    store = tmp_path_factory.mktemp("probe") / "scenes.h5"
    extractor = FeatureExtractor(
        "vgg16-tiny", layers="relu5_3", view="dense", scales=(128,), device="cpu"
    )
    extractor.extract(scenes, store, progress=False)
    with FeatureStore(store) as opened:
        return train(opened, "relu5_3", C=1.0, calibrate=False)


@pytest.fixture(scope="module")
def flower_corner() -> Image.Image:
    """Make the one class's photograph, with the other class's flower in its lower right corner."""
    china, flower = map(Image.fromarray, load_sample_images().images)
    image = china.resize((400, 300))
    image.paste(flower.crop((190, 90, 390, 290)).resize((150, 150)), (245, 145))
    return image


def only(subject: Any, image: Any, *classes: str, **options: Any) -> Explanation:
    (found,) = explain(subject, [image], classes, **options)
    assert isinstance(found, Explanation), found
    return found


def random_probe(**settings: Any) -> SavedProbe:
    """Make a probe of three classes with random weights on any features."""
    extractor = FeatureExtractor("vgg16-tiny", device="cpu", **settings)
    ((layer, shape),) = extractor.shapes.items()
    rng = np.random.default_rng(0)
    probe = LinearProbe.fitted(
        "svm", C=1.0, normalize=True, classes=np.arange(3),
        coef=rng.normal(size=(3, int(np.prod(shape)))), intercept=rng.normal(size=3),
    )  # fmt: skip
    run = RunInfo("", "builtin", "cpu", "float32", now())
    return SavedProbe(probe, ("a", "b", "c"), layer, Provenance(extractor.config, run), 9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_and_the_constant_sum_to_the_score_that_predict_tells(kind, tmp_path):
    draw(110, 80, seed=4).save(image := tmp_path / "a.png")
    probe = random_probe(**KINDS[kind])
    (told,) = predict(probe, str(image), device="cpu").images
    found = [one for one in explain(probe, [image], list("abc"), device="cpu") if one.exact]
    assert [one.name for one in found] == ["a", "b", "c"]
    for one in found:
        assert one.score == pytest.approx(told.scores[one.name], abs=1e-5)
        assert one.map.total + one.constant == pytest.approx(one.score, abs=1e-5)
        assert one.map.favour + one.map.against == pytest.approx(one.map.total, abs=1e-9)
        assert one.named == (one.name in told.labels)
        assert one.map.values.any()


@pytest.mark.parametrize("classifier", ["svm", "logreg"])
@pytest.mark.parametrize("count", [2, 3])
def test_scores_of_any_classifier_are_those_of_the_probe(classifier, count, scenes_probe):
    rng = np.random.default_rng(count)
    probe = LinearProbe(classifier, C=1.0).fit(rng.normal(size=(40, 128)), np.arange(40) % count)
    saved = SavedProbe(probe, tuple("abc"[:count]), "relu5_3", scenes_probe.provenance, 40, None)
    judge = ProbeClasses(saved, {"device": "cpu"})
    x = np.abs(rng.normal(size=128))
    scores = [judge.score(number).of(x) for number in range(count)]
    theirs = probe.decision_function(x[None])[0]
    expected = [-theirs, theirs] if count == 2 else theirs
    assert scores == pytest.approx(np.ravel(expected), abs=1e-9)
    assert judge.answer(x) == [int(np.argmax(scores))]
    assert [judge.score(number).of(np.zeros(128)) for number in range(count)] == pytest.approx(
        np.ravel([-probe.intercept_, probe.intercept_] if count == 2 else probe.intercept_)
    )


def test_what_speaks_for_a_class_lies_where_the_class_is(scenes_probe, flower_corner):
    found = only(scenes_probe, flower_corner, "flower")
    corner = Region(245, 145, 150, 150)
    assert found.map.share_within(corner) > 0.7  # 18.75 % of the area
    x, y = found.map.peak
    assert (245 < 400 * x < 395, 145 < 300 * y < 295) == (True, True)
    box = found.map.box()
    assert box is not None
    assert found.map.share_within(box) >= 0.79
    mirrored = flower_corner.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    other = only(scenes_probe, mirrored, "flower").map
    assert other.share_within(Region(5, 145, 150, 150)) > 0.6


def test_with_random_weights_the_map_is_another(scenes_probe, scenes):
    # Adebayo et al. 2018, section 3.1: all weights of the network, and its last layer alone.
    image = str(scenes / "flower" / "02.jpg")
    trained_map = only(scenes_probe, image, "flower").map
    judge = ProbeClasses(scenes_probe, {"device": "cpu"})
    other = FeatureExtractor(
        "vgg16-tiny", weights="random:0", layers="relu5_3", view="dense", scales=(128,)
    )
    judge.extractor = other
    assert abs(rank_correlation(trained_map, only(judge, image, "flower").map)) < 0.5

    rng = np.random.default_rng(0)
    rest = []
    for _ in range(5):
        weights = rng.permuted(scenes_probe.probe.coef_, axis=1)
        random = LinearProbe.fitted(
            "svm", C=1.0, normalize=True, classes=np.arange(2), coef=weights,
            intercept=scenes_probe.probe.intercept_,
        )  # fmt: skip
        saved = SavedProbe(
            random, scenes_probe.classes, "relu5_3", scenes_probe.provenance, 48, None
        )
        rest.append(abs(rank_correlation(trained_map, only(saved, image, "flower").map)))
    assert np.median(rest) < 0.6
    same = rank_correlation(trained_map, only(scenes_probe, image, "flower").map)
    assert same == pytest.approx(1)


def test_with_shuffled_labels_the_map_is_another(scenes_store, scenes):
    # Adebayo et al. 2018, section 3.2: the data randomisation test.
    with FeatureStore(scenes_store) as store:
        X, y = store.xy("pool5")
        provenance = train(store, "pool5", C=1.0, calibrate=False).provenance
    image, maps = str(scenes / "flower" / "02.jpg"), []
    shuffled = np.random.default_rng(3).permutation(y)
    for labels in (y, shuffled):
        probe = LinearProbe(C=1.0).fit(X, labels)
        saved = SavedProbe(probe, ("china", "flower"), "pool5", provenance, len(y), None)
        maps.append(only(saved, image, "flower").map.density())
    own, other = (np.asarray(one).ravel() for one in maps)
    assert abs(np.corrcoef(own, other)[0, 1]) < 0.9


class RandomLastLayer(Subject):
    """Classes whose weights on relu7 are random: the network's, but for its last layer."""

    def __init__(self, **settings: Any) -> None:
        self.extractor = FeatureExtractor("vgg16-tiny", layers="relu7", device="cpu", **settings)
        self.column, self.what = "relu7", "random score"
        self.names = tuple("abcde")
        self.weights = np.random.default_rng(0).normal(size=(5, 1024))

    def score(self, number: int) -> Score:
        return Score(self.weights[number])

    def answer(self, feature: np.ndarray) -> list[int]:
        return [0]


@pytest.mark.parametrize("method", ["gradcam", "layercam"])
def test_gradients_change_with_the_weights_and_with_the_last_layer_alone(method, flower_corner):
    dense: dict[str, Any] = {"view": "dense", "scales": (192,)}
    options = {"model": "vgg16-tiny", "device": "cpu", **dense}
    found = only("builtin", flower_corner, "bee", method=method, **options).map
    assert found.against == 0
    assert found.favour > 0
    other = only("random:1", flower_corner, "class 3", method=method, **options).map
    assert rank_correlation(found, other) < 0.5
    judge = RandomLastLayer(**dense)
    rest = [
        rank_correlation(found, one.map)
        for one in explain(judge, [flower_corner], judge.names, method=method)
    ]
    # LayerCAM multiplies by activations, which the last layer does not change (docs/explain.md).
    assert np.median(rest) < {"gradcam": 0.5, "layercam": 0.85}[method]


def test_grad_cam_of_an_average_is_the_exact_map_where_that_is_positive(scenes_probe, scenes):
    # With average pooling the mean gradient of a channel is its weight (Selvaraju et al. 2017,
    # section 3.1: Grad-CAM generalises CAM).
    image = str(scenes / "china" / "03.jpg")
    exact = only(scenes_probe, image, "china", method="exact")
    grad = only(scenes_probe, image, "china", method="gradcam")
    assert (exact.layer, grad.layer) == ("relu5_3", "relu5_3")
    assert np.isnan(grad.constant)
    positive = np.maximum(exact.map.values, 0)
    np.testing.assert_allclose(
        grad.map.values / grad.map.favour, positive / positive.sum(), atol=1e-7
    )


@pytest.mark.parametrize("view", [View(name) for name in VIEWS])
def test_inputs_lie_where_they_were_cut(view):
    image = draw(230, 170, seed=3)
    extractor = FeatureExtractor("vgg16-tiny", view=view.name)
    spec = extractor.resolved_weights.preprocessing
    whole = np.asarray(image, np.float64)
    places = view.placements(image.size, spec)
    inputs = view.inputs(image, spec)
    assert len(places) == len(inputs)
    for place, array in zip(places, inputs, strict=True):
        shown = array[:, ::-1] if place.mirrored else array
        box = (place.left, place.upper, place.left + place.width, place.upper + place.height)
        size = (shown.shape[1], shown.shape[0])
        again = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box), np.float64)
        assert np.abs(again - shown).mean() < 0.15 * whole.std()
    flipped = View("dense", flip=True).placements(image.size, spec)
    assert [one.mirrored for one in flipped] == [False, True]


def test_cells_of_all_inputs_are_laid_where_they_lie():
    values = np.array([[1.0, -2.0], [3.0, 4.0]])
    half = Placement(50, 0, 50, 100)  # the right half of 100 x 100 pixels
    found = HeatMap.of([Cells(values, half, (64, 128), 32)], (100, 100))
    assert found.values.shape == (256, 256)
    assert found.total == pytest.approx(6)
    assert found.values[:64, 128:192].sum() == pytest.approx(1)
    assert found.values[64:128, 192:].sum() == pytest.approx(4)
    assert not found.seen[:, :128].any()
    assert found.seen[:128, 128:].all()
    assert not found.seen[128:].any()  # the input has two more rows of cells
    mirrored = HeatMap.of([Cells(values, half.mirror(), (64, 128), 32)], (100, 100))
    np.testing.assert_allclose(mirrored.values[:, 128:], found.values[:, :127:-1], atol=1e-15)
    both = HeatMap.of(
        [Cells(values, half, (64, 128), 32), Cells(values, Placement(0, 0, 100, 100), (8, 8), 4)],
        (100, 100),
    )
    assert both.total == pytest.approx(12)
    assert both.seen.all()


@pytest.mark.parametrize("seed", range(3))
def test_the_suggested_box_is_the_smallest_that_holds_its_share(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(6, 9)) ** 3
    whole = Placement(0, 0, 90, 60)
    found = HeatMap.of([Cells(values, whole, (144, 96), 16)], (90, 60))
    box = found.box()
    positive = np.maximum(values, 0)
    wanted = 0.8 * positive.sum()
    areas = [
        (bottom - top) * (right - left)
        for top in range(6) for bottom in range(top + 1, 7)
        for left in range(9) for right in range(left + 1, 10)
        if positive[top:bottom, left:right].sum() >= wanted
    ]  # fmt: skip
    assert box is not None
    assert found.share_within(box) >= 0.799
    # Finer steps than cells may hold as much in less; steps of 64 are at most a step larger.
    assert box.width * box.height <= min(areas) * 100 * 1.25
    assert found.box(1.0) is not None
    nothing = HeatMap.of([Cells(-np.abs(values), whole, (144, 96), 16)], (90, 60))
    assert nothing.box() is None
    with pytest.raises(PlotError, match="above 0 and at most 1"):
        found.box(0)


def test_values_that_are_not_finite_are_refused():
    cells = Cells(np.full((2, 2), np.nan), Placement(0, 0, 8, 8), (64, 64), 32)
    with pytest.raises(PlotError, match="NaN"):
        HeatMap.of([cells], (8, 8))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "lime"}, LayerError, "Unknown method 'lime'"),
        ({"method": "exact", "at": "relu4_1"}, LayerError, "has the positions of relu5_3"),
        ({"at": "relu7"}, LayerError, "relu7 is a vector"),
        ({"at": "pool5"}, LayerError, "pool5 is after relu5_3"),
        ({"view": "center"}, LayerError, "view: a probe has these of its own"),
        ({"classes": "chin"}, ProbeError, "Did you mean china"),
        ({"classes": "9"}, ProbeError, "There are 2: china, flower"),
    ],
)
def test_what_cannot_be_explained_is_refused_with_a_remedy(options, error, message, scenes_probe):
    with pytest.raises(error, match=message):
        list(explain(scenes_probe, [draw(64, 64)], **options))


def test_fully_connected_layers_have_no_exact_map():
    with pytest.raises(LayerError, match=r"fc8 is a vector.* gradcam or layercam"):
        list(explain("builtin", [draw(64, 64)], model="vgg16-tiny", method="exact"))


@pytest.mark.parametrize("kind", ["one", "several", "numbers"])
def test_the_head_of_a_fine_tuned_network_is_explained_exactly(kind, tmp_path):
    network = architecture("vgg16-tiny")
    weights, upto = resolve("builtin", network), network.upto(["relu5_3"])
    rng = np.random.default_rng(0)
    head = TrainedHead(
        kind=kind, model="vgg16-tiny", layer="relu5_3", pool="avg", view="center", normalize=True,
        names=("a", "b", "c"), strength=(1.0, 1.0, 1.0), n_train=9,
        weight=rng.normal(size=(3, 128)).astype("f4").astype("f8"), bias=np.array([0.5, 0, -0.5]),
    )  # fmt: skip
    tensors = weights.load(network, weight_names(upto), "relu5_3")
    tensors = {name: tensor.float().contiguous() for name, tensor in tensors.items()}
    tensors |= {WEIGHT: torch.tensor(head.weight).float(), BIAS: torch.tensor(head.bias).float()}
    metadata = {
        HEAD_KEY: json.dumps(head.to_json()),
        PREPROCESSING_KEY: json.dumps(weights.preprocessing.to_json()),
    }
    save_file(tensors, file := tmp_path / "tuned.safetensors", metadata=metadata)
    image = np.asarray(draw(90, 70, seed=5))
    extractor = FeatureExtractor("vgg16-tiny", layers="relu5_3", device="cpu")
    (expected,) = head.outputs(extractor(image)["relu5_3"])
    for number, name in enumerate("abc"):
        found = only(str(file), image, name, device="cpu")
        assert found.exact
        assert found.score == pytest.approx(expected[number], abs=1e-4)
        assert found.map.total + found.constant == pytest.approx(found.score, abs=1e-5)


def test_any_layer_of_a_network_with_batch_normalisation_is_mapped():
    normed = Architecture(
        "normed", (1, 2, 1, 1, 1), (4, 6, 8, 8, 8), 16, 5, input_size=64, grid=2, batch_norm=True
    )
    with patch.dict(ARCHITECTURES, {"normed": normed}):
        options: dict[str, Any] = {"model": "normed", "device": "cpu", "method": "layercam"}
        for at in ("bn2_1", "relu2_2", "pool3", "relu5_1"):
            assert only("random:0", draw(90, 70), "class 2", at=at, **options).layer == at
        with pytest.raises(LayerError, match="Give bn2_1, or the ReLU after it"):
            only("random:0", draw(90, 70), "class 2", at="conv2_1", **options)


def test_what_is_neither_a_probe_nor_weights_is_refused(scenes_store):
    with pytest.raises(WeightsError, match=r"no\.probe is no probe .*as weights: No weight file"):
        list(explain("no.probe", [draw(64, 64)]))
    with pytest.raises(ProbeError, match="neither a probe nor weights"):
        list(explain(scenes_store, [draw(64, 64)]))


def test_the_command_explains_a_probe(scenes_probe, scenes, tmp_path):
    scenes_probe.save(tmp_path / "a.probe")
    good, bad = scenes / "flower" / "00.jpg", tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    page, arrays = tmp_path / "why.html", tmp_path / "maps.npz"
    done = cli(
        "explain", tmp_path / "a.probe", good, bad, "--class", "flower", "--class", "china",
        "--html", page, "--npz", arrays, "--device", "cpu", "--json",
    )  # fmt: skip
    assert done.returncode == 1
    assert "failed" in done.stderr
    told = json.loads(done.stdout)
    assert [one.get("class") for one in told["results"]] == ["flower", "china", None]
    first = told["results"][0]
    parts = first["map"]["for"] + first["map"]["against"] + first["constant"]
    assert parts == pytest.approx(first["score"], abs=1e-5)
    with np.load(arrays) as file:
        assert file["maps"].sum((1, 2)) + file["constants"] == pytest.approx(file["scores"])
        assert file["classes"].tolist() == ["flower", "china"]
    text = page.read_text(encoding="utf-8")
    assert text.count('class="over" src="data:image/png') == 2
    assert "Map of flower on" in text
    assert "from the left" in text
    assert first["map"]["box"] in text
    assert "exact" in text
    shown = cli("explain", tmp_path / "a.probe", good, "--device", "cpu")
    assert shown.returncode == 0, shown.stderr
    assert first["map"]["box"] in shown.stdout
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x.jpg").write_bytes(good.read_bytes())
    predicted = cli("predict", tmp_path / "a.probe", folder, "--explain", page, "--device", "cpu")
    assert predicted.returncode == 0, predicted.stderr
    assert "Map of flower on x.jpg" in page.read_text(encoding="utf-8")


def test_the_command_explains_a_networks_own_classes(tmp_path):
    draw(90, 70).save(tmp_path / "a.png")
    done = cli(
        "explain", "builtin", tmp_path / "a.png", "--model", "vgg16-tiny", "--device", "cpu",
        "--class", "12", "--at", "relu4_3", "--method", "layercam", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["results"]
    assert (found["method"], found["layer"], found["constant"]) == ("layercam", "relu4_3", None)
    assert 0 < found["probability"] < 1
    wrong = cli("explain", "builtin", tmp_path / "a.png", "--model", "vgg16-tiny", "--class", "bea")
    assert wrong.returncode == 1
    assert "bee" in wrong.stderr


def test_numbers_are_explained(scenes, tmp_path):
    ages = tmp_path / "ages.csv"
    names = [f"{kind}/{number:02d}.jpg" for kind in ("china", "flower") for number in range(24)]
    rows = [f"{name},{number % 7}" for number, name in enumerate(names)]
    ages.write_text("\n".join(["path,age", *rows]) + "\n")
    store, probe = tmp_path / "s.h5", tmp_path / "ages.probe"
    extractor = FeatureExtractor("vgg16-tiny", layers="pool5", device="cpu")
    extractor.extract(scenes, store, progress=False)
    made = cli("probe", store, "--classifier", "ridge", "--targets", ages, "--save", probe)
    assert made.returncode == 0, made.stderr
    image = scenes / "china" / "05.jpg"
    predicted = cli("predict", probe, image, "--json", "--device", "cpu")
    (value,) = json.loads(predicted.stdout)["images"][0]["values"].values()
    found = only(str(probe), str(image), "age", device="cpu")
    assert found.score == pytest.approx(value, abs=1e-4)
    assert found.map.total + found.constant == pytest.approx(found.score, abs=1e-5)


def test_the_command_line_and_the_pages_know_the_methods():
    from vggfeat.cli.explain import METHODS as CHOICES

    assert CHOICES == METHODS
    assert {"auto", *HOW} == set(METHODS)
