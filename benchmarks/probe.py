"""Time the choice of C for all classes, folds and values at once, against one LinearSVC for each.

Two problems of the sizes of VOC-2007 (5,011 rows, 20 labels) and Caltech-101 (9,000 rows, 102
classes), on made-up features that are like those of the paper's dense evaluation: 4,096 rectified
numbers, sums of latent factors of falling variance that classes shift a little, averaged over
several views, L2-normalised. Nine values of C and three folds: every combination is one fit of
scikit-learn's LinearSVC, of which each core runs one at a time; ours solves them together.

LinearSVC solves the dual problem or the primal one. Both are timed, dual="auto" (its default, which
takes the primal for more rows than features) and dual=True, and the faster one is the baseline. As
all these fits take many minutes, a random sample of them is run, equally many for each C, and their
own seconds are scaled up, as if no core ever waited or copied rows; `--sample 0` runs them all.
Contestants take turns, each in processes of its own.

At its default tolerance LinearSVC's decision values are off, so that a smaller sample is fitted
again with tol=1e-8: these are the answers that ours must have.

`--protocol` times the paper's own way instead: LinearProbe with its defaults, which chooses C on
20 % of the training images and refits, on VOC-2007's trainval (5,011 x 4,096) and on Caltech-101's
(102 x 30 images, three scales stacked: 3,060 x 12,288).

`--factors` does so in turns with the Cholesky factors of `vggfeat.solver.factors` and without,
where conjugate gradients make every step.

    python benchmarks/probe.py
    python benchmarks/probe.py --protocol
    python benchmarks/probe.py --factors
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import click
import joblib
import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score
from sklearn.svm import LinearSVC

from vggfeat.probe import LinearProbe
from vggfeat.probe.choosing import GRID, by_precision, parts_of
from vggfeat.probe.split import rarest
from vggfeat.probe.targets import Several, multi_label
from vggfeat.probe.training import Training
from vggfeat.solver.rows import Rows, moments
from vggfeat.solver.systems import Systems

FOLDS = 3
SHIFT = {"voc": 0.12, "caltech": 0.20}  # how far classes shift factors: how easy the problem is
SOLVERS: dict[str, dict[str, Any]] = {
    'LinearSVC, dual="auto"': {"dual": "auto"},
    "LinearSVC, dual=True": {"dual": True},
}
EXACT = {"dual": True, "tol": 1e-8, "max_iter": 100_000}

Matrix = npt.NDArray[Any]
Fit = tuple[int, int, int]  # fold, position of C, class


def labels(problem: str, rng: np.random.Generator) -> Matrix:
    """Draw an indicator matrix: several labels a row, one far commoner, or one of 102 classes."""
    if problem == "voc":
        share = np.geomspace(0.04, 0.12, 20)
        share[14] = 0.4
        Y = rng.random((5011, 20)) < share
        empty = np.flatnonzero(~Y.any(axis=1))
        Y[empty, rng.integers(0, 20, len(empty))] = True
        return Y.astype(np.float64)
    share = np.geomspace(1, 12, 102)
    return np.eye(102)[rng.choice(102, 9000, p=share / share.sum())]


def features(
    Y: Matrix, shift: float, rng: np.random.Generator, d: int = 4096, scales: int = 1
) -> Matrix:
    """Draw features (n, scales * d), float32, of rows with labels `Y`."""
    spread = np.float32(np.arange(1, d + 1) ** -0.5)
    spread /= np.sqrt((spread**2).mean())
    factors = rng.standard_normal((len(Y), d), np.float32) * spread
    centres = rng.standard_normal((Y.shape[1], d), np.float32) * np.sqrt(spread)
    factors += shift * Y.astype(np.float32) @ centres
    mixed = factors @ (rng.standard_normal((d, d), np.float32) / np.float32(np.sqrt(d)))
    found = []
    for _ in range(scales):
        X = np.zeros_like(mixed)
        for _ in range(8):
            view = 0.8 * rng.standard_normal(X.shape, np.float32) + 0.6 * mixed - 0.7
            X += np.maximum(view, 0, out=view)
        found.append(X / np.linalg.norm(X, axis=1, keepdims=True))
    return np.hstack(found)


def problem_of(folder: Path) -> tuple[Matrix, Several, list[Any]]:
    """Read features, targets and folds."""
    targets = multi_label(np.load(folder / "Y.npy"), None)
    return np.load(folder / "X.npy"), targets, parts_of(rarest(targets.present), FOLDS, 0)


def peak() -> float:
    """Return the most memory this process has held, in GiB (Linux)."""
    # not getrusage: a child starts there with what its parent held
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) / 2**20


def alone(job: Callable[..., Any], *arguments: Any) -> Any:
    """Run a job in a process of its own and return what it puts into its queue."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=job, args=(results, *arguments))
    process.start()
    found = results.get()
    process.join()
    return found


