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
from hypothesis import given, settings
from hypothesis import strategies as st
from index_rows import index_of
from PIL import Image

from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex
from vggfeat.errors import SearchError
from vggfeat.evaluation.duplicates import Duplicates, find_duplicates
from vggfeat.evaluation.moving import LIST
from vggfeat.images import decode, size_of
from vggfeat.index import Expansion, duplicates
from vggfeat.index.duplicates import SHARE, calibrated, groups
from vggfeat.report import duplicates_page, size_text

COPIED = ["00.jpg", "01.jpg", "02.jpg"]
CROP = "05.jpg"
"""Cut from the same photograph as 00.jpg: both share 90 % of the pixels that either shows."""


def cli(*args: object, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vggfeat", *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=stdin, timeout=100
    )


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
        image.save(folder / "photos" / "copies" / f"saved-{name}", quality=50)
        half = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
        half.save(folder / "photos" / "copies" / f"half-{name}", quality=90)
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


def test_copies_are_found_without_a_threshold_and_the_largest_is_the_best(archive, scenes):
    kind = min(path.name for path in scenes.iterdir())
    with FeatureStore(archive / "photos.h5") as store:
        found = find_duplicates(SimilarityIndex.build(store, "pool4"))
    assert found.threshold.calibrated
    assert {frozenset(one.path for one in group.images) for group in found.groups} == copied_groups(
        kind
    )
    for group in found.groups:
        best, second, third = group.images
        assert best.path.startswith(kind)
        assert best.pixels == second.pixels > third.pixels
        assert best.bytes > second.bytes
        assert group.spare == (second, third)
        assert not group.chain
        assert found.threshold.score <= group.least <= min(second.score, third.score) + 1e-6
        file = archive / "photos" / third.path
        assert (third.width, third.height) == Image.open(file).size
        assert third.bytes == file.stat().st_size


def test_a_slightly_smaller_crop_of_the_same_photograph_is_a_copy(scenes, tmp_path):
    extractor = FeatureExtractor("vgg16-tiny", layers="pool4", device="cpu")
    extractor.extract(scenes, tmp_path / "scenes.h5", progress=False)
    with FeatureStore(tmp_path / "scenes.h5") as store:
        found = find_duplicates(SimilarityIndex.build(store, "pool4"))
    kind = min(path.name for path in scenes.iterdir())
    (group,) = found.groups
    assert [one.path for one in group.images] == [f"{kind}/{name}" for name in (COPIED[0], CROP)]


def test_a_threshold_can_be_given(archive):
    with FeatureStore(archive / "photos.h5") as store:
        index = SimilarityIndex.build(store, "pool4")
    assert not find_duplicates(index, 1.1).groups
    (whole,) = find_duplicates(index, -1.0).groups
    assert len(whole.images) == 47 + 6


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
        [one.places.tolist() for one in groups(index, threshold.score)]
        for index, threshold in ((by_cosine, cosine), (by_distance, distance))
    ]
    assert found[0] == found[1] == [[i, 200 + i] for i in range(20)]


@settings(max_examples=40)
@given(
    st.integers(2, 60),
    st.integers(1, 12),
    st.floats(0.5, 0.999),
    st.sampled_from(["cosine", "l2"]),
    st.sampled_from([3, 256]),
    st.sampled_from([5, 1 << 20]),
    st.integers(0, 2**32 - 1),
)
def test_groups_are_those_of_brute_force(count, kinds, cosine, metric, block, pairs, seed):
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
    left, expected = set(range(count)), []
    while left:
        reached = waiting = {min(left)}
        while waiting:
            waiting = set(np.flatnonzero(tied[sorted(waiting)].any(axis=0)).tolist()) - reached
            reached = reached | waiting
        left -= reached
        if len(reached) > 1:
            expected.append(sorted(reached))
    with pytest.MonkeyPatch.context() as small:  # many blocks, and reduced after each
        small.setattr(duplicates, "_BLOCK", block)
        small.setattr(duplicates, "_PAIRS", pairs)
        found = groups(index_of(X, metric), threshold)
    assert [one.places.tolist() for one in found] == expected
    for one in found:
        among = scores[np.ix_(one.places, one.places)]
        worst = among.min() if metric == "cosine" else among.max()
        assert one.least == pytest.approx(worst, abs=2e-3 if metric == "l2" else 1e-6)


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


def test_a_chain_is_told_and_only_true_copies_of_the_best_may_go(tmp_path):
    angles = np.deg2rad([0, 15, 30, 45])
    X = np.float32(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    found = find_duplicates(index_of(X, "cosine"), float(np.cos(np.deg2rad(20))))
    (group,) = found.groups
    assert group.chain
    assert group.least == pytest.approx(np.cos(np.deg2rad(45)), abs=1e-6)
    assert [one.near for one in group.images] == [True, True, False, False]
    assert all(one.problem for one in group.images)  # there are no files
    assert group.spare == ()
    page = duplicates_page(tmp_path / "d.html", found, name="a", explanation="So it is.")
    assert "This group is a chain" in page.read_text()


def test_the_command_prints_groups_and_how_the_threshold_was_found(archive):
    done = cli("duplicates", archive / "photos.h5", "--html", archive / "d.html")
    assert done.returncode == 0, done.stderr
    assert "median of 53 images" in done.stdout
    assert "3 groups among 53 images; 6 images are copies" in done.stdout
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
    assert {"path", "score", "near", "width", "height", "bytes", "problem"} <= set(first)
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
        done = cli(*command, stdin=end)
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
    assert "No two images" in page.read_text()
