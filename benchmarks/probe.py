"""Time the choice of C for all classes, folds and values at once, against one LinearSVC for each.

Two problems of the sizes of VOC-2007 (5,011 rows, 20 labels) and Caltech-101 (9,000 rows, 102
classes), on made-up features that are like those of the paper's dense evaluation: 4,096 rectified
numbers, sums of latent factors of falling variance that classes shift a little, averaged over
several views, L2-normalised. Nine values of C and three folds: every combination is one fit of
scikit-learn's LinearSVC, run by joblib on all cores; ours solves them together. LinearSVC solves
the dual problem, also where dual="auto" would take the primal one, for more rows than features:
that is slower here, and at the usual tolerance its decision values are off by up to 0.1.

As all reference fits take many minutes, a random sample of them is run, equally many for each C,
and their time is scaled up; `--sample 0` runs them all. The same sample is compared with ours:
decision values of held-out rows, and average precision. Each contestant has processes of its own.

    python benchmarks/probe.py
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import click
import joblib
import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score
from sklearn.svm import LinearSVC

from vggfeat.probe.choosing import GRID, by_precision, parts_of, rarest
from vggfeat.probe.rows import Rows
from vggfeat.probe.targets import Targets, multi_label
from vggfeat.probe.training import Training

FOLDS = 3
SHIFT = {"voc": 0.12, "caltech": 0.20}  # how far classes shift factors: how easy the problem is


def labels(problem: str, rng: np.random.Generator) -> npt.NDArray[np.float64]:
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


def features(Y: npt.NDArray[np.float64], shift: float, rng: np.random.Generator, d: int = 4096):
    """Draw features (n, d), float32, of rows with labels `Y`."""
    scale = np.float32(np.arange(1, d + 1) ** -0.5)
    scale /= np.sqrt((scale**2).mean())
    factors = rng.standard_normal((len(Y), d), np.float32) * scale
    factors += (
        shift
        * Y.astype(np.float32)
        @ (rng.standard_normal((Y.shape[1], d), np.float32) * np.sqrt(scale))
    )
    mixed = factors @ (rng.standard_normal((d, d), np.float32) / np.float32(np.sqrt(d)))
    X = np.zeros_like(mixed)
    for _ in range(8):
        view = 0.8 * rng.standard_normal(X.shape, np.float32) + 0.6 * mixed - 0.7
        X += np.maximum(view, 0, out=view)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X


def problem_of(folder: Path) -> tuple[npt.NDArray[np.float32], Targets, list[Any]]:
    """Read features, targets and folds."""
    targets = multi_label(np.load(folder / "Y.npy"), None)
    return np.load(folder / "X.npy"), targets, parts_of(rarest(targets), FOLDS, 0)


def peak() -> float:
    """Return the most memory this process has held, in GiB (Linux)."""
    # not getrusage: a child starts there with what its parent held
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) / 2**20


def ours(folder: Path, results: Any) -> None:
    """Solve everything at once."""
    X, targets, parts = problem_of(folder)
    before, held = peak(), []
    score = by_precision(targets)

    def keep(rows: Any, f: Any) -> Any:
        held.append(np.float32(f))
        return score(rows, f)

    start, cpu = time.perf_counter(), time.process_time()
    training = Training(Rows(X), "svm", targets, seed=0, most_steps=100)
    values = np.array(GRID) / training.spread
    found = training.choose(values, parts, keep)
    seconds = time.perf_counter() - start, time.process_time() - cpu
    np.savez(folder / "ours.npz", **{f"f{i}": f for i, f in enumerate(held)}, C=values)
    results.put((*seconds, before, peak(), found.mean(axis=1)))


def one_fit(folder: Path, fold: int, C: float, k: int) -> tuple[Any, ...]:
    """Fit one LinearSVC and apply it to the fold's held-out rows."""
    if not hasattr(one_fit, "data"):  # once a process
        one_fit.data = problem_of(folder)
        one_fit.data = (np.float64(one_fit.data[0]), *one_fit.data[1:])
    X, targets, parts = one_fit.data
    train, held_out = parts[fold]
    cpu = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        svm = LinearSVC(C=C, dual=True, random_state=0).fit(X[train], targets.y[train, k])
    f = svm.decision_function(X[held_out])
    return f, time.process_time() - cpu, os.getpid(), peak()


