"""A linear classifier in scikit-learn's manner, with its one hyper-parameter chosen by itself."""

from __future__ import annotations

import logging
from numbers import Real
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.extmath import softmax
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from vggfeat.errors import ProbeError
from vggfeat.norms import unit_length
from vggfeat.probe.calibration import Calibration
from vggfeat.probe.choosing import (
    Parts,
    Score,
    Validation,
    by_precision,
    by_recall,
    chosen,
    parts_of,
)
from vggfeat.probe.split import rarest
from vggfeat.probe.targets import (
    Classifier,
    ClassWeight,
    Targets,
    groups_of,
    multi_label,
    single_label,
)
from vggfeat.probe.training import FINAL, Training
from vggfeat.progress import Progress, part_of, silent
from vggfeat.solver.rows import Reader, Rows, moments

CLASSIFIERS: tuple[Classifier, ...] = ("svm", "logreg")
"""Known classifiers: a linear support vector machine, and logistic regression."""

CHOOSING, CALIBRATING = 0.7, 0.1
"""Shares of the work that choosing C and calibrating are, more or less."""

Array = npt.NDArray[np.float64]
_log = logging.getLogger(__name__)


def _has_probabilities(probe: LinearProbe) -> bool:
    known = probe.calibrate or getattr(probe, "calibration_", None) is not None
    if probe.classifier != "logreg" and not known:
        raise AttributeError(
            'an SVM gives no probabilities; use calibrate=True, or classifier="logreg"'
        )
    return True


