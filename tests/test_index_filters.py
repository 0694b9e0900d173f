"""Promises of the filters by path and label that searches, removals and the page share."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from vggfeat.errors import SearchError
from vggfeat.index.filters import matching, nothing_fits
from vggfeat.index.rows import Rows, Texts

PATHS = [
    "beaches/a.jpg",
    "beaches/2024/b.jpg",
    "beaches2/c.jpg",
    "trips/beaches/d.jpg",
    "img[1].jpg",
    "top.jpg",
    unicodedata.normalize("NFD", "été/e.jpg"),
]


def rows_of(paths: list[str], labels: tuple[str, ...] = ()) -> Rows:
    count = len(paths)
    number = np.full(count, -1, np.int32)
    number[: len(labels)] = np.arange(len(labels))
    zeros = np.zeros(count, np.int64)
    return Rows(
        Texts.of(paths), zeros, zeros.astype(np.uint16), zeros.astype(np.uint32), number, labels,
        np.zeros(count, np.bool_),
    )  # fmt: skip


ROWS = rows_of(PATHS, ("sea", "sand|sea"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("beaches", [0, 1]),
        ("beaches/", [0, 1]),
        ("./beaches", [0, 1]),
        ("beaches/*", [0, 1]),
        ("beaches/2024", [1]),
        ("beaches/a.jpg", [0]),
        ("beach*", [0, 1, 2]),
        ("*/beaches", [3]),
        ("beach", []),
        ("Beaches", []),
        ("img[1].jpg", [4]),
        ("top.jpg", [5]),
        ("top", []),
        (unicodedata.normalize("NFC", "été"), [6]),
        ("*.jpg", list(range(7))),
    ],
)
def test_a_name_means_the_image_or_all_below_the_folder(pattern, expected):
    assert np.flatnonzero(matching(ROWS, [pattern], ())).tolist() == expected


def test_of_several_names_one_must_fit():
    assert np.flatnonzero(matching(ROWS, ["beaches", "top.jpg"], ())).tolist() == [0, 1, 5]
    assert np.flatnonzero(matching(ROWS, ["beaches"], ["sand"])).tolist() == [1]


def test_what_fits_nothing_is_told_with_near_names():
    assert "Did you mean 'beaches'" in nothing_fits(ROWS, "beachs")
    assert "'beaches/2024'" in nothing_fits(ROWS, "2024")
    assert "'top.jpg'" in nothing_fits(rows_of(["top.jpg"]), "topp.jpg")
    assert "Folders: beaches, beaches2, " in nothing_fits(ROWS, "zzzz")
    with pytest.raises(SearchError, match=r"'sae'. Did you mean 'sea'\? Known labels: sand, "):
        matching(ROWS, (), ["sae"])