class Kept(NamedTuple):
    """Scores decision values and keeps them, (c, rows, columns)."""

    score: Any
    f: Matrix

    def add(self, stage: int, columns: slice, f: Matrix) -> None:
        """Take some columns."""
        self.f[stage, :, columns] = f
        self.score.add(stage, columns, f)

    def values(self) -> Matrix:
        """Return the scores."""
        return np.asarray(self.score.values())


def ours(results: Any, folder: Path) -> None:
    """Solve everything at once: seconds, CPU seconds, memory before and at most, mAP by C."""
    X, targets, parts = problem_of(folder)
    before, held = peak(), []
    score = by_precision(targets)

    def keep(rows: Any, count: int) -> Any:
        held.append(Kept(score(rows, count), np.empty((count, len(rows), targets.columns), "f4")))
        return held[-1]

    start, cpu = time.perf_counter(), time.process_time()
    training = Training(Rows(X), "svm", targets, seed=0, most_steps=100)
    values = np.array(GRID) / training.spread
    found = training.choose(values, parts, keep)
    seconds = time.perf_counter() - start, time.process_time() - cpu
    np.savez(
        folder / "ours.npz",
        **{f"f{i}": f for i, f in enumerate(f for kept in held for f in kept.f)},
        C=values,
    )
    results.put((*seconds, before, peak(), found.mean(axis=1)))


def protocol(results: Any, folder: Path, factors: bool = True) -> None:
    """Choose C on 20 % and refit: seconds, CPU seconds, peak memory."""
    if not factors:
        Systems.factorised = lambda _, names, __: np.zeros(len(names), bool)
    X, y = np.load(folder / "X.npy"), np.load(folder / "Y.npy")
    start, cpu = time.perf_counter(), time.process_time()
    LinearProbe().fit(X, y)
    results.put((time.perf_counter() - start, time.process_time() - cpu, peak()))


class Fitted(NamedTuple):
    """One fit of the reference: held-out decision values, and what it took."""

    f: Matrix
    seconds: float
    cpu: float
    peak: float


def one_fit(folder: Path, fold: int, C: float, k: int, options: dict[str, Any]) -> Fitted:
    """Fit one LinearSVC and apply it to the fold's held-out rows."""
    if not hasattr(one_fit, "data"):  # once a process
        X, targets, parts = problem_of(folder)
        one_fit.data = np.float64(X), targets, parts
    X, targets, parts = one_fit.data
    train, held_out = parts[fold]
    rows = X[train]
    start, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        svm = LinearSVC(C=C, random_state=0, **options).fit(rows, targets.codes[train, k])
    f = svm.decision_function(X[held_out])
    return Fitted(f, time.perf_counter() - start, time.process_time() - cpu, peak())


def sampled(columns: int, of_each: int, rng: np.random.Generator) -> list[Fit]:
    """Draw fits, `of_each` value of C; all where it is 0."""
    pairs = list(product(range(FOLDS), range(columns)))
    fits = [
        (pairs[i][0], c, pairs[i][1])
        for c in range(len(GRID))
        for i in rng.permutation(len(pairs))[: of_each or None]
    ]
    return [fits[i] for i in rng.permutation(len(fits))]


class Answers:
    """How far decision values and average precision of the reference are from ours."""

    def __init__(self, folder: Path) -> None:
        self.ours = np.load(folder / "ours.npz")
        _, self.targets, self.parts = problem_of(folder)
        self.off: list[float] = []
        self.precisions: list[tuple[float, float]] = []

    def add(self, fits: Sequence[Fit], found: Sequence[Fitted]) -> None:
        """Compare some fits."""
        for (fold, c, k), fitted in zip(fits, found, strict=True):
            mine = self.ours[f"f{fold * len(GRID) + c}"][:, k]
            y = self.targets.codes[self.parts[fold][1], k] > 0
            self.off.append(float(np.abs(mine - fitted.f).max()))
            both = (average_precision_score(y, f) for f in (mine, fitted.f))
            self.precisions.append(tuple(both))

    def __str__(self) -> str:
        one, other = np.mean(self.precisions, axis=0)
        return (
            f"{max(self.off):.1e}; mAP of these {len(self.off)} fits: ours {one:.3%}, "
            f"theirs {other:.3%}"
        )


