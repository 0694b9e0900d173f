"""Features in two dimensions, so that a person can look at them.

Everything runs on one thread and from a seed: the order in which threads add numbers changes last
bits, and t-SNE and UMAP make other pictures of those.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.errors import PlotError
from vggfeat.thread_pools import one_thread

Method = Literal["pca", "tsne", "umap"]
METHODS: tuple[Method, ...] = get_args(Method)
"""Known methods: principal components, t-SNE, UMAP."""

REDUCED = 50
"""Principal components that t-SNE and UMAP start from, as van der Maaten & Hinton (2008) do."""

FEWEST = 5
"""Rows that t-SNE and UMAP need: neighbours that some other rows are not."""

_PERPLEXITY, _NEIGHBOURS = 30.0, 15  # both libraries' own defaults


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Rows as points of a plane.

    Attributes
    ----------
    method : str
        Of :data:`METHODS`.
    coordinates : ndarray of float64, shape (n, 2)
        One point a row, around their mean; of PCA in the units of the features, otherwise
        without units and turned so that they are widest along x.
    explained : tuple of float
        Of PCA: the shares, in 0..1, of the rows' variance along x and along y; otherwise empty.
    settings : dict of str to float
        What decided the map beside rows and seed: ``perplexity`` or ``neighbours``, and
        ``components``, the principal components that it was made from.
    seed : int
        That of every random choice.
    """

    method: Method
    coordinates: npt.NDArray[np.float64]
    explained: tuple[float, ...]
    settings: dict[str, float]
    seed: int


def project(X: npt.ArrayLike, *, method: Method = "tsne", seed: int = 0) -> Projection:
    """Lay rows out in a plane; the same rows and seed give the same coordinates.

    PCA shows the plane in which the rows vary most, without distortion. t-SNE (van der Maaten &
    Hinton 2008, Barnes-Hut) and UMAP (McInnes, Healy & Melville 2018) keep near rows near; the
    distances between, and the sizes of, groups of points mean little there.

    Parameters
    ----------
    X : array_like of shape (n, d)
        Finite rows; those of a map of images have length 1, see
        :func:`~vggfeat.analysis.image_map`. They are not changed.
    method : {"pca", "tsne", "umap"}
        t-SNE and UMAP start from the first 50 principal components, with a perplexity of 30 or
        15 neighbours, less where there are few rows.
    seed : int
        From 0 to 2**32 - 1.

    Returns
    -------
    Projection

    Raises
    ------
    PlotError
        The method or the seed is none of these, there are too few rows, or UMAP is not installed.
    ValueError
        The rows are not finite numbers.
    """
    if method not in METHODS:
        raise PlotError(f"Unknown method {method!r}. Known methods: {', '.join(METHODS)}.")
    if not 0 <= seed < 1 << 32:
        raise PlotError(f"Seed {seed}; seeds are whole numbers from 0 to {(1 << 32) - 1}.")
    rows = np.asarray(X, np.float32)
    if rows.ndim != 2 or not rows.size:
        raise PlotError(f"A map needs one row of features or more; given is {rows.shape}.")
    if method != "pca" and len(rows) < FEWEST:
        raise PlotError(
            f"{len(rows)} images are too few for {method}, which needs {FEWEST} or more. "
            "Give the method pca."
        )
    from sklearn import decomposition, manifold  # noqa: F401  (before their threads are limited)

    umap = _umap() if method == "umap" else None
    with one_thread():
        if method == "pca":
            points, shares = _components(rows, 2, seed)
            return Projection(method, points, tuple(map(float, shares)), {}, seed)
        reduced, _ = _components(rows, REDUCED, seed)
        settings: dict[str, float] = {"components": reduced.shape[1]}
        if umap is None:
            settings["perplexity"] = min(_PERPLEXITY, (len(rows) - 1) / 3)
            points = _tsne(reduced, settings["perplexity"], seed)
        else:
            settings["neighbours"] = min(_NEIGHBOURS, len(rows) - 1)
            points = _run_umap(umap, reduced, int(settings["neighbours"]), seed)
    return Projection(method, points, (), settings, seed)


def _components(
    X: npt.NDArray[np.float32], most: int, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return rows (n, k) on their first principal components, k = 2 to `most`, and their shares."""
    from sklearn.decomposition import PCA

    count = min(most, *X.shape)
    points = np.zeros((len(X), max(2, count)))
    shares = np.zeros(max(2, count))
    if (X[0] == X).all():  # a single point, which has no directions
        return points, shares
    model = PCA(n_components=count, random_state=seed)
    points[:, :count] = model.fit_transform(X)
    shares[:count] = np.nan_to_num(model.explained_variance_ratio_)
    return points, shares


def _tsne(X: npt.NDArray[np.float64], perplexity: float, seed: int) -> npt.NDArray[np.float64]:
    from sklearn.manifold import TSNE

    # The start that sklearn's "pca" is, but also where all rows are alike.
    start = X[:, :2] / max(float(X[:, 0].std()), np.finfo(float).tiny) * 1e-4
    model = TSNE(perplexity=perplexity, init=start.astype(np.float32), random_state=seed)
    return _turned(model.fit_transform(X.astype(np.float32)))


def _turned(points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Turn points (n, 2), whose directions mean nothing, to be widest along x."""
    centred = np.asarray(points, np.float64)
    centred = centred - centred.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    # Rows of unknown sign: each axis points to where its largest part is positive.
    axes *= np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, None]
    return np.asarray(centred @ axes.T)


def _umap() -> Any:
    try:
        with warnings.catch_warnings():  # that TensorFlow is not installed
            warnings.simplefilter("ignore")
            return importlib.import_module("umap")
    except ImportError:
        raise PlotError(
            'UMAP needs umap-learn, which is not installed: `pip install "vggfeat[umap]"`, or '
            "give the method tsne or pca."
        ) from None


def _run_umap(
    umap: Any, X: npt.NDArray[np.float64], neighbours: int, seed: int
) -> npt.NDArray[np.float64]:
    # Its spectral start needs more rows than a small map has.
    start = "spectral" if len(X) > 4 * _NEIGHBOURS else "random"
    model = umap.UMAP(n_neighbors=neighbours, init=start, random_state=seed, n_jobs=1)
    with warnings.catch_warnings():  # that a seed means one thread
        warnings.simplefilter("ignore")
        return _turned(model.fit_transform(X.astype(np.float32)))
