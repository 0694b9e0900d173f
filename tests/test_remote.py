"""Promises of sources at remote storage: the same images, whatever becomes of the connection."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import cli
from conftest import draw
from storage_servers import (
    KEY,
    SECRET,
    BadLine,
    Bucket,
    environment,
    hub_server,
    web_server,
)
from test_sources import contents, paths

from vggfeat import FeatureExtractor, FeatureStore
from vggfeat.errors import ImageError, SourceError
from vggfeat.sources import (
    Originals,
    open_source,
    open_sources,
    open_stored,
    stored,
    why_not_shown,
)
from vggfeat.storage import blocks, remote
from vggfeat.storage.transports import StatusError
from vggfeat.storage.urls import parse

pytest.importorskip("s3fs", reason="remote storage is an extra")
pytest.importorskip("moto.server", reason="S3's test server is for development")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

EXTRACT = ("--model", "vgg16-tiny", "--layers", "pool5", "--device", "cpu", "--engine", "torch")
SIGNATURE = "X-Amz-Signature=abc123secret&X-Amz-Expires=60"


@pytest.fixture(scope="module")
def bucket(endpoint: str) -> Bucket:
    return Bucket("photos")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)


@pytest.fixture
def line(endpoint: str) -> Iterator[BadLine]:
    """Put a line in between that can be cut."""
    bad = BadLine(endpoint)
    with environment(bad.url):
        yield bad
    bad.close()


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the same eight photos as a folder, a list, a tar, a zip and a Parquet file."""

    top = tmp_path_factory.mktemp("kinds")
    data = {}
    for n in range(8):
        file = io.BytesIO()
        draw(200 + n, 150, seed=n).save(file, "JPEG")
        data[f"{('cat', 'dog')[n % 2]}/{n} ü.jpg"] = file.getvalue()
    with tarfile.open(top / "a.tar", "w") as tar, zipfile.ZipFile(top / "a.zip", "w") as packed:
        for name, image in data.items():
            (top / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
            (top / "folder" / name).write_bytes(image)
            member = tarfile.TarInfo(name)
            member.size = len(image)
            tar.addfile(member, io.BytesIO(image))
            packed.writestr(name, image, zipfile.ZIP_DEFLATED)
    lines = [f"folder/{name},{name[:3]}" for name in sorted(data, reverse=True)]
    (top / "list.csv").write_text("\n".join(["path,label", *lines]))
    images = [{"bytes": image, "path": name} for name, image in data.items()]
    table = pa.table({"image": images, "label": [name[:3] for name in data]})
    pq.write_table(table, top / "train.parquet", row_group_size=3)
    return top


@pytest.fixture(scope="module")
def there(kinds: Path, bucket: Bucket) -> str:
    return bucket.put_tree(kinds, "kinds")


@cache
def extractor() -> FeatureExtractor:
    return FeatureExtractor("vgg16-tiny", layers="pool5", device="cpu", engine="torch")


@pytest.mark.parametrize("name", ["folder", "list.csv", "a.tar", "a.zip", "train.parquet"])
def test_each_kind_of_source_gives_the_features_that_it_gives_here(
    kinds: Path, there: str, name: str, tmp_path: Path
) -> None:
    extractor().extract(kinds / name, tmp_path / "here.h5", progress=False)
    url = f"{there}/{name}"
    summary = extractor().extract(url, tmp_path / "there.h5", progress=False)
    assert (summary.done, summary.failed, summary.labels.classes) == (8, 0, 2)
    with FeatureStore(tmp_path / "here.h5") as one, FeatureStore(tmp_path / "there.h5") as other:
        assert one.paths.tolist() == other.paths.tolist()
        assert np.array_equal(one["pool5"][:], other["pool5"][:])
        assert np.array_equal(one.xy("pool5")[1], other.xy("pool5")[1])
        assert np.array_equal(one.digests, other.digests)
        assert other.sources[0].spec == url
    again = extractor().extract(url, tmp_path / "there.h5", progress=False)
    assert (again.tried, again.changed) == (0, 0)


@pytest.mark.parametrize("name", ["folder", "a.zip"])
def test_parts_of_a_store_are_computed_from_what_is_far_away(
    there: str, name: str, tmp_path: Path
) -> None:
    url = f"{there}/{name}"
    summary = extractor().extract(url, tmp_path / "a.store", part_rows=3, progress=False)
    assert (summary.done, summary.failed) == (8, 0)
    extractor().extract(url, tmp_path / "a.h5", progress=False)
    with FeatureStore(tmp_path / "a.h5") as one, FeatureStore(tmp_path / "a.store") as other:
        assert np.array_equal(one["pool5"][:], other["pool5"][:])


def test_what_changes_is_done_again_and_what_does_not_is_not_read(
    bucket: Bucket, kinds: Path, tmp_path: Path
) -> None:
    url = bucket.put_tree(kinds / "folder", "changing")
    extractor().extract(url, tmp_path / "a.h5", progress=False)
    other = (kinds / "folder/cat/0 ü.jpg").read_bytes()
    bucket.put("changing/dog/1 ü.jpg", other + b"\0")
    bucket.put("changing/cat/2 ü.jpg", (kinds / "folder/cat/2 ü.jpg").read_bytes())  # as it was
    bucket.put("changing/dog/new.jpg", other)
    bucket.remove("changing/dog/3 ü.jpg")
    summary = extractor().extract(url, tmp_path / "a.h5", progress=False)
    assert (summary.changed, summary.added, summary.missing, summary.computed) == (1, 1, 1, 2)


def test_an_archive_that_changes_after_it_was_listed_fails_and_gives_no_other_bytes(
    bucket: Bucket, kinds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (blocks, remote):  # so that not all of it has been read before
        monkeypatch.setattr(module, "BLOCK_BYTES", 2048)
    for name in ("a.tar", "a.zip", "train.parquet"):
        source = open_source(bucket.put(f"moving/{name}", (kinds / name).read_bytes()))
        bucket.put(f"moving/{name}", (kinds / name).read_bytes() + b"\0")
        found, known = contents(source), contents(open_source(kinds / name))
        changed = "the archive has changed since it was listed"
        assert changed in found.values()
        assert all(read in (changed, known[one]) for one, read in found.items())
    url = bucket.put("moving/x.jpg", b"old").rpartition("/")[0]
    folder = open_source(url)
    bucket.put("moving/x.jpg", b"newer")
    entry = next(one for one in folder.entries if one.path == "x.jpg")
    with folder.open(entry) as file:  # as of a file here, what is noted is of what was read
        assert file.read() == b"newer"
        assert folder.seen(entry, file).size == 5


def test_several_archives_are_named_by_braces_and_read_by_many_threads(
    bucket: Bucket, tmp_path: Path
) -> None:
    members = {f"{i:03}.jpg": os.urandom(50_000 + i) for i in range(150)}
    for shard in range(2):
        with tarfile.open(tmp_path / "s.tar", "w") as tar:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        bucket.put(f"shards/s-{shard}.tar", (tmp_path / "s.tar").read_bytes())
    source = open_source("s3://photos/shards/s-{0..1}.tar")
    assert source.distant
    assert paths(source)[0] == "s-0.tar/000.jpg"

    def read(entry: Any) -> bool:
        with source.open(entry) as file:
            return file.read() == members[entry.path.rpartition("/")[2]]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, source.entries))
    with pytest.raises(SourceError, match=r"s-2\.tar.*no such file"):
        open_source("s3://photos/shards/s-{0..2}.tar")


