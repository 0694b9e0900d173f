"""Pages and pictures: complete in themselves, safe with any name, made whatever happens."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vggfeat.errors import VggfeatError
from vggfeat.preprocessing import TORCHVISION
from vggfeat.probe import Prediction, ProbeResult
from vggfeat.probe.labelled import LeftOut
from vggfeat.provenance import FeatureConfig, RunInfo
from vggfeat.report import (
    NeighbourResult,
    QueryResult,
    config_facts,
    confusion_matrix,
    destination,
    originals,
    probe_page,
    run_facts,
    search_page,
    thumbnail,
    write_whole,
)
from vggfeat.report.confusion import ConfusedPair, confusion_view, describe_confusion
from vggfeat.report.text import decimals, duration, shortened, shown

NASTY = "<script>alert('x')</script> & \"quotes\"\n\u202eéè.jpg"


class Page(HTMLParser):
    """What a browser would load and read."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data + " "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def opened(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head in ("data:image/jpeg;base64", "data:image/png;base64")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    image.load()
    return image


def photo(path: Path, size: tuple[int, int] = (300, 200), orientation: int = 1) -> Path:
    image = Image.new("RGB", size, (200, 40, 40))
    image.paste((40, 40, 200), (0, 0, size[0] // 2, size[1]))  # left half blue
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, "JPEG", quality=95, exif=exif)
    return path


def result(classes: list[str], each: int = 6) -> ProbeResult:
    size = len(classes)
    confusion = np.diag(np.full(size, each - 1))
    confusion[np.arange(size), (np.arange(size) + 1) % size] += 1
    mistakes = tuple(
        Prediction(f"{name}/{NASTY}", name, classes[(k + 1) % size], 0.5)
        for k, name in enumerate(classes)
    )
    return ProbeResult(
        layer="relu7", classifier="svm", normalize=True, C=0.25, seed=7, classes=tuple(classes),
        confusion=confusion, n_train=40, majority=0.125, left_out=LeftOut(1, 2, 3),
        predictions=mistakes,
    )  # fmt: skip


def test_a_thumbnail_is_upright_and_keeps_its_aspect_ratio(tmp_path: Path) -> None:
    turned = opened(thumbnail(photo(tmp_path / "a.jpg", orientation=6), 60))
    assert turned.size == (40, 60)
    top, bottom = turned.getpixel((20, 5)), turned.getpixel((20, 55))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[2] > 150 > top[0]
    assert bottom[0] > 150 > bottom[2]


def test_a_small_image_is_not_enlarged_and_a_ribbon_keeps_a_pixel() -> None:
    assert opened(thumbnail(Image.new("L", (8, 5)), 60)).size == (8, 5)
    assert opened(thumbnail(Image.new("RGB", (5000, 2)), 60)).size == (60, 1)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0 cut"])
def test_an_unreadable_or_vanished_original_gives_a_drawn_tile(
    tmp_path: Path, content: bytes
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(content)

    def fails() -> None:
        raise RuntimeError("whatever")

    for source in (broken, tmp_path / "gone.jpg", str(tmp_path), fails, None, lambda: None):
        tile = opened(thumbnail(source, 64))
        assert tile.size == (64, 64)
        assert len(set(tile.convert("L").tobytes())) > 5


def test_originals_are_found_by_their_stored_path_and_closed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    photo(tmp_path / "a" / "b.jpg")
    images = originals(str(tmp_path))
    assert opened(thumbnail(images("a/b.jpg"), 30)).size == (30, 20)
    assert opened(thumbnail(images("a/gone.jpg"), 30)).size == (30, 30)
    handed: list[io.BytesIO] = []

    def file() -> io.BytesIO:
        handed.append(io.BytesIO((tmp_path / "a" / "b.jpg").read_bytes()))
        return handed[-1]

    thumbnail(file, 30)
    assert handed[0].closed


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [1, 2, 10, 40, 257])
def test_a_confusion_matrix_is_drawn_for_any_number_of_classes(size: int, dark: bool) -> None:
    matrix = np.zeros((size, size), int)
    matrix[0] = 3  # the other classes have no test images
    names = [f"class $x_{k}$ \u732b\n{'long' * 20}" for k in range(size)]
    image = Image.open(io.BytesIO(confusion_matrix(matrix, names, dark=dark)))
    assert image.format == "PNG"
    assert min(image.size) >= 150
    assert max(image.size) < 4000
    corner = np.asarray(image.convert("L"), int)[0, 0]
    assert corner < 60 if dark else corner > 240


def test_a_confusion_matrix_that_does_not_fit_its_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit 3 classes"):
        confusion_matrix(np.eye(2), ["a", "b", "c"])


def test_the_text_for_a_confusion_matrix_names_what_is_confused_most() -> None:
    text = describe_confusion([[5, 0, 1], [4, 2, 0], [0, 0, 3]], ["cat", "dog", "owl"])
    assert "10 of 15" in text
    assert "dog taken for cat (4), cat taken for owl (1)" in text
    assert "confused" not in describe_confusion(np.eye(2, dtype=int), ["a", "b"])


def test_a_hundred_classes_are_each_named_and_their_confusions_listed() -> None:
    matrix = np.diag(np.full(102, 48))
    matrix[7, 9], matrix[3, 5], matrix[50, 7] = 4, 9, 1
    names = [f"c{k}" for k in range(102)]
    view = confusion_view(matrix, names)
    assert view["width"] >= 12 * 102, "a line of text for each class"
    assert view["pairs"] == [
        ConfusedPair("c3", "c5", 9, 57),
        ConfusedPair("c7", "c9", 4, 52),
        ConfusedPair("c50", "c7", 1, 49),
    ]


def test_reports_import_no_torch_and_leave_matplotlibs_state_alone() -> None:
    code = (
        "import sys, numpy, vggfeat.report as report\n"
        "assert not {'matplotlib', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "report.confusion_matrix(numpy.eye(2), ['a', 'b'])\n"
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_page_loads_nothing_from_elsewhere_and_names_every_picture(tmp_path: Path) -> None:
    classes = [f"class {k}" for k in range(30)]
    photo(tmp_path / "q.jpg")
    found = [NeighbourResult(f"{k}.jpg", 0.9 - k / 10, tmp_path / "q.jpg") for k in range(3)]
    pages = [
        probe_page(tmp_path / "probe.html", result(classes), store="a.h5"),
        search_page(tmp_path / "search.html", [QueryResult("q", found)], index="a.index", images=3),
    ]
    for path in pages:
        page = Page(path)
        assert not re.search(r"https?://|url\(|@import|<link|<script|<iframe", page.html)
        images = page.all("img")
        assert images
        assert all((image["src"] or "").startswith("data:image/") for image in images)
        assert all(image["alt"] for image in images)
        assert all(opened(image["src"] or "").width for image in images)
        assert page.all("html") == [{"lang": "en"}]
        assert len(page.all("h1")) == 1
        assert "prefers-color-scheme: dark" in page.html
        assert any(meta.get("name") == "viewport" for meta in page.all("meta"))


def test_names_are_shown_as_text_whatever_they_hold(tmp_path: Path) -> None:
    queries = [
        QueryResult(NASTY, [NeighbourResult(NASTY, 0.5, None, NASTY)], problem=None, label=NASTY),
        QueryResult("bad \udcff name", [], problem="truncated <JPEG> file"),
    ]
    page = Page(
        search_page(tmp_path / "s.html", queries, index=NASTY, images=1, facts={NASTY: NASTY})
    )
    assert not page.all("script")
    assert "\u202e" not in page.html
    assert "<script>alert('x')</script> & \"quotes\"\\n\\u202eéè.jpg" in page.text
    assert "bad \\udcff name" in page.text
    assert "truncated <JPEG> file" in page.text
    page = Page(probe_page(tmp_path / "p.html", result([NASTY, "b"]), store=NASTY))
    assert not page.all("script")
    assert page.text.count("alert('x')") >= 4


def test_a_search_page_tells_scores_apart_and_marks_the_same_class(tmp_path: Path) -> None:
    scores = [0.99991, 0.99987, 0.99983]
    found = [NeighbourResult(f"{s}.jpg", s, None, "cat") for s in scores]
    found.append(NeighbourResult("dog.jpg", 0.9997, None, "dog"))
    path = search_page(
        tmp_path / "s.html", [QueryResult("q.jpg", found, label="cat")], index="i", images=9,
        metric="l2",
    )  # fmt: skip
    page = Page(path)
    assert all(f"{score:.5f}" in page.text for score in scores)
    assert "Of the same class: 3 of 4 neighbours" in page.text
    assert page.text.count("same class as the query") == 3
    assert "Euclidean distance (less is nearer)" in page.text


def test_a_probe_page_holds_everything_that_decides_the_number(tmp_path: Path) -> None:
    config = FeatureConfig("vgg16", "ab" * 32, TORCHVISION.to_json(), "center", {"relu7": ""})
    run = RunInfo("/photos", "/home/me/w.pth", "cpu", "float32", "2026-01-01T00:00:00+00:00")
    facts = config_facts(config, "relu7") | run_facts(run)
    classes = ["cat", "dog", "owl", "newt"]
    page = Page(probe_page(tmp_path / "p.html", result(classes), store="a.h5", facts=facts))
    text = " ".join(page.text.split())
    for part in (
        "83.3 % mean class recall", "guessing one of 4 classes: 25.0 %",
        "always the commonest class: 12.5 %", "40 to train, 24 to test", "linear SVM",
        "0.25", "seed 7", "ab" * 32, "crop 224", "0.485 0.456 0.406", "w.pth", "relu7",
        "1 without features, 2 without a label, 3 alone in their class",
    ):  # fmt: skip
        assert part in text, part
    assert page.html.count("the original could not be read") == 4


def test_a_page_that_fails_leaves_the_old_one_and_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "s.html"
    path.write_text("old")
    with pytest.raises(Exception, match="must be real number"):
        search_page(
            path, [QueryResult("q", [NeighbourResult("a", "high")])],  # type: ignore[arg-type]
            index="i", images=1,
        )  # fmt: skip
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_where_a_page_cannot_go_is_said_before_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(VggfeatError, match="does not exist"):
        destination(tmp_path / "no" / "a.html")
    with pytest.raises(VggfeatError, match="is a folder"):
        destination(tmp_path)


def test_a_folder_that_takes_no_files_is_told_before_the_work(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir(mode=0o555)
    try:
        (folder / "probe").touch()
    except OSError:
        pass
    else:  # an administrator may write anywhere, but not among processes
        folder = Path("/proc/self")
    if not folder.is_dir():
        pytest.skip("no folder here refuses files")
    with pytest.raises(VggfeatError, match=r"a\.png cannot be written"):
        destination(folder / "a.png")


def test_bytes_replace_what_is_there_whole_and_leave_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    assert write_whole(tmp_path / "a.png", b"new") == tmp_path / "a.png"
    assert (tmp_path / "a.png").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@given(st.text(max_size=60), st.integers(3, 30))
def test_shown_names_are_printable_and_short_enough(text: str, length: int) -> None:
    assert shown(text).replace("\u200d", "").isprintable()
    assert len(shortened(text, length)) <= length
    if len(shown(text)) <= length:
        assert shortened(text, length) == shown(text)


@given(st.lists(st.floats(-1, 1), max_size=20))
def test_scores_get_three_to_six_decimals(scores: list[float]) -> None:
    assert 3 <= decimals(scores) <= 6


def test_times_are_written_as_people_say_them() -> None:
    assert [duration(s) for s in (0.04, 9.94, 12.4, 61)] == ["0.0 s", "9.9 s", "12 s", "1 min 1 s"]
