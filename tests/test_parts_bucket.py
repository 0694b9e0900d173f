"""Stores of parts in a bucket: made here, sent part by part, read from there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import store_rows
from commands import cli as command
from PIL import Image
from storage_servers import KEY, SECRET, BadLine, Bucket, environment
from store_rows import SHAPES, features, fill_parts, images, planned

from vggfeat import FeatureStore
from vggfeat.errors import StoreError
from vggfeat.index import SimilarityIndex
from vggfeat.storage import blocks, remote
from vggfeat.store import merge
from vggfeat.store.parts import PartedStore, open_part, part_states

pytest.importorskip("s3fs", reason="remote storage is an extra")
pytest.importorskip("moto.server", reason="S3's test server is for development")

COUNT = 100


@pytest.fixture(scope="module")
def bucket(endpoint: str) -> Bucket:
    return Bucket("stores")


@pytest.fixture(autouse=True)
def work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder in which parts are made, and wait shortly where a connection breaks."""
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "work"))
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def url(bucket: Bucket, request: pytest.FixtureRequest) -> str:
    return f"s3://{bucket.name}/{abs(hash(request.node.name))}/photos.store"


def check(url: str, count: int = COUNT) -> None:
    with FeatureStore(url) as store:
        assert isinstance(store, PartedStore)
        assert str(store.path) == url
        assert store.counts() == {"done": count, "failed": 0, "pending": 0}
        expected = features(store.paths.tolist())
        for layer in SHAPES:
            assert store[layer][:].tobytes() == expected[layer].tobytes()
        assert store.verify().ok
        assert store.classes == ["c0", "c1", "c2"]


def made_here(work: Path) -> list[str]:
    """Return the names of parts that lie on this machine."""
    return sorted(one.name for one in work.rglob("part-*.h5"))


def test_a_store_in_a_bucket_is_made_part_by_part_and_read_back(url, work, tmp_path):
    found = planned(url, COUNT)
    assert [one.state for one in part_states(url)] == ["missing"] * 3
    fill_parts(found, [1])
    assert [one.state for one in part_states(url)] == ["missing", "done", "missing"]
    with FeatureStore(url) as store:
        assert store.counts()["done"] == 40
    fill_parts(planned(url, COUNT))
    check(url)
    assert not made_here(work)
    assert len(merge(tmp_path / "one.h5", [url]).to_json()) == 3
    store_rows.finished(tmp_path / "local.h5", COUNT)
    with (
        FeatureStore(tmp_path / "one.h5") as one,
        FeatureStore(tmp_path / "local.h5") as local,
        FeatureStore(url) as store,
    ):
        assert np.array_equal(one["relu7"][:], local["relu7"][:])
        index = SimilarityIndex.build(store, "relu7", path=tmp_path / "i.index")
        assert index.search(local.matrix("relu7", [7])[1], 1)[0][0].path == local.paths[7]
        assert index.add(store).unchanged == COUNT


def test_a_store_in_a_bucket_grows_and_changes_without_sending_what_is_there(url, bucket):
    fill_parts(planned(url, COUNT))
    before = part_states(url)
    entries = [
        store_rows.Image(one.path, one.size + 1, one.mtime_ns) if "000050" in one.path else one
        for one in images(COUNT + 3)
    ]
    found = planned(url, COUNT + 3, entries=entries)
    assert sorted(found.waiting().values()) == [1, 3]
    with FeatureStore(url) as store:  # the old numbers of the changed image are not read
        assert store.counts() == {"done": COUNT - 1, "failed": 0, "pending": 4}
    fill_parts(found)
    check(url, COUNT + 3)
    assert [one.file for one in part_states(url)][:3] == [one.file for one in before]


def test_what_a_killed_run_left_on_this_machine_is_gone_on_with(url, work):
    found = planned(url, COUNT)
    part = open_part(found.path, found.manifest, 0, found.contents, store_rows.made().run)
    rows = part.pending()[:30]
    part.write(rows, features([part.entry_path(row) for row in rows.tolist()]))
    part.close()  # as an error or Ctrl-C does
    assert made_here(work) == ["part-00000.h5"]
    assert part_states(url)[0].state == "missing"  # nobody else sees it
    with open_part(found.path, found.manifest, 0, found.contents, store_rows.made().run) as part:
        assert len(part.pending()) == 10
        store_rows.fill(part)
    fill_parts(planned(url, COUNT))
    check(url)


