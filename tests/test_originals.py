"""Originals are found again where the user says that they are now, and nothing else is shown."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import draw
from test_sources import pack, put

from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex
from vggfeat.cli import main
from vggfeat.errors import ImageError, SourceError
from vggfeat.report import originals_of
from vggfeat.sources import Originals, OtherImageError
from vggfeat.web.pictures import Pictures

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="paths and links of POSIX")


def read(opened: Originals, source: str, path: str) -> bytes:
    with opened.open(source, path) as file:
        return file.read()


def photo(path: Path, seed: int) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(40, 30, seed=seed).save(path)
    return path.read_bytes()


def test_a_root_takes_the_place_of_the_only_source_once_that_is_gone(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    first, second = photo(old / "a.png", 1), photo(new / "a.png", 2)
    assert read(Originals([str(old)], [new]), str(old), "a.png") == first
    shutil.rmtree(old)
    with pytest.raises(SourceError, match="--root"):
        Originals([str(old)]).open(str(old), "a.png")
    opened = Originals([str(old)], [new])
    assert opened.place(str(old)) == str(new)
    assert read(opened, str(old), "a.png") == second
    old.mkdir()  # as where a drive is not mounted
    assert read(Originals([str(old)], [new]), str(old), "a.png") == second


def test_each_of_several_sources_is_named_or_stays_where_it_was(tmp_path: Path) -> None:
    gone = f"train={tmp_path / 'gone'}"
    here = f"test={tmp_path / 'here'}"
    moved = photo(tmp_path / "moved" / "a.png", 1)
    stayed = photo(tmp_path / "here" / "a.png", 2)
    for name in ("train", str(tmp_path / "gone")):
        opened = Originals([gone, here], [f"{name}={tmp_path / 'moved'}"])
        assert read(opened, gone, "train/a.png") == moved
        assert read(opened, here, "test/a.png") == stayed
    unnamed = Originals([gone, here], [tmp_path / "moved"])
    with pytest.raises(SourceError):
        unnamed.open(gone, "train/a.png")
    assert "--root train=DIR" in unnamed.why_not_shown(gone)
    with pytest.raises(SourceError, match="there is no source 'trian'"):
        Originals([gone, here], [f"trian={tmp_path / 'moved'}"])
    with pytest.raises(SourceError, match="no such folder or archive"):
        Originals([gone, here], [f"train={tmp_path / 'nowhere'}"])


def test_archives_are_found_by_their_new_names_or_by_the_folder_that_they_are_in(
    tmp_path: Path,
) -> None:
    image = photo(tmp_path / "a.png", 1)
    old = str(tmp_path / "gone" / "s.tar")
    tar = pack(put(tmp_path / "new" / "s.tar"), {"x/a.png": image})
    for root in (tar, tar.parent, tar.rename(tmp_path / "other.tar")):
        if root == tmp_path / "other.tar":
            assert read(Originals([old], [root]), old, "x/a.png") == image
        else:
            pack(tar, {"x/a.png": image})
            assert read(Originals([old], [root]), old, "x/a.png") == image
    several = str(tmp_path / "gone" / "s-{0..1}.tar")
    for number in range(2):
        pack(tmp_path / "new" / f"s-{number}.tar", {"a.png": image})
    assert read(Originals([several], [tmp_path / "new"]), several, "s-1.tar/a.png") == image


@pytest.mark.parametrize("archive", ["..", "secret.tar", "{..,x}"])
def test_a_strangers_source_leads_nowhere_out_of_the_new_place(
    tmp_path: Path, archive: str
) -> None:
    outside = photo(tmp_path / "outside.png", 1)
    new = tmp_path / "new"
    photo(new / "a.png", 2)
    (new / "link.png").symlink_to(tmp_path / "outside.png")
    (new / "secret.tar").symlink_to(pack(tmp_path / "secret.tar", {"outside.png": outside}))
    source = f"{tmp_path}/gone/{archive}" if archive != ".." else f"{tmp_path}/gone/x/.."
    opened = Originals([source], [new])
    for path in ("link.png", "../outside.png", str(tmp_path / "outside.png"), "outside.png"):
        with pytest.raises((ImageError, SourceError)):
            opened.open(source, path)
    opened.open(source, "a.png").close()


def test_pages_commands_and_the_server_show_originals_from_where_they_are_now(
    tmp_path: Path,
) -> None:
    for folder in ("one", "two"):
        for number in range(3):
            photo(tmp_path / folder / f"{number}.png", number)
    store, index, page = (str(tmp_path / name) for name in ("s.h5", "s.index", "p.html"))
    extractor = FeatureExtractor("vgg16-tiny", layers="pool2", device="cpu")
    extractor.extract([tmp_path / "one", tmp_path / "two"], store, progress=False)
    with FeatureStore(store) as opened:
        SimilarityIndex.build(opened, "pool2", path=index)
    query = shutil.copy(tmp_path / "one" / "0.png", tmp_path / "query.png")
    for folder in ("one", "two"):
        (tmp_path / folder).rename(tmp_path / f"{folder}-now")
    roots = [f"{name}={tmp_path / name}-now" for name in ("one", "two")]
    options = [word for root in roots for word in ("--root", root)]

    def missing(*command: str) -> int:
        """Make a page; return how many originals it lacks, which is told."""
        done = CliRunner().invoke(main, [*command, "--html", page], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        count = Path(page).read_text().count("the original could not be read")
        assert bool(count) == ("Say with --root" in done.output)
        return count

    search = ["search", index, str(query), "-k", "6", "--device", "cpu"]
    assert missing(*search) == 6
    assert missing(*search, *options) == 0
    assert CliRunner().invoke(main, [*search, "--root", str(tmp_path / "x")]).exit_code == 2
    copies = ["duplicates", store, "--threshold", "0.9", "--html", page, "--json", *options]
    done = CliRunner().invoke(main, [*copies, "--move-to", str(tmp_path / "aside"), "--yes"])
    found = json.loads(done.stdout)
    assert {one["path"][4:] for one in found["groups"][0]["images"]} in (
        {f"{n}.png"} for n in "012"
    )
    assert sorted(path.name for path in (tmp_path / "aside" / "two").iterdir()) == [
        *("0.png", "1.png", "2.png")
    ]
    assert Path(page).read_text().count("data:image/jpeg") == 6
    served = Pictures(SimilarityIndex.open(index), roots)
    assert served.original(0).read() == Path(query).read_bytes()
    # Another image at the same path is none of the store's.
    photo(tmp_path / "one-now" / "0.png", 9)
    with FeatureStore(store) as opened:
        shown = originals_of(opened, roots)
    shown("one/1.png")().close()  # type: ignore[operator]
    with pytest.raises(OtherImageError, match="its bytes differ"):
        shown("one/0.png")()  # type: ignore[operator]
