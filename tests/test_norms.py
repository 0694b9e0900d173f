"""Lengths of rows are right where their squares are out of range."""

from __future__ import annotations

import numpy as np
import pytest

from vggfeat.norms import row_norms, unit_length


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_any_size_get_length_one_and_keep_their_direction(dtype):
    info = np.finfo(dtype)
    sizes = np.array([info.tiny, info.tiny**0.5, 1, info.max**0.5, info.max / 8], dtype)
    X = sizes[:, None] * np.array([3, -4, 0], dtype)
    given = X.copy()
    np.testing.assert_allclose(unit_length(X), [[0.6, -0.8, 0]] * 5, rtol=4 * info.eps)
    np.testing.assert_allclose(row_norms(X), 5 * sizes, rtol=4 * info.eps)
    assert unit_length(X).dtype == row_norms(X).dtype == dtype
    np.testing.assert_array_equal(X, given)
    assert unit_length(X, out=X) is X
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, rtol=4 * info.eps)


def test_rows_without_a_direction_stay_as_they_are():
    X = np.zeros((2, 3))
    assert unit_length(X).tolist() == X.tolist()
    assert row_norms(X).tolist() == [0, 0]
    assert unit_length(np.empty((2, 0))).shape == (2, 0)
    with np.errstate(invalid="ignore"):
        assert np.isnan(row_norms(np.array([[1, np.nan], [np.inf, 1]]))).all()
