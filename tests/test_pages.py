"""Commands and Python in the documentation run as they stand, page by page, in their order."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import settle
from given_files import make_given_files
from page_blocks import DOCS, blocks, made_by, run_command, run_python

ROOT = DOCS.parent
ELSEWHERE = {
    "science.md": "test_science.py",
    "weights.md": "test_weight_meaning.py",  # what `weights inspect` prints, in tables
}
"""Pages whose blocks another test runs."""

NOT_RUN = {
    r"vggfeat .*\b(s3|gs|hf|https)://": "buckets of others; tests/test_remote.py has its own",
    r"(pip install .* awscli|moto_server|export AWS|aws s3) ?": "programs that are not installed",
    r"hf download": "a download",
    r"curl": "asks a server that runs; tests/test_serve_requests.py does",
    r"vggfeat demo": "a minute; tests/test_demo.py runs it",
    r"make ": "sets up an environment",
    r"python -m training": "Tiny ImageNet; tests/test_training.py trains on less",
    r"vggfeat evaluate (caltech101|retrieval --root oxford)":
        "data sets of gigabytes; the tests of evaluation take miniatures",
    r"vggfeat explain imagenet": "the weights of VGG-16, a download of 553 MB",
    r"vggfeat (extract 101_|sweep (avg|gem|max|spp|poolings|random)\.h5 --train)":
        "what the figures of docs/choosing.md were measured with: Caltech-101, VGG-16",
    r"python benchmarks/": "what figures were measured with: minutes to hours",
    r"vggfeat .*--whiten 256": "learns from more than 256 images",
    r"vggfeat .*--ray": "starts Ray; tests/test_ray.py does",
    r"ray start": "other machines",
    r"vggfeat .*--move-to ~/copies": "asks at a terminal; tests/test_duplicates.py answers",
    r"#!/bin/bash\n": "tests/test_clusters.py runs the scripts",
    r"import (duckdb|lancedb|pyarrow\.dataset)\n": "tests/test_scale.py runs the recipes",
    r"(uv|pip|pipx|python3|\.venv/bin/pip|source) .*": "installs; tests/test_package.py does",
    r"(eval|_VGGFEAT_COMPLETE)": "a line of a shell; tests/test_completion.py runs it",
    r"docker ": "needs Docker",
}  # fmt: skip
"""What cannot run here, by how it begins, and why."""


def sections() -> Iterator[tuple[str, str]]:
    """Give all that is read by itself: pages, and the help of each command."""
    for page in (ROOT / "README.md", ROOT / "PACKAGE.md", *sorted(DOCS.rglob("*.md"))):
        text, name = page.read_text(), page.relative_to(ROOT).as_posix()
        if name == "docs/commands.md":
            for one in text.split("\n## ")[1:]:
                yield f"vggfeat {one.partition(chr(10))[0].split(' ', 1)[-1]} --help", one
        else:
            yield name.removeprefix("docs/"), text


SECTIONS = {name: text for name, text in sections() if any(blocks(text))}


def left_out(part: str) -> str | None:
    """Return by which entry of `NOT_RUN` something is not run, if it is not."""
    return next((known for known in NOT_RUN if re.match(known, part)), None)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    make_given_files(folder)
    return folder


@pytest.fixture
def folder(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy what pages take as given for one test, which is in that folder."""
    folder = shutil.copytree(given, tmp_path / "work")
    settle(folder / "query.jpg")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    return folder


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("name", [name for name in SECTIONS if name not in ELSEWHERE])
def test_a_page_runs_as_it_stands(name, folder):
    found = list(blocks(SECTIONS[name]))
    for made in made_by([part for kind, parts in found if kind == "console" for part in parts]):
        remove(folder / made)
    names: dict[str, Any] = {}
    for kind, parts in found:
        for part in parts:
            if left_out(part):
                continue
            if kind == "python":
                run_python(part, names, name)
            else:
                run_command(part)
    for check in PROMISED.get(name, ()):
        assert check(folder), name


def test_what_is_not_run_is_on_a_page_and_other_tests_run_what_they_are_said_to():
    every = [part for text in SECTIONS.values() for _, parts in blocks(text) for part in parts]
    assert not NOT_RUN.keys() - {left_out(part) for part in every}
    run = [part for part in every if not left_out(part)]
    assert len(run) > 150
    for page, test in ELSEWHERE.items():
        assert page in (Path(__file__).parent / test).read_text()
    for reason in NOT_RUN.values():
        for test in re.findall(r"tests/\w+\.py", reason):
            assert (ROOT / test).exists()


def test_pages_say_what_their_examples_take_as_given():
    saying = "](index.md#what-examples-take-as-given)"
    for name, text in SECTIONS.items():
        lines = [part for kind, parts in blocks(text) for part in parts if not left_out(part)]
        of_itself = name in ("README.md", "PACKAGE.md", *ELSEWHERE) or made_by(lines)
        if not name.endswith("--help") and not of_itself and "photos." in "".join(lines):
            assert saying in text, name
    assert saying in (DOCS / "commands.md").read_text()


PROMISED = {
    "README.md": [
        *(
            lambda folder, made=made: (folder / made).stat().st_size > 1000
            for made in (
                *("found.html", "copies.html", "why.html"),
                *("sweep.png", "few.png", "map.png", "maps.png", "cka.png"),
            )
        )
    ],
    "howto/photographer.md": [
        lambda folder: [one.name for one in (folder / "copies").rglob("*.jpg")] == ["01-small.jpg"],
        lambda folder: "01-small.jpg" in (folder / "copies.html").read_text(),
    ],
    "howto/researcher.md": [lambda folder: (folder / "layers.pdf").stat().st_size > 5000],
    "howto/data-scientist.md": [lambda folder: (folder / "relu7.csv").exists()],
}
