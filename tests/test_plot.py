"""Pictures of what layers know: maps of images, what units respond to, feature maps of an image."""

from __future__ import annotations

import csv
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import pytest
import store_rows
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_divisions import made_store as divided_store

from vggfeat import FeatureExtractor, FeatureStore
from vggfeat.analysis import image_map, project, unit_responses
from vggfeat.cli import run
from vggfeat.errors import LayerError, PlotError, VggfeatError
from vggfeat.layers import architecture
from vggfeat.report import originals, plot_feature_maps, plot_map, plot_units
from vggfeat.report.colour_scale import ColourScale
from vggfeat.report.colouring import MOST, groups
from vggfeat.report.placing import Places
from vggfeat.store import StoreWriter
from vggfeat.weights import resolve
from vggfeat.weights.categories import categories


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def cli(capsys, monkeypatch) -> Callable[..., Done]:
    """Run the command in this process, and leave its logging as it was."""
    log = logging.getLogger("vggfeat")
    for name in ("handlers", "level", "propagate"):
        monkeypatch.setattr(log, name, getattr(log, name))

    def call(*args: object) -> Done:
        log.handlers = []
        with pytest.raises(SystemExit) as end:
            run(["plot", *map(str, args)])
        return Done(int(end.value.code or 0), *capsys.readouterr())

    return call


def colour(number: int) -> tuple[int, int, int]:
    """Return a colour of its own for each number, none of them near grey, white or the palette."""
    return (10 + 17 * (number % 3), 250 - 5 * (number // 3), 10 + number)


def made(
    folder: Path,
    features: np.ndarray,
    names: dict[int, tuple[str, ...]] | None = None,
    pending: int = 0,
) -> Path:
    """Make solid-coloured PNGs, and a store with the features and labels given for them."""
    photos = folder / "photos"
    photos.mkdir()
    count = len(features) + pending
    paths = [f"{number:04d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (90, 90), colour(number)).save(photos / path)
    provenance = store_rows.made(layers={"relu7": ""})
    provenance = replace(provenance, run=replace(provenance.run, source=str(photos)))
    labels = None if names is None else {paths[row]: found for row, found in names.items()}
    with StoreWriter.open(
        folder / "made.h5",
        entries=[store_rows.Image(path) for path in paths],
        shapes={"relu7": features.shape[1:]},
        provenance=provenance,
        labels=labels,
    ) as store:
        store.write(list(range(len(features))), {"relu7": features.astype(np.float32)})
    return folder / "made.h5"


def clusters(each: int, seed: int = 0) -> np.ndarray:
    """Return two groups of rows that lie apart."""
    rng = np.random.default_rng(seed)
    centres = np.zeros((2, 12))
    centres[[0, 1], [0, 1]] = 5
    return np.abs(np.repeat(centres, each, axis=0) + rng.normal(scale=0.3, size=(2 * each, 12)))


# Coordinates


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_same_seed_gives_the_same_coordinates(scenes_store, method):
    with FeatureStore(scenes_store) as store:
        first, again = (image_map(store, "relu7", method=method, seed=3) for _ in range(2))
    assert np.array_equal(first.coordinates, again.coordinates)
    assert first.coordinates.shape == (48, 2)
    assert np.abs(first.coordinates.mean(axis=0)).max() < 1e-3 * np.ptp(first.coordinates)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_classes_that_are_apart_in_the_features_are_apart_on_the_map(scenes_store, method):
    with FeatureStore(scenes_store) as store:
        found = image_map(store, "relu7", method=method)
    points, classes = found.coordinates, np.array([names[0] for names in found.labels])
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag([np.inf] * 48)
    nearest = np.mean(classes[distances.argmin(axis=1)] == classes)
    assert nearest > 0.9


def test_pca_is_that_of_rows_of_length_1_with_its_share_of_the_variance(scenes_store):
    with FeatureStore(scenes_store) as store:
        found = image_map(store, "relu7", method="pca")
        _, X = store.matrix("relu7")
    X = X / np.linalg.norm(X.astype(np.float64), axis=1, keepdims=True)
    X = X - X.mean(axis=0)
    u, s, _ = np.linalg.svd(X, full_matrices=False)
    assert np.allclose(np.abs(found.coordinates), np.abs(u[:, :2] * s[:2]), atol=1e-5)
    assert found.projection.explained == pytest.approx(s[:2] ** 2 / (s**2).sum(), rel=1e-4)


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 1), (6, 2), (40, 300)])
def test_few_or_equal_rows_have_finite_places(method, shape):
    rows = np.random.default_rng(0).normal(size=shape)
    for X in (rows, np.ones(shape)):
        if method == "tsne" and len(X) < 5:
            with pytest.raises(PlotError, match="Give the method pca"):
                project(X, method=method)
        else:
            assert np.isfinite(project(X, method=method).coordinates).all()


