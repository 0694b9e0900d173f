"""The recipes of docs/scale.md run as they stand there, and its figures are those computed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import cli
from store_rows import Image, made, planned

from vggfeat.index import SimilarityIndex
from vggfeat.store import open_features
from vggfeat.store.parts import open_part

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
COUNT, WIDTH = 90, 48


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make photos.store of three parts, its export, and the truth by exact search."""
    folder = tmp_path_factory.mktemp("scale")
    some = [
        Image(f"{kind}/{number:02d}.jpg") for kind in ("cat", "dog", "owl") for number in range(30)
    ]
    plan = planned(
        folder / "photos.store",
        entries=some,
        shapes={"relu7": (WIDTH,)},
        config=made(layers={"relu7": ""}).config,
        labels={image.path: (image.path[:3],) for image in some[:80]},
        part_rows=40,
    )
    rng = np.random.default_rng(0)
    for number in range(3):
        with open_part(plan.path, plan.manifest, number, plan.contents, made().run) as writer:
            rows = writer.pending()
            writer.write(rows, {"relu7": rng.normal(size=(len(rows), WIDTH)).astype(np.float32)})
    out = f"{folder}/photos-relu7/"
    done = cli("export", plan.path, out, "--layer", "relu7", "--part-rows", 25)
    assert done.returncode == 0, done.stderr
    return folder


def blocks(heading: str) -> Iterator[str]:
    """Give the Python that stands directly below a heading."""
    below = re.split(r"^#+ ", PAGE.read_text(), flags=re.MULTILINE)
    [section] = [one for one in below if one.partition("\n")[0] == heading]
    yield from re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("heading", "module"),
    [("DuckDB", "duckdb"), ("LanceDB", "lancedb"), ("Qdrant", "qdrant_client")],
)
def test_neighbours_by_a_recipe_are_those_of_exact_search(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heading: str, module: str
) -> None:
    pytest.importorskip(module, reason=f"{module} is not installed: the extra `databases`")
    for name in ("photos.store", "photos-relu7"):
        (tmp_path / name).symlink_to(exported / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in (*blocks("Databases"), *blocks(heading)):
        exec(compile(code, f"{PAGE.name}, {heading}", "exec"), names)
    with open_features(exported / "photos.store") as store:
        index = SimilarityIndex.build(store, "relu7", kind="flat")
        [expected] = index.search(names["query"], k=10)
    neighbours = names["neighbours"]
    assert [path for path, _ in neighbours] == [one.path for one in expected]
    assert neighbours[0][0] == "cat/07.jpg"
    np.testing.assert_allclose(
        [score for _, score in neighbours], [one.score for one in expected], atol=1e-5
    )


def test_the_table_is_what_the_benchmark_reckons(monkeypatch):
    monkeypatch.syspath_prepend(PAGE.parent.parent / "benchmarks")
    from scale import reckoned_lines

    assert "\n".join(reckoned_lines()) in PAGE.read_text()
