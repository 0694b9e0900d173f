"""Training linear probes on rows of features: which coordinates, which path, which C.

Memory. Take n rows of d features; B, `BLOCK_BYTES` or one row in float64, whichever is more; p, the
numbers that write a function: n where n <= 3 d, else d; m, the columns that are solved at once: as
many as `COLUMN_BYTES` allows by the line of columns below, but one at least, and all K of
multinomial regression; and t, threads or m, whichever is less. Training takes at most these bytes
of arrays:

    rows        4 n d or 8 n d as they are given; 0 where they are in a file
    blocks      5 B: two in float64, and what one of them is made from; 3 B more where n > 3 d and
                all rows are one block, which then is kept, and their inner products with it
    Gram        12 n^2 where n <= 3 d: float64, and the working precision's part; 8 n^2 more where
                the problem is too ill-conditioned for single precision
    factors     CACHED_BYTES or 8 n^2 m, whichever is less, and 16 n^2 a thread while one is made,
                where n <= 3 d; t (CACHED_BYTES + 3 B) more at most elsewhere
    directions  8 arrays of 144 (n + p) numbers of 8 bytes; where d is at most 1,024, of d^2
    columns     24 arrays of m (n + p) numbers of 8 bytes
    answers     4 arrays of d numbers of 8 bytes for each class; while C is chosen, 16 bytes for
                each held-out row and value of C

In short: rows + Gram + so many blocks, whatever the number of classes, since the rest is small
where n and d are large.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from vggfeat.malloc import keep_freed_blocks
from vggfeat.probe.targets import Classifier, Targets, groups_of
from vggfeat.progress import Progress, part_of, silent
from vggfeat.solver.deflation import Deflation
from vggfeat.solver.newton import Solution, minimise
from vggfeat.solver.rows import Positions, Rows, moments
from vggfeat.solver.spaces import Features, Gram, Space, gram
from vggfeat.solver.systems import Systems

Array = npt.NDArray[np.float64]

Stage = tuple[float | Array, float]
"""C, one or one a group, and by how much the last Newton step may change a decision value."""

MOST_GRAM_ROWS = 16_384
"""Rows up to which a Gram matrix may be made, whatever d is: 2 GiB."""

SEARCH, FINAL = 1e-3, 1e-9
"""By how much the last Newton step may change a decision value, while C is chosen and at the end;
steps shrink so fast that what is left is far smaller."""

WARMING = (0.01, 0.1, 1.0)
"""Shares of C that are solved for one after the other."""

CONSTANT = 1e-12
"""Share of rows' squared length up to which how they vary is their rounding: C then is chosen in
units of one over that length."""

COLUMN_BYTES = 256 << 20
"""What arrays of columns may take: columns are solved so many at a time."""

_A_COLUMN = 24  # arrays of n + p numbers of 8 bytes that a column takes

_log = logging.getLogger(__name__)


class Effort(NamedTuple):
    """Newton steps of the slowest column, and the most that its last one changed a score."""

    steps: int
    change: float


class Tally(Protocol):
    """Scores decision values of held-out rows, which come in blocks of columns."""

    def add(self, stage: int, columns: slice, f: Array) -> None:
        """Take the decision values (r, b) of some columns at a value of C."""

    def values(self) -> Array:
        """Return the score of each value of C: (c,), or (c, columns) of one a column."""


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
        varied = square - float(mean @ mean)
        self.spread = (varied if varied > CONSTANT * square else square) or 1.0
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
            ``score(rows, c)`` makes a :class:`Tally` of held-out `rows` at `c` values.
        progress : Progress
            Told shares of the work.

        Returns
        -------
        ndarray of shape (c,) or (c, columns)
            Means over the parts.
        """
        stages = [(C, SEARCH) for C in grid.tolist()]
        scores = []
        for part, held_out in parts:
            tally = score(held_out, len(grid))
            paths = self._paths(part, stages, float(grid[-1]), part_of(progress, 1 / len(parts)))
            for space, columns, path in paths:
                for stage, solution in enumerate(path):
                    tally.add(stage, columns, self._scores(space, held_out, solution.V))
            scores.append(tally.values())
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
        rows = np.concatenate([held_out for _, held_out in parts])
        scores, first = np.empty((len(rows), self.targets.columns)), 0
        for part, held_out in parts:
            own = slice(first, first := first + len(held_out))
            paths = self._paths(part, stages, float(C.max()), part_of(progress, 1 / len(parts)))
            for space, columns, path in paths:
                V = last(path).V
                scores[own, columns] = self._scores(space, held_out, V)
        return rows, scores

    def fit(self, C: Array, progress: Progress = silent) -> tuple[Array, Array, Effort]:
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
        effort : Effort
            Its `change` is above :data:`FINAL` where `most_steps` did not suffice.
        """
        everything = np.arange(self.rows.shape[0])
        stages = [*((C * share, SEARCH) for share in WARMING), (C, FINAL)]
        coef = np.empty((self.targets.columns, self.rows.shape[1]))
        intercept, efforts = np.empty(len(coef)), [(0, 0.0)]
        for _, columns, path in self._paths(everything, stages, float(C.max()), progress):
            solution = last(path)
            coef[columns] = self._weights(solution.V)
            own = coef[columns] @ self._mean
            intercept[columns] = self._anchored(solution.V)[-1] - own
            efforts.append((solution.steps, solution.change))
        steps, changes = zip(*efforts, strict=True)
        return coef, intercept, Effort(max(steps), max(changes))

    def _paths(
        self, rows: Positions, stages: Sequence[Stage], largest_C: float, progress: Progress
    ) -> Iterator[tuple[Space, slice, Iterator[Solution]]]:
        """Yield a block of columns after the other, with its solutions for rising values of C."""
        space = self._space(rows, largest_C)
        deflation = Deflation(space, self.seed)
        columns, groups = self.targets.columns, groups_of(self.targets, self.classifier)
        width = columns // groups
        step = COLUMN_BYTES // (8 * _A_COLUMN * (space.n + space.dimension))
        step = max(1, step // width)
        for first in range(0, groups, step):
            block = slice(first, min(first + step, groups))
            systems, share = Systems(space, deflation), (block.stop - first) / groups
            path = self._path(systems, rows, block, stages, part_of(progress, share))
            yield space, slice(first * width, block.stop * width), path

    def _path(
        self,
        systems: Systems,
        rows: Positions,
        groups: slice,
        stages: Sequence[Stage],
        progress: Progress,
    ) -> Iterator[Solution]:
        """Yield the solutions for rising values of C, each from the one before, which it takes."""
        solution: Solution | None = None
        every = groups_of(self.targets, self.classifier)
        for C, tolerance in stages:
            own = np.broadcast_to(C, every)[groups]
            solution = minimise(
                systems,
                self.targets.loss(self.classifier, rows, own, groups),
                start=solution,
                tolerance=tolerance,
                most_steps=self.most_steps,
                exact=tolerance == FINAL or systems.space.working == np.float64,
            )
            _log.debug("C up to %.3g: %d Newton steps", np.max(C), solution.steps)
            progress("training", 1 / len(stages), 1)
            yield solution

    def _space(self, rows: Positions, largest_C: float) -> Space:
        """Return coordinates, in single precision unless the problem is too ill-conditioned."""
        condition = 4 * largest_C * self.targets.heaviest * len(rows)
        working = np.float32 if condition * np.finfo(np.float32).eps < 1 else np.float64
        if self._gram is not None:
            return Gram(self._gram, rows, penalised=self._penalised, working=working)
        return Features(
            self.rows.subset(rows), self._mean, penalised=self._penalised, working=working
        )

    def _anchored(self, V: Array) -> Array:
        """Let intercepts of exclusive classes sum to 0; only their differences mean something."""
        if not (self.targets.together and self.classifier == "logreg"):
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


def last(path: Iterator[Solution]) -> Solution:
    """Return where a path ends."""
    for solution in path:  # noqa: B007
        pass
    return solution
