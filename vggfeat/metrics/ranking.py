"""Average precision as PASCAL VOC defines it: how far the images of a class come first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError

APKind = Literal["all-point", "11-point", "step"]
AP_KINDS: tuple[APKind, ...] = get_args(APKind)
"""Definitions of average precision, see :func:`average_precision`."""

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def average_precision(y: npt.ArrayLike, scores: npt.ArrayLike, kind: APKind = "all-point") -> float:
    """Return the average precision of one class's scores.

    Entries are ranked by falling score. After each different score, precision is the share of
    present entries among those ranked so far, and recall their share of all present ones. Entries
    of equal score are thus ranked at once and their order cannot matter; the devkit takes them in
    the order of its files, and where no two scores are equal, both are the same.

    Parameters
    ----------
    y : array_like of shape (n,)
        True and False; or 1 present, 0 absent, and NaN (-1 among whole numbers) difficult or
        unknown, which is left out as if the entry were not there.
    scores : array_like of shape (n,)
        Higher is more confident; no NaN.
    kind : str
        ``"all-point"``: the area under the precision envelope, where the precision at a recall is
        the highest at this or any higher recall; VOC's measure since 2010 (VOC 2010 development
        kit, section 3.4.1).

        ``"11-point"``: the mean of that envelope at recalls 0, 0.1, ..., 1; VOC's measure until
        2009 (Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010).
        Recalls are compared exactly, as whole numbers, not as the devkit's rounded fractions.

        ``"step"``: the sum of precision times the gain in recall, without an envelope;
        scikit-learn's ``average_precision_score``. Never above ``"all-point"``.

    Returns
    -------
    float
        In 0..1. Scores that are all equal get the share of present entries.

    Raises
    ------
    ProbeError
        Shapes or values are not as above, or no entry is present, so that recall is undefined.

    Examples
    --------
    >>> average_precision([1, 0, 1, float("nan")], [0.9, 0.8, 0.7, 0.6])
    0.8333333333333333
    """
    ranking = Ranking.of(y, scores)
    if not ranking.present.any():
        raise ProbeError(
            f"None of {len(ranking.present)} entries is present, so average precision is "
            "undefined. Leave the class out, or add images of it."
        )
    return float(ranking.average_precision(kind))


def average_precisions(
    y: npt.ArrayLike, scores: npt.ArrayLike, kind: APKind = "all-point"
) -> Floats:
    """Return the average precision of each of K classes.

    Parameters
    ----------
    y, scores : array_like of shape (n, K)
        A column a class, as for :func:`average_precision`.
    kind : str
        As there.

    Returns
    -------
    ndarray of float64, shape (K,)
        In 0..1; NaN for a class of which no entry is present.

    Raises
    ------
    ProbeError
        As there.
    """
    return np.array([float(of.average_precision(kind)) for of in rankings(y, scores)])


def mean_average_precision(
    y: npt.ArrayLike, scores: npt.ArrayLike, kind: APKind = "all-point"
) -> float:
    """Return the mean of the classes' :func:`average_precisions`, known as mAP.

    Raises
    ------
    ProbeError
        As there, or a class has no present entry; the message gives its column.
    """
    each = average_precisions(y, scores, kind)
    if missing := np.flatnonzero(np.isnan(each)).tolist():
        raise ProbeError(
            f"No entry is present in {len(missing)} of {len(each)} classes (columns "
            f"{', '.join(map(str, missing[:10]))}{', ...' if len(missing) > 10 else ''}), so their "
            "average precision is undefined. Leave these columns out."
        )
    return float(each.mean())


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The entries of one class, the most confident first.

    Attributes
    ----------
    order : ndarray of int64, shape (m,)
        Positions of the entries that are not left out, by falling score.
    present : ndarray of bool, shape (m,)
        Which of them are present, in that order.
    ends : ndarray of int64, shape (t,)
        Where in `order` each of the t different scores that a present entry has ends. Beyond such
        an end precision falls until the next present entry, and counts nowhere.
    """

    order: Counts
    present: npt.NDArray[np.bool_]
    ends: Counts

    @classmethod
    def of(cls, y: npt.ArrayLike, scores: npt.ArrayLike) -> Self:
        """Rank entries; parameters and errors are those of :func:`average_precision`."""
        labels, values = np.asarray(y), np.asarray(scores)
        if labels.ndim != 1 or labels.shape != values.shape:
            raise ProbeError(
                f"Labels have the shape {labels.shape} and scores {values.shape}; "
                "give one of each an entry."
            )
        if values.dtype.kind not in "biuf" or np.isnan(values).any():
            raise ProbeError("Scores hold NaN or no numbers, which have no rank; leave them out.")
        known, present = _known(labels)
        counted = np.flatnonzero(known)
        order = counted[np.argsort(values[counted])[::-1]]
        falls = np.flatnonzero(values[order][1:] != values[order][:-1])
        ends = np.append(falls, len(order) - 1) if len(order) else falls
        hits = np.cumsum(present[order])[ends]
        return cls(order, present[order], ends[np.diff(hits, prepend=0) > 0])

    def average_precision(self, kind: APKind = "all-point", counts: Counts | None = None) -> Floats:
        """Return the average precision, of the entries or of samples drawn from them.

        Parameters
        ----------
        kind : str
            See :func:`average_precision`.
        counts : ndarray of int, shape (r, n), optional
            How often each of the n entries is in each of r samples, left out ones included. By
            default all entries are once in one sample.

        Returns
        -------
        ndarray of float64, shape (r,) or ()
            NaN where no present entry is in the sample.

        Raises
        ------
        ProbeError
            `kind` is unknown.
        """
        if kind not in AP_KINDS:
            raise ProbeError(f"Unknown kind of AP {kind!r}. Known kinds: {', '.join(AP_KINDS)}.")
        shown = np.ones(len(self.order), np.int64) if counts is None else counts[..., self.order]
        ranked = np.cumsum(shown, axis=-1)[..., self.ends]  # (r, m) -> (r, t)
        last = np.cumsum(self.present)[self.ends] - 1
        hits = np.cumsum(shown[..., self.present], axis=-1)[..., last]
        total = hits[..., -1:] if hits.size else np.zeros((*hits.shape[:-1], 1), np.int64)
        with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is present
            area = _area(hits, ranked, total, kind)
        return np.where(total[..., 0] > 0, area, np.nan)


