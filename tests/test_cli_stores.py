"""``vggfeat info``, ``verify``, ``merge`` and ``export`` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from store_rows import finished, made, writer

from vggfeat.cli import run
from vggfeat.store import FeatureStore


class Shell:
    """Runs the program in this process; gives its status, output and errors."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            run([str(argument) for argument in arguments])
        out, err = self.capsys.readouterr()
        assert "Traceback" not in err
        return int(end.value.code or 0), out, err


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return finished(tmp_path / "photos.h5", failed={3: "truncated file", 8: "zero bytes"})


def damage(store: Path) -> str:
    with FeatureStore(store) as opened:
        place, path = opened["relu7"].id.get_offset() + 9, opened.paths[0]
    raw = bytearray(store.read_bytes())
    raw[place] ^= 1
    store.write_bytes(raw)
    return str(path)


def test_info_shows_rows_layers_labels_deciding_values_and_runs(shell: Shell, store: Path) -> None:
    status, out, _ = shell("info", store)
    assert status == 0
    for shown in ("10: 8 done, 2 failed, 0 pending", "--failed", "single-label, 3 classes: c0"):
        assert shown in out
    for shown in ("10 x 64", "10 x 4 x 3 x 3", "float32", "2,560", "vgg16", "random:0", "/photos"):
        assert shown in out
    assert "abab" in out


def test_info_failed_lists_each_failed_image_with_its_reason(shell: Shell, store: Path) -> None:
    status, out, _ = shell("info", store, "--failed")
    assert status == 0
    lines = out.splitlines()[2:]
    assert [line.split(None, 1)[1] for line in lines] == ["truncated file", "zero bytes"]
    failures = json.loads(shell("info", store, "--failed", "--json")[1])
    assert [failure["reason"] for failure in failures] == ["truncated file", "zero bytes"]


def test_info_json_holds_everything(shell: Shell, store: Path) -> None:
    facts = json.loads(shell("info", store, "--json")[1])
    assert (facts["rows"], facts["done"], facts["failed"], facts["pending"]) == (10, 8, 2, 0)
    assert facts["layers"][0] == {
        "layer": "relu7",
        "pooling": "",
        "shape": [10, 64],
        "dtype": "float32",
        "bytes": 2560,
    }
    assert facts["deciding"] == made().config.to_json()
    assert len(facts["runs"]) == 1


def test_info_works_during_a_run(shell: Shell, tmp_path: Path) -> None:
    with writer(tmp_path / "photos.h5") as running:
        status, out, _ = shell("info", tmp_path / "photos.h5")
        assert status == 0
        assert "10 pending" in out
        assert "not ended" in out
        assert len(running.pending()) == 10


@pytest.mark.parametrize("command", [["info"], ["verify"], ["merge", "out.h5"]])
def test_what_is_no_store_is_one_line_with_a_remedy_and_status_1(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("letter.txt").write_text("Dear")
    for name, reason in (("letter.txt", "not a store"), ("none.h5", "no store at")):
        status, out, err = shell(*command, name)
        assert (status, out) == (1, "")
        assert len(err.splitlines()) == 1
        assert reason in err
        assert "extract" in err


def test_verify_says_what_is_well_and_names_what_is_not(shell: Shell, store: Path) -> None:
    status, out, _ = shell("verify", store)
    assert status == 0
    assert "8 images are as written (relu7, pool5)" in out
    path = damage(store)
    status, out, err = shell("verify", store)
    assert status == 1
    assert path in out
    assert "relu7" in out
    assert "checksum" in out
    assert "--redo" in err
    status, out, _ = shell("verify", store, "--json")
    assert status == 1
    report = json.loads(out)
    assert not report["ok"]
    assert [(p["path"], p["layer"]) for p in report["problems"]] == [(path, "relu7")]
    assert shell("verify", store, "--redo")[0] == 1
    status, out, _ = shell("verify", store, "--json")
    assert status == 0
    assert json.loads(out)["pending"] == 1


def test_merge_and_export_do_what_they_say(shell: Shell, store: Path, tmp_path: Path) -> None:
    status, out, _ = shell("merge", tmp_path / "all.h5", store, store)
    assert status == 0
    assert "10 images, 8 done, 10 duplicates" in out
    status, _, err = shell("merge", tmp_path / "all.h5", store)
    assert status == 1
    assert "--overwrite" in err
    merged = shell("merge", tmp_path / "all.h5", store, "--overwrite", "--json")[1]
    assert json.loads(merged)["done"] == 8
    status, out, err = shell("export", store, tmp_path / "out.npy", "--layer", "relu7")
    assert status == 0
    assert "8 images" in out
    assert "2 images that are not done were left out" in err
    assert np.load(tmp_path / "out.npy").shape == (8, 64)
    status, _, err = shell("export", store, tmp_path / "out.doc", "--layer", "relu7")
    assert status == 1
    assert ".parquet" in err
    assert shell("export", store, tmp_path / "out.npy")[0] == 2


@pytest.mark.parametrize("command", ["info", "verify", "merge", "export"])
def test_each_command_s_help_ends_in_an_example(shell: Shell, command: str) -> None:
    status, out, _ = shell(command, "--help")
    assert status == 0
    assert f"\n    vggfeat {command} " in out.split("Example:")[1]
    assert r"\b" not in out