class LinearProbe(ClassifierMixin, BaseEstimator):
    """A linear classifier on L2-normalised features.

    With its defaults it is the classifier of Simonyan & Zisserman (arXiv 1409.1556, appendix B):
    a linear SVM, one class against the rest, on L2-normalised features, whose `C` is chosen on
    20 % of the training images from :data:`~vggfeat.probe.choosing.GRID`. Then all rows train the
    classifier. Where every class has a single row none can be held out, and C is 1 over the
    rows' variance.

    Images of several classes, or of unknown ones, are told by a matrix `y`; each class then is a
    classifier of its own, with its own `C`.

    Parameters
    ----------
    classifier : {"svm", "logreg"}
        Squared-hinge SVM, the problem of :class:`sklearn.svm.LinearSVC` with `intercept_scaling`
        as long as the rows are; or logistic regression, multinomial where a row has one class of
        three or more, the problem of :class:`sklearn.linear_model.LogisticRegression`.
    C : float or array_like of shape (K,), optional
        Inverse strength of the regularisation, above 0; chosen by default. Several values are for
        several labels.
    normalize : bool
        Scale each row to length 1; rows of zeros stay as they are.
    validation : float, int or sequence of pairs
        Share of the rows that choose `C`, above 0 and below 1; or a number of folds, 2 or more; or
        the training and held-out rows themselves, as for scikit-learn's `cv`.
        They are divided class by class (rows of several labels: by their rarest one), and scored
        by mean class recall (several labels: each by average precision).
    class_weight : {"balanced"} or dict, optional
        What a row counts by its class, see :mod:`~vggfeat.probe.targets`.
    random_state : int
        Of the rows held out. The same rows, parameters and machine give the same coefficients.
    max_iter : int
        Most Newton steps of a solution; a dozen is usual. A warning is logged when they do not
        suffice.
    calibrate : bool
        Let an SVM give probabilities, too: what they are of decision values is learnt on the
        rows that `validation` holds out (:mod:`~vggfeat.probe.calibration`), scored by what the
        others train with the same `C`. The classifier itself stays the same.

    Attributes
    ----------
    C_ : float, or ndarray of shape (K,) for several labels
        The value used.
    classes_ : ndarray of shape (K,)
        Classes seen in :meth:`fit`, sorted; 0..K-1 for several labels.
    calibration_ : Calibration or None
        What makes probabilities of an SVM's decision values; None of logistic regression, without
        `calibrate`, and where no row could be held out.
    coef_ : ndarray of shape (K, d), or (1, d) for two classes
    intercept_ : ndarray of shape (K,), or (1,) for two classes
    multi_label_ : bool
        Whether `y` was a matrix.
    n_features_in_ : int
        d, the length of a row.
    n_iter_ : int
        Newton steps of the last refinement.

    Notes
    -----
    Threads may share a trained one, and train one each at the same time; meanwhile linear algebra
    has one thread in all of the process while any of them factorises. It pickles and clones.
    """

    def __init__(
        self,
        classifier: Classifier = "svm",
        *,
        C: float | npt.ArrayLike | None = None,
        normalize: bool = True,
        validation: Validation = 0.2,
        class_weight: ClassWeight = None,
        random_state: int = 0,
        max_iter: int = 100,
        calibrate: bool = False,
    ) -> None:
        self.classifier = classifier
        self.C = C
        self.normalize = normalize
        self.validation = validation
        self.class_weight = class_weight
        self.random_state = random_state
        self.max_iter = max_iter
        self.calibrate = calibrate

    @classmethod
    def fitted(
        cls,
        classifier: Classifier,
        *,
        C: float | Array,
        normalize: bool,
        classes: npt.NDArray[Any],
        coef: Array,
        intercept: Array,
        multi_label: bool = False,
        calibration: Calibration | None = None,
    ) -> Self:
        """Return a probe with given coefficients, as a file keeps them."""
        probe = cls(classifier, C=C, normalize=normalize)
        probe.C_, probe.classes_ = C, classes
        probe.coef_, probe.intercept_ = coef, intercept
        probe.n_features_in_, probe.multi_label_ = coef.shape[1], multi_label
        probe.calibration_ = calibration
        return probe

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        groups: npt.ArrayLike | None = None,
        name: str | None = None,
        progress: Progress = silent,
    ) -> Self:
        """Choose `C` where it is not given, then train on all rows.

        Parameters
        ----------
        X : array_like of shape (n, d)
            Finite features, a row an image. float32 stays float32, in half the memory.
        y : array_like of shape (n,) or (n, K)
            Classes: integers or strings, at least two different ones. Or K >= 2 columns of 1 where
            the class is present, 0 where it is absent, NaN where the row is left out of it; each
            with both present and absent rows.
        groups : array_like of shape (n,), optional
            The group of each row; rows of one group are held out together.
        name : str, optional
            What warnings call these features, such as their layer.
        progress : Progress
            Called with the share of the work that was done since the last call; the shares sum
            to 1.

        Raises
        ------
        ProbeError
            A parameter is out of its range, there are fewer than two classes, or a class lacks
            present or absent rows.
        ValueError
            `X` is not a finite matrix, or `y` does not fit it.
        """
        self._check_parameters()
        kinds = [np.float64, np.float32]
        labels = np.asarray(y)
        if labels.ndim == 2 and labels.shape[1] > 1:
            rows = validate_data(self, X, dtype=kinds)
            check_consistent_length(rows, labels)
        else:
            rows, labels = validate_data(self, X, y, dtype=kinds)
            check_classification_targets(labels)
        scaled = Rows(unit_length(rows) if self.normalize else rows)
        return self._fit(scaled, labels, groups, name, progress)

    def fit_reader(
        self,
        X: Reader,
        y: npt.ArrayLike,
        *,
        groups: npt.ArrayLike | None = None,
        name: str | None = None,
        progress: Progress = silent,
    ) -> Self:
        """Train as :meth:`fit` does, on rows that need not fit into memory.

        Parameters
        ----------
        X : Reader of shape (n, d)
            Such as an :class:`h5py.Dataset` or :class:`numpy.memmap`. Finite rows are read in
            blocks of some 64 MiB, anew for each product where n > 3 d.
        y, groups, name, progress :
            As for :meth:`fit`.
        """
        self._check_parameters()
        check_consistent_length(np.empty((X.shape[0], 0)), y)
        self.n_features_in_ = X.shape[1]
        own = Rows(X, normalize=self.normalize)
        return self._fit(own, np.asarray(y), groups, name, progress)

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
        rows = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        rows = unit_length(rows) if self.normalize else rows
        scores: Array = rows @ self.coef_.T + self.intercept_
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the likeliest class of each row of `X` (n, d) as an array (n,).

        With several labels, the classes present: an array (n, K) of 0 and 1.
        """
        scores = self.decision_function(X)
        if self.multi_label_:
            return (scores > 0).astype(np.int64)
        best = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        return cast("npt.NDArray[Any]", self.classes_[best])

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """Return the probability of each class for each row of `X` (n, d), as an array (n, K).

        They sum to 1 unless there are several labels. Only with ``classifier="logreg"`` or
        `calibrate`.

        Raises
        ------
        ProbeError
            No row could be held out to calibrate.
        """
        probabilities = self.probabilities_of(self.class_scores(X))
        if probabilities is None:
            raise ProbeError(
                "Not calibrated: no row could be held out. Give classes two rows or more, or take "
                'classifier="logreg".'
            )
        return probabilities

    def probabilities_of(self, scores: Array) -> Array | None:
        """Return the probabilities that :meth:`class_scores` stand for, both (n, K).

        None of an SVM that is not calibrated.
        """
        if self.classifier == "logreg":
            return scores
        return None if self.calibration_ is None else self.calibration_(scores)

    def class_scores(self, X: npt.ArrayLike) -> Array:
        """Return one score a class, whatever their number and the classifier.

        Parameters
        ----------
        X : array_like of shape (n, d)
            Finite features.

        Returns
        -------
        ndarray of shape (n, K)
            With ``"logreg"`` probabilities, that sum to 1 unless there are several labels; with
            ``"svm"`` the decision function, above 0 where a row falls on the class's side. The
            largest names the class.
        """
        scores = self.decision_function(X)
        if self.classifier == "svm":
            return _of_each_class(scores)
        if scores.ndim == 1:  # (n,) -> (n, 2)
            scores = np.column_stack([np.zeros_like(scores), scores])
        return np.asarray(expit(scores) if self.multi_label_ else softmax(scores))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _check_parameters(self) -> None:
        if self.classifier not in CLASSIFIERS:
            raise ProbeError(
                f"Unknown classifier {self.classifier!r}. Known ones: {', '.join(CLASSIFIERS)}."
            )
        given: list[Any] = [] if self.C is None else list(np.ravel(np.asarray(self.C, object)))
        if not all(isinstance(C, Real) and 0 < float(C) < np.inf for C in given):
            raise ProbeError(f"C is {self.C!r}; give a number above 0, or None to choose it.")

    def _fit(
        self,
        rows: Rows,
        y: npt.NDArray[Any],
        groups: npt.ArrayLike | None,
        name: str | None,
        progress: Progress,
    ) -> Self:
        self.multi_label_ = y.ndim == 2 and y.shape[1] > 1
        if self.multi_label_:
            several = multi_label(y, self.class_weight)
            targets: Targets = several
            self.classes_ = np.arange(y.shape[1])
            score: Score = by_precision(targets)
            keys: npt.NDArray[Any] = rarest(several.present)
        else:
            keys = y.ravel()
            self.classes_ = np.unique(keys)
            if len(self.classes_) < 2:
                raise ProbeError(
                    f"A classifier needs two classes or more; all {len(keys)} rows are of 1 class, "
                    f"{self.classes_[0]!r}."
                )
            targets = single_label(keys, self.classes_, self.class_weight)
            score = by_recall(keys, self.classes_)
        rows.unit = 1.0 if self.normalize else float(np.sqrt(moments(rows)[1])) or 1.0
        training = Training(
            rows, self.classifier, targets, seed=self.random_state, most_steps=self.max_iter
        )
        parts = None
        if self.C is None:
            parts = parts_of(keys, self.validation, self.random_state, groups)
            C = chosen(training, parts, score, part_of(progress, CHOOSING))
        else:
            C = np.asarray(self.C, np.float64) * rows.unit**2
            if C.shape not in ((), (len(self.classes_),) if self.multi_label_ else ()):
                raise ProbeError(f"C has shape {C.shape}; give one number, or one a label.")
        every = np.broadcast_to(C, groups_of(targets, self.classifier))
        rest = 1 - CHOOSING if self.C is None else 1
        self.calibration_ = None
        if self.calibrate and self.classifier == "svm":
            rest -= CALIBRATING
            if parts is None:
                try:
                    parts = parts_of(keys, self.validation, self.random_state, groups)
                except ProbeError as error:  # `C` was given, so the classifier can do without
                    parts = []
                    _log.warning("No probabilities: %s", error)
            self.calibration_ = self._calibrated(
                training, every, parts, y, part_of(progress, CALIBRATING)
            )
        coef, self.intercept_, effort = training.fit(every, part_of(progress, rest))
        self.coef_ = coef / rows.unit
        C_ = C / rows.unit**2
        self.C_ = np.broadcast_to(C_, len(self.classes_)).copy() if self.multi_label_ else float(C_)
        self.n_iter_ = effort.steps
        if effort.change > FINAL:
            _log.warning(
                "%sthe %s did not settle within max_iter=%d Newton steps: the last one still "
                "changed decision values by up to %.1g (C up to %.3g); lower C or raise max_iter.",
                f"{name}: " if name else "",
                self.classifier,
                self.max_iter,
                effort.change,
                np.max(self.C_),
            )
        return self

    def _calibrated(
        self,
        training: Training,
        C: Array,
        parts: Parts,
        y: npt.NDArray[Any],
        progress: Progress,
    ) -> Calibration | None:
        if not any(len(held_out) for _, held_out in parts):
            progress("training", 1, 1)
            _log.info("No row can be held out to calibrate on.")
            return None
        rows, f = training.held_out_scores(C, parts, progress)
        if self.multi_label_:
            return Calibration.of_several(f, np.asarray(y[rows], np.float64))
        scores = _of_each_class(f[:, 0] if f.shape[1] == 1 else f)
        return Calibration.of_exclusive(scores, np.searchsorted(self.classes_, y.ravel()[rows]))


def _of_each_class(f: Array) -> Array:
    """Return decision values (n, K) of an SVM as one score a class; of two, (n,) says both."""
    return np.column_stack([-f, f]) if f.ndim == 1 else f