def test_umap_keeps_classes_apart_and_repeats_itself():
    pytest.importorskip("umap")
    code = (
        "import sys, numpy as np\nsys.path.insert(0, 'tests')\n"
        "from test_plot import clusters\nfrom vggfeat.analysis import project\n"
        "X = clusters(5)\na, b = (project(X, method='umap', seed=1).coordinates for _ in 'ab')\n"
        "assert np.array_equal(a, b)\n"
        "assert a[:5, 0].max() < a[5:, 0].min() or a[5:, 0].max() < a[:5, 0].min()\n"
    )
    # Compiling takes longer than running so few rows as Python.
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parent.parent, env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_without_umap_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)  # as if not installed
    with pytest.raises(PlotError, match=r'pip install "vggfeat\[umap\]"'):
        project(clusters(5), method="umap")


def test_rows_without_finite_features_are_left_out_and_counted(tmp_path):
    store = made(tmp_path, clusters(6), pending=3)
    with h5py.File(store, "r+") as file:
        file["features/relu7"][2, 3] = np.nan
    with FeatureStore(store) as opened:
        found = image_map(opened, "relu7", method="pca")
    assert 2 not in found.rows
    assert len(found.paths) == len(found.coordinates) == len(found.labels) == 11
    assert (found.left_out.not_done, found.left_out.not_finite) == (3, 1)


def test_of_too_many_images_a_seeded_sample_is_drawn_with_a_message(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("vggfeat"), "propagate", True)
    store = made(tmp_path, clusters(10))
    with FeatureStore(store) as opened, caplog.at_level("INFO", "vggfeat"):
        a, b, c = (
            image_map(opened, "relu7", method="pca", max_images=7, seed=s) for s in (1, 1, 2)
        )
        assert "A random 7 of 20 images" in caplog.text
        assert np.array_equal(a.rows, b.rows)
        assert not np.array_equal(a.rows, c.rows)
        assert a.left_out.not_sampled == 13
        with pytest.raises(PlotError, match="give 1 or more"):
            image_map(opened, "relu7", max_images=0)
        with pytest.raises(PlotError, match="Known methods: pca, tsne, umap"):
            image_map(opened, "relu7", method="mds")


# Maps


