"""Time ridge regression of many targets beside himalaya and scikit-learn.

Made-up features like those of `benchmarks/probe.py` and targets that are linear in them plus noise,
5 folds, 10 penalties, float32 for all. Every contestant chooses each target's penalty by its mean
R2 over the same folds and gives the coefficients of all rows:

- ours: `RidgeProbe`;
- himalaya's `KernelRidgeCV` and `RidgeCV`, with its NumPy backend and with torch on the CPU, its
  targets in batches as its documentation advises. The coefficients of the former are those of
  rows, not of features, so that a product is left to be done, and not counted;
- scikit-learn: one `Ridge` for all targets at each penalty and fold, which then are scored target
  by target, and one at each penalty for the coefficients; its own `RidgeCV` chooses one penalty
  for all targets where it is given folds. A sample of these fits is run, and scaled up.

Contestants take turns, each in a process of its own with `--threads` threads. Where others run on
the machine, CPU seconds say more than seconds. Answers are compared with those of `RidgeCV` in
float64, run target by target for `--exact` targets; and all targets with himalaya's.

    python benchmarks/ridge.py
    python benchmarks/ridge.py --rows 1250 --features 1024 --targets 5000   # a small one

himalaya comes with the extra `bench`.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from contestants import Found, alone, measured

Matrix = npt.NDArray[Any]


def make(folder: Path, n: int, d: int, t: int, penalties: int, folds: int, seed: int) -> None:
    """Write features, targets, penalties and folds."""
    from probe import features
    from sklearn.model_selection import KFold

    rng = np.random.default_rng(seed)
    X = features(np.zeros((n, 1)), 0, rng, d)
    X /= X.std()
    signal = (X - X.mean(axis=0)) @ rng.standard_normal((d, t), np.float32)
    share = rng.uniform(0, 1, t).astype(np.float32)
    Y = signal / signal.std(axis=0) * np.sqrt(share)
    Y += rng.standard_normal((n, t), np.float32) * np.sqrt(1 - share)
    spread = float(((X - X.mean(axis=0)) ** 2).sum(axis=1).mean())
    fold = np.empty(n, np.int64)
    for k, (_, held_out) in enumerate(KFold(folds, shuffle=True, random_state=seed).split(X)):
        fold[held_out] = k
    np.save(folder / "X.npy", X)
    np.save(folder / "Y.npy", Y)
    np.savez(folder / "grid.npz", alphas=np.logspace(-1, 3.5, penalties) * spread, fold=fold)


def problem(folder: Path) -> tuple[Matrix, Matrix, Matrix, Any]:
    """Read them."""
    from sklearn.model_selection import PredefinedSplit

    grid = np.load(folder / "grid.npz")
    X, Y = np.load(folder / "X.npy"), np.load(folder / "Y.npy")
    return X, Y, grid["alphas"], PredefinedSplit(grid["fold"])


def ours(folder: Path) -> Found:
    from vggfeat import RidgeProbe

    X, Y, alphas, cv = problem(folder)
    found, took = measured(lambda: RidgeProbe(alphas, cv=cv).fit(X, Y))
    np.savez(folder / "ours.npz", alpha=found.alpha_, r2=found.best_score_, coef=found.coef_[:50])
    return took


def himalaya(name: str, backend: str) -> Callable[[Path], Found]:
    def run(folder: Path) -> Found:
        import himalaya.kernel_ridge
        import himalaya.ridge
        from himalaya.backend import set_backend
        from himalaya.scoring import r2_score

        own = set_backend(backend)
        X, Y, alphas, cv = problem(folder)
        batches = {"n_targets_batch": 1000, "n_targets_batch_refit": 1000, "n_alphas_batch": 5}
        made: Any = {
            "KernelRidgeCV": himalaya.kernel_ridge.KernelRidgeCV,
            "RidgeCV": himalaya.ridge.RidgeCV,
        }[name](
            alphas=np.float32(alphas),
            fit_intercept=True,
            cv=cv,
            solver_params={"score_func": r2_score, **batches},
        )
        found, took = measured(lambda: made.fit(own.asarray(X), own.asarray(Y)))
        np.savez(
            folder / f"{name}-{backend}.npz",
            alpha=own.to_numpy(found.best_alphas_),
            r2=own.to_numpy(found.cv_scores_).ravel(),
        )
        return took

    return run


def sklearn_fits(folder: Path, sample: int = 2) -> Found:
    """Time some of the fits of scikit-learn's Ridge, scaled up to all of them."""
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score

    X, Y, alphas, cv = problem(folder)
    parts = list(cv.split())

    def fits() -> None:
        for k in range(sample):
            train, held_out = parts[k % len(parts)]
            fitted = Ridge(alphas[(k * 3) % len(alphas)]).fit(X[train], Y[train])
            r2_score(Y[held_out], fitted.predict(X[held_out]), multioutput="raw_values")

    _, (seconds, cpu, peak) = measured(fits)
    factor = len(alphas) * (len(parts) + 1) / sample
    return seconds * factor, cpu * factor, peak


