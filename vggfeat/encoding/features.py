"""A layer's features of some images, small enough to compute with: as a matrix, or their products.

A map of 25,088 numbers an image enters ridge regression by the inner products of images alone, so
that its length costs one pass. Where even that is too much, features are projected at random
(:class:`sklearn.random_projection.SparseRandomProjection`: Li, Hastie & Church, "Very sparse random
projections", KDD 2006), which by the lemma of Johnson and Lindenstrauss (1984) keeps all squared
distances of n images within a factor of 1 - e to 1 + e, with k >= 4 ln n / (e^2 / 2 - e^3 / 3)
dimensions (Dasgupta & Gupta, 2003).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from vggfeat.errors import EncodingError
from vggfeat.memory import available_memory
from vggfeat.probe.reading import LayerRows
from vggfeat.solver.rows import Positions, Rows
from vggfeat.solver.spaces import gram

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Array = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]

_SQUARE = 64 << 20  # bytes of columns in float64 that are multiplied at a time


class Projection(NamedTuple):
    """How long features are projected at random.

    Attributes
    ----------
    dimensions : int, optional
        How many numbers are kept of longer features; None for as many as `distortion` asks for.
    distortion : float
        The bound e on what becomes of squared distances, above 0 and below 1.
    """

    dimensions: int | None = None
    distortion: float = 0.1

    def size(self, n: int) -> int:
        """Return how many numbers are kept of features of n images."""
        from sklearn.random_projection import johnson_lindenstrauss_min_dim

        if self.dimensions is not None:
            if self.dimensions < 1:
                raise EncodingError(f"{self.dimensions} dimensions; give 1 or more.")
            return self.dimensions
        if not 0 < self.distortion < 1:
            raise EncodingError(
                f"The distortion is {self.distortion}; give a number above 0 and below 1."
            )
        return int(johnson_lindenstrauss_min_dim(n, eps=self.distortion))

    def bound(self, n: int) -> float:
        """Return the distortion of n images that the lemma promises; infinite for none below 1."""
        if self.dimensions is None:
            return self.distortion
        low, high = 0.0, 1.0  # e^2 / 2 - e^3 / 3 rises from 0 to 1 / 6
        wanted = 4 * np.log(n) / self.dimensions
        if wanted >= 1 / 6:
            return float("inf")
        for _ in range(60):
            middle = (low + high) / 2
            if middle**2 / 2 - middle**3 / 3 < wanted:
                low = middle
            else:
                high = middle
        return high


def projected(
    table: FeatureTable, layer: str, rows: Positions, projection: Projection | None, seed: int
) -> tuple[Matrix | LayerRows, int]:
    """Read a layer's features, projected where that makes them shorter.

    Parameters
    ----------
    table : FeatureTable
    layer : str
        Canonical name.
    rows : ndarray of int64, shape (n,)
    projection : Projection, optional
    seed : int
        Of the projection, with the layer's name.

    Returns
    -------
    X : ndarray of float32, shape (n, k), or LayerRows of shape (n, d)
        In memory where half of what is free suffices.
    d : int
        The length of the layer's features.

    Raises
    ------
    ProbeError
        Features are not finite.
    EncodingError
        The projection does not fit into memory, or is none.
    """
    reader = LayerRows(table, layer, rows)
    n, d = reader.shape
    free = available_memory()
    k = d if projection is None else projection.size(n)
    if k >= d:
        fits = free is None or 4 * n * d <= free // 2
        return (reader[:] if fits else reader), d
    from sklearn.random_projection import SparseRandomProjection

    if free is not None and 4 * n * k > free // 2:
        raise EncodingError(
            f"{n:,} images of {k:,} projected numbers take {4 * n * k / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} are free. Keep fewer (--project)."
        )
    drawn = SparseRandomProjection(
        k, dense_output=True, random_state=(seed + zlib.crc32(layer.encode())) % 2**32
    ).fit(np.zeros((1, d), np.float32))
    X = np.empty((n, k), np.float32)
    for where, block in Rows(reader).blocks(np.float32):
        X[where] = drawn.transform(block)
    return X, d


def products(X: Matrix | LayerRows) -> Array:
    """Return the inner products of rows less their mean, float64, (n, n)."""
    if isinstance(X, LayerRows):
        return gram(Rows(X), centred=True)
    n, d = X.shape
    K = np.zeros((n, n))
    step = max(1, _SQUARE // (8 * n))
    for first in range(0, d, step):
        part = X[:, first : first + step].astype(np.float64)
        part -= part.mean(axis=0)
        K += part @ part.T
    return K
