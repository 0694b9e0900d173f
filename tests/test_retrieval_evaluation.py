"""Benchmarks of image retrieval in their official layouts, run and scored by the command."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_rows import make_store
from PIL import Image
from sklearn.datasets import load_sample_images

import vggfeat
from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex
from vggfeat.cli import run
from vggfeat.datasets import RetrievalBenchmark, open_benchmark
from vggfeat.datasets.plain_pickle import load_plain, values
from vggfeat.datasets.retrieval import BENCHMARKS, Query
from vggfeat.datasets.retrieval.revisited import revisited_queries
from vggfeat.errors import SearchError, SourceError
from vggfeat.evaluation import score_benchmark
from vggfeat.queries import ImageSearch
from vggfeat.regions import Region

MADE = {"layers": ["pool5:rmac"], "view": "dense", "scales": [64], "device": "cpu"}
ASKED = ["--model", "vgg16-tiny", "--scales", "64", "--device", "cpu"]


def views(scene: int, count: int) -> list[Image.Image]:
    """Cut overlapping views of one place in a photograph."""
    pixels = load_sample_images().images[scene % 2]
    rng = np.random.default_rng(scene)
    left, top = rng.integers(20, 350), rng.integers(20, 150)
    photo = Image.fromarray(pixels)
    found = []
    for _ in range(count):
        x, y = left + rng.integers(-20, 20), top + rng.integers(-20, 20)
        found.append(photo.crop((x, y, x + rng.integers(130, 200), y + rng.integers(110, 190))))
    return found


def save(folder: Path, images: dict[str, Image.Image]) -> Path:
    folder.mkdir(parents=True)
    for name, image in images.items():
        (folder / f"{name}.jpg").parent.mkdir(exist_ok=True)
        image.save(folder / f"{name}.jpg", quality=95)
    return folder


def evaluated(capsys: pytest.CaptureFixture[str], stores: Path, *given: Any) -> str:
    command = ["evaluate", "retrieval", *ASKED, "--stores", str(stores), *map(str, given)]
    with pytest.raises(SystemExit) as ended:
        run(command)
    told = capsys.readouterr()
    assert ended.value.code == 0, told.err
    return told.out


def result(capsys: pytest.CaptureFixture[str], stores: Path, *given: Any) -> dict[str, Any]:
    return json.loads(evaluated(capsys, stores, *given, "--json"))


def described(images: list[Any]) -> np.ndarray[Any, Any]:
    X = np.float64(FeatureExtractor("vgg16-tiny", **MADE)(images)["pool5"])
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def ranked(files: list[Path], queries: list[Any]) -> list[list[str]]:
    """Rank all files for each query, without an index."""
    order = np.argsort(-(described(queries) @ described(files).T), axis=1)
    return [[files[i].stem for i in row] for row in order]


def without(ranking: list[str], junk: set[str]) -> list[str]:
    return [name for name in ranking if name not in junk]


def trapezoids(ranking: list[str], right: set[str]) -> float:
    area = found = 0.0
    for rank, name in enumerate(ranking):
        if name in right:
            area += (found / rank if rank else 1) + (found + 1) / (rank + 1)
            found += 1
    return area / 2 / len(right)


def test_holidays_is_scored_without_the_query_itself(tmp_path, capsys):
    counts = (2, 3, 4, 2)
    images = {
        f"{1000 + scene}{number:02d}": image
        for scene, count in enumerate(counts)
        for number, image in enumerate(views(scene, count))
    }
    root = save(tmp_path / "jpg", images)
    told = result(capsys, tmp_path / "s", "--root", root, "--ground-truth", "holidays")
    files = sorted(root.iterdir())
    queries = [file for file in files if file.stem.endswith("00")]
    expected = [
        trapezoids(
            without(ranking, {query.stem}),
            {file.stem for file in files if file.stem[:4] == query.stem[:4]} - {query.stem},
        )
        for query, ranking in zip(queries, ranked(files, queries), strict=True)
    ]
    (score,) = told["scores"]
    assert score["score"] == pytest.approx(np.mean(expected), abs=1e-9)
    assert list(score["queries"].values()) == pytest.approx(expected, abs=1e-9)
    assert told["images"] == 11
    assert told["departures"] == ["11 images instead of 1,491", "4 queries instead of 500"]
    assert [row["percent"] for row in told["published"]] == [83.4, 83.2, 83.5]
    assert "left out" in told["settings"]["query_itself"]


def test_ukbench_counts_how_many_of_four_come_first(tmp_path, capsys):
    images = [image for scene in range(3) for image in views(scene, 4)]
    root = save(tmp_path / "full", {f"ukbench{n:05d}": image for n, image in enumerate(images)})
    told = result(capsys, tmp_path / "s", "--root", root, "--ground-truth", "ukbench")
    files = sorted(root.iterdir())
    first = [ranking[:4] for ranking in ranked(files, files)]
    expected = [
        sum(int(name[-5:]) // 4 == number // 4 for name in four)
        for number, four in enumerate(first)
    ]
    assert told["scores"][0]["score"] == pytest.approx(np.mean(expected))
    assert max(expected) == 4


@pytest.fixture
def oxford(tmp_path: Path) -> Path:
    """Make three queries with boxes, each with two good views, an ok one and a junk one."""
    images = {
        f"place_{scene}{number:05d}": image
        for scene in range(3)
        for number, image in enumerate(views(scene, 5))
    }
    save(tmp_path / "oxford" / "images", images)
    truth = tmp_path / "oxford" / "gt"
    truth.mkdir()
    for scene in range(3):
        name = [f"place_{scene}{number:05d}" for number in range(5)]
        texts = {
            "query": f"oxc1_{name[0]} 10.4 5.6 100.5 90.2",
            "good": f"{name[0]}\n{name[1]}\n",
            "ok": f"{name[2]}\n",
            "junk": f"{name[3]}\n",
        }
        for kind, text in texts.items():
            (truth / f"place_{scene}_{kind}.txt").write_text(text)
    return tmp_path / "oxford"


@pytest.mark.parametrize("whole", [False, True])
def test_oxford_searches_with_boxes_and_leaves_junk_out(oxford, tmp_path, capsys, whole):
    asked = ["--root", oxford, "--ground-truth", "oxford5k", *(["--whole-queries"] * whole)]
    told = result(capsys, tmp_path / "s", *asked)
    files = sorted((oxford / "images").iterdir())
    images: list[Any] = [oxford / "images" / f"place_{scene}00000.jpg" for scene in range(3)]
    if not whole:
        images = [Image.open(file).crop((10, 6, 100, 90)) for file in images]
    expected = []
    for scene, ranking in enumerate(ranked(files, images)):
        name = [f"place_{scene}{number:05d}" for number in range(5)]
        expected.append(trapezoids(without(ranking, {name[3]}), set(name[:3])))
    assert told["scores"][0]["score"] == pytest.approx(np.mean(expected), abs=1e-9)
    assert told["settings"]["query"] == ("whole image" if whole else "crop")
    assert ("whole images are the queries, not their boxes" in told["departures"]) == whole
    assert [row["percent"] for row in told["published"]] == [66.4, 68.4, 70.8]


def test_a_cropped_query_is_that_of_a_search_with_the_box(oxford, tmp_path):
    benchmark = open_benchmark("oxford5k", oxford)
    extractor = FeatureExtractor("vgg16-tiny", **MADE)
    extractor.extract(benchmark.source(), tmp_path / "s.h5", progress=False)
    extractor.extract(benchmark.query_source(), tmp_path / "q.h5", progress=False)
    with FeatureStore(tmp_path / "s.h5") as store, FeatureStore(tmp_path / "q.h5") as crops:
        search = ImageSearch(SimilarityIndex.build(store, "pool5"), device="cpu")
        query = benchmark.queries[1]
        X, _, _ = search.features([oxford / query.image], box=Region(10, 6, 90, 84))
        row = crops.row(benchmark.key(query))
        assert crops["pool5"][row] == pytest.approx(X[0], rel=1e-4, abs=1e-6)
        whole = store["pool5"][store.row(query.image)]
        assert np.abs(whole - X[0]).max() > 0.01


LISTS = {"easy": [1], "hard": [2], "junk": [3]}


def truth(kind: str) -> dict[str, Any]:
    """Return revisited ground truth; each of three queries has views 1 to 3 of its place."""
    images = [f"place_{scene}{number:05d}" for scene in range(3) for number in range(1, 5)]
    numpy = np.array if kind == "arrays" else list
    queries = []
    for scene in range(3):
        lists = {key: [4 * scene + i - 1 for i in numbers] for key, numbers in LISTS.items()}
        if scene == 2:
            lists["hard"] = []
        arrays = {key: numpy(numbers) for key, numbers in lists.items()}
        if kind == "arrays":
            arrays = {key: one.astype(np.int64) for key, one in arrays.items()}
        queries.append({"bbx": numpy([10.4, 5.6, 100.5, 90.2]), **arrays})
    names = [f"place_{scene}00000" for scene in range(3)]
    return {"gnd": queries, "imlist": images, "qimlist": names}


@pytest.mark.parametrize("kind", ["arrays", "lists"])
def test_revisited_oxford_has_three_levels_with_junk_of_their_own(oxford, tmp_path, capsys, kind):
    (oxford / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(truth(kind), protocol=2))
    asked = ["--root", oxford, "--ground-truth", "roxford5k"]
    told = result(capsys, tmp_path / "s", *asked)
    files = [file for file in sorted((oxford / "images").iterdir()) if file.stem[-5:] != "00000"]
    images = [
        Image.open(oxford / "images" / f"place_{scene}00000.jpg").crop((10, 6, 100, 90))
        for scene in range(3)
    ]
    rankings = ranked(files, images)
    kinds = {"easy": ("1", "32"), "medium": ("12", "3"), "hard": ("2", "31")}
    assert told["images"] == 12
    for score, (level, (right, junk)) in zip(told["scores"], kinds.items(), strict=True):
        scored, firsts = [], []
        for scene, ranking in enumerate(rankings):
            numbers = right.replace("2", "") if scene == 2 else right
            good = {f"place_{scene}0000{n}" for n in numbers}
            neither = {f"place_{scene}0000{n}" for n in junk if scene != 2 or n != "2"}
            left = without(ranking, neither)
            if good:
                scored.append(trapezoids(left, good))
                last = max(left.index(name) for name in good) + 1
                k = min(5, last)
                firsts.append(sum(name in good for name in left[:k]) / k)
        assert score["level"] == level
        assert score["score"] == pytest.approx(np.mean(scored), abs=1e-9)
        assert score["precision"]["5"] == pytest.approx(np.mean(firsts), abs=1e-9)
        assert score["empty"] == (1 if level == "hard" else 0)
    text = evaluated(capsys, tmp_path / "s", *asked)
    assert "Queries with nothing to be found, which do not count: 1 hard" in text


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    images = {
        f"{'abc'[scene]}/{number}": image
        for scene in range(3)
        for number, image in enumerate(views(scene, (4, 5, 1)[scene]))
    }
    return save(tmp_path / "classes", images)


def test_each_image_of_a_folder_of_classes_searches_for_its_class(classes, tmp_path, capsys):
    told = result(capsys, tmp_path / "s", "--root", classes)
    files = sorted(classes.rglob("*.jpg"))
    names = [f"{file.parent.name}/{file.name}" for file in files]
    order = np.argsort(-(described(files) @ described(files).T), axis=1)
    expected, first = [], []
    for query, row in enumerate(order):
        right = np.array([names[i][0] == names[query][0] for i in row if i != query])
        if right.any():
            precision = np.cumsum(right) / np.arange(1, len(right) + 1)
            expected.append(precision[right].mean())
            first.append(right[0])
    (score,) = told["scores"]
    assert len(score["queries"]) == 9  # the only image of c has nothing to find
    assert score["score"] == pytest.approx(np.mean(expected), abs=1e-9)
    assert score["precision"]["1"] == pytest.approx(np.mean(first))
    again = vggfeat.evaluate_retrieval(
        "folders", classes, model="vgg16-tiny", scales=[64], device="cpu", stores=tmp_path / "s"
    )
    assert json.loads(json.dumps(again.to_json())) == told, "the command, as Python has it"


def test_everything_that_decides_the_number_is_printed(classes, tmp_path, capsys):
    asked = ["--root", classes, "--whiten", 4, "--expand", "2:3", "--ap", "trapezoid"]
    text = evaluated(capsys, tmp_path / "s", *asked)
    for told in (
        "pool5 (rmac:3), 4 numbers an image",
        "dense at scales 64",
        "PCA to 4 numbers, learnt on 10 images (the searched images)",
        "cosine similarity",
        "query expansion: 2:3",
        "left out of the ranking",
        "trapezoids",
        "average precision by trapezoid, not by step",
    ):
        assert told in text


def test_a_whitening_learnt_elsewhere_is_applied_to_images_and_queries(oxford, tmp_path, capsys):
    asked = ["--root", oxford, "--ground-truth", "oxford5k"]
    plain = result(capsys, tmp_path / "s", *asked)
    with pytest.raises(SystemExit):
        run(["whiten", plain["settings"]["store"], str(tmp_path / "w.npz"), "--dimension", "6"])
    capsys.readouterr()
    told = result(capsys, tmp_path / "s", *asked, "--whiten", tmp_path / "w.npz")
    learnt = result(capsys, tmp_path / "s", *asked, "--whiten", 6)
    assert told["scores"] == learnt["scores"] != plain["scores"]
    assert told["settings"]["whitening"]["learnt_on"] == "other images"


def test_queries_of_zeros_find_nothing_and_end_nothing(tmp_path):
    X = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    X[1] = X[0]
    X[2] = 0
    names = [f"{number:05d}.jpg" for number in range(6)]
    queries = (
        Query("zeros", names[2], frozenset(names[3:4]), frozenset(names[2:3])),
        Query("copy", names[0], frozenset(names[1:2]), frozenset(names[:1])),
    )
    benchmark = RetrievalBenchmark(
        "folders", "", tuple(names), {"": queries}, BENCHMARKS["folders"].protocol, ()
    )
    with FeatureStore(make_store(tmp_path / "s.h5", X)) as store:
        told = score_benchmark(benchmark, store, layer="relu7")
    (score,) = told.scores
    assert score.queries == {"zeros": 0, "copy": 1}
    assert score.score == 0.5
    assert "1 queries of zeros, which are like nothing, find nothing" in told.departures


def test_boxes_that_have_changed_are_cut_anew(oxford, tmp_path, capsys):
    asked = ["--root", oxford, "--ground-truth", "oxford5k"]
    before = result(capsys, tmp_path / "s", *asked)
    for file in oxford.rglob("*_query.txt"):
        name, left, upper, right, lower = file.read_text().split()
        middle = (float(left) + float(right)) / 2
        file.write_text(f"{name} {left} {upper} {middle} {lower}")
    after = result(capsys, tmp_path / "s", *asked)
    assert after == result(capsys, tmp_path / "fresh", *asked) | {"settings": after["settings"]}
    assert after["settings"]["queries"] != before["settings"]["queries"]


def test_images_that_cannot_be_read_are_never_found_and_told(classes, tmp_path, capsys):
    (classes / "a" / "0.jpg").write_bytes(b"\xff\xd8\xff broken")
    told = result(capsys, tmp_path / "s", "--root", classes)
    assert told["images"] == 9
    assert "1 images have no features and are never found" in told["departures"]
    assert "query 'a/0.jpg' without features, left out of the mean" in told["departures"]
    assert all(value < 1 for name, value in told["scores"][0]["queries"].items() if name[0] == "a")


def test_removed_images_are_not_searched_and_nothing_is_learnt_from_them(classes, tmp_path):
    extractor = FeatureExtractor("vgg16-tiny", **MADE)
    extractor.extract(classes, tmp_path / "s.h5", progress=False)
    (classes / "b" / "0.jpg").unlink()
    benchmark = open_benchmark("folders", classes)
    with FeatureStore(tmp_path / "s.h5") as store:
        assert score_benchmark(benchmark, store).images == 9
        with pytest.raises(SearchError, match=r"b/0\.jpg"):
            score_benchmark(benchmark, store, whitening=3)


class _Calls:
    """Pickles to a call of a function."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.call = function, given

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_and_runs_nothing(oxford, tmp_path, capsys, protocol):
    mark = tmp_path / "ran"
    hostile = truth("lists") | {"extra": _Calls(os.mkdir, str(mark))}
    (oxford / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(hostile, protocol=protocol))
    with pytest.raises(SystemExit) as ended:
        run([*("evaluate", "retrieval", "--root", str(oxford)), "--ground-truth", "roxford5k"])
    assert ended.value.code == 1
    assert "mkdir" in capsys.readouterr().err
    assert not mark.exists()