def exact(folder: Path, columns: Matrix) -> None:
    """Write what scikit-learn finds in float64 for some targets, each by itself."""
    from sklearn.linear_model import RidgeCV

    X, Y, alphas, cv = problem(folder)
    X = X.astype(np.float64)
    models = [RidgeCV(alphas, cv=cv).fit(X, Y[:, j].astype(np.float64)) for j in columns]
    np.savez(
        folder / "exact.npz",
        alpha=[model.alpha_ for model in models],
        r2=[model.best_score_ for model in models],
        coef=[model.coef_ for model in models],
    )


CONTESTANTS: dict[str, Callable[..., Found]] = {
    "ours": ours,
    "himalaya KernelRidgeCV, torch": himalaya("KernelRidgeCV", "torch"),
    "himalaya KernelRidgeCV, numpy": himalaya("KernelRidgeCV", "numpy"),
    "himalaya RidgeCV, torch": himalaya("RidgeCV", "torch"),
    "himalaya RidgeCV, numpy": himalaya("RidgeCV", "numpy"),
    "scikit-learn Ridge (scaled up)": sklearn_fits,
}


def contend(name: str, folder: Path) -> Found:
    return CONTESTANTS[name](folder)


@click.command()
@click.option("--rows", default=5000, show_default=True)
@click.option("--features", default=4096, show_default=True)
@click.option("--targets", default=20_000, show_default=True)
@click.option("--penalties", default=10, show_default=True)
@click.option("--folds", default=5, show_default=True)
@click.option("--rounds", default=1, show_default=True, help="The median counts.")
@click.option("--threads", default=2, show_default=True)
@click.option("--exact", "checked", default=5, show_default=True, help="Targets checked alone.")
@click.option("--only", multiple=True, help="Contestants whose name holds this; repeatable.")
@click.option("--seed", default=0, show_default=True)
def main(
    rows: int,
    features: int,
    targets: int,
    penalties: int,
    folds: int,
    rounds: int,
    threads: int,
    checked: int,
    only: tuple[str, ...],
    seed: int,
) -> None:
    """Measure ridge regression."""
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)  # of the processes that are started
    names = [name for name in CONTESTANTS if not only or any(one in name for one in only)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(folder, rows, features, targets, penalties, folds, seed)
        click.echo(
            f"{rows:,} x {features:,} features, {targets:,} targets, {penalties} penalties, "
            f"{folds} folds, float32, {threads} threads; load at the start "
            f"{os.getloadavg()[0]:.1f}"
        )
        turns: list[dict[str, Found]] = []
        for _ in range(rounds):
            turns.append({})
            for name in names:
                turns[-1][name] = alone(contend, name, folder)
                click.echo(f"  ({name}: {turns[-1][name][0]:.1f} s)", err=True)
        took = {
            name: [statistics.median(turn[name][i] for turn in turns) for i in range(3)]
            for name in names
        }
        click.echo(f"  {'':32}{'s':>9}{'CPU s':>9}{'peak GiB':>10}{'x ours: s':>11}{'CPU s':>8}")
        for name, (seconds, cpu, peak) in took.items():
            line = f"  {name:32}{seconds:9.1f}{cpu:9.1f}{peak:10.2f}"
            if "ours" in took:
                line += f"{seconds / took['ours'][0]:11.2f}{cpu / took['ours'][1]:8.2f}"
            click.echo(line)
        if "ours" not in took:
            return
        mine = np.load(folder / "ours.npz")
        _, counts = np.unique(mine["alpha"], return_counts=True)
        click.echo(
            f"  Penalties chosen: {', '.join(map(str, counts))} times, of {penalties} in the "
            f"grid; mean R2 {mine['r2'].mean():.3f}"
        )
        if checked:
            exact(folder, np.arange(checked))
            truth = np.load(folder / "exact.npz")
            same = np.mean(np.isclose(mine["alpha"][:checked], truth["alpha"]))
            click.echo(
                f"  scikit-learn's RidgeCV of {checked} targets alone, float64: same penalty "
                f"{same:.0%}, R2 within {np.abs(mine['r2'][:checked] - truth['r2']).max():.1e}, "
                f"coefficients within "
                f"{np.abs(mine['coef'][:checked] - truth['coef']).max():.1e} of up to "
                f"{np.abs(truth['coef']).max():.2g}"
            )
        for file in sorted(folder.glob("*RidgeCV-*.npz")):
            other = np.load(file)
            same = np.mean(np.isclose(mine["alpha"], other["alpha"], rtol=1e-3))
            click.echo(
                f"  himalaya's {file.stem}: same penalty {same:.2%}, R2 within "
                f"{np.abs(mine['r2'] - other['r2']).max():.1e}"
            )


if __name__ == "__main__":
    main()
