"""What a newcomer meets first explains itself."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest
from commands import cli
from PIL import Image

from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex
from vggfeat.engine.processor import _may_have_vectors
from vggfeat.errors import SearchError


def test_without_a_network_the_weights_at_hand_are_named_first(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    done = cli("extract", photos, tmp_path / "photos.h5")
    assert done.returncode == 1
    reason, _, remedy = done.stderr.partition("could not be downloaded")
    assert "ImageNet" in reason
    assert "--model vgg16-tiny works at once" in remedy.partition("--weights PATH")[0]
    assert "vgg16-397923af.pth" in remedy
    assert cli("extract", photos, tmp_path / "s.h5", "--model", "vgg16-tiny").returncode == 0


def index_of(source: object, folder: Path) -> Path:
    store = folder / "i.h5"
    extractor = FeatureExtractor("vgg16-tiny", layers="pool5", device="cpu")
    extractor.extract(source, store, progress=False)
    with FeatureStore(store) as opened:
        SimilarityIndex.build(opened, "pool5", path=folder / "i.index")
    return folder / "i.index"


def test_search_prints_paths_that_other_programs_open(photos, tmp_path):
    more = shutil.copytree(photos / "cat", tmp_path / "more")
    for file in more.iterdir():
        file.write_bytes(file.read_bytes() + b" ")  # other files of the same pictures
    index = index_of([photos, more], tmp_path)
    query = photos / "cat" / "00.jpg"
    plain = json.loads(cli("search", index, query, "--json").stdout)["results"][0]["neighbours"]
    done = cli("search", index, query, "--absolute", "--json")
    for before, now in zip(plain, json.loads(done.stdout)["results"][0]["neighbours"], strict=True):
        assert now["path"] == before["path"]
        assert Path(now["file"]).is_absolute()
        assert now["file"].endswith(before["path"])
        Image.open(now["file"]).verify()
        assert "file" not in before
    text = cli("search", index, query, "--absolute").stdout
    assert all(Path(line.split()[-1]).is_file() for line in text.splitlines()[3:] if line)


def test_search_keeps_the_path_of_what_is_no_file_of_its_own(photos, tmp_path):
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(photos, "")
    index = index_of(tmp_path / "photos.tar", tmp_path)
    done = cli("search", index, photos / "cat" / "00.jpg", "-k", 1, "--absolute")
    assert done.stdout.splitlines()[3].split() == ["1", "1.0000", "cat", "cat/00.jpg"]


@pytest.mark.parametrize("query", ["photo.jpg", ["a.jpg", "b.jpg"], Image.new("RGB", (8, 8)), None])
def test_an_index_says_what_searches_for_images(scenes_store, query):
    with FeatureStore(scenes_store) as store:
        index = SimilarityIndex.build(store, "relu7")
    with pytest.raises(SearchError, match=r"ImageSearch\(index\)\.search\(\[image\]\)"):
        index.search(query)


def test_scores_are_explained_where_they_are_printed(scenes_store, tmp_path):
    for command, names in (
        (("probe", scenes_store, "--layer", "pool5"), ("accuracy", "mean class recall", "C")),
        (("probe", scenes_store, "--layer", "pool5", "--splits", 2), ("accuracy", "C")),
        (("sweep", scenes_store, "--layers", "pool5"), ("accuracy", "recall", "kNN", "C")),
        (("knn", scenes_store, "--layers", "pool5"), ("accuracy", "recall")),
    ):
        done = cli(*command)
        assert done.returncode == 0, done.stderr
        for name in names:
            (line,) = re.findall(rf"^{name}: [a-z].*", done.stdout, flags=re.M)
            assert line.endswith("."), command
            assert len(line.split()) > 6, command


@pytest.mark.parametrize(
    ("flags", "may"), [("fpu sse2 avx", False), ("fpu avx2 fma", True), ("avx512f", True)]
)
def test_numba_is_recommended_only_where_it_would_be_of_use(flags, may, tmp_path):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")
    assert _may_have_vectors(tmp_path / "cpuinfo") == may
    assert _may_have_vectors(tmp_path / "nothing")
