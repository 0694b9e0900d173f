"""Centred kernel alignment (CKA) of two sets of features of the same images.

CKA(K, L) = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of kernels K and L (Kornblith et al.,
"Similarity of Neural Network Representations Revisited", ICML 2019, section 3). With the biased
estimate of HSIC (Gretton et al. 2005) features that have nothing to do with one another come near 1
where there are more features than images; debiased CKA takes the unbiased one, which is 0 on
average there (Song et al., "Feature Selection via Dependence Maximization", JMLR 13, 2012, equation
5; Murphy et al., "Correcting Biased Centered Kernel Alignment Measures in Biological and Artificial
Neural Networks", 2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import RepresentationError
from vggfeat.representations.distances import PreparedRows, column_means, squared_distances

Floats = npt.NDArray[np.float64]
FEWEST = 4
"""Images that the unbiased estimate takes."""


def linear_kernel(X: npt.NDArray[Any]) -> Floats:
    """Return the products of rows (n, d) less their mean: (n, n), float64.

    Subtracting the mean changes no CKA, and keeps digits.
    """
    Z = np.array(X, np.float64)
    largest = np.abs(Z).max(axis=0, initial=0)
    Z -= Z.mean(axis=0)
    Z[:, np.abs(Z).max(axis=0, initial=0) <= 16 * np.finfo(float).eps * largest] = 0  # rounding
    return np.asarray(Z @ Z.T)


def rbf_kernel(X: npt.NDArray[Any], bandwidth: float = 1.0, median: float | None = None) -> Floats:
    """Return exp(-|a - b|² / (2 s²)) of each two rows (n, d): (n, n), float64.

    Parameters
    ----------
    X : ndarray of float, shape (n, d)
    bandwidth : float
        s as a share of the median distance, as Kornblith et al. have it.
    median : float, optional
        The squared distance whose root counts as the median; by default that of all pairs of
        different rows.

    Raises
    ------
    RepresentationError
        The bandwidth is not above 0, or half of the pairs are equal.
    """
    if not bandwidth > 0:
        raise RepresentationError(f"The bandwidth is {bandwidth}; give a number above 0.")
    n = len(X)
    squared = np.empty((n, n))
    for first, strip in squared_distances(PreparedRows(X, shift=column_means(X))):
        end = first + len(strip)
        squared[first:end, first:] = strip
        squared[first:, first:end] = strip.T
    middle = median_square(squared) if median is None else median
    if not middle > 0:
        raise RepresentationError(
            "Half of all pairs of images have equal features, so that the median distance, by "
            "which the RBF kernel goes, is 0. Take linear CKA."
        )
    squared *= -0.5 / (bandwidth**2 * middle)
    return np.exp(squared, out=squared)


def median_square(squared: Floats) -> float:
    """Return the median of squared distances (n, n) of different rows."""
    return float(np.median(squared[np.triu_indices(len(squared), 1)]))


def hsic(K: npt.ArrayLike, L: npt.ArrayLike, *, debiased: bool = True) -> float:
    """Estimate the Hilbert-Schmidt independence criterion of two kernels of the same images.

    Debiased it is (tr(KL) + 1'K1 1'L1 / ((n-1)(n-2)) - 2 1'KL1 / (n-2)) / (n (n-3)) of kernels
    whose diagonals were set to 0 (Song et al. 2012, equation 5), and may be negative; biased it is
    tr(KHLH) / (n-1)² with H = I - 11'/n (Gretton et al. 2005).

    Parameters
    ----------
    K, L : array_like of shape (n, n)
        Symmetric.
    debiased : bool

    Raises
    ------
    RepresentationError
        The shapes differ, or there are fewer than four images (two, where biased).
    """
    A, B = np.asarray(K, np.float64), np.asarray(L, np.float64)
    n = len(A)
    if A.shape != (n, n) or B.shape != A.shape:
        raise RepresentationError(f"Kernels are of shapes {A.shape} and {B.shape}; give (n, n).")
    check_count(n, debiased)
    if debiased:
        a, b = centred(A, debiased=True), centred(B, debiased=True)
        return float((a * b).sum()) / (n * (n - 3))
    return float((centred(A, debiased=False) * centred(B, debiased=False)).sum()) / (n - 1) ** 2


def cka(K: npt.ArrayLike, L: npt.ArrayLike, *, debiased: bool = True) -> float:
    """Return the centred kernel alignment of two kernels, see :func:`hsic`.

    Returns
    -------
    float
        At most 1, which kernels have that differ by a factor; from 0 on where biased. NaN where a
        kernel is constant.

    Raises
    ------
    RepresentationError
        As of :func:`hsic`.
    """
    cross, first, second = (hsic(a, b, debiased=debiased) for a, b in ((K, L), (K, K), (L, L)))
    scale = first * second
    return cross / scale**0.5 if scale > 0 else float("nan")


def linear_cka(X: npt.ArrayLike, Y: npt.ArrayLike, *, debiased: bool = True) -> float:
    """Return linear CKA of features (n, d) and (n, e) of the same n images, see :func:`cka`."""
    return cka(*(linear_kernel(one) for one in _alike(X, Y)), debiased=debiased)


def rbf_cka(
    X: npt.ArrayLike, Y: npt.ArrayLike, *, bandwidth: float = 1.0, debiased: bool = True
) -> float:
    """Return CKA with RBF kernels of features (n, d) and (n, e), see :func:`rbf_kernel`."""
    return cka(*(rbf_kernel(one, bandwidth) for one in _alike(X, Y)), debiased=debiased)


def minibatch_cka(batches: Iterable[Sequence[npt.NDArray[Any]]]) -> tuple[Floats, Floats]:
    """Return debiased CKA of each two of several kernels from batches of images.

    Each HSIC is the mean of its unbiased estimates over batches, which is unbiased itself, however
    small the batches (Nguyen, Raghu and Kornblith, "Do Wide and Deep Networks Learn the Same
    Things?", ICLR 2021, section 3.1).

    Parameters
    ----------
    batches : iterable of sequence of ndarray
        Of each batch the kernels (m, m) of r representations.

    Returns
    -------
    values : ndarray of float64, shape (r, r)
        NaN where a kernel is constant.
    parts : ndarray of float64, shape (b, r, r)
        HSIC of each batch.

    Raises
    ------
    RepresentationError
        A batch has fewer than four images, or there is none.
    """
    parts = []
    for kernels in batches:
        n = len(kernels[0])
        check_count(n, debiased=True)
        rows = np.stack([centred(K, debiased=True).ravel() for K in kernels])
        parts.append(rows @ rows.T / (n * (n - 3)))
    if not parts:
        raise RepresentationError("There is no batch of images.")
    each = np.stack(parts)
    return aligned(each.mean(axis=0)), each


def aligned(products: Floats) -> Floats:
    """Return products (r, r) of vectors as cosines; NaN for those without a length."""
    squares = np.diag(products)
    lengths = np.sqrt(np.where(squares > 0, squares, np.nan))
    found = np.asarray(products / lengths / lengths[:, None])
    np.fill_diagonal(found, np.where(squares > 0, 1.0, np.nan))
    return found


def centred(K: npt.NDArray[Any], *, debiased: bool) -> Floats:
    """Return a kernel (n, n) whose rows add up to 0.

    Debiased it is U-centred: its diagonal is 0, and sums of products of two are n (n - 3) times
    their unbiased HSIC (Székely and Rizzo, "Partial distance correlation with methods for
    dissimilarities", Annals of Statistics 42, 2014, section 2).
    """
    A = np.array(K, np.float64)
    n = len(A)
    if not debiased:
        means = A.mean(axis=0)
        return np.asarray(A - means - means[:, None] + means.mean())
    np.fill_diagonal(A, 0)
    sums = A.sum(axis=0)
    A -= (sums / (n - 2))[:, None]
    A -= sums / (n - 2)
    A += sums.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(A, 0)
    return A


def check_count(n: int, debiased: bool) -> None:
    """Refuse fewer images than an estimate takes."""
    least = FEWEST if debiased else 2
    if n < least:
        raise RepresentationError(f"{n} images are compared; CKA takes {least} or more.")


def _alike(X: npt.ArrayLike, Y: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    A, B = np.asarray(X), np.asarray(Y)
    if A.ndim != 2 or B.ndim != 2 or len(A) != len(B):
        raise RepresentationError(
            f"Features are of shapes {A.shape} and {B.shape}; give (n, d) and (n, e) of the same n "
            "images in the same order."
        )
    return A, B
