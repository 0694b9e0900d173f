"""Training linear probes on rows of features: which coordinates, which path, which C.

Memory. Take n rows of d features and m columns; B, `BLOCK_BYTES` or one row in float64, whichever
is more; t, threads or m, whichever is less; and p, the numbers that write a function: n where
n <= 3 d, else d. Training takes at most these bytes of arrays:

    rows        4 n d or 8 n d as they are given; 0 where they are in a file
    blocks      5 B: two in float64, and what one of them is made from
    Gram        12 n^2 where n <= 3 d: float64, and the working precision's part; 8 n^2 more where
                the problem is too ill-conditioned for single precision
    factors     CACHED_BYTES or 8 n^2 m, whichever is less, and 16 n^2 a thread while one is made,
                where n <= 3 d; t (CACHED_BYTES + 3 B) more at most elsewhere
    directions  8 arrays of 144 (n + p) numbers of 8 bytes
    columns     24 arrays of m (n + p) numbers of 8 bytes, and 4 of m d

In short: rows + Gram + so many blocks, since the last three are small where n and d are large.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.malloc import keep_freed_blocks
from vggfeat.probe.targets import Classifier, Targets
from vggfeat.progress import Progress, part_of, silent
from vggfeat.solver.deflation import Deflation
from vggfeat.solver.newton import Solution, minimise
from vggfeat.solver.rows import Positions, Rows, moments
from vggfeat.solver.spaces import Features, Gram, Space, gram

Array = npt.NDArray[np.float64]
"""Called with the share of the work that was done since the last call."""

Stage = tuple[Array, float]
"""C of each group, and by how much the last Newton step may change a decision value."""

MOST_GRAM_ROWS = 16_384
"""Rows up to which a Gram matrix may be made, whatever d is: 2 GiB."""

SEARCH, FINAL = 1e-3, 1e-9
"""By how much the last Newton step may change a decision value, while C is chosen and at the end;
steps shrink so fast that what is left is far smaller."""

WARMING = (0.01, 0.1, 1.0)
"""Shares of C that are solved for one after the other."""

_log = logging.getLogger(__name__)


class Training:
    """Rows to train on, prepared once for all parts of them, classes and values of C.

    Parameters
    ----------
    rows : Rows
        n rows of mean squared length 1 or so.
    classifier : {"svm", "logreg"}
        The intercept is penalised with the first, and not with the second.
    targets : Targets
        Of the same rows.
    seed : int
        Of the random start of :class:`Deflation`.
    most_steps : int
        Newton steps of one solution.
    """

    def __init__(
        self, rows: Rows, classifier: Classifier, targets: Targets, *, seed: int, most_steps: int
    ) -> None:
        keep_freed_blocks()
        self.rows, self.classifier, self.targets = rows, classifier, targets
        self.seed, self.most_steps = seed, most_steps
        mean, square = moments(rows)
        self.spread = max(square - float(mean @ mean), 1e-12 * square) or 1.0
        self._penalised = classifier == "svm"
        self._mean: Array = np.zeros_like(mean) if self._penalised else mean
        n, d = rows.shape
        self._gram = (
            gram(rows, centred=not self._penalised) if n <= min(3 * d, MOST_GRAM_ROWS) else None
        )

    def choose(
        self,
        grid: Array,
        parts: Sequence[tuple[Positions, Positions]],
        score: Any,
        progress: Progress = silent,
    ) -> Any:
        """Score values of C on held-out rows.

        Parameters
        ----------
        grid : ndarray of shape (c,)
            Values of C, ascending.
        parts : sequence of pairs
            Training and held-out rows.
        score : callable
            ``score(rows, f)`` scores decision values `f` of held-out `rows`: a number, or an
            array of one a column.
        progress : Progress
            Told shares of the work.

        Returns
        -------
        ndarray of shape (c,) or (c, columns)
            Means over the parts.
        """
        groups = self.targets.groups(self.classifier)
        stages = [(np.full(groups, C), SEARCH) for C in grid]
        scores = []
        for part, held_out in parts:
            space = self._space(part, float(grid[-1]))
            solutions = self._path(space, part, stages, part_of(progress, 1 / len(parts)))
            scores.append([score(held_out, self._scores(space, held_out, s.V)) for s in solutions])
        return np.mean(scores, axis=0)

    def held_out_scores(
        self,
        C: Array,
        parts: Sequence[tuple[Positions, Positions]],
        progress: Progress = silent,
    ) -> tuple[Positions, Array]:
        """Score held-out rows by what the others of their part train.

        Parameters
        ----------
        C : ndarray of shape (groups,)
        parts : sequence of pairs
            Training and held-out rows.
        progress : Progress
            Told shares of the work.

        Returns
        -------
        rows : ndarray of int64, shape (r,)
            The held-out rows of all parts.
        scores : ndarray of float64, shape (r, m)
            Their decision values.
        """
        stages = [(C * share, SEARCH) for share in WARMING]
        scores = []
        for part, held_out in parts:
            space = self._space(part, float(C.max()))
            V = self._path(space, part, stages, part_of(progress, 1 / len(parts)))[-1].V
            scores.append(self._scores(space, held_out, V))
        return np.concatenate([held_out for _, held_out in parts]), np.concatenate(scores)

    def fit(self, C: Array, progress: Progress = silent) -> tuple[Array, Array, Solution]:
        """Train on all rows.

        Parameters
        ----------
        C : ndarray of shape (groups,)
        progress : Progress
            Told shares of the work.

        Returns
        -------
        coef : ndarray of float64, shape (m, d)
        intercept : ndarray of float64, shape (m,)
        solution : Solution
            Its `change` is above :data:`FINAL` where `most_steps` did not suffice.
        """
        everything = np.arange(self.rows.shape[0])
        space = self._space(everything, float(C.max()))
        warm = [(C * share, SEARCH) for share in WARMING]
        solution = self._path(space, everything, [*warm, (C, FINAL)], progress)[-1]
        coef = self._weights(solution.V)
        return coef, self._anchored(solution.V)[-1] - coef @ self._mean, solution

    def _path(
        self,
        space: Space,
        rows: Positions,
        stages: Sequence[Stage],
        progress: Progress,
    ) -> list[Solution]:
        """Return the solutions for rising values of C, each from the one before."""
        deflation = Deflation(space, self.seed)
        solutions: list[Solution] = []
        for C, tolerance in stages:
            solution = minimise(
                space,
                self.targets.loss(self.classifier, rows, C),
                start=solutions[-1] if solutions else None,
                deflation=deflation,
                tolerance=tolerance,
                most_steps=self.most_steps,
                exact=tolerance == FINAL or space.working == np.float64,
            )
            _log.debug("C up to %.3g: %d Newton steps", C.max(), solution.steps)
            solutions.append(solution)
            progress("training", 1 / len(stages), 1)
        return solutions

    def _space(self, rows: Positions, largest_C: float) -> Space:
        """Return coordinates, in single precision unless the problem is too ill-conditioned."""
        condition = 4 * largest_C * self.targets.weight.max() * len(rows)
        working = np.float32 if condition * np.finfo(np.float32).eps < 1 else np.float64
        if self._gram is not None:
            return Gram(self._gram, rows, penalised=self._penalised, working=working)
        return Features(
            self.rows.subset(rows), self._mean, penalised=self._penalised, working=working
        )

    def _anchored(self, V: Array) -> Array:
        """Let intercepts of exclusive classes sum to 0; only their differences mean something."""
        if self.targets.groups(self.classifier) == V.shape[1]:
            return V
        return np.concatenate([V[:-1], V[-1:] - V[-1].mean()])

    def _scores(self, space: Space, rows: Positions, V: Array) -> Array:
        V = self._anchored(V)
        if isinstance(space, Gram):
            return space.scores_of(rows, V)
        others = self.rows.subset(rows)
        return Features(others, self._mean, penalised=True, working=np.float64).scores(V)

    def _weights(self, V: Array) -> Array:
        """Return w of functions of all rows, as (m, d)."""
        if self._gram is None:
            return np.ascontiguousarray(V[:-1].T)
        total: Array = -np.multiply.outer(V[:-1].sum(axis=0), self._mean)
        for where, block in self.rows.blocks():
            total += V[where].T @ block
        return np.asarray(total)