def test_images_beyond_a_request_are_fetched_in_parts(bucket: Bucket) -> None:
    data = os.urandom(18 << 20)
    source = open_source(bucket.put("large/a.tif", data))
    assert paths(source) == ["a.tif"]
    assert contents(source) == {"a.tif": data}


@pytest.mark.parametrize("name", ["folder", "a.tar", "a.zip", "train.parquet"])
def test_a_connection_that_breaks_in_the_middle_is_taken_up_again(
    there: str, kinds: Path, line: BadLine, name: str
) -> None:
    here = contents(open_source(kinds / name))
    line.good, line.cuts = 2000, 4
    source = open_source(f"{there}/{name}")
    assert contents(source) == here
    assert line.cut == 4


def test_a_connection_that_is_broken_for_good_fails_images_and_never_the_job(
    there: str, line: BadLine, tmp_path: Path
) -> None:
    source = open_source(f"{there}/folder")
    line.good, line.cuts = 1000, -1
    summary = extractor().extract(source, tmp_path / "a.h5", progress=False)
    assert (summary.done, summary.failed) == (0, 8)
    assert {why for _, why in summary.failures} <= {
        "the connection broke: ClientPayloadError (tried 5 times)",
        "the connection broke: ResponseStreamingError (tried 5 times)",
        "the connection broke: IncompleteReadError (tried 5 times)",
        "the connection broke: ConnectionError (tried 5 times)",
    }
    line.cuts = 0
    summary = extractor().extract(
        f"{there}/folder", tmp_path / "a.h5", retry_failed=True, progress=False
    )
    assert (summary.done, summary.failed) == (8, 0)


