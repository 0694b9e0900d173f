"""What is built of this tree installs elsewhere, and is whole."""

from __future__ import annotations

import email.message
import email.parser
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import click
import pytest

from vggfeat.cli import main

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MADE = {"build", "demo", "dist", "site"}  # by targets of the Makefile, beside the Makefile
NOT_SOURCE = shutil.ignore_patterns(
    *(".git", ".venv*", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis", ".coverage"),
    *(".stamp-*", ".*.lock"),
)


def not_source(folder: str, names: list[str]) -> set[str]:
    """Name what of a folder is no source, as `shutil.copytree` asks."""
    made = MADE.intersection(names) if (Path(folder) / "Makefile").exists() else set()
    return NOT_SOURCE(folder, names) | made


def files_below(folder: Path) -> set[str]:
    """Return the paths of all files that belong to a source tree."""
    found = set()
    for parent, folders, files in os.walk(folder):
        left_out = not_source(parent, [*folders, *files])
        folders[:] = [name for name in folders if name not in left_out]
        names = (Path(parent, name) for name in files if name not in left_out)
        found |= {path.relative_to(folder).as_posix() for path in names}
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build the sdist of a copy of this tree, and the wheel of what is in the sdist."""
    pytest.importorskip("setuptools", "77", reason="the build backend is setuptools 77 or newer")
    folder = tmp_path_factory.mktemp("package")
    copy = shutil.copytree(ROOT, folder / "copy", ignore=not_source)
    build(copy, "sdist", folder)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since 3.11.4
        archive.extractall(folder / "unpacked", **safe)
    (unpacked,) = (folder / "unpacked").iterdir()
    build(unpacked, "wheel", folder)
    (wheel,) = folder.glob("*.whl")
    return {"sdist": sdist, "unpacked": unpacked, "wheel": wheel}


def build(source: Path, kind: str, to: Path) -> None:
    """Call the build backend as build tools do, without fetching it anew."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(to)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment of its own; return that's folder of programs.

    What the package depends on is seen where it is now: it need not be fetched again.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    seen = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "dependencies.pth").write_text("\n".join(seen))
    pip(folder, "install", "--no-deps", "--no-compile", built["wheel"])
    return folder / "bin"