@pytest.mark.parametrize(
    "held",
    [
        _Calls(eval, "1"),
        _Calls(getattr, "a", "upper"),
        _Calls(zipfile.ZipFile, "a"),
        Path("a"),
        np.array([print], object),
        np.zeros(2, [("a", "f8")]),
    ],
    ids=lambda held: type(held).__name__,
)
def test_only_plain_values_and_arrays_are_read_from_pickles(tmp_path, held):
    for protocol in range(5):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps([held], protocol=protocol))
        with pytest.raises(SourceError, match="Nothing in it was run"):
            load_plain(tmp_path / "a.pkl")


def test_attributes_of_the_reader_cannot_be_set_by_a_pickle(tmp_path):
    stolen = b"cnumpy\ndtype\n(N}(S'__name__'\nS'x'\nutb."  # BUILD on a function
    (tmp_path / "a.pkl").write_bytes(stolen)
    with pytest.raises(SourceError, match="sets attributes"):
        load_plain(tmp_path / "a.pkl")


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("dtype", ["<i8", ">i4", "u1", "<f4", "<U5", "bool"])
def test_arrays_and_numbers_of_pickles_are_read_as_they_were(tmp_path, protocol, dtype):
    array = np.array([3, 0, 1], dtype)
    held = {
        "a": array,
        "b": (array[0], {"c": [1.5, None, True]}, b"\xff"),
        "d": array.reshape(3, 1),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(held, protocol=protocol))
    found = load_plain(tmp_path / "a.pkl")
    assert values(found["a"]) == array.tolist()
    assert found["b"][0] == array[0]
    assert np.array_equal(found["d"].array, array.reshape(3, 1))