def test_what_cannot_be_reached_is_one_line_that_says_why(
    endpoint: str, bucket: Bucket, tmp_path: Path
) -> None:
    for spec, why in (
        ("s3://nowhere/x/", "no such file or bucket"),
        ("s3://photos/none.tar", "no such file"),
        ("s3://photos/none/", "No images at"),
        ("https://127.0.0.1:1/a.tar", "the connection"),
        ("http://127.0.0.1:1/folder/", "http has no folders"),
        ("ftp://a.example/x.tar", "ftp:// is not read, other than s3://"),
        ("s3://photos/x.tar.gz", "compressed archive"),
    ):
        with pytest.raises(SourceError, match=why):
            open_source(spec)
    with environment("http://127.0.0.1:1"):
        told = cli("extract", "s3://photos/x/", tmp_path / "a.h5", *EXTRACT)
    assert told.returncode == 1
    assert "tried 5 times" in told.stderr
    assert "Traceback" not in told.stderr


def test_credentials_are_the_environment_s_and_are_never_kept_or_shown(
    there: str, line: BadLine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line.good, line.cuts = 2000, 3
    told = cli("--debug", "extract", f"{there}/a.zip", tmp_path / "a.h5", *EXTRACT)
    assert told.returncode == 0, told.stderr
    line.cuts = -1
    bad = cli("--debug", "extract", f"{there}/a.zip", tmp_path / "b.h5", *EXTRACT)
    assert bad.returncode == 1
    told_all = [told.stdout, told.stderr, bad.stdout, bad.stderr, *capfd.readouterr()]
    for secret in (KEY, SECRET):
        assert not any(secret in text for text in told_all)
        assert secret.encode() not in (tmp_path / "a.h5").read_bytes()


def test_reasons_tell_what_a_person_can_do_and_only_what_passes_is_tried_again() -> None:
    from aiohttp import ClientPayloadError, InvalidURL
    from botocore.exceptions import NoCredentialsError, ParamValidationError, ReadTimeoutError

    for error, words, passes in (
        (ClientPayloadError("https://x?sig=pa55word"), "broke", True),
        (ConnectionResetError(), "broke", True),
        (ReadTimeoutError(endpoint_url="https://x?sig=pa55word"), "in time", True),
        (StatusError(503), "status 503", True),
        (StatusError(418), "status 418", False),
        (StatusError(403), "credentials come from the environment", False),
        (NoCredentialsError(), "no credentials", False),
        (ParamValidationError(report="pa55word"), "no sense", False),
        (InvalidURL("https://x?sig=pa55word"), "no sense", False),
        (AttributeError("a defect, which no further try mends"), "no sense", False),
    ):
        reason, again = remote.explained(error)
        assert words in reason
        assert again == passes
        assert "pa55word" not in reason


def test_urls_with_secrets_are_refused_or_stripped_and_never_repeated() -> None:
    for url in (
        "https://user:pa55word@host/x.tar", "s3://AKID:pa55word@bucket/x/", "https://pa55word@h/x",
        "https://h/x.tar?id=pa55word", "https://h/x.tar?id=1&sig=pa55word", "https://h?pa55word",
        "s3://bucket/x.tar?X-Amz-Signature=pa55word", "https:///x?pa55word=1",
    ):  # fmt: skip
        for spec in ([url], [url, "other=x"], [f"name={url}"]):
            with pytest.raises(SourceError) as refused:
                open_sources(spec)
            assert "pa55word" not in str(refused.value)
    found = parse(f"https://host/a b.tar?{SIGNATURE}")
    assert (found.text, found.query) == ("https://host/a b.tar", SIGNATURE)
    assert "secret" not in repr(found)
    assert parse("s3://bucket/what?.jpg").text == "s3://bucket/what?.jpg"


@pytest.mark.parametrize("name", ["a.tar", "a.zip", "train.parquet", "list.csv", "a.jpg"])
def test_files_of_web_servers_are_read_in_parts(kinds: Path, tmp_path: Path, name: str) -> None:
    if name == "a.jpg":
        (tmp_path / name).write_bytes((kinds / "folder/cat/0 ü.jpg").read_bytes())
    folder = tmp_path if name == "a.jpg" else kinds
    with web_server(folder) as server:
        source = open_source(f"{server.url}/{name}")
        assert contents(source) == contents(open_source(folder / name))
        assert source.spec == f"{server.url}/{name}"


def test_a_signed_url_is_read_and_its_signature_forgotten(kinds: Path, tmp_path: Path) -> None:
    with web_server(kinds, signature=SIGNATURE) as server:
        url = f"{server.url}/a.zip?{SIGNATURE}"
        told = cli("extract", url, tmp_path / "a.h5", *EXTRACT)
        assert told.returncode == 0, told.stderr
        wrong = cli("--debug", "extract", url.replace("abc", "xyz"), tmp_path / "b.h5", *EXTRACT)
        assert "access is denied" in wrong.stderr
        again = cli("extract", f"z={server.url}/a.tar?{SIGNATURE}", tmp_path / "c.h5", *EXTRACT)
        assert again.returncode == 0, again.stderr
    texts = [told.stdout, told.stderr, wrong.stdout, wrong.stderr, again.stdout, again.stderr]
    assert not any("secret" in text or "Amz" in text for text in texts)
    for name in ("a.h5", "c.h5"):
        assert b"123secret" not in (tmp_path / name).read_bytes()
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.sources[0].root == url.partition("?")[0]


def test_a_server_without_parts_is_said_to_have_none_and_fetched_from_once(
    kinds: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.tar", "a.zip", "train.parquet"):
        caplog.clear()
        with web_server(kinds, ranges=False) as server:
            source = open_source(f"{server.url}/{name}")
            assert contents(source) == contents(open_source(kinds / name))
            assert len(server.asked) == 2  # what it is, and all of it
        assert "fetched as a whole, into a temporary file" in caplog.text
    monkeypatch.setattr(remote, "LARGEST_DOWNLOAD", 1000)
    with (
        web_server(kinds, ranges=False) as server,
        pytest.raises(SourceError, match="download it, and give the file"),
    ):
        open_source(f"{server.url}/a.tar")


def test_a_list_elsewhere_names_files_of_its_own_server_alone(
    bucket: Bucket, kinds: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photo = (kinds / "folder/cat/0 ü.jpg").read_bytes()
    bucket.put("other/x.jpg", photo)
    bucket.put("lists/b.jpg", photo)
    lines = "b.jpg\n./b.jpg\ns3://photos/other/x.jpg\ns3://photos/lists/gone.jpg\n"
    source = open_source(bucket.put("lists/l.txt", lines.encode()))
    assert paths(source) == ["b.jpg", "s3://photos/other/x.jpg", "gone.jpg"]
    assert contents(source) == {
        "b.jpg": photo, "s3://photos/other/x.jpg": photo,
        "gone.jpg": "there is no such file or bucket, or nobody may see it",
    }  # fmt: skip
    assert "1 of its 3 images cannot be found" in caplog.text
    for strange in ("http://127.0.0.1/secret.jpg", "s3://elsewhere/x.jpg"):
        with pytest.raises(SourceError, match="lies elsewhere than the list"):
            open_source(bucket.put("lists/m.txt", f"b.jpg\n{strange}\n".encode()))


def test_a_folder_of_tables_is_read_as_one_on_a_disk(bucket: Bucket, kinds: Path) -> None:
    data = (kinds / "train.parquet").read_bytes()
    for name in ("train-0.parquet", "test-0.parquet"):
        bucket.put(f"tables/data/{name}", data)
    bucket.put("tables/README.md", b"text")
    source = open_source("s3://photos/tables")
    assert len(source.entries) == 16
    assert source.given_splits is not None
    assert set(source.given_splits.values()) == {"train", "test"}
    assert open_source(f"{source.root}#image:image").root == "s3://photos/tables#image:image"


def test_images_far_away_are_shown_only_where_the_user_names_the_place(
    there: str, endpoint: str, kinds: Path
) -> None:
    name = "cat/0 ü.jpg"
    photo = (kinds / "folder" / name).read_bytes()
    with environment("http://127.0.0.1:1"):  # nobody is asked
        for root in (f"{there}/folder", f"{there}/a.tar", "https://127.0.0.1:1/a.zip"):
            with pytest.raises(ImageError, match="--root"):
                open_stored(root, name)
            with pytest.raises(ImageError, match="--root"):
                Originals([root]).open(root, name)
            assert why_not_shown(root)
            assert "--root" in Originals([root]).why_not_shown(root)
        with pytest.raises(ImageError, match="--root"):
            open_stored(f"{there}/folder", "s3://other/x.jpg", [there])
        with pytest.raises(ImageError, match="--root"):
            open_stored(f"{there}/folder", "../a.tar", [there])
    for root in (f"{there}/folder", f"{there}/a.tar", f"{there}/a.zip", f"{there}/train.parquet"):
        for roots in ([there], [root], [root + "/"] if root.endswith("folder") else [root]):
            opened = Originals([root], roots)
            assert not opened.why_not_shown(root)
            with opened.open(root, name) as file:
                assert file.read() == photo
    with pytest.raises(ImageError):
        Originals([there], [there]).open(there, "train.parquet")  # no image
    # Where they were here, they may be there now, and the other way round.
    for old, new in (("/gone/folder", f"{there}/folder"), (f"{there}/folder", kinds / "folder")):
        with Originals([old], [new]).open(old, name) as file:
            assert file.read() == photo
    with Originals([there], [there]).open(there, f"train.parquet/{name}") as file:
        assert file.read() == photo
    with pytest.raises(SourceError, match="behind '\\?' would be shown"):
        Originals([there], [f"https://h/a.zip?{SIGNATURE}"])
    stored._far.cache_clear()


@pytest.mark.parametrize(
    ("library", "root"),
    [("gcsfs", "gs://bucket"), ("huggingface_hub", "hf://datasets/o/n"),
     ("huggingface_hub", "hf://datasets/o/n@main")],
)  # fmt: skip
def test_google_s_storage_and_the_hub_are_read_alike(
    library: str, root: str, kinds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(library, reason="an extra")
    files = {
        file.relative_to(kinds).as_posix(): file.read_bytes()
        for file in kinds.rglob("*")
        if file.is_file()
    }
    with hub_server(files) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        monkeypatch.setenv("HF_ENDPOINT", url)
        for name in ("folder", "a.tar", "a.zip", "train.parquet", "folder/cat/0 ü.jpg"):
            source = open_source(f"{root}/{name}")
            assert contents(source) == contents(open_source(kinds / name))
            assert source.spec == f"{root}/{name}"
            first = source.entries[0]
            with source.open(first) as file:
                assert source.seen(first, file) == first
        source = open_source(f"{root}/folder")
        with ThreadPoolExecutor(8) as pool:
            data = list(pool.map(lambda one: source.open(one).read(), source.entries * 5))
        assert data == list(contents(source).values()) * 5
        again = source.entries
        assert all(one.ctime_ns < 0 for one in again)
        files["folder/cat/0 ü.jpg"] += b"\0"
        other = zip(open_source(f"{root}/folder").entries, again, strict=True)
        changed = [one.path for one, before in other if one.ctime_ns != before.ctime_ns]
        assert changed == ["cat/0 ü.jpg"]
        with pytest.raises(SourceError, match="no such file"):
            open_source(f"{root}/none.zip")