def pip(environment: Path, *args: object) -> str:
    """Run pip for an environment, without a network; return what it said."""
    where = ["--isolated", "--python", environment / "bin/python", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", *where, *args, "--no-index"]
    done = subprocess.run(map(str, command), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def call(folder: Path, *command: object) -> str:
    """Run a program elsewhere than in this tree; return what it printed."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder, env=own, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def metadata(built: dict[str, Path]) -> email.message.Message:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        (name,) = (one for one in wheel.namelist() if one.endswith(".dist-info/METADATA"))
        return email.parser.Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_the_whole_package_and_nothing_else(built):
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        licences = {Path(name).name for name in wheel.namelist() if "/licenses/" in name}
    assert names == {f"vggfeat/{name}" for name in files_below(ROOT / "vggfeat")}
    assert {"vggfeat/py.typed", "vggfeat/demo/page.py", "vggfeat/web/static/page.js"} <= names
    assert licences == {"LICENSE", "LICENSE-weights"}


def test_the_sdist_holds_what_its_tests_need(built):
    held = files_below(built["unpacked"]) - {"PKG-INFO", "setup.cfg"}
    git = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(git, capture_output=True, text=True, check=False)
    ours = files_below(ROOT)
    if listed.returncode == 0:  # no stray file that nobody would commit
        ours &= set(listed.stdout.split("\0"))
    assert not ours - held, "not in the sdist; name it in MANIFEST.in"
    assert not held - ours, "in the sdist, and no file of this tree"


def test_the_installed_program_runs_elsewhere(installed, scenes, tmp_path):
    version = call(tmp_path, installed / "vggfeat", "--version")
    assert version == call(tmp_path, installed / "python", "-m", "vggfeat", "--version")
    assert "Commands:" in call(tmp_path, installed / "python", "-m", "vggfeat", "--help")
    code = """
import sys, vggfeat
from vggfeat.cli import run
print(vggfeat.__file__)
for line in sys.stdin:
    try:
        run(line.split())
    except SystemExit as end:
        assert not end.code, line
"""
    lines = [
        f"extract {scenes / 'china'} photos.h5 --model vgg16-tiny --layers relu7 --device cpu",
        "index build photos.h5 photos.index --quiet",
        f"search photos.index {scenes / 'china' / '03.jpg'} -k 1 --html found.html",
    ]
    done = subprocess.run(
        [installed / "python", "-c", code], input="\n".join(lines), cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert Path(done.stdout.splitlines()[0]).is_relative_to(installed.parent)
    assert "24 of 24 images done, 0 failed" in done.stdout
    assert ["1", "1.0000", "03.jpg"] in [line.split() for line in done.stdout.splitlines()]
    assert "<title>" in (tmp_path / "found.html").read_text()


def test_an_extra_is_added_to_what_is_installed_without_another_vggfeat(installed):
    pytest.importorskip("pyarrow", reason="pip finds what the extra `parquet` needs where it is")
    said = pip(installed.parent, "install", "--dry-run", "vggfeat[parquet]")
    assert "Would install" not in said


def test_the_extra_all_is_all_that_the_program_can_use():
    extras = PROJECT["optional-dependencies"]
    (own,) = extras["all"]
    named = set(re.fullmatch(r"vggfeat\[([a-z,]+)\]", own)[1].split(","))
    assert named == set(extras) - {"all", "bench", "databases", "dev", "docs"}


def test_the_metadata_says_what_is_true(metadata):
    assert metadata["License-Expression"].startswith("BSD-3-Clause AND LicenseRef-")
    assert "non-commercial" in metadata["License-Expression"]
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    text = metadata.get_payload()
    assert "non-commercial research" in " ".join(text.split())
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert not [link for link in links if not link.startswith("https://")], "leads nowhere there"
    version = metadata["Version"]
    cited = dict(
        line.split(": ", 1)
        for line in (ROOT / "CITATION.cff").read_text().splitlines()
        if re.match(r"[a-z-]+: \S", line)
    )
    assert version.startswith(cited["version"])
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert f"\n## {cited['version']} - {cited['date-released'].strip(chr(34))}\n" in changes
    assert cited["license"] == metadata["License-Expression"].split()[0]


def test_a_program_that_uses_the_package_is_checked_by_its_types(installed, tmp_path):
    pytest.importorskip("mypy", reason="mypy checks types")
    (tmp_path / "program.py").write_text(
        "import vggfeat\n"
        "from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex\n"
        'summary = FeatureExtractor("vgg16-tiny").extract("photos/", "photos.h5")\n'
        "reveal_type(summary.done)\n"
        'with FeatureStore("photos.h5") as store:\n'
        '    X, y = store.xy("relu7")\n'
        "reveal_type(X)\n"
        'index = SimilarityIndex.open("photos.index")\n'
        "reveal_type(index.ids)\n"
        'FeatureExtractor(depth="vgg16")\n'
    )
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nfollow_untyped_imports = false\n"
        "[mypy-torch.*,torchvision.*,faiss.*,matplotlib.*,PIL.*]\n"
        "follow_imports = skip\nignore_missing_imports = true\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", installed / "python",
         "--config-file", "mypy.ini", "--cache-dir", os.devnull, "program.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout
    assert 'Revealed type is "int"' in said, said + done.stderr
    assert 'program.py:7: note: Revealed type is "numpy.ndarray' in said
    assert 'program.py:9: note: Revealed type is "numpy.ndarray' in said
    assert 'Unexpected keyword argument "depth"' in said
    assert "Found 1 error in 1 file" in said


def dockerfile() -> list[list[str]]:
    """Return the Dockerfile's instructions as words, lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def test_the_dockerfile_copies_what_is_there_and_what_docker_may_see():
    kept = {line.lstrip("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    copied = [
        name
        for word, *names in dockerfile()
        if word == "COPY" and not names[0].startswith("--from")
        for name in names[:-1]
    ]
    assert {"vggfeat", "pyproject.toml", *PROJECT["license-files"], PROJECT["readme"]} == {*copied}
    for name in copied:
        assert (ROOT / name).exists()
        assert name in kept


def test_the_dockerfile_serves_as_nobody_with_commands_that_there_are():
    lines = dockerfile()
    texts = [" ".join(line) for line in lines]
    (extras,) = re.findall(r'"\.\[([a-z,]+)\]"', "\n".join(texts))
    assert {"web"} <= set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    base = {line[1] for line in lines if line[0] == "FROM"}
    version = re.fullmatch(r"python:([\d.]+)-slim", base.pop())
    assert version
    assert not base
    assert f"Programming Language :: Python :: {version[1]}" in PROJECT["classifiers"]
    user = next(i for i, line in enumerate(lines) if line[0] == "USER")
    assert lines[user][1] not in ("root", "0")
    start = next(i for i, line in enumerate(lines) if line[0] == "ENTRYPOINT")
    assert user < start
    words = [*json.loads(texts[start].split(" ", 1)[1]), *json.loads(texts[-1].split(" ", 1)[1])]
    assert words[:2] == ["vggfeat", "serve"]
    assert lines[-1][0] == "CMD"
    command = main.get_command(click.Context(main), "serve")
    assert command is not None
    options = command.make_context("serve", words[2:]).params
    assert (options["host"], ["EXPOSE", str(options["port"])] in lines) == ("0.0.0.0", True)
