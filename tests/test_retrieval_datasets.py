"""The benchmarks of image retrieval are read in their own formats."""

from __future__ import annotations

import pytest

from vggfeat.datasets.retrieval import Query
from vggfeat.datasets.retrieval.named import holidays_queries, ukbench_queries
from vggfeat.datasets.retrieval.oxford import oxford_queries
from vggfeat.errors import SourceError


def test_holidays_queries_end_in_00_and_are_not_to_be_found():
    paths = ["100001.jpg", "100000.jpg", "jpg/100100.jpg", "100002.jpg", "jpg/100101.jpg"]
    first, second = holidays_queries(paths)
    assert first == Query(
        "100000",
        "100000.jpg",
        frozenset({"100001.jpg", "100002.jpg"}),
        frozenset({"100000.jpg"}),
    )
    assert second.image == "jpg/100100.jpg"
    assert second.relevant == {"jpg/100101.jpg"}


def test_every_image_of_ukbench_is_a_query_for_its_four():
    queries = ukbench_queries([f"ukbench{number:05d}.jpg" for number in range(8)])
    assert [one.image for one in queries] == [f"ukbench{number:05d}.jpg" for number in range(8)]
    assert queries[5].relevant == {f"ukbench{number:05d}.jpg" for number in (4, 5, 6, 7)}
    assert not queries[5].junk


@pytest.fixture
def oxford(tmp_path):
    texts = {
        "query": "oxc1_all_souls_000013 136.5 34.1 648.5 955.7\n",
        "good": "all_souls_000013\nall_souls_000026\n",
        "ok": "oxford_002985\n",
        "junk": "radcliffe_camera_000519\n",
    }
    for kind, text in texts.items():
        (tmp_path / f"all_souls_1_{kind}.txt").write_text(text)
    return tmp_path


PATHS = [
    f"images/{name}.jpg"
    for name in (
        *("all_souls_000013", "all_souls_000026", "oxford_002985", "radcliffe_camera_000519"),
        "other_000001",
    )
]


def test_oxford_has_good_and_ok_images_to_find_and_junk(oxford):
    (query,) = oxford_queries(oxford, PATHS)
    assert query == Query(
        "all_souls_1",
        PATHS[0],
        frozenset(PATHS[:3]),
        frozenset(PATHS[3:4]),
        (136.5, 34.1, 648.5, 955.7),
    )


def test_paris_has_no_prefix_before_the_query(oxford):
    (oxford / "all_souls_1_query.txt").write_text("all_souls_000013 1 2 3 4")
    (query,) = oxford_queries(oxford, PATHS)
    assert query.image == PATHS[0]


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("query", "all_souls_000013 1 2 3", "lower edge"),
        ("query", "all_souls_000013 1 2 3 nan", "lower edge"),
        ("query", "all_souls_000013 1 2 0 4", "lower edge"),
        ("query", "", "lower edge"),
        ("ok", "missing_000001", "no image has that name"),
        ("junk", None, "cannot be read"),
    ],
)
def test_damaged_ground_truth_is_refused_with_the_file(oxford, kind, text, said):
    file = oxford / f"all_souls_1_{kind}.txt"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(SourceError, match=said) as raised:
        oxford_queries(oxford, PATHS)
    assert file.name in str(raised.value)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: holidays_queries(["cat.jpg"]),
        lambda: holidays_queries(["100000.jpg"]),
        lambda: holidays_queries(["100001.jpg", "100002.jpg"]),
        lambda: ukbench_queries(["ukbench00000.jpg"]),
        lambda: ukbench_queries(["00000.jpg"]),
    ],
)
def test_folders_of_another_kind_or_incomplete_ones_are_refused(ask):
    with pytest.raises(SourceError, match=r"complete|whose names"):
        ask()


def test_a_folder_without_ground_truth_is_refused(tmp_path):
    with pytest.raises(SourceError, match="ground truth"):
        oxford_queries(tmp_path, PATHS)
