"""What learns from few images: linear classifiers, means of classes, and the nearest image."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.evaluation.layers.knn import knn_answers
from vggfeat.probe import LinearProbe

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]
Classifier = Literal["svm", "logreg", "mean", "nearest"]
CLASSIFIERS: tuple[Classifier, ...] = get_args(Classifier)
"""What learns from the few images.

``"svm"`` and ``"logreg"`` are :class:`LinearProbe`'s. ``"mean"`` takes the class whose mean of
L2-normalised features is nearest to the normalised feature (Snell et al., "Prototypical Networks
for Few-shot Learning", NeurIPS 2017; normalised as by Wang et al., "SimpleShot", arXiv 1911.04623).
``"nearest"`` takes the class of the image that is most similar by the cosine.

Of several labels an image each class is one against the rest: ``"mean"`` scores by the squared
distance from the mean of the images without it less that from the mean of those with it,
``"nearest"`` by the cosine with the nearest image with it less that with the nearest without."""

LINEAR = ("svm", "logreg")
"""Those that choose a C, and that classes can be weighed in."""

_MOST_FOLDS = 5


def answers_from(
    classifier: Classifier, X: Any, y: Positions, X_test: Any, shots: int, seed: int
) -> npt.NDArray[Any]:
    """Name images of one class each.

    Parameters
    ----------
    classifier : str
        Of :data:`CLASSIFIERS`.
    X, X_test : ndarray of shape (n, d), (m, d)
        Rows of length 1 to learn from, and to name.
    y : ndarray of int64, shape (n,)
        Classes 0..K-1, of `shots` rows each.
    shots, seed : int

    Returns
    -------
    ndarray of shape (m,)
        Classes.
    """
    if classifier == "nearest":
        return np.asarray(knn_answers(X, y, X_test, k=[1])[0])
    if classifier == "mean":
        means = np.stack([X[y == k].mean(axis=0, dtype=np.float64) for k in range(y.max() + 1)])
        # Distances less the length of the row itself, which is the same for all means.
        return np.asarray((np.square(means).sum(axis=1) - 2 * X_test @ means.T).argmin(axis=1))
    folds = min(max(shots, 2), _MOST_FOLDS)
    return LinearProbe(classifier, validation=folds, random_state=seed).fit(X, y).predict(X_test)


def scores_from(
    classifier: Classifier,
    X: Any,
    Y: Floats,
    X_test: Any,
    shots: int,
    seed: int,
    class_weight: Literal["balanced"] | None = None,
) -> Floats:
    """Score images for each of several classes.

    Parameters
    ----------
    classifier, X, X_test, shots, seed :
        See :func:`answers_from`.
    Y : ndarray of float64, shape (n, K)
        1 present, 0 absent, NaN left out; `shots` rows show each class, others do not.
    class_weight : {"balanced"}, optional
        Of linear classifiers.

    Returns
    -------
    ndarray of float64, shape (m, K)
        The larger the likelier.
    """
    if classifier == "svm" or classifier == "logreg":
        probe = LinearProbe(
            classifier,
            validation=folds_of(Y == 1, min(max(shots, 2), _MOST_FOLDS)),
            class_weight=class_weight,
            random_state=seed,
        )
        return probe.fit(X, Y).class_scores(X_test)
    if classifier == "nearest":
        cosines = X_test.astype(np.float64) @ X.T
        best = [[cosines[:, column == value].max(axis=1) for value in (1, 0)] for column in Y.T]
        return np.stack([shown - other for shown, other in best], axis=1)
    shown, other = (
        np.stack([X[column == value].mean(axis=0, dtype=np.float64) for column in Y.T])
        for value in (1, 0)
    )  # (K, d)
    lengths = np.square(other).sum(axis=1) - np.square(shown).sum(axis=1)
    return np.asarray(2 * X_test @ (shown - other).T + lengths)


def folds_of(present: npt.NDArray[np.bool_], count: int) -> list[tuple[Positions, Positions]]:
    """Deal rows of several classes out to folds, so that each has its share of every class.

    The greedy rule of Sechidis, Tsoumakas and Vlahavas ("On the Stratification of Multi-label
    Data", ECML PKDD 2011): class by class, rarest first, a row goes to the fold that has fewest of
    the class, of such to the smallest.

    Parameters
    ----------
    present : ndarray of bool, shape (n, K)
    count : int
        Of folds, at least 2; those without rows are left out.

    Returns
    -------
    list of (train, test)
        Positions, ascending; each row is in one test part.
    """
    fold = np.full(len(present), -1)
    sizes, shown = np.zeros(count, np.int64), np.zeros((count, present.shape[1]), np.int64)
    for k in np.argsort(present.sum(axis=0), kind="stable"):
        for row in np.flatnonzero(present[:, k] & (fold < 0)):
            at = fold[row] = int(np.lexsort((sizes, shown[:, k]))[0])
            sizes[at] += 1
            shown[at] += present[row]
    for row in np.flatnonzero(fold < 0):
        at = fold[row] = int(sizes.argmin())
        sizes[at] += 1
    used = np.flatnonzero(sizes)
    return [(np.flatnonzero(fold != at), np.flatnonzero(fold == at)) for at in used]
