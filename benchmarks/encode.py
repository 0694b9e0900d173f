"""Encoding models timed beside himalaya and scikit-learn, and tried on responses that are known.

    python benchmarks/encode.py speed              # 1,250 x 6,272 features, 2,500 targets
    python benchmarks/encode.py speed --banded 8   # two layers together
    python benchmarks/encode.py power
    python benchmarks/encode.py chance

`speed`: nested cross-validation of a layer, 5 folds with 5 inner ones, float32, made-up features
and targets as in `benchmarks/ridge.py`. Ours is `vggfeat.encoding.encode` on a store, which it
reads. himalaya's `KernelRidgeCV` does for each fold what its documentation advises: targets in
batches, the inner folds as `cv`, scores of the test images after. Of scikit-learn one `Ridge` for
all targets is fitted at each fold, inner fold and penalty; a sample of these fits is run and scaled
up. Contestants take turns, `--rounds` times, each in a process of its own; the median counts. Where
others run on the machine, CPU seconds say more than seconds. With `--banded N` two layers are
predicted from together, by the same N + 3 sets of weights in himalaya's `MultipleKernelRidgeCV`.

`power`: responses of one of several layers that are alike, with noise. How often the right layer is
found, beside an oracle that knows what each layer would predict without any noise and only has to
choose by the noisy responses.

`chance`: 200 simulated studies of responses that have nothing to do with the images, a target each;
how often p is below 0.05, with the p of a test that takes folds as independent beside it.

himalaya comes with the extra `bench`.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from contestants import Found, alone, measured

Matrix = npt.NDArray[Any]
FOLDS = 5
SAMPLE = 3  # of scikit-learn's fits


def make_store(path: Path, layers: dict[str, Matrix]) -> None:
    """Write a store of features (n, d) each."""
    from vggfeat.preprocessing import TORCHVISION
    from vggfeat.provenance import FeatureConfig, Provenance, RunInfo
    from vggfeat.store import StoreWriter

    config = FeatureConfig(
        model="vgg16", weights_sha256="0" * 64, view="center", layers=dict.fromkeys(layers, ""),
        preprocessing=TORCHVISION.to_json(), dtype="float32",
    )  # fmt: skip
    run = RunInfo("/made-up", "random:0", "cpu", "float32", "2026-01-01T00:00:00+00:00")
    n = len(next(iter(layers.values())))
    entries: Any = [
        SimpleNamespace(path=f"{at:06d}", size=1, mtime_ns=1, ctime_ns=1, digest=b"")
        for at in range(n)
    ]
    with StoreWriter.open(
        path,
        entries=entries,
        shapes={name: X.shape[1:] for name, X in layers.items()},
        provenance=Provenance(config, run),
        labels={},
    ) as store:
        for first in range(0, n, 500):
            where = np.arange(first, min(first + 500, n))
            store.write(where, {name: np.float32(X[where]) for name, X in layers.items()})


# Speed


def make(folder: Path, n: int, d: int, t: int, penalties: int, layers: int, seed: int) -> None:
    """Write features, targets, penalties and folds."""
    from probe import features
    from sklearn.model_selection import KFold

    rng = np.random.default_rng(seed)
    made, Y = {}, np.zeros((n, t), np.float32)
    for name in ("pool5", "fc6")[:layers]:
        X = features(np.zeros((n, 1)), 0, rng, d)
        X /= X.std()
        signal = (X - X.mean(axis=0)) @ rng.standard_normal((d, t), np.float32)
        Y += signal / signal.std(axis=0) / layers
        made[name] = X
        np.save(folder / f"{name}.npy", X)
    share = rng.uniform(0, 1, t).astype(np.float32)
    Y = Y / Y.std(axis=0) * np.sqrt(share)
    Y += rng.standard_normal((n, t), np.float32) * np.sqrt(1 - share)
    make_store(folder / "store.h5", made)
    np.save(folder / "Y.npy", Y)
    spread = float(((X - X.mean(axis=0)) ** 2).sum(axis=1).mean()) if layers == 1 else 1.0
    fold = np.empty(n, np.int64)
    for k, (_, test) in enumerate(KFold(FOLDS, shuffle=True, random_state=seed).split(Y)):
        fold[test] = k
    np.savez(folder / "grid.npz", alphas=np.logspace(-1, 3.5, penalties) * spread, fold=fold)


def parts(folder: Path) -> tuple[Matrix, list[tuple[Matrix, Matrix, Any]]]:
    """Return the grid, and of each fold what trains, what tests and the inner folds."""
    from sklearn.model_selection import PredefinedSplit

    from vggfeat import FeatureStore
    from vggfeat.encoding import folds_of

    grid = np.load(folder / "grid.npz")
    n = len(grid["fold"])
    pairs = [(grid["fold"] != k, grid["fold"] == k) for k in range(FOLDS)]
    with FeatureStore(folder / "store.h5") as store:
        folds = folds_of(store, np.arange(n), folds=pairs).folds
    made = []
    for one in folds:
        held = np.empty(len(one.train), np.int64)
        for k, part in enumerate(one.held_out):
            held[part] = k
        made.append((one.train, one.test, PredefinedSplit(held)))
    return grid["alphas"], made


def ours(folder: Path, banded: int) -> Found:
    from vggfeat import FeatureStore
    from vggfeat.encoding import Responses, encode

    alphas, made = parts(folder)
    Y = np.load(folder / "Y.npy")
    pairs = [(train, test) for train, test, _ in made]

    def job() -> Any:
        with FeatureStore(folder / "store.h5") as store:
            return encode(
                store, Responses.of(Y), folds=pairs, alphas=alphas, nulls=0, samples=0,
                banded=banded or None,
            )  # fmt: skip

    found, took = measured(job)
    if found.banded is not None:
        np.save(folder / "ours.npy", found.banded.scores.r2)
        return found.banded.seconds, took[1] * found.banded.seconds / took[0], took[2]
    np.save(folder / "ours.npy", found.layers[0].scores.r2)
    return took


def himalaya(backend: str) -> Callable[[Path, int], Found]:
    def run(folder: Path, banded: int) -> Found:
        from himalaya.backend import set_backend
        from himalaya.kernel_ridge import KernelRidgeCV
        from himalaya.scoring import r2_score

        own = set_backend(backend)
        alphas, made = parts(folder)
        X, Y = np.load(folder / "pool5.npy"), np.load(folder / "Y.npy")
        batches = {"n_targets_batch": 1000, "n_targets_batch_refit": 1000, "n_alphas_batch": 5}
        if banded:
            return _bands(folder, own, alphas, made, Y, batches, backend, banded)

        def job() -> Any:
            scores = []
            for train, test, inner in made:
                model = KernelRidgeCV(
                    alphas=np.float32(alphas), fit_intercept=True, cv=inner,
                    solver_params={"score_func": r2_score, **batches},
                )  # fmt: skip
                model.fit(own.asarray(X[train]), own.asarray(Y[train]))
                scores.append(own.to_numpy(model.score(own.asarray(X[test]), own.asarray(Y[test]))))
            return np.mean(scores, axis=0)

        found, took = measured(job)
        np.save(folder / f"himalaya-{backend}.npy", found)
        return took

    return run


def _bands(
    folder: Path, own: Any, alphas: Matrix, made: Any, Y: Matrix, batches: Any, backend: str,
    count: int,
) -> Found:  # fmt: skip
    from himalaya.kernel_ridge import MultipleKernelRidgeCV
    from himalaya.scoring import r2_score

    from vggfeat.encoding.bands import candidates

    layers = [np.load(folder / f"{name}.npy") for name in ("pool5", "fc6")]
    weights = np.float32(np.maximum(candidates(2, count), 1e-10))  # it takes their logarithm

    def job() -> Any:
        scores = []
        for train, test, inner in made:
            kernels, across = [], []
            for X in layers:
                centred = X - X[train].mean(axis=0)
                K = centred[train] @ centred[train].T
                unit = np.trace(K) / len(K)
                kernels.append(K / unit)
                across.append(centred[test] @ centred[train].T / unit)
            params = {
                "n_iter": own.asarray(weights), "alphas": own.asarray(np.float32(alphas)),
                "score_func": r2_score, "progress_bar": False, **batches,
            }  # fmt: skip
            model = MultipleKernelRidgeCV(
                kernels="precomputed", solver="random_search", cv=inner, fit_intercept=True,
                solver_params=params,
            )  # fmt: skip
            model.fit(own.asarray(np.stack(kernels)), own.asarray(Y[train]))
            said = model.score(own.asarray(np.stack(across)), own.asarray(Y[test]))
            scores.append(own.to_numpy(said))
        return np.mean(scores, axis=0)

    found, took = measured(job)
    np.save(folder / f"himalaya-{backend}.npy", found)
    return took


def sklearn_fits(folder: Path, _banded: int) -> Found:
    """Time some of scikit-learn's fits, scaled up to all of them."""
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score

    alphas, made = parts(folder)
    X, Y = np.load(folder / "pool5.npy"), np.load(folder / "Y.npy")

    def fits() -> None:
        for k in range(SAMPLE):
            train, _, inner = made[k % FOLDS]
            learns, held = list(inner.split())[k % FOLDS]
            fitted = Ridge(alphas[(k * 3) % len(alphas)]).fit(X[train][learns], Y[train][learns])
            said = fitted.predict(X[train][held])
            r2_score(Y[train][held], said, multioutput="raw_values")

    _, (seconds, cpu, peak) = measured(fits)
    factor = FOLDS * (FOLDS + 1) * len(alphas) / SAMPLE
    return seconds * factor, cpu * factor, peak


