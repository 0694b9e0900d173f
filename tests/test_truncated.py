"""Images whose end is missing: refused, or accepted as far as they go."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import draw
from PIL import Image, ImageFile
from tiff_writer import tiff

from vggfeat.cli import main
from vggfeat.errors import ImageError, StoreMismatchError
from vggfeat.extract import FeatureExtractor
from vggfeat.images import Tally, decode
from vggfeat.index import SimilarityIndex
from vggfeat.queries import ImageSearch, SearchResult
from vggfeat.store import FeatureStore

PHOTO = draw(200, 160)
KINDS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 90},
    "progressive JPEG": {"progressive": True},
    "PNG": {},
    "GIF": {},
    "BMP": {},
    "TIFF": {"tiffinfo": {278: 160}},
    "PPM": {},
}


def encoded(name: str) -> bytes:
    file = io.BytesIO()
    kind = name.partition(",")[0].split()[-1]
    image = PHOTO.convert("P") if kind == "GIF" else PHOTO
    image.save(file, kind, **KINDS[name])
    return file.getvalue()


def cut(name: str, share: float = 0.6) -> bytes:
    """Return a file without its end."""
    data = encoded(name)
    if not name.startswith("TIFF"):
        return data[: int(len(data) * share)]
    with Image.open(io.BytesIO(data)) as image:  # Pillow writes tags last: write them first
        tags = image.tag_v2  # type: ignore[attr-defined]
        pixels = data[tags[273][0] :][: tags[279][0]]
    data = tiff(pixels, 200, 160, (8,) * 3, photometric=2, tags_first=True)
    assert np.array_equal(read(data), np.asarray(PHOTO)), "sound before it is cut"
    return data[: len(data) - int(len(pixels) * (1 - share))]


@contextmanager
def pillows_switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        yield


def read(data: bytes, **options: Any) -> np.ndarray[Any, Any]:
    return np.asarray(decode(io.BytesIO(data), **options)).astype(int)


@pytest.mark.parametrize("name", KINDS)
def test_a_truncated_image_is_refused_or_accepted_as_far_as_it_goes(name: str) -> None:
    data, tally = cut(name), Tally()
    with pytest.raises(ImageError, match="truncated"):
        read(data)
    found = read(data, truncated="accept", tally=tally)
    whole = read(encoded(name))
    right = (found == whole).all(axis=(1, 2))
    if not name.startswith("prog"):  # which is complete, but blurred
        assert 0.45 <= right.mean() < 0.9
    assert found.shape == whole.shape
    assert 0 < np.abs(found - whole).mean() < 64
    assert tally["truncated"] == 1
    assert np.array_equal(read(encoded(name), truncated="accept", tally=tally), whole)
    assert tally["truncated"] == 1, "a whole image is not counted"


@pytest.mark.parametrize("name", ["JPEG", "progressive JPEG", "PNG", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.6, 0.7, 0.97])
def test_what_is_accepted_has_the_pixels_of_pillows_own_switch(
    name: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = cut(name, share)
    with pillows_switch(monkeypatch):
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.array_equal(read(data, truncated="accept"), expected)


def test_a_file_of_which_no_part_of_the_picture_is_there_is_refused() -> None:
    for name in KINDS:
        data = encoded(name)
        for length in (1, 10, 30, 60):
            with pytest.raises(ImageError):
                read(data[:length], truncated="accept")
    data = encoded("JPEG")
    start = data.index(b"\xff\xda")  # the scan begins
    for length in (14, 16, 60, (len(data) - start) // 3):
        with pytest.raises(ImageError, match="truncated JPEG file"):
            read(data[: start + length], truncated="accept")


def test_damage_is_not_taken_for_a_missing_end() -> None:
    png = bytearray(encoded("PNG"))
    png[len(png) // 2] ^= 255
    with pytest.raises(ImageError, match=r"damaged|broken"):
        read(bytes(png), truncated="accept")


def test_refusing_and_accepting_run_beside_each_other_in_threads() -> None:
    files = {name: cut(name) for name in ("JPEG", "PNG", "GIF", "BMP")}
    expected = {name: read(data, truncated="accept") for name, data in files.items()}
    wrong: list[str] = []
    started = threading.Barrier(6)

    def work(accept: bool) -> None:
        started.wait()
        for _ in range(15):
            for name, data in files.items():
                try:
                    found = read(data, truncated="accept" if accept else "refuse")
                except ImageError:
                    if accept:
                        wrong.append(f"{name} was refused")
                else:
                    if not accept or not np.array_equal(found, expected[name]):
                        wrong.append(f"{name} was accepted, or has other pixels")

    threads = [threading.Thread(target=work, args=(bool(n % 2),)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:5]
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two photos, one that is cut short, an animation and a 16-bit one."""
    path = tmp_path_factory.mktemp("truncated") / "photos"
    path.mkdir()
    for number in range(2):
        draw(80 + number, 70).save(path / f"whole{number}.jpg")
    (path / "cut.jpg").write_bytes(cut("JPEG"))
    first, second = draw(70, 70).quantize(32), draw(70, 71).resize((70, 70)).quantize(32)
    first.save(path / "moving.gif", save_all=True, append_images=[second])
    draw(72, 66).save(path / "pages.tif", save_all=True, append_images=[draw(66, 72)])
    values = np.arange(70 * 70, dtype=np.uint16).reshape(70, 70) % 4096
    Image.fromarray(values).save(path / "twelve.png")
    return path


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_a_store_says_what_was_accepted_and_its_queries_follow_it(
    folder: Path, tmp_path: Path
) -> None:
    command = ["extract", folder, tmp_path / "a.h5", "--model", "vgg16-tiny", "--layers", "pool5"]
    text = run(*command, "--truncated", "accept", "--value-range", "0:4095").stdout
    assert "6 of 6 images done, 0 failed" in text
    assert "1 truncated, accepted as far as they go" in text
    assert "2 with several pages or frames, of which the first was taken" in text
    with FeatureStore(tmp_path / "a.h5") as store:
        config = store.provenance.config
        assert (config.truncated, config.value_range) == ("accept", "0:4095")
        rows = dict(zip(store.paths, store["pool5"][:], strict=True))
        index = SimilarityIndex.build(store, "pool5", path=tmp_path / "a.index")
    search = ImageSearch(index)
    for name in ("cut.jpg", "twelve.png"):
        (answer,) = search.search([folder / name], k=1)
        assert isinstance(answer, SearchResult)
        assert answer.neighbours[0].path == name
        assert answer.neighbours[0].score == pytest.approx(1, abs=1e-5)
        X, _, _ = search.features([folder / name])
        assert np.allclose(X.ravel(), rows[name].ravel(), atol=1e-5)

    other = FeatureExtractor("vgg16-tiny", layers="pool5")
    with pytest.raises(StoreMismatchError, match=r"truncated: 'accept'.*value_range: '0:4095'"):
        other.extract(folder, tmp_path / "a.h5", progress=False)
    plain = json.loads(run(*command[:2], tmp_path / "b.h5", *command[3:], "--json").stdout)
    assert (plain["failed"], plain["truncated"], plain["several_pages"]) == (1, 0, 2)
    assert plain["failures"] == [{"path": "cut.jpg", "reason": "truncated JPEG file"}]
    with FeatureStore(tmp_path / "b.h5") as store:
        told = json.loads(store.provenance.dumps())["deciding"]
        assert "truncated" not in told, "earlier versions read a store that is as theirs"
        twelve = store["pool5"][list(store.paths).index("twelve.png")]
        assert not np.allclose(twelve, rows["twelve.png"], atol=1e-3)


def test_one_bad_image_need_not_lose_the_others(folder: Path) -> None:
    extractor = FeatureExtractor("vgg16-tiny", layers=["pool5", "conv5_3:none"])
    names = [folder / "whole0.jpg", folder / "cut.jpg", folder / "none.jpg", folder / "whole1.jpg"]
    with pytest.raises(ImageError, match=r"cut\.jpg: truncated JPEG file"):
        extractor(names)
    found = extractor(names, on_error="skip")
    assert found.failures == {1: "truncated JPEG file", 2: "no such file"}
    good = extractor([names[0], names[3]])
    assert good.failures == {}
    for name, rows in found.items():
        assert np.isnan(rows[[1, 2]]).all()
        assert np.allclose(rows[[0, 3]], good[name], atol=1e-5)
    nothing = extractor([np.zeros((3, 3))], on_error="skip")
    assert np.isnan(nothing["pool5"]).all()
    assert "images are uint8" in nothing.failures[0]
    with pytest.raises(ImageError, match="allowed are 'stop' and 'skip'"):
        extractor(names, on_error="ignore")
