"""Covariance of features with shrinkage, and features whitened by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import RepresentationError

Floats = npt.NDArray[np.float64]
_BLOCK = 2048


def shrinkage(residuals: npt.NDArray[Any]) -> float:
    """Return Ledoit and Wolf's weight of the identity in a covariance that is shrunk towards it.

    With S = R'R / n and m the mean of its diagonal it is the ratio of b² = min(d², sum over rows r
    of |rr' - S|² / n²) and d² = |S - m I|² (Ledoit and Wolf, "A well-conditioned estimator for
    large-dimensional covariance matrices", Journal of Multivariate Analysis 88, 2004, section 3.2;
    as ``ledoit_wolf`` of scikit-learn and ``shrinkage_eye`` of rsatoolbox).

    Parameters
    ----------
    residuals : ndarray of float, shape (n, d)
        Rows less their mean, or less that of their class.

    Returns
    -------
    float
        In 0..1.
    """
    gram = _smaller_gram(residuals)
    return _weight(residuals, gram, _fourth(residuals))


def _fourth(R: npt.NDArray[Any]) -> float:
    squares = [
        np.einsum("ij,ij->i", part, part)
        for part in (_block(R, at) for at in range(0, len(R), _BLOCK))
    ]
    return float((np.concatenate(squares) ** 2).sum())


def _weight(R: npt.NDArray[Any], gram: Floats, fourth: float) -> float:
    n, d = R.shape
    # |R'R| and |RR'| have one Frobenius norm, and one trace.
    squared, trace = float((gram * gram).sum()), float(np.trace(gram))
    d2 = squared / n**2 - (trace / n) ** 2 / d
    b2 = (fourth / n - squared / n**2) / n
    return 1.0 if d2 <= 0 else min(max(b2 / d2, 0.0), 1.0)


def _smaller_gram(R: npt.NDArray[Any]) -> Floats:
    """Return R'R (d, d), or RR' (n, n) where that is smaller."""
    n, d = R.shape
    if n < d:
        whole = np.empty((n, n))
        for at in range(0, n, _BLOCK):
            ours = _block(R, at)
            for start in range(at, n, _BLOCK):
                part = ours @ _block(R, start).T
                whole[at : at + _BLOCK, start : start + _BLOCK] = part
                whole[start : start + _BLOCK, at : at + _BLOCK] = part.T
        return whole
    whole = np.zeros((d, d))
    for at in range(0, n, _BLOCK):
        block = _block(R, at)
        whole += block.T @ block
    return whole


def _block(R: npt.NDArray[Any], at: int) -> Floats:
    return np.asarray(R[at : at + _BLOCK], np.float64)


def whitened(X: npt.NDArray[Any], residuals: npt.NDArray[Any], freedom: int) -> Floats:
    """Return rows whose squared Euclidean distances are squared Mahalanobis distances.

    The covariance is S' = ((1 - w) S + w m I) n / f with S = R'R / n, the mean m of its diagonal, w
    of :func:`shrinkage` and f degrees of freedom, as rsatoolbox has it
    (``cov_from_residuals(..., method="shrinkage_eye")``).

    Parameters
    ----------
    X : ndarray of float, shape (k, d)
        What is whitened.
    residuals : ndarray of float, shape (n, d)
        What the covariance is estimated from; n may be below d.
    freedom : int
        Degrees of freedom f of the residuals: rows less means that were subtracted.

    Returns
    -------
    ndarray of float64, shape (k, d)
        X times a square root of the inverse of S'.

    Raises
    ------
    RepresentationError
        The residuals are all 0, or leave no degree of freedom.
    """
    from scipy.linalg import cholesky, eigh, solve_triangular

    n, d = residuals.shape
    if freedom < 1:
        raise RepresentationError(
            "No image is left to tell the covariance from: each class has one. Take classes with "
            "more images, or another dissimilarity."
        )
    gram = _smaller_gram(residuals)
    weight = _weight(residuals, gram, _fourth(residuals))
    scale = float(np.trace(gram)) / d  # n m
    if not scale > 0:
        raise RepresentationError(
            "Features do not vary about their means, so that they have no covariance. Take another "
            "dissimilarity."
        )
    ridge = weight * scale / freedom  # of n/f w m I
    if n >= d:
        covariance = gram * ((1 - weight) / freedom)
        covariance.flat[:: d + 1] += ridge
        try:
            root = cholesky(covariance, lower=True, overwrite_a=True)
        except np.linalg.LinAlgError as error:
            raise _singular() from error
        return np.asarray(solve_triangular(root, np.asarray(X, np.float64).T, lower=True).T)
    if weight == 0:
        raise _singular()
    # S' = ridge I + V diag(s) V', V = R'U / sqrt(eigenvalues): its inverse root shrinks along V.
    values, U = eigh(gram, overwrite_a=True)
    kept = values > values[-1] * n * np.finfo(float).eps
    values, U = values[kept], U[:, kept]
    V = np.zeros((d, len(values)))
    for at in range(0, n, _BLOCK):
        V += _block(residuals, at).T @ U[at : at + _BLOCK]
    V /= np.sqrt(values)
    along = 1 - np.sqrt(ridge / (ridge + values * ((1 - weight) / freedom)))
    Z = np.array(X, np.float64)
    Z -= ((Z @ V) * along) @ V.T
    Z /= np.sqrt(ridge)
    return Z


def _singular() -> RepresentationError:
    return RepresentationError(
        "The covariance of the features cannot be inverted. Take more images, or another "
        "dissimilarity, such as correlation."
    )