@pytest.mark.timeout(30)
def test_a_ground_truth_of_tuples_within_tuples_is_refused_at_once(tmp_path):
    name: Any = ("a",)
    for _ in range(60):
        name = (name, name)
    for lie in ({"imlist": [name]}, {"gnd": [{"bbx": [0, 0, 1, 1], "easy": [name]}]}):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(truth("lists") | lie, protocol=2))
        with pytest.raises(SourceError, match="no ground truth of revisited"):
            revisited_queries(tmp_path / "a.pkl", [])


def test_damaged_pickles_are_refused(tmp_path):
    whole = pickle.dumps(truth("arrays"), protocol=2)
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole[: rng.integers(len(whole))])
        if data and rng.random() < 0.5:
            data = bytearray(whole)
            data[rng.integers(len(data))] = rng.integers(256)
        (tmp_path / "a.pkl").write_bytes(data)
        try:
            load_plain(tmp_path / "a.pkl")
        except SourceError as error:
            assert str(tmp_path) in str(error)  # noqa: PT017 (a lucky change may be harmless)


def test_ground_truth_that_is_missing_or_names_missing_images_is_explained(oxford):
    with pytest.raises(SourceError, match="gnd_rparis6k"):
        open_benchmark("rparis6k", oxford)
    told = truth("lists")
    told["imlist"][0] = "elsewhere"
    (oxford / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(told))
    with pytest.raises(SourceError, match="elsewhere"):
        open_benchmark("roxford5k", oxford)
    told["gnd"][0]["easy"] = [99]
    (oxford / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(told))
    with pytest.raises(SourceError, match="easy"):
        open_benchmark("roxford5k", oxford)
    with pytest.raises(SourceError, match="names"):
        open_benchmark("folders", oxford, oxford / "gt")
