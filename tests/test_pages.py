"""Commands and Python on the pages for newcomers run as they stand, in their order."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import click
import pytest
from commands import cli
from conftest import settle
from PIL import Image

from vggfeat.cli import main
from vggfeat.demo.pictures import write_places

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [
    "index.md",
    *(f"howto/{page.name}" for page in sorted((DOCS / "howto").glob("*.md"))),
    "crash-safety.md",
    "dense.md",
    "layers-and-names.md",
    "what-is-a-copy.md",
]
BLOCK = re.compile(r"^ *```(python|console)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folders that the pages speak of: photos/ of four classes, new/ and query.jpg."""
    folder = tmp_path_factory.mktemp("pages")
    write_places(folder / "all")
    for place in ("china 1-2", "china 2-2", "flower 2-2", "flower 3-3"):
        shutil.copytree(folder / "all" / place, folder / "photos" / place)
    (folder / "new").mkdir()
    for number, place in enumerate(sorted((folder / "photos").iterdir())):
        (place / "9.jpg").rename(folder / "new" / f"{number}.jpg")
    shutil.copyfile(folder / "new" / "1.jpg", folder / "query.jpg")
    with Image.open(folder / "photos" / "china 2-2" / "0.jpg") as photo:
        smaller = photo.resize((photo.width * 3 // 4, photo.height * 3 // 4))
        smaller.save(folder / "photos" / "china 2-2" / "0-small.jpg", quality=85)
    shutil.rmtree(folder / "all")
    return folder


@pytest.fixture
def folder(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the folders for one test, which is in them."""
    folder = shutil.copytree(photographs, tmp_path / "work")
    settle(folder / "query.jpg")
    monkeypatch.chdir(folder)
    return folder


def run_commands(text: str) -> None:
    """Run the lines of a block, in their order."""
    serve = main.get_command(click.Context(main), "serve")
    for line in text.splitlines():
        program, *words = shlex.split(line.strip().removeprefix("$ "), comments=True)
        if program == "pip":  # what it installs is there
            continue
        assert program == "vggfeat"
        if words[0] == "serve":  # a server runs until it is stopped: its arguments are right
            serve.make_context("serve", words[1:])
            continue
        done = cli(*words)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_as_it_stands(page, folder):
    names: dict[str, object] = {}
    blocks = BLOCK.findall((DOCS / page).read_text())
    assert blocks
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, page, "exec"), names)
        else:
            run_commands(text)
    for check in PROMISED.get(page, ()):
        assert check(folder), page


def test_the_first_commands_of_the_readme_run_one_after_the_other(folder):
    (_, text), *_ = BLOCK.findall((DOCS.parent / "README.md").read_text())
    assert len(text.splitlines()) > 15
    run_commands(text)
    for made in ("found.html", "copies.html", "why.html", "sweep.png", "few.png", "map.png"):
        assert (folder / made).stat().st_size > 1000


def test_the_commands_of_the_engine_run_on_a_store_that_is_there(folder):
    pytest.importorskip("numba", reason="the Winograd engine needs numba, the extra `fast`")
    cli("extract", "photos", "photos.h5", "--model", "vgg16-tiny", "--layers", "pool5")
    blocks = BLOCK.findall((DOCS / "engine.md").read_text())
    run_commands(next(text for kind, text in blocks if kind == "console"))


PROMISED = {
    "howto/photographer.md": [
        lambda folder: [one.name for one in (folder / "copies").rglob("*.jpg")] == ["0-small.jpg"],
        lambda folder: "0-small.jpg" in (folder / "copies.html").read_text(),
    ],
    "howto/researcher.md": [lambda folder: (folder / "layers.pdf").stat().st_size > 5000],
    "howto/data-scientist.md": [lambda folder: (folder / "relu7.csv").exists()],
}