def compare(folder: Path, problem: str, rounds: int, sample: int, exact: int, seed: int) -> None:
    """Print what one problem takes."""
    cores, rng = joblib.cpu_count(), np.random.default_rng(seed)
    X, targets, _ = problem_of(folder)
    columns = targets.columns
    fits = sampled(columns, sample, rng)
    mean, square = moments(Rows(X))
    C = np.array(GRID) / (square - mean @ mean)
    runs: list[Any] = []
    found: dict[str, list[Fitted]] = {name: [] for name in SOLVERS}
    with joblib.Parallel(n_jobs=cores, batch_size=1, pre_dispatch="all") as parallel:

        def run(some: Sequence[Fit], options: dict[str, Any]) -> list[Fitted]:
            jobs = [(folder, fold, float(C[c]), k, options) for fold, c, k in some]
            return list(parallel(joblib.delayed(one_fit)(*job) for job in jobs))

        run([(0, 0, 0)] * 2 * cores, SOLVERS["LinearSVC, dual=True"])  # data are read
        for turn in range(rounds + 1):
            for name, options in SOLVERS.items():
                found[name] += run(fits[turn :: rounds + 1], options)
            if turn < rounds:
                runs.append(alone(ours, folder))
        few = sampled(columns, exact, rng)
        truth = run(few, EXACT)
    order = [fit for turn in range(rounds + 1) for fit in fits[turn :: rounds + 1]]
    factor = FOLDS * len(GRID) * columns / len(fits)
    wall, cpu = (statistics.median(run[i] for run in runs) for i in (0, 1))
    click.echo(
        f"{problem}: {X.shape[0]:,} x {X.shape[1]:,} ({(X > 0).mean():.0%} above 0), {columns} "
        f"classes, {len(GRID)} values of C, {FOLDS} folds; best held-out mAP {max(runs[0][4]):.1%}"
    )
    rows = [["", "wall, s", "CPU, s", "peak, GiB"]]
    rows += [["ours", f"{wall:.1f}", f"{cpu:.1f}", f"{runs[-1][3]:.2f}"]]
    walls = {}
    for name, those in found.items():
        walls[name] = factor * sum(fit.seconds for fit in those) / cores
        all_cpu = factor * sum(fit.cpu for fit in those)
        memory = cores * max(fit.peak for fit in those)
        rows += [[name, f"{walls[name]:.0f}", f"{all_cpu:.0f}", f"{memory:.2f}"]]
    faster = min(walls, key=walls.__getitem__)
    for row in rows:
        click.echo(f"  {row[0]:24}" + "".join(f"{cell:>11}" for cell in row[1:]))
    each = ", ".join(f"{run[0]:.1f}" for run in runs)
    click.echo(
        f"  {walls[faster] / wall:.1f} times faster than {faster}. Ours: {each} s, "
        f"{runs[-1][2]:.2f} GiB are features and libraries.\n"
        f"  LinearSVC: {cores} at a time, scaled up from {len(fits)} of "
        f"{round(factor * len(fits))} fits; the last process's memory {cores} times."
    )
    click.echo("  Largest difference of a decision value from ours:")
    for name, some, those in [
        ("LinearSVC, tol=1e-8", few, truth),
        *((name, order, those) for name, those in found.items()),
    ]:
        answers = Answers(folder)
        answers.add(some, those)
        click.echo(f"    {name:24} {answers}")


@click.command()
@click.option("--problem", type=click.Choice(["voc", "caltech", "both"]), default="both")
@click.option("--protocol", "as_paper", is_flag=True, help="Time the paper's own way instead.")
@click.option("--factors", is_flag=True, help="As --protocol, with and without factors in turns.")
@click.option("--rounds", default=1, show_default=True, help="Of ours; the median counts.")
@click.option("--sample", default=2, show_default=True, help="Reference fits of each C; 0: all.")
@click.option("--exact", default=1, show_default=True, help="Fits with tol=1e-8 of each C.")
@click.option("--seed", default=0, show_default=True)
def main(
    problem: str,
    as_paper: bool,
    factors: bool,
    rounds: int,
    sample: int,
    exact: int,
    seed: int,
) -> None:
    """Measure the choice of C."""
    as_paper |= factors
    for name in ("voc", "caltech") if problem == "both" else (problem,):
        with tempfile.TemporaryDirectory() as scratch:
            folder, rng = Path(scratch), np.random.default_rng(seed)
            paper = as_paper and name == "caltech"
            Y = np.repeat(np.eye(102), 30, axis=0) if paper else labels(name, rng)
            X = features(Y, SHIFT[name], rng, scales=3 if paper else 1)
            np.save(folder / "X.npy", X)
            np.save(folder / "Y.npy", Y.argmax(axis=1) if paper else Y)
            if not as_paper:
                compare(folder, name, rounds, sample, exact, seed)
                continue
            ways = {True: "", False: ", without factors"} if factors else {True: ""}
            turns = [{way: alone(protocol, folder, way) for way in ways} for _ in range(rounds)]
            for way, told in ways.items():
                runs = [turn[way] for turn in turns]
                wall, cpu, memory = (statistics.median(run[i] for run in runs) for i in range(3))
                click.echo(
                    f"{name}: {X.shape[0]:,} x {X.shape[1]:,}, {Y.shape[1]} classes: C chosen on "
                    f"20 % and refitted in {wall:.1f} s ({cpu:.1f} CPU s), peak {memory:.2f} GiB"
                    f"{told}"
                )


if __name__ == "__main__":
    main()
