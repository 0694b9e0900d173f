"""A linear classifier in scikit-learn's manner, with its one hyper-parameter chosen by itself."""

from __future__ import annotations

import logging
import warnings
from numbers import Real
from typing import Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.utils.extmath import softmax
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from vggfeat.errors import ProbeError
from vggfeat.probe.split import mean_class_recall, stratified_split

Classifier = Literal["svm", "logreg"]
CLASSIFIERS: tuple[Classifier, ...] = ("svm", "logreg")
"""Known classifiers: a linear support vector machine, and logistic regression."""

GRID = (1.0, 0.1, 10.0, 0.01, 100.0)
"""Candidates for ``C``, tried in this order, in units of one over the rows' mean squared distance
from their mean: the choice does not depend on how features are scaled or shifted."""

Array = npt.NDArray[np.float64]
_log = logging.getLogger(__name__)


def _has_probabilities(probe: LinearProbe) -> bool:
    if probe.classifier != "logreg":
        raise AttributeError('an SVM gives no probabilities; use classifier="logreg"')
    return True


class LinearProbe(ClassifierMixin, BaseEstimator):
    """A linear classifier on L2-normalised features.

    With its defaults it is the classifier of Simonyan & Zisserman (arXiv 1409.1556, appendix B):
    a linear SVM, one class against the rest, on L2-normalised features, whose `C` is chosen on
    20 % of the training images. The choice is by mean class recall on rows held out class by
    class; of equal candidates the earliest in :data:`GRID` wins. Then all rows train the
    classifier. Where every class has a single row none can be held out, and the first candidate
    of the grid is taken.

    Parameters
    ----------
    classifier : {"svm", "logreg"}
        Squared-hinge SVM (:class:`sklearn.svm.LinearSVC`, in its dual form where there are fewer
        rows than features), or multinomial logistic regression
        (:class:`sklearn.linear_model.LogisticRegression`).
    C : float, optional
        Inverse strength of the regularisation, above 0; chosen from :data:`GRID` by default.
    normalize : bool
        Scale each row to length 1; rows of zeros stay as they are.
    validation : float
        Share of the rows that choose `C`, above 0 and below 1.
    seed : int
        Of the rows held out and of the solver.
    max_iter : int
        Most iterations of the solver; a warning is logged when they do not suffice.

    Attributes
    ----------
    C_ : float
        The value used.
    classes_ : ndarray of shape (K,)
        Classes seen in :meth:`fit`, sorted.
    coef_ : ndarray of shape (K, d), or (1, d) for two classes
    intercept_ : ndarray of shape (K,), or (1,) for two classes
    n_features_in_ : int
        d, the length of a row.
    n_iter_ : int
        Iterations that the last fit took.
    """

    def __init__(
        self,
        classifier: Classifier = "svm",
        *,
        C: float | None = None,
        normalize: bool = True,
        validation: float = 0.2,
        seed: int = 0,
        max_iter: int = 2000,
    ) -> None:
        self.classifier = classifier
        self.C = C
        self.normalize = normalize
        self.validation = validation
        self.seed = seed
        self.max_iter = max_iter

    @classmethod
    def fitted(
        cls,
        classifier: Classifier,
        *,
        C: float,
        normalize: bool,
        classes: npt.NDArray[Any],
        coef: Array,
        intercept: Array,
    ) -> Self:
        """Return a probe with given coefficients, as a file keeps them."""
        probe = cls(classifier, C=C, normalize=normalize)
        probe.C_, probe.classes_ = C, classes
        probe.coef_, probe.intercept_ = coef, intercept
        probe.n_features_in_ = coef.shape[1]
        return probe

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Choose `C` where it is not given, then train on all rows.

        Parameters
        ----------
        X : array_like of shape (n, d)
            Finite features, a row an image.
        y : array_like of shape (n,)
            Classes: integers or strings, at least two different ones.

        Raises
        ------
        ProbeError
            A parameter is out of its range, or there are fewer than two classes.
        ValueError
            `X` is not a finite matrix, or `y` does not fit it.
        """
        self._check_parameters()
        rows, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise ProbeError(
                f"A classifier needs two classes or more; all {len(labels)} rows are of 1 class, "
                f"{self.classes_[0]!r}."
            )
        rows = self._scaled(rows)
        self.C_ = self._chosen(rows, labels) if self.C is None else float(self.C)
        solver = self._solved(rows, labels, self.C_)
        self.coef_, self.intercept_ = solver.coef_, solver.intercept_
        self.n_iter_ = int(np.max(solver.n_iter_))
        if self.n_iter_ >= self.max_iter:
            _log.warning(
                "The %s did not settle within max_iter=%d iterations (C=%.3g); "
                "raise max_iter or lower C.",
                self.classifier,
                self.max_iter,
                self.C_,
            )
        return self

    def decision_function(self, X: npt.ArrayLike) -> Array:
        """Return how strongly each row speaks for each class.

        Parameters
        ----------
        X : array_like of shape (n, d)
            Finite features.

        Returns
        -------
        ndarray of shape (n, K), or (n,) for two classes
            Unbounded scores, the larger the likelier; for two classes that of the second one.
        """
        check_is_fitted(self, "coef_")
        rows = self._scaled(validate_data(self, X, dtype=np.float64, reset=False))
        scores: Array = rows @ self.coef_.T + self.intercept_
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the likeliest class of each row of `X` (n, d) as an array (n,)."""
        scores = self.decision_function(X)
        best = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        return cast("npt.NDArray[Any]", self.classes_[best])

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """Return the probability of each class for each row of `X` (n, d), as an array (n, K).

        Only with ``classifier="logreg"``.
        """
        return self.class_scores(X)

    def class_scores(self, X: npt.ArrayLike) -> Array:
        """Return one score a class, whatever their number and the classifier.

        Parameters
        ----------
        X : array_like of shape (n, d)
            Finite features.

        Returns
        -------
        ndarray of shape (n, K)
            Probabilities that sum to 1 with ``"logreg"``; with ``"svm"`` the decision function,
            above 0 where a row falls on the class's side. The largest names the class.
        """
        scores = self.decision_function(X)
        svm = self.classifier == "svm"
        if scores.ndim == 1:  # (n,) -> (n, 2)
            scores = np.column_stack([-scores if svm else np.zeros_like(scores), scores])
        return scores if svm else np.asarray(softmax(scores))

    def _check_parameters(self) -> None:
        if self.classifier not in CLASSIFIERS:
            raise ProbeError(
                f"Unknown classifier {self.classifier!r}. Known ones: {', '.join(CLASSIFIERS)}."
            )
        if self.C is not None and not (isinstance(self.C, Real) and 0 < self.C < np.inf):
            raise ProbeError(f"C is {self.C!r}; give a number above 0, or None to choose it.")

    def _scaled(self, X: Array) -> Array:
        if not self.normalize:
            return X
        largest = np.abs(X).max(axis=1, keepdims=True)
        X = X / np.where(largest > 0, largest, 1)  # squares of the raw values might overflow
        lengths = np.linalg.norm(X, axis=1, keepdims=True)
        X /= np.where(lengths > 0, lengths, 1)
        return X

    def _solved(self, X: Array, y: npt.NDArray[Any], C: float) -> Any:
        if self.classifier == "svm":
            # liblinear penalises the intercept as the weight of one more feature of this size;
            # as long as the rows, it weighs the same whatever the unit of the features.
            size = 1.0 if self.normalize else float(np.sqrt((X**2).sum(axis=1).mean())) or 1.0
            solver = LinearSVC(
                C=C,
                dual="auto",
                intercept_scaling=size,
                random_state=self.seed,
                max_iter=self.max_iter,
            )
        else:
            solver = LogisticRegression(C=C, random_state=self.seed, max_iter=self.max_iter)
        with warnings.catch_warnings():  # fit() says it once, of the last solution only
            warnings.simplefilter("ignore", ConvergenceWarning)
            return solver.fit(X, y)

    def _chosen(self, X: Array, y: npt.NDArray[Any]) -> float:
        spread = float(X.var(axis=0).sum()) or 1.0
        train, held_out = stratified_split(y, test_size=self.validation, seed=self.seed)
        if not len(held_out):
            _log.info("One row a class: none can be held out to choose C; %g is taken.", GRID[0])
            return GRID[0] / spread
        best, best_recall = GRID[0] / spread, -1.0
        for C in (candidate / spread for candidate in GRID):
            solver = self._solved(X[train], y[train], C)
            recall = mean_class_recall(y[held_out], solver.predict(X[held_out]))
            _log.debug("C=%.3g: mean class recall %.4f on %d rows", C, recall, len(held_out))
            if recall > best_recall:
                best, best_recall = C, recall
            if recall == 1:
                break
        return best
