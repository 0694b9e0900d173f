"""Time a probe's whole grid of C where rows are short, or classes are many, against LinearSVC.

Features are those of `benchmarks/probe.py`, 102 classes, L2-normalised, 256 or 512 numbers long:
3,060 rows (Caltech-101's 30 images a class) or ten times as many. All values of C are solved on
all rows, by ours together and by scikit-learn's LinearSVC one after the other, primal and dual, of
which the faster counts at each C. Contestants take turns; seconds are those of one core, so that
neither gains by threads. Then the objectives reached are compared, class by class.

With `--many`: 3,000 classes of 3 rows, 128 numbers, each contestant in a process of its own, which
says what memory it takes beyond data and imports.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/probe_sizes.py
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/probe_sizes.py --images 300 --every 4
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/probe_sizes.py --many
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from probe import SHIFT, alone, features, peak
from sklearn.svm import LinearSVC

from vggfeat.probe import LinearProbe
from vggfeat.probe.choosing import GRID
from vggfeat.probe.targets import single_label
from vggfeat.probe.training import Training
from vggfeat.solver.rows import Rows

CLASSES = 102
Matrix = npt.NDArray[Any]


class Kept:
    """Keeps decision values, by their place among the values of C."""

    def __init__(self, rows: Matrix, count: int) -> None:
        self.f = np.empty((count, len(rows), CLASSES))

    def add(self, stage: int, columns: slice, f: Matrix) -> None:
        """Keep some columns."""
        self.f[stage, :, columns] = f

    def values(self) -> Matrix:
        """Return all, as if they were scores."""
        return self.f


def objectives(y: Matrix, W: Matrix, f: Matrix, C: float) -> Matrix:
    """Return what LinearSVC minimises, of each class, for weights (d + 1, K) of scores (n, K)."""
    signs = np.where(y[:, None] == np.arange(CLASSES), 1, -1)
    return (W**2).sum(axis=0) / 2 + C * (np.maximum(0, 1 - signs * f) ** 2).sum(axis=0)


def grid(d: int, images: int, every: int, rounds: int, seed: int) -> None:
    """Print what one size takes."""
    Y = np.repeat(np.eye(CLASSES), images, axis=0)
    X = features(Y, SHIFT["caltech"], np.random.default_rng(seed), d=d)
    y = Y.argmax(axis=1)
    rows = np.arange(len(y))
    ones = np.column_stack([np.float64(X), np.ones(len(X))])
    ours: list[float] = []
    theirs: dict[tuple[int, bool], list[float]] = {}
    for turn in range(rounds):
        start = time.process_time()
        targets = single_label(y, np.arange(CLASSES), None)
        training = Training(Rows(X), "svm", targets, seed=0, most_steps=100)
        values = np.array(GRID)[::every] / training.spread
        f = training.choose(values, [(rows, rows)], Kept)
        ours.append(time.process_time() - start)
        excess = []
        for at, C in enumerate(values):
            W = np.linalg.lstsq(ones, f[at], rcond=None)[0]
            mine = objectives(y, W, f[at], C)
            for dual in (False, True):
                start = time.process_time()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    svm = LinearSVC(C=C, dual=dual, random_state=0).fit(ones[:, :-1], y)
                theirs.setdefault((at, dual), []).append(time.process_time() - start)
                V = np.vstack([svm.coef_.T, svm.intercept_])
                excess.append((mine / objectives(y, V, ones @ V, C) - 1).max())
        click.echo(
            f"{len(X):,} x {d}, turn {turn + 1}: ours {ours[-1]:.1f} s; no objective is above "
            f"LinearSVC's by more than {max(0, *excess):.1e} of it"
        )
    middle = {key: float(np.median(seconds)) for key, seconds in theirs.items()}
    sums = [sum(middle[at, dual] for at in range(len(values))) for dual in (False, True)]
    best = sum(min(middle[at, dual] for dual in (False, True)) for at in range(len(values)))
    mine = float(np.median(ours))
    click.echo(
        f"{len(X):,} x {d}, {CLASSES} classes, {len(values)} values of C, {rounds} turns, medians: "
        f"ours {mine:.1f} s; LinearSVC primal {sums[0]:.1f} s, dual {sums[1]:.1f} s, the faster at "
        f"each C {best:.1f} s: {best / mine:.1f} times ours"
    )


def many(results: Any, name: str, seed: int) -> None:
    """Train on 3,000 classes: seconds, and GiB beyond data and imports."""
    rng, K = np.random.default_rng(seed), 3000
    y = np.repeat(np.arange(K), 3)
    X = rng.standard_normal((K, 128))[y] + rng.standard_normal((len(y), 128))
    X = np.float32(X / np.linalg.norm(X, axis=1, keepdims=True))
    before, start = peak(), time.process_time()
    if name == "LinearProbe":
        LinearProbe().fit(X, y)
    elif name == "LinearProbe, C=1":
        LinearProbe(C=1).fit(X, y)
    else:
        LinearSVC(C=1, dual=name.endswith("dual")).fit(X, y)
    results.put((time.process_time() - start, peak() - before))


@click.command()
@click.option("--images", default=30, show_default=True, help="Rows of a class.")
@click.option("--every", default=1, show_default=True, help="Of the grid's values of C.")
@click.option("--rounds", default=1, show_default=True)
@click.option("--many", "of_many", is_flag=True, help="3,000 classes instead.")
@click.option("--seed", default=0, show_default=True)
def main(images: int, every: int, rounds: int, of_many: bool, seed: int) -> None:
    """Measure short rows, or many classes."""
    if of_many:
        for _ in range(rounds):
            for name in ("LinearProbe", "LinearProbe, C=1", "LinearSVC primal", "LinearSVC dual"):
                seconds, memory = alone(many, name, seed)
                click.echo(f"9,000 x 128, 3,000 classes: {name} {seconds:.0f} s, {memory:.2f} GiB")
        return
    for d in (256, 512):
        grid(d, images, every, rounds, seed)


if __name__ == "__main__":
    main()