CONTESTANTS: dict[str, Callable[[Path, int], Found]] = {
    "ours": ours,
    "himalaya, torch": himalaya("torch"),
    "himalaya, numpy": himalaya("numpy"),
    "scikit-learn Ridge (scaled up)": sklearn_fits,
}


def contend(name: str, folder: Path, banded: int) -> Found:
    return CONTESTANTS[name](folder, banded)


@click.group()
def main() -> None:
    """Measure encoding models."""


@main.command()
@click.option("--rows", default=1250, show_default=True)
@click.option("--features", default=6272, show_default=True)
@click.option("--targets", default=2500, show_default=True)
@click.option("--penalties", default=15, show_default=True)
@click.option(
    "--banded", default=0, show_default=True, help="Sets of weights drawn, of two layers."
)
@click.option("--rounds", default=1, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--only", multiple=True, help="Contestants whose name holds this; repeatable.")
@click.option("--seed", default=0, show_default=True)
def speed(
    rows: int, features: int, targets: int, penalties: int, banded: int, rounds: int, threads: int,
    only: tuple[str, ...], seed: int,
) -> None:  # fmt: skip
    """Time nested cross-validation."""
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)  # of the processes that are started
    names = [
        name
        for name in CONTESTANTS
        if (not only or any(one in name for one in only)) and not (banded and "scikit" in name)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(folder, rows, features, targets, penalties, 2 if banded else 1, seed)
        click.echo(
            f"{rows:,} x {features:,} features{' of each of 2 layers' * bool(banded)}, {targets:,} "
            f"targets, {penalties} penalties, {FOLDS} x {FOLDS} folds"
            f"{f', {banded + 3} sets of weights' * bool(banded)}, float32, {threads} threads; load "
            f"at the start {os.getloadavg()[0]:.1f}"
        )
        turns: list[dict[str, Found]] = []
        for _ in range(rounds):
            turns.append({})
            for name in names:
                turns[-1][name] = alone(contend, name, folder, banded)
                click.echo(f"  ({name}: {turns[-1][name][0]:.1f} s)", err=True)
        click.echo(f"  {'':32}{'s':>9}{'CPU s':>9}{'peak GiB':>10}{'x ours: s':>11}{'CPU s':>8}")
        took = {
            name: [statistics.median(turn[name][i] for turn in turns) for i in range(3)]
            for name in names
        }
        for name, (seconds, cpu, peak) in took.items():
            line = f"  {name:32}{seconds:9.1f}{cpu:9.1f}{peak:10.2f}"
            if "ours" in took:
                line += f"{seconds / took['ours'][0]:11.2f}{cpu / took['ours'][1]:8.2f}"
            click.echo(line)
        mine = np.load(folder / "ours.npy") if "ours" in took else None
        for file in sorted(folder.glob("himalaya-*.npy")):
            if mine is not None:
                off = np.abs(mine - np.load(file))
                click.echo(
                    f"  R2 of test images, {file.stem}: mean {mine.mean():.4f}; the median differs "
                    f"by {np.median(off):.1e}, {np.mean(off < 1e-4):.1%} by less than 1e-4 (others "
                    f"chose another penalty), all by less than {off.max():.1e}"
                )


# Simulated studies


def study(rng: Any, n: int, layers: int, d: int, alike: float) -> list[Matrix]:
    """Return features of layers of which each shares a part with the one before."""
    made: list[Matrix] = []
    for _ in range(layers):
        own = rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -0.5
        if made:
            mixed = made[-1] @ rng.normal(size=(d, d)) / np.sqrt(d)
            own = np.sqrt(1 - alike) * own + np.sqrt(alike) * mixed
        made.append(own / own.std())
    return made


@main.command()
@click.option("--images", default=200, show_default=True)
@click.option("--layers", default=4, show_default=True)
@click.option("--targets", default=400, show_default=True, help="At each ceiling.")
@click.option("--alike", default=0.6, show_default=True, help="Variance shared by neighbours.")
@click.option("--seed", default=0, show_default=True)
def power(images: int, layers: int, targets: int, alike: float, seed: int) -> None:
    """Find the layer that responses come from."""
    from vggfeat import FeatureStore
    from vggfeat.encoding import Responses, encode

    rng = np.random.default_rng(seed)
    made = study(rng, images, layers, 60, alike)
    names = ["pool1", "pool2", "pool3", "pool4", "pool5"][:layers]
    true = np.arange(targets) % layers
    signal = np.stack([made[k] @ rng.normal(size=60) for k in true], axis=1)
    signal = (signal - signal.mean(axis=0)) / signal.std(axis=0)
    click.echo(
        f"{images} images, {layers} layers of 60 features of which neighbours share "
        f"{alike:.0%} of variance, {targets} targets at each noise ceiling, 3 trials an image"
    )
    click.echo(
        "  ceiling  estimated   right layer   oracle   R2 of own layer  R2 / ceiling   p < 0.05"
    )
    with tempfile.TemporaryDirectory() as scratch:
        make_store(Path(scratch) / "s.h5", dict(zip(names, made, strict=True)))
        shown = [f"{at:06d}" for at in range(images) for _ in range(3)]
        with FeatureStore(Path(scratch) / "s.h5") as store:
            without = encode(store, Responses.of(signal), nulls=0, samples=0, alphas=[1e-3, 0.1, 1])
            clean = _predictions(made, signal)
            for ceiling in (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0):
                noise = 0.0 if ceiling == 1 else np.sqrt(3 * (1 - ceiling))
                trials = np.sqrt(ceiling) * signal[:, None] + noise * rng.normal(
                    size=(images, 3, targets)
                )
                found = encode(
                    store, Responses.of(trials.reshape(-1, targets), shown), nulls=500, samples=0
                )
                chosen = np.argmax(_r(clean, trials.mean(axis=1)), axis=0)
                best = found.best.scores
                click.echo(
                    f"  {ceiling:7.2f}  {np.nanmean(found.ceiling):9.3f}   "
                    f"{np.mean(found.best.layer == true):11.1%}  {np.mean(chosen == true):7.1%}  "
                    f"{best.r2.mean():15.3f}  "
                    f"{best.r2.mean() / ceiling if ceiling else float('nan'):12.2f}  "
                    f"{np.mean(best.p < 0.05):9.1%}"
                )
            click.echo(f"  without noise: R2 {without.best.scores.r2.mean():.3f}")


def _predictions(made: Sequence[Matrix], signal: Matrix) -> Matrix:
    """Return what each layer predicts for other images from responses without noise, (l, n, t)."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict

    cv = KFold(FOLDS, shuffle=True, random_state=0)
    return np.stack(
        [cross_val_predict(RidgeCV(np.logspace(-3, 3, 13)), X, signal, cv=cv) for X in made]
    )


def _r(predicted: Matrix, truth: Matrix) -> Matrix:
    a = predicted - predicted.mean(axis=1, keepdims=True)
    b = truth - truth.mean(axis=0)
    size = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=0)) + 1e-12
    return np.asarray((a * b).sum(axis=1) / size)


@main.command()
@click.option("--studies", default=200, show_default=True)
@click.option("--images", default=60, show_default=True)
@click.option("--nulls", default=199, show_default=True)
@click.option("--seed", default=0, show_default=True)
def chance(studies: int, images: int, nulls: int, seed: int) -> None:
    """Count false positives in studies of noise."""
    from scipy.stats import binom, norm

    from vggfeat import FeatureStore
    from vggfeat.encoding import Responses, encode

    rng = np.random.default_rng(seed)
    p, naive = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for at in range(studies):
            made = study(rng, images, 3, 40, 0.5)
            path = Path(scratch) / f"{at}.h5"
            make_store(path, dict(zip(("pool1", "pool3", "pool5"), made, strict=True)))
            with FeatureStore(path) as store:
                found = encode(
                    store, Responses.of(rng.normal(size=images)), nulls=nulls, samples=0, seed=at
                )
            path.unlink()
            p.append([*found.best.scores.p, *(one.scores.p[0] for one in found.layers)])
            # Fisher's z of the mean correlation, as if all images had been tested by one model
            z = np.arctanh(found.best.scores.r[0]) * np.sqrt(images - 3)
            naive.append(float(norm.sf(z)))
    rows = {"each target's own layer": np.array(p)[:, 0]}
    rows |= {f"layer {k + 1}": np.array(p)[:, k + 1] for k in range(3)}
    rows["own layer, folds taken as independent"] = np.array(naive)
    low, high = binom.ppf([0.025, 0.975], studies, 0.05) / studies
    click.echo(
        f"{studies} studies of {images} images, 3 layers, {nulls} nulls: share of p <= 0.05 "
        f"(chance allows {low:.3f} to {high:.3f})"
    )
    for name, values in rows.items():
        click.echo(f"  {name:40}{np.mean(values <= 0.05):.3f}")


if __name__ == "__main__":
    main()
