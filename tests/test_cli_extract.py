"""``vggfeat extract`` as a person types it: what it says, and the status that it ends with."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import draw
from test_cli_stores import Shell

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
