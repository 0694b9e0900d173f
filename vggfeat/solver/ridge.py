"""Ridge regression of many targets on the same features, each with its own penalty.

For each target y the coefficients w and the intercept b minimise

    |y - X w - b|^2 + a |w|^2

(Hoerl & Kennard 1970), b being free. All targets share the rows, hence all that depends on the
rows alone: :mod:`~vggfeat.solver.held_out` predicts, for each penalty a of a grid, the rows of each
part from all others; a score of these predictions chooses each target's a, and all rows then give
its coefficients.

Bytes taken at most, beside the features, the targets and the result, for n rows of d features (of
w bytes each), t targets in blocks of b, p penalties, k parts of at most f rows, and blocks of rows
of B bytes (:data:`~vggfeat.solver.rows.BLOCK_BYTES`, at least 8 d):

- n <= 3/2 d: (21 + w) n^2 + 16 f (n + f) + w b (4 n + 6 f) + 4 B + 8 p k t;
- else: 8 d (f + 2 t) + w f t + 37 d^2 + 8 b (2 d + 8 f) + (4 + t / d) B
  + 8 p k t; f is n without parts;
- coefficients from all rows: 21 n^2 + 8 b (n + 2 d) + 4 B where n <= d, else
  8 d t + 21 d^2 + 16 b d + 4 B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.progress import Progress, part_of, silent
from vggfeat.solver.held_out import (
    INVERTIBLE,
    Array,
    FewRows,
    HeldOut,
    ManyRows,
    Moments,
    Prediction,
    Targets,
    blocks,
)
from vggfeat.solver.inverse import invert
from vggfeat.solver.rows import Floats, Positions, Rows, moments
from vggfeat.solver.spaces import gram

Score = Callable[[Floats, Floats], Array]
"""Scores of targets from truth and predictions, both (n, b); the larger the better, NaN for
none."""

BLOCK = 1024
"""Targets multiplied at a time."""

MOST_PATTERNS = 32
"""Different sets of rows in which targets may be unknown."""

SMALLEST = 1e-10
"""The least penalty, in units of the rows' sum of squares about their mean (about 0 without an
intercept): below, rounding would decide. Where rows that are no more than features are held out one
by one, it is :data:`~vggfeat.solver.held_out.INVERTIBLE`."""

_CHOOSING = 0.8  # share of the work, more or less


@dataclass(frozen=True, slots=True, eq=False)
class RidgeSolution:
    """Coefficients of t targets, and how their penalties were chosen.

    Attributes
    ----------
    coef : ndarray of shape (t, d)
        In the precision that was asked for.
    intercept : ndarray of float64, shape (t,)
    penalty : ndarray of float64, shape (t,)
    scores : ndarray of float64, shape (p, t)
        Of each penalty of the grid, the mean over parts; NaN where no part has a score.
    """

    coef: Floats
    intercept: Array
    penalty: Array
    scores: Array


def fit_ridge(
    rows: Rows,
    Y: Floats,
    penalties: Array,
    held_out: HeldOut | None,
    score: Score,
    *,
    intercept: bool = True,
    dtype: npt.DTypeLike = np.float64,
    block: int = BLOCK,
    progress: Progress = silent,
) -> RidgeSolution:
    """Choose each target's penalty, then find its coefficients from all rows.

    Parameters
    ----------
    rows : Rows
        n rows of d finite features.
    Y : ndarray of float32 or float64, shape (n, t)
        Targets; NaN leaves a row out of a target. Targets with the same rows are solved together.
    penalties : ndarray of float64, shape (p,)
        The grid, above 0. A single one is taken without being scored.
    held_out : sequence of ndarray of int64, optional
        The rows of each part, ascending; all others train. By default each row is held out by
        itself, and the predictions of all rows are scored together.
    score : callable
        Of predictions for held-out rows; its mean over parts is to be large. Of equally good
        penalties the largest is taken, and of a constant target's, too.
    intercept : bool
        Whether there is one; it is not penalised.
    dtype : dtype
        float32 or float64: of the coefficients, and of products with targets where
        :mod:`~vggfeat.solver.held_out` says so.
    block : int
        Targets multiplied at a time.
    progress : Progress
        Told shares of the work.

    Returns
    -------
    RidgeSolution

    Raises
    ------
    ProbeError
        A penalty is too small for these rows, a target has fewer than two known rows, targets have
        too many patterns of unknown rows, or a part leaves no row to train on.
    """
    t = Y.shape[1]
    order = np.argsort(penalties)
    coef = np.empty((t, rows.shape[1]), dtype)
    offset, penalty = np.empty(t), np.empty(t)
    scores = np.full((len(penalties), t), np.nan)
    for known, columns in _patterns(Y):
        part = rows if known is None else rows.subset(known)
        some = Y if known is None else Y[np.ix_(known, columns)]
        parts = held_out if known is None else _within(held_out, known)
        found = _complete(
            part,
            some,
            penalties[order],
            parts,
            score,
            intercept,
            dtype,
            block,
            part_of(progress, len(columns) / t),
        )
        coef[columns], offset[columns] = found.coef, found.intercept
        penalty[columns] = found.penalty
        scores[np.ix_(order, columns)] = found.scores
    return RidgeSolution(coef, offset, penalty, scores)


def _complete(
    rows: Rows,
    Y: Floats,
    penalties: Array,
    held_out: HeldOut | None,
    score: Score,
    intercept: bool,
    dtype: npt.DTypeLike,
    block: int,
    progress: Progress,
) -> RidgeSolution:
    """Solve for targets that are known in all rows, with ascending penalties."""
    t = Y.shape[1]
    few = _few(rows, penalties, intercept, held_out is None and len(penalties) > 1)
    constant = Y.min(axis=0) == Y.max(axis=0)
    offset = np.zeros(t)
    if intercept:
        # exactly the value of a constant target, so that its coefficients are exactly 0
        offset = np.where(constant, Y[0], Y.mean(axis=0, dtype=np.float64)).astype(np.float64)
    targets = Targets(Y, offset)
    scores = np.full((len(penalties), t), np.nan)
    best = np.full(t, len(penalties) - 1)
    share = 0.0
    products: Array | Moments | None = None
    if len(penalties) > 1 and (held_out is None or held_out):
        share = _CHOOSING
        predictions: FewRows | ManyRows
        if few:
            predictions = FewRows(
                gram(rows, centred=intercept),
                targets,
                held_out,
                intercept=intercept,
                dtype=dtype,
                block=block,
            )
        else:
            predictions = ManyRows(rows, targets, held_out, intercept=intercept, block=block)
        count = 1 if held_out is None else len(held_out)
        told = part_of(progress, share)
        scores = scores_of(predictions(penalties), penalties, count, t, score, told)
        if isinstance(predictions, ManyRows):
            products = predictions.moments
        elif rows.shape[0] <= rows.shape[1]:
            products = predictions.K
        del predictions
        scores[:, constant] = np.nan
        best = best_of(scores)
    coef = np.empty((t, rows.shape[1]), dtype)
    rest = part_of(progress, 1 - share)
    mean = _fit(rows, targets, penalties, best, coef, products, intercept, block, rest)
    return RidgeSolution(coef, offset - coef @ mean, penalties[best], scores)


def scores_of(
    predictions: Iterable[Prediction],
    penalties: Array,
    parts: int,
    t: int,
    score: Score,
    progress: Progress = silent,
) -> Array:
    """Return the mean score of held-out rows over parts, (p, t); NaN where no part has one."""
    each = np.empty((len(penalties), parts, t))
    for one in predictions:
        each[one.penalty, one.part, one.targets] = score(one.truth, one.predicted)
        done = (one.targets.stop - one.targets.start) / (t * parts * len(penalties))
        progress("training", done, 1)
    scored = np.isfinite(each)
    total = np.where(scored, each, 0).sum(axis=1)
    found = np.full(total.shape, np.nan)
    np.divide(total, scored.sum(axis=1), out=found, where=scored.any(axis=1))
    return found


def best_of(scores: Array) -> Positions:
    """Return the position of the largest score of each column of (p, t), the last of equal ones."""
    filled = np.where(np.isfinite(scores), scores, -np.inf)[::-1]
    return np.asarray(len(scores) - 1 - filled.argmax(axis=0))


def _few(rows: Rows, penalties: Array, intercept: bool, alone: bool) -> bool:
    """Tell whether the Gram matrix is to be used; refuse penalties that rounding would swamp."""
    n, d = rows.shape
    mean, square = moments(rows)
    total = n * float(square - (mean @ mean if intercept else 0))
    if not np.isfinite(total):
        raise ProbeError("Features hold NaN or infinite values; leave these rows out.")
    few, least = 2 * n <= 3 * d, SMALLEST
    if alone and few and penalties[0] < INVERTIBLE * total:
        few = n <= d
        least = INVERTIBLE if few else least
    if not 0 < penalties[0] >= least * total:
        unit = rows.unit**2
        raise ProbeError(
            f"A penalty is {penalties[0] * unit:.3g}, where rounding decides the results: the sum "
            f"of squares of these features is {total * unit:.3g}. Give {least * total * unit:.3g} "
            f"or more{', or hold out folds' if least == INVERTIBLE else ''}."
        )
    return few


def _fit(
    rows: Rows,
    targets: Targets,
    penalties: Array,
    best: Positions,
    coef: Floats,
    products: Array | Moments | None,
    intercept: bool,
    block: int,
    progress: Progress,
) -> Array:
    """Write the coefficients of all targets into `coef` and return the rows' mean.

    `products` are the Gram matrix or the moments that chose the penalties, if any did.
    """
    (n, d), t = rows.shape, len(best)
    few = n <= d
    if few:
        A = products if isinstance(products, np.ndarray) else gram(rows, centred=intercept)
        mean = moments(rows)[0] if intercept else np.zeros(d)
    else:
        known = (
            products
            if isinstance(products, Moments)
            else Moments.of(rows, targets, intercept=intercept, block=block)
        )
        A, mean = known.C, known.mean
    for number in np.unique(best):
        inverse = A.copy()
        inverse[np.diag_indices(len(A))] += penalties[number]
        invert(inverse)
        chosen = np.flatnonzero(best == number)
        for where in blocks(len(chosen), block):
            columns = chosen[where]
            if few:
                some = Targets(targets.Y[:, columns], targets.offset[columns])
                V = inverse @ some.block(slice(None), np.float64)
                W = np.zeros((d, len(columns)))
                for here, X in rows.blocks():
                    W += (X - mean).T @ V[here]
            else:
                W = inverse @ known.R[:, columns]
            coef[columns] = W.T
            progress("training", len(columns) / t, 1)
    return mean


def _patterns(Y: Floats) -> Iterator[tuple[Positions | None, Positions]]:
    """Yield sets of rows and the targets known in them; None for all rows."""
    n, t = Y.shape
    patterns: dict[bytes, list[int]] = {}
    for j in np.flatnonzero(np.isnan(Y.min(axis=0))):
        patterns.setdefault(np.packbits(~np.isnan(Y[:, j])).tobytes(), []).append(int(j))
    if len(patterns) > MOST_PATTERNS:
        raise ProbeError(
            f"Targets are unknown (NaN) in {len(patterns)} different sets of rows, each of which "
            f"is solved by itself; {MOST_PATTERNS} are allowed. Leave out rows or targets, or fill "
            "what is unknown."
        )
    whole = np.setdiff1d(np.arange(t), [j for some in patterns.values() for j in some])
    if len(whole) == t:
        yield None, whole
        return
    if len(whole):
        yield np.arange(n), whole
    for bits, columns in patterns.items():
        known = np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8), count=n))
        if len(known) < 2:
            raise ProbeError(
                f"Target {columns[0]} is known in {len(known)} rows; a regression needs 2 or more."
            )
        yield known, np.array(columns)


def _within(held_out: HeldOut | None, known: Positions) -> HeldOut | None:
    """Return parts among the known rows, without those that would leave none to train on."""
    if held_out is None:
        return None
    inside = [np.flatnonzero(np.isin(known, F)) for F in held_out]
    return [F for F in inside if 0 < len(F) < len(known)]
