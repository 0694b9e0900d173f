"""The site is built whole, and shows itself without asking anybody."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from filelock import FileLock

from vggfeat import _HOMES

pytest.importorskip("mkdocs", reason="MkDocs is not installed: the extra `docs`")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make site` does: a dead link, or an object that is not there, fails.

    The notebooks are not run, which tests/test_notebooks.py does. Workers share one site.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    built = folder / "site"
    with FileLock(folder / "site.lock"):
        if not built.exists():
            build(folder / "unfinished")
            (folder / "unfinished").rename(built)
    return built


def build(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "VGGFEAT_SITE": "quick"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


class Loaded(HTMLParser):
    """Addresses that a browser asks for by itself as it shows a page, and the page's text."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.paragraphs: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.add(given.get("id", ""))
        if tag == "a":
            self.links.add(given.get("href", ""))
        if tag not in ("a", "area"):  # those are followed by people
            self.addresses += [given[name] for name in ("src", "href", "data") if name in given]
            self.addresses += re.findall(r"[^\s,]+", given.get("srcset", ""))
            self.addresses += re.findall(r"url\(([^)]*)", given.get("style", ""))
        if tag == "p":
            self.paragraphs.append("")
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.addresses += re.findall(r"url\(([^)]*)|@import\s+[\"']([^\"']*)", data)
        if self.paragraphs:
            self.paragraphs[-1] += data


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Loaded]:
    """Read all pages of the site."""
    found = {}
    for page in site.rglob("*.html"):
        loaded = found[str(page.relative_to(site))] = Loaded()
        loaded.feed(page.read_text())
    return found


def test_the_site_asks_no_other_host(site, pages):
    assert len(pages) > 50
    elsewhere = re.compile(r"[\"']?(?:[a-z]+:)?//")
    for name, loaded in pages.items():
        assert not [one for one in loaded.addresses if elsewhere.match(str(one))], name
        text = (site / name).read_text()
        # Pages that have diagrams make the theme fetch a program for them.
        assert 'class="mermaid"' not in text, name
        assert "default-src 'self' data: blob: 'unsafe-inline'" in text, name
    for style in site.rglob("*.css"):
        asked = re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", style.read_text())
        assert not [one for one in asked if elsewhere.match("".join(one))], style


def test_lists_and_code_of_plain_files_are_lists_and_code_on_the_site(pages):
    for name, loaded in pages.items():
        assert not [one for one in loaded.paragraphs if "```" in one or "\n- " in one], name


def test_the_api_describes_what_the_package_offers(pages):
    described = set().union(*(page.ids for page in pages.values()))
    assert not [name for name in _HOMES if f"{_HOMES[name]}.{name}" not in described]
    assert "vggfeat.index.SimilarityIndex" in pages["api/vggfeat.index.html"].ids
    overview = pages["api/index.html"].links
    assert {f"vggfeat.{home}.html" for home in ("index", "store", "probe")} <= overview
    assert "vggfeat.store.FeatureStore.xy" in described  # also what it inherits


def test_pictures_follow_light_and_dark_and_are_there(site, pages):
    shown = [one for one in pages["index.html"].addresses if "gallery/" in one]
    assert {one.rpartition("#")[2] for one in shown} == {"only-light", "only-dark"}
    assert "notebooks/search.html" in (site / "index.html").read_text()
    for name, page in pages.items():
        for address in page.addresses:
            target = str(address).partition("#")[0].partition("?")[0]
            if target and name != "404.html" and not target.startswith("data:"):
                assert (site / name).parent.joinpath(target).exists(), (name, address)
