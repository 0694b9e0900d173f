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


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_as_it_stands(page, photographs, tmp_path, monkeypatch):
    folder = shutil.copytree(photographs, tmp_path / "work")
    settle(folder / "query.jpg")
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    serve = main.get_command(click.Context(main), "serve")
    blocks = BLOCK.findall((DOCS / page).read_text())
    assert blocks
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, page, "exec"), names)
            continue
        for line in text.splitlines():
            program, *words = shlex.split(line.strip().removeprefix("$ "), comments=True)
            assert program == "vggfeat"
            if words[0] == "serve":  # a server runs until it is stopped: its arguments are right
                serve.make_context("serve", words[1:])
                continue
            done = cli(*words)
            assert done.returncode == 0, f"{line}\n{done.stderr}"
    for check in PROMISED.get(page, ()):
        assert check(folder), page


PROMISED = {
    "howto/photographer.md": [
        lambda folder: [one.name for one in (folder / "copies").rglob("*.jpg")] == ["0-small.jpg"],
        lambda folder: "0-small.jpg" in (folder / "copies.html").read_text(),
    ],
    "howto/researcher.md": [lambda folder: (folder / "layers.pdf").stat().st_size > 5000],
    "howto/data-scientist.md": [lambda folder: (folder / "relu7.csv").exists()],
}
