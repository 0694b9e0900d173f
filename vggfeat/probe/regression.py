"""How well a layer's features predict numbers, measured on images held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.metrics import TargetScores, score_targets
from vggfeat.probe.division import Division, divided_rows, groups_of, warn_of_groups
from vggfeat.probe.leaks import Leak, find_leak
from vggfeat.probe.numbers import Numbers
from vggfeat.probe.reading import LayerRows, fits
from vggfeat.probe.ridge import RidgeProbe, Scoring
from vggfeat.progress import Progress, silent
from vggfeat.showing import Drawn
from vggfeat.solver.rows import Rows

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class RegressionResult(Drawn):
    """A layer's score where images have numbers.

    Attributes
    ----------
    layer : str
        Canonical name.
    names : tuple of str
        Of the t targets.
    alpha : ndarray of float64, shape (t,)
        The penalty that each chose within the training part.
    scores : TargetScores
        R2 and Pearson's r of each target on the test images, with intervals.
    paths : tuple of str
        The m test images, as the store names them.
    y, predicted : ndarray, shape (m, t)
        True and predicted numbers, NaN where unknown.
    n_train : int
        Training images.
    division : Division
        How images were divided.
    origin : str
        Where the numbers came from.
    unmatched : int
        Lines there whose image is not in the store and done.
    normalize, standardize, scoring, seed :
        Of the :class:`RidgeProbe` that was tested.
    leak : Leak or None
        Test images that training has, too; None where nobody looked.
    """

    shown_as: ClassVar = "numbers"
    layer: str
    names: tuple[str, ...]
    alpha: Array
    scores: TargetScores
    paths: tuple[str, ...]
    y: npt.NDArray[np.floating]
    predicted: npt.NDArray[np.floating]
    n_train: int
    division: Division
    origin: str
    unmatched: int
    normalize: bool
    standardize: bool
    scoring: Scoring
    seed: int
    leak: Leak | None = None

    @property
    def n_test(self) -> int:
        """Number of test images."""
        return len(self.paths)

    @property
    def mean_r2(self) -> float:
        """Mean R2 of the targets that have one; NaN where none has."""
        return _mean(self.scores.r2)

    @property
    def mean_r(self) -> float:
        """Mean correlation of the targets that have one; NaN where none has."""
        return _mean(self.scores.r)

    def to_json(self, *, predictions: bool = False) -> dict[str, Any]:
        """Return JSON-ready values; a number that there is not is null.

        Parameters
        ----------
        predictions : bool
            Whether the numbers of every test image are told.
        """
        told: dict[str, Any] = {
            "layer": self.layer,
            "classifier": "ridge",
            "normalize": self.normalize,
            "standardize": self.standardize,
            "scoring": self.scoring,
            "seed": self.seed,
            "targets_from": self.origin,
            "unmatched": self.unmatched,
            "n_train": self.n_train,
            "n_test": self.n_test,
            "division": self.division.to_json(),
            "leak": None if self.leak is None else self.leak.to_json(),
            "level": self.scores.level,
            "mean_r2": _number(self.mean_r2),
            "mean_r": _number(self.mean_r),
            "targets": [
                {
                    "name": name,
                    "alpha": float(self.alpha[k]),
                    "n": int(self.scores.n[k]),
                    **{
                        key: _number(getattr(self.scores, key)[k])
                        for key in ("r2", "r2_low", "r2_high", "r", "r_low", "r_high")
                    },
                    "reason": self.scores.reasons.get(k),
                }
                for k, name in enumerate(self.names)
            ],
        }
        if predictions:
            told["predictions"] = [
                {"path": path, "true": list(map(_number, y)), "predicted": list(map(_number, p))}
                for path, y, p in zip(self.paths, self.y, self.predicted, strict=True)
            ]
        return told


def evaluate_numbers(
    store: FeatureTable,
    layer: str,
    numbers: Numbers,
    *,
    test: tuple[FeatureTable, Numbers] | None = None,
    alphas: Sequence[float] | None = None,
    normalize: bool = False,
    standardize: bool = False,
    folds: int = 5,
    scoring: Scoring = "r2",
    test_size: float | None = None,
    seed: int = 0,
    level: float = 0.95,
    look_for_leaks: bool = False,
    memory: int | None = None,
    progress: Progress = silent,
) -> RegressionResult:
    """Train ridge regression on part of a store's images and test it on the others.

    Parameters
    ----------
    store : FeatureTable
    layer : str
        A layer of the store, by name or alias; maps are read as vectors.
    numbers : Numbers
        What is to be predicted.
    test : pair of FeatureTable and Numbers, optional
        Test on the images of another store that was made alike, and the same targets.
    alphas, normalize, standardize, scoring :
        See :class:`RidgeProbe`, which chooses alpha within the training part.
    folds : int
        Parts of the training images that are held out in turn to choose alpha; where the store has
        a split ``val``, that is held out instead.
    test_size, seed :
        See :func:`~vggfeat.probe.division.divided_rows`.
    level : float
        Of the confidence intervals.
    look_for_leaks : bool
        Look for test images that training has, too.
    memory, progress :
        As for :func:`~vggfeat.probe.evaluate`.

    Raises
    ------
    ProbeError
        There are too few images, a target is known of fewer than two, a parameter is out of its
        range, or features are not finite.
    StoreMismatchError
        The stores' features were made otherwise.
    """
    name = store.layer(layer)
    if test is not None and test_size is not None:
        raise ProbeError("The test images are another store's; a share to draw has no effect.")
    if test is None:
        kept, division = divided_rows(store, numbers.rows, test_size=test_size, seed=seed)
        images, test_rows = store, numbers.rows[kept][division.test]
        y_test, test_groups = numbers.values[kept][division.test], division.test_groups
    else:
        images, other = test
        store.provenance.config.check(images.provenance.config, name, "store")
        if other.names != numbers.names:
            raise ProbeError(
                f"The targets to test on are {', '.join(other.names[:5])}, and those to learn "
                f"{', '.join(numbers.names[:5])}. Give the same columns of both."
            )
        kept, division = divided_rows(store, numbers.rows, other=str(images.path), seed=seed)
        warn_of_groups(store, images)
        test_rows, y_test, test_groups = other.rows, other.values, groups_of(images, other.rows)
    rows = numbers.rows[kept][division.train]
    y = numbers.values[kept][division.train]
    probe = RidgeProbe(
        alphas,
        normalize=normalize,
        standardize=standardize,
        cv=division.validation or folds,
        scoring=scoring,
        random_state=seed,
    )
    learnt = LayerRows(store, name, rows)
    learn_numbers(probe, learnt, y, division.train_groups, name, memory, progress)
    tested = LayerRows(images, images.column(store.provenance.config.for_layer(name)), test_rows)
    blocks = Rows(tested).blocks(np.float32)
    predicted = np.concatenate([probe.predict(X).reshape(len(X), -1) for _, X in blocks])
    leak = None
    if look_for_leaks:
        leak = find_leak(
            learnt,
            tested,
            (store.paths[rows], store.digests[rows]),
            (images.paths[test_rows], images.digests[test_rows]),
        )
    return RegressionResult(
        layer=name,
        names=numbers.names,
        alpha=np.atleast_1d(probe.alpha_),
        scores=score_targets(y_test, predicted, groups=test_groups, level=level, seed=seed),
        paths=tuple(map(str, images.paths[test_rows])),
        y=y_test,
        predicted=predicted,
        n_train=len(rows),
        division=division,
        origin=numbers.origin,
        unmatched=numbers.unmatched,
        normalize=normalize,
        standardize=standardize,
        scoring=scoring,
        seed=seed,
        leak=leak,
    )


def learn_numbers(
    probe: RidgeProbe,
    rows: LayerRows,
    y: npt.NDArray[np.floating],
    groups: npt.ArrayLike | None,
    name: str,
    memory: int | None,
    progress: Progress,
) -> None:
    """Train on rows, in memory or, where they do not fit, block by block; see `RidgeProbe.fit`."""
    if fits(rows, memory, copies=3):
        probe.fit(rows[:], y, groups=groups, name=name, progress=progress)
    else:
        probe.fit_reader(rows, y, groups=groups, name=name, progress=progress)


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
