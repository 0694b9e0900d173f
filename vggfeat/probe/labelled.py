"""Which rows of a store can train a single-label classifier, and what keeps the others out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError

if TYPE_CHECKING:
    from vggfeat.store import FeatureStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many rows took no part, and why.

    Attributes
    ----------
    not_done : int
        Pending or failed: they have no features.
    unlabelled : int
        Done, but of unknown class.
    alone : int
        The only done image of its class: it cannot be both learnt from and tested on.
    """

    not_done: int
    unlabelled: int
    alone: int


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """The rows that train and test a classifier.

    Attributes
    ----------
    layer : str
        Canonical name.
    rows : ndarray of int64, shape (n,)
        Rows of the store, ascending: done, labelled, of a class with at least two such rows.
    y : ndarray of int64, shape (n,)
        Their classes, as positions in `classes`.
    classes : tuple of str
        Names of the K classes that occur, in the store's order.
    left_out : LeftOut
        Rows that took no part.
    """

    layer: str
    rows: npt.NDArray[np.int64]
    y: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    left_out: LeftOut

    @classmethod
    def of(cls, store: FeatureStore, layer: str) -> Labelled:
        """Find a store's rows for one of its layers.

        Raises
        ------
        ProbeError
            The store has no labels, several a row, or fewer than two classes to tell apart.
        LayerError
            The store has no such layer.
        """
        name = store.layer(layer)
        if not store.has_labels:
            raise ProbeError(
                f"{store.path} has no labels to train on. Extract from a folder with one "
                "sub-folder a class, or give `vggfeat extract --labels FILE.csv`."
            )
        targets = store.labels[:]
        if targets.ndim != 1:
            raise ProbeError(
                f"Images in {store.path} have several labels each; the probe takes one a image "
                "and does not support several yet."
            )
        done = np.asarray(store.done)
        known = done & (targets >= 0)
        sizes = np.bincount(targets[known], minlength=len(store.classes))
        alone = known & (sizes[targets] == 1)  # -1 wraps, but is not known
        left_out = LeftOut(int((~done).sum()), int((done & ~known).sum()), int(alone.sum()))
        if left_out.unlabelled:
            _log.info("Left out: %d images without a label.", left_out.unlabelled)
        if left_out.alone:
            names = [store.classes[k] for k in np.flatnonzero(sizes == 1)]
            _log.info("Left out, with a single image each: %s.", _listed(names))
        rows = np.flatnonzero(known & ~alone)
        used, y = np.unique(targets[rows], return_inverse=True)
        if len(used) < 2:
            found = f"only {store.classes[used[0]]!r}" if len(used) else "none"
            raise ProbeError(
                f"A probe tells at least two classes of two images apart; {store.path} has "
                f"{found} among its {int(known.sum())} done and labelled images."
            )
        classes = tuple(str(store.classes[k]) for k in used)
        return cls(name, rows, y.astype(np.int64), classes, left_out)

    def features(
        self, store: FeatureStore, positions: npt.NDArray[np.int64] | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Read features and classes.

        Parameters
        ----------
        store : FeatureStore
            Where the rows come from.
        positions : ndarray of int64, optional
            Which of :attr:`rows`, ascending; all by default.

        Returns
        -------
        y : ndarray of int64, shape (n,)
        X : ndarray of float32, shape (n, d)
            Maps (C, H, W) come as vectors of length C * H * W.

        Raises
        ------
        ProbeError
            A row marked done is not finite.
        """
        chosen = slice(None) if positions is None else positions
        rows, X = store.matrix(self.layer, self.rows[chosen])
        finite = np.isfinite(X).all(axis=1)
        if not finite.all():
            path = store.paths[rows[~finite][0]]
            raise ProbeError(
                f"{int((~finite).sum())} rows of {self.layer} in {store.path} hold NaN or "
                f"infinite values, the first for {path!r}. `vggfeat verify` lists damaged rows."
            )
        return self.y[chosen], X


def _listed(names: list[str], most: int = 10) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
