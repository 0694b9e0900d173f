"""``vggfeat extract`` as a person types it: what it says, and the status that it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import draw
from store_rows import fill, images, writer
from test_cli_stores import Shell

from vggfeat.store import FeatureStore

FAST = ("--model", "vgg16-tiny", "--weights", "random:0", "--layers", "pool1", "--device", "cpu")


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def test_a_run_in_which_not_one_image_could_be_done_ends_in_status_1(
    shell: Shell, tmp_path: Path
) -> None:
    photos, store = tmp_path / "photos", tmp_path / "photos.h5"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"")
    status, out, err = shell("extract", photos, store, *FAST)
    assert (status, "0 of 1 images done" in out) == (1, True)
    assert "Error: Not one of the 1 images could be done, for example a.jpg: " in err
    assert shell("extract", photos, store, *FAST)[0] == 1  # and so it stays
    draw(70, 70).save(photos / "b.png")
    assert shell("extract", photos, store, *FAST)[0] == 0
    assert shell("extract", photos, store, *FAST)[0] == 0  # nothing to do is no failure
    status, _, err = shell("extract", photos, store, *FAST, "--retry-failed")
    assert status == 1
    assert "Not one of the 1 images of this run could be done, for example a.jpg: " in err


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        draw(70, 70, seed=len(name)).save(file)
    return tmp_path / "photos"


def test_where_labels_came_from_is_always_said(shell: Shell, photos: Path) -> None:
    store = photos.parent / "s.h5"
    _, out, _ = shell("extract", photos, store, *FAST)
    assert "Labels: 4 of 4 images, 2 classes, from folder 1 of each path." in out
    assert "single-label from folder:1, 2 classes: cat, dog" in shell("info", store)[1]
    hand = photos.parent / "hand.csv"
    hand.write_text("path,label,age\nphotos/cat/1.png,a,3\nphotos/dog/3.png,b,4\ngone.png,a,5\n")
    _, out, _ = shell("extract", photos, store, *FAST, "--labels", hand)
    for said in (
        "Labels: 2 of 4 images, 2 classes, from hand.csv.",
        "that are images of the source: 2 (without the leading folder 'photos' of the table)",
        "that are not: 1, for example gone.png",
        "images that the table does not name, for example cat/2.png, dog/4.png",
        "had another label, or lost theirs: 4",
        "columns not used: age",
    ):
        assert said in out, said
    _, out, _ = shell("extract", photos, store, *FAST, "--json")
    labels = json.loads(out)["labels"]
    assert (labels["origin"], labels["images"], labels["unlabelled"]) == ("table:hand.csv", 2, 2)


def test_a_list_with_other_columns_names_them_and_keeps_its_order(
    shell: Shell, photos: Path
) -> None:
    (photos / "list.csv").write_text("path,age\ndog/3.png,7\ncat/1.png,8\n")
    store = photos.parent / "s.h5"
    _, out, _ = shell("extract", photos / "list.csv", store, *FAST)
    assert "from folder 1 of each path" in out
    assert "columns not used: age" in out
    with FeatureStore(store) as opened:
        assert opened.paths.tolist() == ["dog/3.png", "cat/1.png"]


@pytest.mark.parametrize("command", ["probe", "knn", "sweep", "lowshot"])
@pytest.mark.parametrize("labels", ["none", "empty"])
def test_what_needs_labels_says_that_there_are_none_and_how_to_give_them(
    shell: Shell, tmp_path: Path, command: str, labels: str
) -> None:
    store = tmp_path / "s.h5"
    given: dict[str, tuple[str, ...]] | None = {image.path: () for image in images(10)}
    with writer(store, labels=None if labels == "none" else given) as opened:
        fill(opened)
    if labels == "empty":  # as versions before made them of tables that did not match
        with h5py.File(store, "a") as file:
            file.create_dataset(
                "labels/classes", data=np.array([], object), dtype=h5py.string_dtype()
            )
            file["labels/targets"] = np.full(10, -1, np.int32)
    arguments = [] if command in ("sweep", "lowshot") else ["--layer", "relu7"]
    status, _, err = shell(command, store, *arguments)
    assert status == 1
    assert "no labels" in err
    assert "--labels FILE" in err