def test_a_part_without_its_marker_is_fetched_and_marked(url, bucket):
    fill_parts(planned(url, COUNT))
    key = url.removeprefix(f"s3://{bucket.name}/")
    bucket.remove(f"{key}/part-00001.json")
    assert [one.state for one in part_states(url)] == ["done", "begun", "done"]
    fill_parts(planned(url, COUNT))
    check(url)


def test_a_marker_without_its_part_is_an_error(url, bucket):
    fill_parts(planned(url, COUNT))
    bucket.remove(f"{url.removeprefix(f's3://{bucket.name}/')}/part-00001.h5")
    with pytest.raises(StoreError, match=r"part-00001\.h5 is not there"):
        FeatureStore(url)


def test_a_broken_connection_is_asked_again_and_one_that_stays_broken_loses_nothing(
    url, work, endpoint
):
    line = BadLine(endpoint)
    with environment(line.url):
        found = planned(url, COUNT)
        line.good, line.cuts = 0, 2
        fill_parts(found, [0])
        assert line.cut == 2
        assert part_states(url)[0].state == "done"
        part = open_part(found.path, found.manifest, 1, found.contents, store_rows.made().run)
        store_rows.fill(part)
        line.cuts = -1
        with pytest.raises(StoreError, match=r"photos\.store.*What is finished stays"):
            part.close(finished=True)
    line.close()
    assert made_here(work) == ["part-00001.h5"]
    with environment(endpoint):
        assert [one.state for one in part_states(url)] == ["done", "missing", "missing"]
        fill_parts(planned(url, COUNT))
        check(url)


def test_a_connection_that_breaks_while_rows_are_read_is_no_damage(url, endpoint, monkeypatch):
    for module in (blocks, remote):  # so that a part is fetched in many pieces
        monkeypatch.setattr(module, "BLOCK_BYTES", 1 << 15)
    monkeypatch.setattr(blocks, "_KEPT", 2)
    fill_parts(planned(url, 1000, part_rows=1000))
    line = BadLine(endpoint)
    with environment(line.url), FeatureStore(url) as store:
        assert np.isfinite(store["pool5"][3]).all()
        line.good, line.cuts = 0, -1
        with pytest.raises(StoreError, match=r"part-00000\.h5: .*run the same command") as refused:
            store["pool5"][745]
        assert "damaged" not in str(refused.value)
    line.close()


def test_commands_take_a_url_and_credentials_stay_in_the_environment(url, tmp_path, work):
    rng = np.random.default_rng(0)
    for i in range(7):
        file = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(file)
    fast = ("--model", "vgg16-tiny", "--layers", "relu7")
    said = []
    for arguments in (
        ("extract", tmp_path / "photos", url, *fast, "--part-rows", "3", "--plan"),
        ("extract", tmp_path / "photos", url, *fast, "--part", "2"),
        ("extract", tmp_path / "photos", url, *fast),
        ("parts", url, "--all"), ("info", url), ("verify", url), ("probe", url, "--layer", "relu7"),
        ("export", url, tmp_path / "out.npz", "--layer", "relu7"),
    ):  # fmt: skip
        done = command(*arguments)
        assert done.returncode == 0, done.stderr
        said += [done.stdout, done.stderr]
    kept = [one.read_bytes() for one in work.rglob("*") if one.is_file()]
    for secret in (KEY, SECRET):
        assert secret not in "".join(said)
        assert all(secret.encode() not in data for data in kept)
    refused = command("extract", tmp_path / "photos", url.replace("s3://", "s3://me:pw@"), *fast)
    assert refused.returncode == 1
    assert "pw" not in refused.stderr


def test_other_things_in_the_bucket_are_left_alone(bucket):
    bucket.put("mine/diary.txt", b"mine")
    with pytest.raises(StoreError, match=r"other things.*diary\.txt"):
        planned(f"s3://{bucket.name}/mine", 10)
    with pytest.raises(StoreError, match="no such file or bucket"):
        planned("s3://no-such-bucket/photos.store", 10)
