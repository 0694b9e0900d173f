"""Near-identical images: what is found, how it is shown, and how copies are moved aside."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import cli
from conftest import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from index_rows import index_of
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps
from sklearn.datasets import load_sample_images

from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex
from vggfeat.duplicates import Duplicates, candidates, find_duplicates
from vggfeat.duplicates.candidates import SHARE, calibrated, near
from vggfeat.duplicates.moving import LIST
from vggfeat.errors import SearchError
from vggfeat.images import decode, size_of
from vggfeat.index import Expansion
from vggfeat.report import duplicates_page, size_text

COPIED = ["00.jpg", "01.jpg", "02.jpg"]
CROP = "05.jpg"
"""Cut from the same photograph as 00.jpg: both share 90 % of the pixels that either shows."""


@pytest.fixture(scope="module")
def archive(scenes, tmp_path_factory) -> Path:
    """Make photos/ with re-saved and smaller copies in photos/copies, and their store.

    Without `CROP`, so that these copies are all there is to find.
    """
    folder = tmp_path_factory.mktemp("archive")
    shutil.copytree(scenes, folder / "photos")
    (folder / "photos" / "copies").mkdir()
    kind = min(path.name for path in scenes.iterdir())
    (folder / "photos" / kind / CROP).unlink()
    for name in COPIED:
        image = Image.open(scenes / kind / name)
        image.save(folder / "photos" / "copies" / f"saved-{name}", quality=75)
        half = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
        half.save(folder / "photos" / "copies" / f"half-{name}", quality=95)
    extractor = FeatureExtractor("vgg16-tiny", layers="pool4", device="cpu")
    extractor.extract(folder / "photos", folder / "photos.h5", progress=False)
    return folder


@pytest.fixture
def own(archive, tmp_path) -> Path:
    """Give a copy of `archive` whose images may be moved, with a store that names them."""
    shutil.copytree(archive / "photos", tmp_path / "photos")
    extractor = FeatureExtractor("vgg16-tiny", layers="pool4", device="cpu")
    extractor.extract(tmp_path / "photos", tmp_path / "photos.h5", progress=False)
    return tmp_path


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def copied_groups(kind: str) -> set[frozenset[str]]:
    return {
        frozenset({f"{kind}/{name}", f"copies/saved-{name}", f"copies/half-{name}"})
        for name in COPIED
    }


@pytest.fixture(scope="module")
def found(archive) -> Duplicates:
    with FeatureStore(archive / "photos.h5") as store:
        return find_duplicates(SimilarityIndex.build(store, "pool4"))


def test_copies_are_found_without_a_threshold_and_the_most_original_is_kept(archive, scenes, found):
    kind = min(path.name for path in scenes.iterdir())
    assert found.threshold.calibrated
    assert {frozenset(one.path for one in group.images) for group in found.groups} == copied_groups(
        kind
    )
    for group in found.groups:
        best, half, saved = group.images
        assert best.path.startswith(kind)
        assert [one.verdict for one in group.images] == ["best", "copy", "copy"]
        assert group.spare == (half, saved)
        assert half.differences == ("50 % of the resolution", "JPEG quality 95, not 90")
        assert saved.differences == ("JPEG quality 75, not 90",)
        file = archive / "photos" / half.path
        assert (half.file.width, half.file.height) == Image.open(file).size
        assert half.file.bytes == file.stat().st_size
    assert len(found.spare) == 6


def test_a_crop_is_a_copy_and_what_shows_more_than_the_best_stays(scenes, tmp_path):
    (tmp_path / "photos").mkdir()
    photo = Image.open(scenes / min(path.name for path in scenes.iterdir()) / "00.jpg")
    width, height = photo.size
    photo.save(tmp_path / "photos" / "whole.jpg", quality=90)
    left = photo.crop((0, 0, round(0.93 * width), height))
    left.save(tmp_path / "photos" / "left.jpg", quality=90)
    right = photo.crop((round(0.06 * width), 0, width, height))
    right.save(tmp_path / "photos" / "right.jpg", quality=90)
    index = index_in(tmp_path / "photos", ["left.jpg", "right.jpg", "whole.jpg"])
    (group,) = find_duplicates(index, 0.5).groups
    assert [one.path for one in group.images] == ["whole.jpg", "left.jpg", "right.jpg"]
    assert {one.path for one in group.spare} == {"left.jpg", "right.jpg"}
    assert group.images[1].differences == ("7 % cut off",)
    (tmp_path / "photos" / "whole.jpg").unlink()
    (group,) = find_duplicates(index, 0.5).groups  # neither of the rest has all of the other
    assert {one.verdict for one in group.images if not one.file.problem} == {"best", "copy"}
    assert group.spare == ()


def test_the_threshold_is_the_share_of_the_usual_distance_though_most_images_have_copies():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 64))
    alone = calibrated(index_of(np.float32(points), "cosine"))
    copies = np.concatenate([points + rng.normal(scale=0.01, size=points.shape) for _ in range(4)])
    many = calibrated(index_of(np.float32(copies), "cosine"))
    assert 1 - alone.score == pytest.approx(SHARE * (1 - alone.typical))
    assert many.score == pytest.approx(alone.score, abs=0.01)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    cosine = unit @ unit.T - 2 * np.eye(300)
    assert alone.typical == pytest.approx(np.median(cosine.max(axis=1)), abs=1e-6)


def test_distances_are_calibrated_as_cosines_are():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 16))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points = np.float32(np.concatenate([points, points[:20] + 0.001]))
    by_cosine, by_distance = index_of(points, "cosine"), index_of(points, "l2")
    cosine, distance = calibrated(by_cosine), calibrated(by_distance)
    assert distance.score**2 / 2 == pytest.approx(1 - cosine.score, abs=1e-3)
    found = [
        near(index, threshold.score, 9)
        for index, threshold in ((by_cosine, cosine), (by_distance, distance))
    ]
    pairs = {i: [200 + i] for i in range(20)} | {200 + i: [i] for i in range(20)}
    assert found[0] == found[1] == (pairs, 0)


@settings(max_examples=30)
@given(
    st.integers(2, 60),
    st.integers(1, 12),
    st.floats(0.5, 0.999),
    st.sampled_from(["cosine", "l2"]),
    st.sampled_from([3, 256]),
    st.integers(1, 70),
    st.integers(0, 2**32 - 1),
)
def test_near_images_are_those_of_brute_force(count, kinds, cosine, metric, block, most, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(kinds, 6))[rng.integers(0, kinds, count)]
    X = X + rng.normal(scale=rng.choice([0.01, 0.1, 0.5]), size=X.shape)
    X = np.float32(X / np.linalg.norm(X, axis=1, keepdims=True))
    wide = np.float64(X)
    if metric == "cosine":
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    threshold = cosine if metric == "cosine" else float(np.sqrt(2 - 2 * cosine))
    apart = np.sqrt(((wide[:, None] - wide) ** 2).sum(axis=2))
    scores = wide @ wide.T if metric == "cosine" else apart
    if (np.abs(scores - threshold) < 1e-5).any():
        return  # float32 may decide either way
    tied = scores >= threshold if metric == "cosine" else scores <= threshold
    np.fill_diagonal(tied, False)
    with pytest.MonkeyPatch.context() as small:  # many blocks
        small.setattr(candidates, "_BLOCK", block)
        found, left_out = near(index_of(X, metric), threshold, most)
    assert left_out == np.maximum(tied.sum(axis=1) - most, 0).sum()
    assert sorted(found) == np.flatnonzero(tied.any(axis=1)).tolist()
    for place, others in found.items():
        assert len(others) == min(most, tied[place].sum())
        assert tied[place][others].all()
        farness = -scores[place] if metric == "cosine" else scores[place]
        nearest = np.sort(farness[tied[place]])[: len(others)]
        np.testing.assert_allclose(farness[others], nearest, atol=1e-5)


def test_removed_images_are_in_no_group(archive, scenes):
    kind = min(path.name for path in scenes.iterdir())
    with FeatureStore(archive / "photos.h5") as store:
        index = SimilarityIndex.build(store, "pool4")
    index.remove([f"copies/{part}-{COPIED[0]}" for part in ("saved", "half")])
    found = {frozenset(one.path for one in group.images) for group in find_duplicates(index).groups}
    assert found == {group for group in copied_groups(kind) if f"{kind}/{COPIED[0]}" not in group}


def test_indexes_that_cannot_say_what_is_the_same_are_refused(archive):
    with FeatureStore(archive / "photos.h5") as store:
        products = SimilarityIndex.build(store, "pool4", metric="ip")
        averages = SimilarityIndex.build(store, "pool4", augment=Expansion.parse("3"))
    for index, remedy in ((products, "--metric cosine"), (averages, "without --augment")):
        with pytest.raises(SearchError, match=remedy):
            find_duplicates(index)


def index_in(folder: Path, paths: list[str], X: object = None) -> SimilarityIndex:
    """Return an index whose images are files of a folder, alike by their features."""
    rng = np.random.default_rng(0)
    given = 1 + 0.01 * rng.normal(size=(len(paths), 8)) if X is None else X
    return index_of(np.float32(given), "cosine", names=paths, source=str(folder))


def page_of_text(number: int, changed: bool = False) -> Image.Image:
    rng = np.random.default_rng(number)
    words = ["".join(rng.choice(list("aeioulnrst"), 6)) for _ in range(200)]
    if changed:
        words[77] = words[77][::-1]
    page = Image.new("L", (600, 800), 255)
    text = "\n".join(" ".join(words[n : n + 8]) for n in range(0, 200, 8))
    ImageDraw.Draw(page).text((50, 60), text, 0, ImageFont.load_default(17), spacing=9)
    return page.convert("RGB")


def test_different_pages_of_text_are_no_copies_though_all_are_near_by_features(tmp_path):
    (tmp_path / "p").mkdir()
    names = [f"{number:02d}.jpg" for number in range(4)]
    for number, name in enumerate(names):
        page_of_text(number).save(tmp_path / "p" / name, quality=90)
    page_of_text(0, changed=True).save(tmp_path / "p" / "word.jpg", quality=90)
    page_of_text(0).save(tmp_path / "p" / "saved.jpg", quality=60)
    found = find_duplicates(index_in(tmp_path / "p", [*names, "saved.jpg", "word.jpg"]), 0.5)
    (group,) = found.groups
    assert [(one.path, one.verdict) for one in group.images] == [
        ("00.jpg", "best"), ("saved.jpg", "copy"), ("word.jpg", "likely"),
    ]  # fmt: skip
    assert [one.path for one in found.spare] == ["saved.jpg"]
    left, upper, _, lower = group.images[2].where
    assert left < 0.9
    assert upper < (60 + 10 * 32) / 800 < lower + 0.1
    assert found.different >= 3


def test_groups_do_not_chain_though_features_do(tmp_path):
    """Of three pictures the middle one is half of either other: the ends have nothing in common."""
    photo = Image.fromarray(load_sample_images().images[0]).crop((0, 60, 640, 360))
    (tmp_path / "p").mkdir()
    for number, left in enumerate((0, 160, 320)):
        photo.crop((left, 0, left + 320, 300)).save(tmp_path / "p" / f"{number}.png")
    found = find_duplicates(index_in(tmp_path / "p", ["0.png", "1.png", "2.png"]), 0.5)
    for group in found.groups:
        best, *others = (one.path for one in group.images)
        assert best == "1.png" or len(others) == 1
    assert found.spare == ()


def test_identical_bytes_are_copies_whatever_the_features_say(tmp_path):
    (tmp_path / "p").mkdir()
    draw(200, 150).save(tmp_path / "p" / "a.jpg")
    for name in ("b.jpg", "c.jpg"):
        shutil.copy(tmp_path / "p" / "a.jpg", tmp_path / "p" / name)
    draw(210, 150, seed=3).save(tmp_path / "p" / "d.jpg")
    index = index_in(tmp_path / "p", ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], np.eye(4))
    (group,) = find_duplicates(index, 0.9).groups
    assert [(one.path, one.verdict) for one in group.images] == [
        ("a.jpg", "best"), ("b.jpg", "identical"), ("c.jpg", "identical"),
    ]  # fmt: skip
    assert len(group.spare) == 2


def test_of_two_identical_files_in_a_chain_one_may_go(tmp_path):
    """The middle of a chain is near to both ends, which are not near to one another."""
    angles = np.deg2rad([0, 15, 15, 30])
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    (tmp_path / "p").mkdir()
    for seed, name in enumerate(("end", "one", "two", "other")):
        draw(200 + seed, 150, seed=seed).save(tmp_path / "p" / f"{name}.png")
    shutil.copy(tmp_path / "p" / "one.png", tmp_path / "p" / "two.png")
    names = ["end.png", "one.png", "two.png", "other.png"]
    found = find_duplicates(index_in(tmp_path / "p", names, X), float(np.cos(np.deg2rad(20))))
    assert [one.path for one in found.spare] == ["two.png"]


def test_without_originals_all_is_likely_and_nothing_may_go(tmp_path):
    found = find_duplicates(index_in(tmp_path / "gone", ["a.jpg", "b.jpg"]), 0.5)
    (group,) = found.groups
    assert [one.verdict for one in group.images] == ["best", "likely"]
    assert found.spare == ()
    page = duplicates_page(tmp_path / "d.html", found, name="a", explanation="So it is.")
    text = page.read_text()
    assert "1 likely copy among 2 images" in text
    assert "originals of 2 images could not be read" in text
    assert "0 copies" not in text
    assert "1 groups" not in text


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("brightened", "a.jpg"), ("border", "a.jpg"), ("enlarged quality", "a.jpg"),
     ("mirrored quality", "a.jpg"), ("lossless", "b.png"), ("half", "a.jpg"), ("exif", "b.jpg")],
)  # fmt: skip
def test_the_most_original_of_two_copies_is_kept(tmp_path, kind, kept):
    photo = Image.fromarray(load_sample_images().images[0]).crop((0, 0, 403, 301))
    (tmp_path / "p").mkdir()
    name, options = "b.jpg", {"quality": 90}
    change = {
        "brightened": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
        "border": lambda image: ImageOps.expand(image, 20, (250, 250, 250)),
        "half": lambda image: image.reduce(2),
        "mirrored quality": ImageOps.mirror,
    }.get(kind, lambda image: image)
    photo.save(tmp_path / "p" / "a.jpg", quality=70 if "quality" in kind else 90)
    source = Image.open(tmp_path / "p" / "a.jpg")
    if kind == "lossless":
        source, name = photo, "b.png"
    elif "quality" in kind or kind in ("brightened", "border"):
        options = {"quality": 98}
    elif kind == "exif":
        source = photo
        exif = Image.Exif()
        exif[0x010F] = "Camera"
        options["exif"] = exif
    change(source).save(tmp_path / "p" / name, **options)
    (group,) = find_duplicates(index_in(tmp_path / "p", ["a.jpg", name]), 0.5).groups
    assert group.images[0].path == kept
    assert len(group.spare) == 1


def test_the_command_prints_groups_and_how_the_threshold_was_found(archive):
    done = cli("duplicates", archive / "photos.h5", "--html", archive / "d.html")
    assert done.returncode == 0, done.stderr
    assert "median of 53 images" in done.stdout
    assert "6 copies in 3 groups among 53 images; 6 copies may go" in done.stdout
    page = (archive / "d.html").read_text()
    assert page.count("data:image/jpeg") == 9
    assert "copies/saved-00.jpg" in page
    assert "http" not in page.replace("http-equiv", "")


def test_an_index_does_as_its_store_and_json_says_all(archive, tmp_path):
    cli("index", "build", archive / "photos.h5", tmp_path / "i")
    both = [cli("duplicates", where, "--json") for where in (archive / "photos.h5", tmp_path / "i")]
    by_store, by_index = (json.loads(done.stdout) for done in both)
    assert by_store.pop("searched") != by_index.pop("searched")
    assert by_store == by_index
    assert by_store["threshold"]["calibrated"]
    first = by_store["groups"][0]["images"][0]
    assert {"path", "score", "verdict", "spare", "width", "bytes", "problem"} <= set(first)
    assert cli("duplicates", tmp_path / "i", "--layer", "pool4").returncode == 2


def test_moving_keeps_the_best_and_loses_nothing(own):
    before = files_of(own / "photos")
    done = cli("duplicates", own / "photos.h5", "--move-to", own / "aside", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    after, aside = files_of(own / "photos"), files_of(own / "aside")
    assert sorted(set(before) - set(after)) == sorted(f for f in before if f.startswith("copies/"))
    lines = list(csv.DictReader(aside.pop(LIST).decode().splitlines()))
    assert after | aside == before
    assert lines == told["moved"]
    for line in lines:
        shutil.move(line["to"], line["from"])
    assert files_of(own / "photos") == before


def test_without_a_terminal_nothing_moves_unless_told(own):
    before = files_of(own)
    done = cli("duplicates", own / "photos.h5", "--move-to", own / "aside")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert files_of(own) == before


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of Unix")
@pytest.mark.parametrize(("answer", "moves"), [("n", False), ("y", True)])
def test_on_a_terminal_the_answer_decides(own, answer, moves):
    before = files_of(own / "photos")
    terminal, end = os.openpty()
    with os.fdopen(terminal, "wb", buffering=0) as keyboard:
        keyboard.write(f"{answer}\n".encode())
        command = ["duplicates", own / "photos.h5", "--move-to", own / "aside"]
        program = [sys.executable, "-m", "vggfeat", *map(str, command)]
        done = subprocess.run(program, capture_output=True, text=True, check=False, stdin=end)
        os.close(end)
    assert "Move 6 images" in done.stderr
    assert (done.returncode == 0) == moves
    assert (files_of(own / "photos") == before) == (not moves)


def test_copies_are_not_moved_into_the_archive_itself(own):
    before = files_of(own)
    target = own / "photos" / "aside"
    done = cli("duplicates", own / "photos.h5", "--move-to", target, "--yes")
    assert done.returncode == 1
    assert "elsewhere" in done.stderr
    assert files_of(own) == before


def test_sizes_are_those_of_the_upright_image(tmp_path):
    image = Image.new("RGB", (30, 20))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(tmp_path / "a.jpg", exif=exif)
        with (tmp_path / "a.jpg").open("rb") as file:
            assert size_of(file) == decode(tmp_path / "a.jpg").size


def test_sizes_of_files_are_short():
    assert [size_text(n) for n in (0, 999, 12_345, 1_420_000)] == [
        "0 B", "999 B", "12.3 kB", "1.42 MB",
    ]  # fmt: skip


def test_a_collection_without_copies_has_an_empty_page(tmp_path):
    X = np.float32(np.eye(30))
    found = find_duplicates(index_of(X, "cosine"))
    assert isinstance(found, Duplicates)
    assert found.groups == ()
    page = duplicates_page(tmp_path / "d.html", found, name="a", explanation="So it is.")
    assert "There are no copies" in page.read_text()
    assert "0 copies among 30 images" in page.read_text()


def test_copies_in_sources_that_have_names_are_found_by_bytes_and_verified(tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    draw(200, 150, seed=1).save(folder / "a.png")
    draw(200, 150, seed=1).resize((100, 75)).save(folder / "small.png")
    shutil.copy(folder / "a.png", folder / "b.png")
    names = ["n/a.png", "n/b.png", "n/small.png"]
    X = np.array([[1, 0], [0, 1], [1, 0.01]], np.float32)  # the same bytes, far by features
    found = find_duplicates(index_of(X, "cosine", names=names, source=f"n={folder}"), 0.9)
    verdicts = [[(one.path, one.verdict) for one in group.images] for group in found.groups]
    assert verdicts == [list(zip(names, ("best", "identical", "copy"), strict=True))]