def reference(folder: Path, fits: list[tuple[int, float, int]], cores: int) -> tuple[Any, ...]:
    """Run the reference's fits on all cores; return results, wall and CPU seconds, memory."""
    with joblib.Parallel(n_jobs=cores, batch_size=1, pre_dispatch="all") as parallel:
        few = [fits[i % len(fits)] for i in range(2 * cores)]
        parallel(joblib.delayed(one_fit)(folder, *fit) for fit in few)  # warm: data are read
        start = time.perf_counter()
        done = parallel(joblib.delayed(one_fit)(folder, *fit) for fit in fits)
        wall = time.perf_counter() - start
    memory = {pid: used for _, _, pid, used in done}
    return [f for f, *_ in done], wall, sum(cpu for _, cpu, *_ in done), sum(memory.values())


def sampled(columns: int, of_each: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Draw fits (fold, position of C, class), `of_each` value of C; all where it is 0."""
    pairs = list(product(range(FOLDS), range(columns)))
    fits = [
        (pairs[i][0], c, pairs[i][1])
        for c in range(len(GRID))
        for i in rng.permutation(len(pairs))[: of_each or None]
    ]
    return [fits[i] for i in rng.permutation(len(fits))]


def compare(folder: Path, problem: str, rounds: int, sample: int, seed: int) -> None:
    """Print what one problem takes."""
    context = multiprocessing.get_context("spawn")
    runs = []
    for _ in range(rounds):
        results = context.Queue()
        process = context.Process(target=ours, args=(folder, results))
        process.start()
        runs.append(results.get())
        process.join()
    wall, cpu = (statistics.median(run[i] for run in runs) for i in (0, 1))
    found = np.load(folder / "ours.npz")
    X, targets, parts = problem_of(folder)
    columns, cores = targets.y.shape[1], joblib.cpu_count()
    fits = sampled(columns, sample, np.random.default_rng(seed))
    asked = [(fold, float(found["C"][c]), k) for fold, c, k in fits]
    decisions, ref_wall, ref_cpu, ref_memory = reference(folder, asked, cores)
    total = FOLDS * len(GRID) * columns
    factor = total / len(fits)
    off, ap_ours, ap_reference = [], [], []
    for (fold, c, k), f in zip(fits, decisions, strict=True):
        mine = found[f"f{fold * len(GRID) + c}"][:, k]
        y = targets.y[parts[fold][1], k] > 0
        off.append(np.abs(mine - f).max())
        ap_ours.append(average_precision_score(y, mine))
        ap_reference.append(average_precision_score(y, f))
    click.echo(
        f"{problem}: {X.shape[0]:,} x {X.shape[1]:,} ({(X > 0).mean():.0%} above 0), {columns} "
        f"classes, {len(GRID)} values of C from {found['C'][0]:.2g} to {found['C'][-1]:.3g}, "
        f"{FOLDS} folds; best held-out mAP {max(runs[0][4]):.1%}"
    )
    all_wall, all_cpu = ref_wall * factor, ref_cpu * factor
    rows = [
        ["", "wall, s", "CPU, s", "peak, GiB"],
        ["ours", f"{wall:.1f}", f"{cpu:.1f}", f"{runs[-1][3]:.2f}"],
        ["one LinearSVC each", f"{all_wall:.0f}", f"{all_cpu:.0f}", f"{ref_memory:.2f}"],
        ["ratio", f"{all_wall / wall:.1f}", f"{all_cpu / cpu:.1f}", ""],
    ]
    for row in rows:
        click.echo(f"  {row[0]:20}" + "".join(f"{cell:>11}" for cell in row[1:]))
    click.echo(
        f"  Ours: median of {rounds}, {runs[-1][2]:.2f} GiB are features and libraries. LinearSVC: "
        f"on {cores} cores, scaled up from {len(fits)} of {total} fits."
    )
    click.echo(
        f"  The same answers: decision values differ by at most {max(off):.1e}, "
        f"mAP of these fits {np.mean(ap_ours):.4%} and {np.mean(ap_reference):.4%}."
    )


@click.command()
@click.option("--problem", type=click.Choice(["voc", "caltech", "both"]), default="both")
@click.option("--rounds", default=3, show_default=True, help="Of ours; the median counts.")
@click.option("--sample", default=6, show_default=True, help="Reference fits of each C; 0: all.")
@click.option("--seed", default=0, show_default=True)
def main(problem: str, rounds: int, sample: int, seed: int) -> None:
    """Measure the choice of C."""
    for name in ("voc", "caltech") if problem == "both" else (problem,):
        with tempfile.TemporaryDirectory() as scratch:
            rng = np.random.default_rng(seed)
            Y = labels(name, rng)
            np.save(Path(scratch) / "Y.npy", Y)
            np.save(Path(scratch) / "X.npy", features(Y, SHIFT[name], rng))
            compare(Path(scratch), name, rounds, sample, seed)


if __name__ == "__main__":
    main()