def rankings(y: npt.ArrayLike, scores: npt.ArrayLike) -> list[Ranking]:
    """Rank the entries of each class; parameters are those of :func:`average_precisions`."""
    labels, values = np.asarray(y), np.asarray(scores)
    if labels.ndim != 2 or labels.shape != values.shape or not labels.shape[1]:
        raise ProbeError(
            f"Labels have the shape {labels.shape} and scores {values.shape}; "
            "give a row of each an image and a column a class."
        )
    return [Ranking.of(labels[:, k], values[:, k]) for k in range(labels.shape[1])]


def _area(hits: Counts, ranked: Counts, total: Counts, kind: APKind) -> Floats:
    """Return the average precision for t thresholds; (..., t) to (...)."""
    precision = hits / np.maximum(ranked, 1)  # samples may lack the entries that come first
    envelope = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    if kind == "11-point":
        reached = [hits * 10 >= total * tenth for tenth in range(11)]
        points = [np.max(envelope, axis=-1, where=at, initial=0.0) for at in reached]
        return np.asarray(np.mean(points, axis=0))
    gains = np.diff(hits, axis=-1, prepend=0) / total
    return np.asarray((gains * (envelope if kind == "all-point" else precision)).sum(axis=-1))


def _known(labels: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which entries count, and which of them are present."""
    if labels.dtype == bool:
        return np.ones(labels.shape, bool), labels.astype(bool)
    present, absent = labels == 1, labels == 0
    unknown = np.isnan(labels) if labels.dtype.kind == "f" else labels == -1
    if strange := labels[~(present | absent | unknown)].tolist():
        raise ProbeError(
            f"{strange[0]!r} is no label: give 1 present, 0 absent, NaN left out, or booleans. "
            "vggfeat.labels.from_signs() reads VOC's, in which -1 is absent."
        )
    if labels.dtype.kind != "f" and unknown.sum() > absent.sum():
        raise ProbeError(
            f"Labels are -1 {unknown.sum():,} times and 0 {absent.sum():,} times. Here 0 is absent "
            "and -1 left out; in VOC's files it is the other way round, and "
            "vggfeat.labels.from_signs() reads those. Give NaN for what is left out if so many are."
        )
    return ~unknown, present
