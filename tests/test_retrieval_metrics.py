"""Scores of ranked lists are those that one works out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggfeat.errors import SearchError
from vggfeat.metrics.retrieval import (
    precision_at,
    ranked_average_precision,
    ukbench_score,
)

LISTS = st.lists(st.sampled_from(["right", "wrong", "junk"]), min_size=1, max_size=30)


def by_walking(ranked: list[str], total: int) -> float:
    """Walk down the list as Oxford's program does: junk takes no rank."""
    area, recall, precision, hits, rank = 0.0, 0.0, 1.0, 0, 0
    for one in ranked:
        if one == "junk":
            continue
        rank += 1
        hits += one == "right"
        area += (hits / total - recall) * (precision + hits / rank) / 2
        recall, precision = hits / total, hits / rank
    return area


def test_average_precision_of_a_list_worked_out_by_hand():
    # Ranks 1 and 3 are right: (1 + 1) / 2 at the first; (1 / 2 + 2 / 3) / 2 at the third.
    expected = (1 + 7 / 12) / 2
    assert ranked_average_precision([1, 0, 1]) == pytest.approx(expected)
    assert ranked_average_precision([1, 0, 1], area="step") == pytest.approx((1 + 2 / 3) / 2)


def test_a_first_hit_at_rank_two_counts_a_quarter():
    assert ranked_average_precision([0, 1]) == pytest.approx((0 + 1 / 2) / 2)


def test_images_that_are_not_in_the_list_count_as_never_found():
    assert ranked_average_precision([1, 1], total=4) == pytest.approx(0.5)


def test_junk_takes_no_rank():
    junk = [1, 0, 1, 0]
    assert ranked_average_precision([0, 1, 1, 0], junk) == 1
    assert precision_at([0, 1, 1, 0], 2, junk) == 0.5


def test_precision_at_k():
    ranked = [1, 0, 1, 1, 0, 0]
    assert [precision_at(ranked, k) for k in (1, 2, 4, 12)] == [1, 0.5, 0.75, 0.25]


def test_ukbench_counts_the_object_among_the_first_four():
    assert ukbench_score([[1, 1, 1, 1, 0], [1, 0, 0, 1, 1]]) == 3
    assert ukbench_score([[1, 0, 0, 0]]) == 1


@given(LISTS, st.integers(0, 5))
def test_average_precision_is_that_of_walking_down_the_list(ranked, missing):
    total = ranked.count("right") + missing
    relevant, junk = [[one == kind for one in ranked] for kind in ("right", "junk")]
    if total == 0:
        with pytest.raises(SearchError, match="nothing to find"):
            ranked_average_precision(relevant, junk, total)
        return
    found = ranked_average_precision(relevant, junk, total)
    assert found == pytest.approx(by_walking(ranked, total))
    step = ranked_average_precision(relevant, junk, total, area="step")
    assert 0 <= found <= step + 1e-12 <= 1 + 1e-9


@pytest.mark.parametrize(
    "ask",
    [
        lambda: precision_at([1], 0),
        lambda: ranked_average_precision([0, 0]),
        lambda: ranked_average_precision([1, 1], total=1),
        lambda: ranked_average_precision([1, 1], [0]),
        lambda: ranked_average_precision([1], area="other"),
        lambda: ukbench_score([[1, 1, 1]]),
        lambda: ukbench_score([1, 1, 1, 1]),
    ],
)
def test_what_cannot_be_scored_is_refused(ask):
    with pytest.raises(SearchError):
        ask()