def test_a_map_has_its_size_and_shows_every_pixel_of_its_thumbnails(tmp_path):
    names = {row: (("left", "right")[row // 15],) for row in range(30)}
    turn = np.arange(30) / 30 * 2 * np.pi
    store = made(tmp_path, np.stack([np.cos(turn), np.sin(turn)], axis=1), names)
    with FeatureStore(store) as opened:
        found = image_map(opened, "relu7", method="pca")
        drawn = plot_map(
            tmp_path / "map.png", found, images=originals(opened.latest.source), size=(1500, 1201)
        )
    with Image.open(tmp_path / "map.png") as image:
        assert image.size == (1500, 1200)  # whole pixels of the page
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    counts = [int((pixels == colour(number)).all(axis=1).sum()) for number in range(30)]
    assert sorted(set(counts)) == [0, 76 * 76], "whole thumbnails, or none"
    assert counts.count(76 * 76) == drawn.thumbnails >= 9
    assert drawn.groups == {"left": 15, "right": 15}
    for group in groups(found.labels):
        rgb = [int(group.colour[at : at + 2], 16) for at in (1, 3, 5)]
        assert (pixels == rgb).all(axis=1).sum() > 100, "frames and dots of the class's colour"


def test_images_that_are_gone_become_dots(tmp_path):
    store = made(tmp_path, clusters(9))
    for number in range(0, 18, 2):
        (tmp_path / "photos" / f"{number:04d}.png").unlink()
    with FeatureStore(store) as opened:
        found = image_map(opened, "relu7", method="pca")
        source = originals(opened.latest.source)
        some = plot_map(tmp_path / "some.png", found, images=source)
        for number in range(1, 18, 2):
            (tmp_path / "photos" / f"{number:04d}.png").write_bytes(b"damaged")
        none = plot_map(tmp_path / "none.png", found, images=source)
    pixels = np.asarray(Image.open(tmp_path / "some.png").convert("RGB")).reshape(-1, 3)
    whole = [n for n in range(18) if (pixels == colour(n)).all(axis=1).sum() == 76 * 76]
    assert len(whole) == some.thumbnails > 0
    assert all(number % 2 for number in whole)
    assert some.unreadable > 0
    assert (none.thumbnails, none.images) == (0, 18)
    assert none.groups == {"images": 18}, "without labels all are of one colour"


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_the_same_map_is_the_same_file_in_every_format(tmp_path, ending):
    store = made(tmp_path, clusters(4), {0: ("<&'\"> $x_1$ \u732b\n",), 1: ("b",)})
    with FeatureStore(store) as opened:
        found = image_map(opened, "relu7", method="pca")
        images = originals(opened.latest.source)
        files = [tmp_path / f"{name}{ending}" for name in ("a", "b", "dark")]
        for file in files:
            plot_map(file, found, images=images, size=(800, 700), dark=file.stem == "dark")
    a, b, dark = (file.read_bytes() for file in files)
    assert a == b != dark
    assert a.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[ending])


def test_whatever_fails_an_existing_picture_stays_as_it_was(cli, tmp_path):
    store = made(tmp_path, clusters(2))
    out = tmp_path / "map.png"
    out.write_bytes(b"old")

    def interrupted(_stage: str, _done: int, _of: int) -> None:
        raise KeyboardInterrupt

    with FeatureStore(store) as opened:
        found = image_map(opened, "relu7", method="pca")
        images = originals(opened.latest.source)
        with pytest.raises(KeyboardInterrupt):
            plot_map(out, found, images=images, progress=interrupted)
        with pytest.raises(PlotError, match="give from 800 x 700"):
            plot_map(out, found, size=(100, 100))
        for wrong, message in (("map.jpg", "no kind of picture"), ("no/map.png", "does not exist")):
            with pytest.raises(VggfeatError, match=message):
                plot_map(tmp_path / wrong, found)
    failed = cli(store, "--layer", "relu7", out)
    assert failed.returncode == 1
    assert "4 images are too few for tsne" in failed.stderr
    assert out.read_bytes() == b"old"
    assert {file.name for file in tmp_path.iterdir()} == {"map.png", "made.h5", "photos"}


def test_several_labels_have_the_colour_of_the_rarest_and_the_legend_counts_all(tmp_path):
    names = {0: ("person", "horse"), 1: ("person",), 2: ("person", "dog"), 3: ("person",)}
    store = made(tmp_path, clusters(4), names)
    with FeatureStore(store) as opened:
        found = image_map(opened, "relu7", method="pca")
    assert found.multi_label
    shared = {group.name: group.members for group in groups(found.labels, multi_label=True)}
    assert shared == {"person": (1, 3), "horse": (0,), "dog": (2,), "no class": (4, 5, 6, 7)}
    assert plot_map(tmp_path / "a.png", found).groups == {k: len(v) for k, v in shared.items()}


# Machado, Oliveira & Fernandes (2009), table 1, severity 1.0, for linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}  # fmt: skip


def lab(hexadecimal: str, sight: str) -> np.ndarray:
    """Return a colour as such eyes see it, in CIELAB."""
    encoded = np.array([int(hexadecimal[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(SIGHTS[sight]) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.asarray(to_xyz) @ seen / (0.9505, 1, 1.089)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("dark", [False, True])
def test_colours_are_told_apart_by_all_kinds_of_eyes(sight, dark):
    labels = [(f"class {k:02d}",) for k in range(MOST + 1)]
    colours = [group.colour for group in groups(labels, dark=dark)]
    assert len(set(colours)) == MOST + 1
    seen = [lab(one, sight) for one in colours]
    distances = [np.linalg.norm(a - b) for a, b in combinations(seen, 2)]
    assert min(distances) > 20, "2.3 is just noticeable"


def test_a_class_has_the_same_colour_on_light_and_dark_grounds():
    labels = [(f"class {k:02d}",) for k in range(MOST + 1)]
    light, dark = (
        {group.name: group.colour for group in groups(labels, dark=ground) if group.is_class}
        for ground in (False, True)
    )
    assert light == dark
    lightness = [lab(colour, "normal")[0] for colour in light.values()]
    assert min(lightness) > 35
    assert max(lightness) < 90


names_of_images = st.lists(st.lists(st.sampled_from([f"c{k}" for k in range(15)]), unique=True))


@given(labels=names_of_images, dark=st.booleans())
def test_every_image_is_in_one_group_and_colours_and_shapes_differ(labels, dark):
    shared = groups(labels, multi_label=True, dark=dark)
    members = [number for group in shared for number in group.members]
    assert sorted(members) == list(range(len(labels)))
    named = [group for group in shared if group.is_class]
    assert len(named) <= MOST
    assert len({group.colour for group in named}) == len({group.shape for group in named})
    assert len({group.colour for group in named}) == len(named)
    for group in named:
        assert all(group.name in labels[number] for number in group.members)


@given(
    points=st.lists(st.tuples(*[st.floats(-50, 50)] * 2), min_size=1, max_size=60),
    most=st.integers(0, 60),
)
def test_thumbnails_never_overlap_and_none_that_fits_is_refused(points, most):
    at = np.array(points)
    places = Places(at, 7.0)
    taken = places.take(range(len(at)), most)
    apart = np.abs(at[:, None] - at[None]).max(axis=2)
    assert all(apart[a, b] >= 7 for a in taken for b in taken if a != b)
    assert taken[:1] == [0][:most]
    if len(taken) < most:
        assert all((apart[number, taken] < 7).any() for number in range(len(at)))
    if taken:
        places.give_back(taken[0])
        assert places.take([taken[0]], 1) == [taken[0]]


def test_a_map_of_20_000_images_is_drawn_quickly(tmp_path):
    from vggfeat.analysis.image_map import ImageMap, NotDrawn
    from vggfeat.analysis.projection import Projection

    rng = np.random.default_rng(0)
    points = rng.normal(size=(20_000, 2))
    labels = tuple((f"c{k}",) for k in rng.integers(0, 30, len(points)))
    found = ImageMap(
        "relu7", Projection("pca", points, (0.5, 0.3), {}, 0), np.arange(len(points)),
        tuple(map(str, range(len(points)))), labels, False, NotDrawn(0, 0, 0),
    )  # fmt: skip
    small = Image.new("RGB", (60, 40), "teal")
    began = time.process_time()
    drawn = plot_map(tmp_path / "big.png", found, images=lambda _: small)
    assert time.process_time() - began < 20
    assert 60 < drawn.thumbnails <= 300
    assert drawn.groups["20 other classes"] > 10_000


# The command, on a store


def test_a_map_from_the_command_line_tells_what_it_shows(cli, scenes_store, tmp_path):
    out, table = tmp_path / "map.png", tmp_path / "map.csv"
    done = cli(scenes_store, "--layer", "relu7", "--method", "pca", out, "--csv", table, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["method"], told["layer"], told["model"]) == ("pca", "relu7", "vgg16-tiny")
    assert (told["images"], told["picture"], told["csv"]) == (48, str(out), str(table))
    assert told["groups"] == {"china": 24, "flower": 24}
    assert 0 < told["explained_variance"][1] <= told["explained_variance"][0] < 1
    assert told["thumbnails"] > 5
    with FeatureStore(scenes_store) as store:
        found = image_map(store, "relu7", method="pca")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == list(found.paths)
    assert [(row["class"],) for row in rows] == list(found.labels)
    assert [[float(row["x"]), float(row["y"])] for row in rows] == found.coordinates.tolist()
    with Image.open(out) as image:
        assert image.size == (2400, 1800)


def test_a_map_may_be_coloured_by_splits_and_groups(cli, scenes_store, tmp_path):
    splits = ["train", "test", ""] * 8
    groups_of = [f"p{row // 2}" for row in range(24)]
    store = divided_store(tmp_path / "s.h5", ["cat", "dog"] * 12, splits, groups_of)
    out, table = tmp_path / "map.png", tmp_path / "map.csv"
    shared = store, "--method", "pca", out, "--json"
    told = json.loads(cli(*shared, "--colour-by", "split", "--csv", table).stdout)
    assert told["groups"] == {"test": 8, "train": 8, "no split": 8}
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == splits
    assert [row["group"] for row in rows] == groups_of
    told = json.loads(cli(*shared, "--color-by", "group").stdout)
    assert told["groups"]["p0"] == 2
    assert told["groups"]["2 other groups"] == 4
    assert set(json.loads(cli(*shared).stdout)["groups"]) == {"cat", "dog"}
    for what, option in (("split", "--split"), ("group", "--group-by")):
        done = cli(scenes_store, "--layer", "relu7", tmp_path / "x.png", "--colour-by", what)
        assert done.returncode == 1
        assert f"has no {what}s to colour by" in done.stderr
        assert option in done.stderr
    assert not (tmp_path / "x.png").exists()


def test_a_map_runs_where_no_network_does(scenes_store, tmp_path):
    arguments = ["plot", str(scenes_store), "--layer", "pool5", str(tmp_path / "map.svg")]
    code = (
        "import sys\nfrom vggfeat.cli import run\n"
        f"try: run({arguments!r})\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(sorted({'torch', 'torchvision', 'faiss', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "t-SNE of 48 images, seed 0" in done.stdout


def test_what_cannot_be_drawn_is_refused_in_a_line_before_anything_is_written(
    cli, scenes_store, scenes, tmp_path
):
    out = tmp_path / "a.png"
    photo = next(scenes.rglob("*.jpg"))
    for arguments, message in (
        ([scenes_store, "--layer", "relu6", out], "Did you mean relu7?"),
        ([scenes_store, out], "choose one with --layer"),
        ([scenes_store, "--layer", "relu7", tmp_path / "a.gif"], "no kind of picture"),
        ([scenes_store, "--layer", "relu7", "--unit", "5000", out], "from 0 to 1023"),
        (["--image", photo, "--model", "vgg16-tiny", "--layer", "conv3_4", out], "Did you mean"),
        (["--image", tmp_path / "no.jpg", "--model", "vgg16-tiny", "--layer", "fc6", out], "such"),
    ):
        done = cli(*arguments)
        assert done.returncode == 1, arguments
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    for arguments, message in (
        ([out], "Give a STORE and OUT"),
        (["--image", photo, scenes_store, out], "takes no STORE"),
        (["--image", photo, out], "needs a --layer"),
        (["--image", photo, "--layer", "fc6", "--method", "pca", out], "--method is for a map"),
        ([scenes_store, "--channels", "3", out], "--channels is for a picture of one image"),
        ([scenes_store, "--units", "3", "--unit", "4", out], "not both"),
        ([scenes_store, "--size", "10", out], "as 2400x1800"),
        ([scenes_store, "--csv", out, out], "are one file"),
    ):
        done = cli(*arguments)
        assert done.returncode == 2, arguments
        assert message in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())


# Units


def test_units_show_the_images_with_the_largest_and_smallest_values(cli, scenes_store, tmp_path):
    out = tmp_path / "units.png"
    done = cli(scenes_store, "--layer", "pool5", "--units", "3", out, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    with FeatureStore(scenes_store) as store:
        rows, X = store.matrix("pool5")
        paths = store.paths[rows].tolist()
    assert [unit["number"] for unit in told["units"]] == np.argsort(-X.var(axis=0))[:3].tolist()
    assert (told["total"], told["images"], told["interest"]) == (128, 48, "variance")
    for unit in told["units"]:
        values = X[:, unit["number"]].astype(np.float64)
        assert unit["mean"] == pytest.approx(values.mean())
        assert [one["value"] for one in unit["most"]] == np.sort(values)[::-1][:8].tolist()
        assert [one["value"] for one in unit["least"]] == np.sort(values)[:4].tolist()
        for one in (*unit["most"], *unit["least"]):
            assert values[paths.index(one["path"])] == one["value"]
            assert one["labels"] == [one["path"].split("/")[-2]]
    with Image.open(out) as image:
        assert image.size == (2752, 2 * (112 + 3 * 116 + 40))


def test_sparseness_is_treves_and_rolls_and_leaves_dead_units_out(tmp_path):
    rng = np.random.default_rng(0)
    features = np.abs(rng.normal(size=(1500, 7)))
    features[:, 3] = 0
    features[7, 3] = 1e-3  # one faint response is not interesting
    features[:, 5] = np.where(rng.uniform(size=1500) < 0.02, 3, 0)
    with StoreWriter.open(
        tmp_path / "s.h5", entries=store_rows.images(1502), shapes={"relu7": (7,)},
        provenance=store_rows.made(layers={"relu7": ""}), labels=None,
    ) as writer:  # fmt: skip
        writer.write(list(range(1500)), {"relu7": features.astype(np.float32)})
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file["features/relu7"][11, 2] = np.inf
    with FeatureStore(tmp_path / "s.h5") as store:
        report = unit_responses(store, "relu7", 7, interest="sparseness")
        spread = unit_responses(store, "relu7", 2)
    r = np.delete(features.astype(np.float32).astype(np.float64), 11, axis=0)
    with np.errstate(invalid="ignore"):
        sparse = 1 - r.mean(axis=0) ** 2 / (r**2).mean(axis=0)
    live = [unit for unit in np.argsort(-sparse).tolist() if unit != 3]
    assert [unit.number for unit in report.units] == [*live, 3]
    assert [unit.number for unit in spread.units] == np.argsort(-r.var(axis=0))[:2].tolist()
    assert (report.images, report.not_done, report.not_finite) == (1499, 2, 1)
    assert report.units[0].positive == pytest.approx((r[:, 5] > 0).mean())


def test_of_equal_values_no_image_is_preferred_for_its_place(tmp_path):
    features = np.zeros((40, 3))
    features[5, 1] = 1
    with FeatureStore(made(tmp_path, features)) as store:
        a, again = (unit_responses(store, "relu7", [1, 2], seed=4) for _ in range(2))
    assert a == again
    assert a.units[0].most[0].path == "0005.png"
    least = [[one.path for one in unit.least] for unit in a.units]
    assert least[0] != least[1]
    assert least[0] != [f"{row:04d}.png" for row in range(4)]
    for unit in a.units:
        assert not {one.path for one in unit.most} & {one.path for one in unit.least}
    with FeatureStore(tmp_path / "made.h5") as store, pytest.raises(PlotError, match="different"):
        unit_responses(store, "relu7", [1, 1])


def test_whole_maps_count_by_their_largest_value(tmp_path):
    store = store_rows.finished(tmp_path / "s.h5", 9)
    with FeatureStore(store) as opened:
        report = unit_responses(opened, "pool5", [2], most=3, least=0)
        channel = opened["pool5"][:, 2].max(axis=(1, 2))
        plot_units(tmp_path / "units.svg", report)  # the images are not there: tiles
        with pytest.raises(LayerError):
            unit_responses(opened, "fc6")
    assert [one.value for one in report.units[0].most] == np.sort(channel)[::-1][:3].tolist()
    assert report.units[0].least == ()
    assert b"<image" in (tmp_path / "units.svg").read_bytes()


# Feature maps


def test_feature_maps_are_the_extractor_s_and_strongest_first(cli, scenes, tmp_path):
    photo = next(scenes.rglob("*.jpg"))
    out = tmp_path / "maps.png"
    options = ["--image", photo, "--model", "vgg16-tiny", "--layer", "conv2", "--channels", "5"]
    done = cli(*options, out, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    extractor = FeatureExtractor("vgg16-tiny", layers="conv1_2:none", device="cpu")
    values = extractor(photo)["conv1_2"][0].astype(np.float64)
    assert (told["layer"], told["shape"], told["weights"]) == ("conv1_2", [16, 64, 64], "builtin")
    strengths = np.sqrt((np.maximum(values, 0) ** 2).mean(axis=(1, 2)))
    assert [one["number"] for one in told["channels"]] == np.argsort(-strengths)[:5].tolist()
    for one in told["channels"]:
        own = values[one["number"]]
        assert one["strength"] == pytest.approx(strengths[one["number"]], rel=1e-6)
        assert (one["largest"], one["smallest"]) == (own.max(), own.min())
    (seen,) = extractor.inputs(photo)
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("RGB"))
    # The input stands at its place, 250 pixels of the page for its 64: cell by cell.
    cells = (np.arange(64) + 0.5) * 500 / 64
    top, left = 2 * (84 + 24), 2 * 28
    shown = pixels[np.ix_((top + cells).astype(int), (left + cells).astype(int))]
    assert np.array_equal(shown, seen)


def test_classes_of_the_last_layers_have_names_only_where_they_are_known(cli, scenes, tmp_path):
    photo = next(scenes.rglob("*.jpg"))
    network = architecture("vgg16-tiny")
    names = categories(resolve("builtin", network), network)
    assert len(names) == 200
    assert names[0] == "goldfish"
    values = FeatureExtractor("vgg16-tiny", layers="prob", device="cpu")(photo)["prob"][0]
    for weights, known in (("builtin", names), ("random:1", None)):
        done = cli(
            "--image", photo, "--model", "vgg16-tiny", "--weights", weights, "--layer", "softmax",
            "--channels", "3", tmp_path / "prob.png", "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        channels = json.loads(done.stdout)["channels"]
        assert len(channels) == 3
        if known:
            for one, number in zip(channels, np.argsort(-values)[:3].tolist(), strict=True):
                assert (one["number"], one["name"]) == (number, known[number])
                assert one["strength"] == pytest.approx(float(values[number]), rel=1e-5)
        else:
            assert [one["name"] for one in channels] == ["", "", ""]


@given(low=st.floats(-1e6, 1e6), high=st.floats(-1e6, 1e6), dark=st.booleans())
def test_zero_has_the_ground_s_tone_and_signs_have_their_own_hue(low, high, dark):
    scale = ColourScale(min(low, high), max(low, high), dark)
    tone = scale.style["norm"]
    colours = scale.style["cmap"]
    ground = "#22272c" if dark else "#f3f1ea"
    expected = np.array([int(ground[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    assert np.allclose(colours(tone(0.0))[:3], expected, atol=0.01)
    reach = max(abs(scale.low), abs(scale.high))
    assert 0 <= tone(low) <= 1, "no value is cut off"
    assert 0 <= tone(high) <= 1
    above, below = colours(tone(0.6 * reach)), colours(tone(-0.6 * reach))
    assert above[2] > above[0], "blue above"
    assert below[0] > below[2], "brown below"


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (40, 7, 7), (1,), (2048,)])
@pytest.mark.parametrize("value", [0.0, -2.0, 3.0])
def test_any_values_make_a_picture(tmp_path, shape, value):
    image = np.full((30, 20, 3), 99, np.uint8)
    drawn = plot_feature_maps(tmp_path / "a.png", np.full(shape, value), image, "x $y_1$")
    assert [one.number for one in drawn.channels] == list(range(min(18, shape[0]))), (
        "ties: lower first"
    )
    assert {one.largest for one in drawn.channels} == {value}


def test_values_that_are_no_layer_s_are_refused(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    for values, given_image, channels, message in (
        (np.zeros((2, 2)), image, 1, "maps"),
        (np.array([np.nan]), image, 1, "not finite"),
        (np.zeros(3), image[:, :, 0], 1, "pixels"),
        (np.zeros(3), image, 0, "give 1 or more"),
        (np.zeros(90_000), image, 90_000, "Give fewer channels"),
    ):
        with pytest.raises(PlotError, match=message):
            plot_feature_maps(tmp_path / "a.png", values, given_image, "x", channels=channels)
    assert not list(tmp_path.iterdir())
