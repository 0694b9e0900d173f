"""Time an RDM of many images beside NumPy's whole product and SciPy.

Made-up features (rectified, as of relu7) in a store; correlation distances. Contestants take turns,
each in a process of its own, with `--threads` threads:

- ours: `save_rdms` of the store into a .npy, condensed, float32, with reading the features;
- NumPy: `1 - np.corrcoef(X)`, the whole matrix in float64;
- NumPy, float32: rows centred and scaled to length 1, `1 - Z @ Z.T`, the whole matrix;
- SciPy's `pdist(X, "correlation")`, whose time for 1,500 rows is scaled up by the number of pairs.

The errors are those of pairs of images: a sample, and images that are copies but for the last bits.
Where others run on the machine, CPU seconds say more than seconds.

    python benchmarks/rdm.py
    python benchmarks/rdm.py --rows 5000
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from contestants import Found, alone, measured

Matrix = npt.NDArray[Any]
NEAR = 50  # images that are nearly copies of the first ones


def make(folder: Path, rows: int, width: int, seed: int) -> None:
    """Write features, and a store of them."""
    from vggfeat.preprocessing import TORCHVISION
    from vggfeat.provenance import FeatureConfig, Provenance, RunInfo
    from vggfeat.store import StoreWriter

    rng = np.random.default_rng(seed)
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, (rows, width))
    base = rng.standard_normal((64, width), np.float32)
    for at in range(0, rows, 1000):
        mixed = rng.standard_normal((len(X[at : at + 1000]), 64), np.float32) @ base
        X[at : at + 1000] = np.maximum(mixed + 4 * rng.standard_normal(mixed.shape, np.float32), 0)
    X[-NEAR:] = X[:NEAR] * (1 + 1e-6 * rng.standard_normal((NEAR, width)))
    names = [f"{k:06d}.jpg" for k in range(rows)]
    config = FeatureConfig(
        model="vgg16", weights_sha256="ab" * 32, view="center", layers={"relu7": ""},
        preprocessing=TORCHVISION.to_json(), dtype="float32",
    )  # fmt: skip
    run = RunInfo("/photos", "random:0", "cpu", "float32", "2026-01-01T00:00:00+00:00")
    with StoreWriter.open(
        folder / "store.h5", entries=[_Entry(name) for name in names], shapes={"relu7": (width,)},
        provenance=Provenance(config, run), labels={},
    ) as store:  # fmt: skip
        for at in range(0, rows, 1000):
            part = np.arange(at, min(rows, at + 1000))
            store.write(part, {"relu7": np.asarray(X[part])})


class _Entry:
    def __init__(self, path: str) -> None:
        self.path, self.size, self.mtime_ns, self.ctime_ns, self.digest = path, 1, 1, 1, b""


def sampled(rows: int) -> tuple[Matrix, Matrix]:
    """Return pairs whose errors are measured: at random, then the copies."""
    rng = np.random.default_rng(1)
    first, second = rng.integers(rows, size=(2, 2000))
    kept = first != second
    copies = np.arange(NEAR)
    return np.r_[first[kept], copies], np.r_[second[kept], rows - NEAR + copies]


def exact(X: Matrix, first: Matrix, second: Matrix) -> Matrix:
    """Return correlation distances by differences in long double."""

    def unit(rows: Matrix) -> Matrix:
        wide = rows.astype(np.longdouble)
        wide -= wide.mean(axis=1, keepdims=True)
        return wide / np.sqrt((wide * wide).sum(axis=1, keepdims=True))

    parts = [
        ((unit(X[first[k : k + 50]]) - unit(X[second[k : k + 50]])) ** 2).sum(axis=1) / 2
        for k in range(0, len(first), 50)
    ]
    return np.concatenate(parts)


def ours(folder: Path) -> Found:
    from vggfeat import FeatureStore
    from vggfeat.representations import save_rdms

    def job() -> None:
        with FeatureStore(folder / "store.h5") as store:
            save_rdms(store, folder / "rdm.npy", overwrite=True)

    _, took = measured(job)
    values = np.load(folder / "rdm.npy", mmap_mode="r")
    n = int((1 + (1 + 8 * len(values)) ** 0.5) / 2)
    first, second = sampled(n)
    low, high = np.minimum(first, second), np.maximum(first, second)
    at = low * n - low * (low + 1) // 2 + high - low - 1
    np.save(folder / "ours.npy", np.asarray(values[at], np.float64))
    return took


def whole(dtype: Any, name: str) -> Any:
    def run(folder: Path) -> Found:
        def job() -> Matrix:
            X = np.load(folder / "X.npy")
            if dtype is np.float64:
                return 1 - np.corrcoef(X)
            X -= X.mean(axis=1, keepdims=True)
            X /= np.linalg.norm(X, axis=1, keepdims=True)
            return 1 - X @ X.T

        found, took = measured(job)
        first, second = sampled(len(found))
        np.save(folder / f"{name}.npy", found[first, second].astype(np.float64))
        return took

    return run


def scipy_sample(folder: Path, rows: int = 1500) -> Found:
    from scipy.spatial.distance import pdist

    X = np.load(folder / "X.npy", mmap_mode="r")
    part = np.asarray(X[:rows])
    _, (seconds, cpu, peak) = measured(lambda: pdist(part, "correlation"))
    factor = len(X) * (len(X) - 1) / (rows * (rows - 1))
    return seconds * factor, cpu * factor, peak


CONTESTANTS = {
    "ours": ours,
    "NumPy, whole, float64": whole(np.float64, "double"),
    "NumPy, whole, float32": whole(np.float32, "single"),
    "SciPy pdist (scaled up)": scipy_sample,
}


def contend(name: str, folder: Path) -> Found:
    return CONTESTANTS[name](folder)


@click.command()
@click.option("--rows", default=20_000, show_default=True)
@click.option("--features", default=4096, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(rows: int, features: int, threads: int, seed: int) -> None:
    """Measure RDMs."""
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)  # of the processes that are started
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(folder, rows, features, seed)
        load = os.getloadavg()[0]
        click.echo(
            f"{rows:,} x {features:,}, correlation, {threads} threads; load at the start {load:.1f}"
        )
        took = {}
        for name in CONTESTANTS:
            took[name] = alone(contend, name, folder)
            click.echo(f"  ({name}: {took[name][0]:.1f} s)", err=True)
        X = np.load(folder / "X.npy", mmap_mode="r")
        expected = exact(X, *sampled(rows))
        click.echo(
            f"  {'':26}{'s':>8}{'CPU s':>8}{'GiB':>7}{'x ours: s':>11}{'CPU s':>7}"
            f"{'relative error':>16}{'of copies':>11}"
        )
        files = {"ours": "ours", "NumPy, whole, float64": "double",
                 "NumPy, whole, float32": "single"}  # fmt: skip
        for name, (seconds, cpu, peak) in took.items():
            line = f"  {name:26}{seconds:8.1f}{cpu:8.1f}{peak:7.2f}"
            line += f"{seconds / took['ours'][0]:11.2f}{cpu / took['ours'][1]:7.2f}"
            if name in files:
                found = np.load(folder / f"{files[name]}.npy")
                errors = np.abs(found / expected - 1).astype(np.float64)
                line += f"{errors[:-NEAR].max():16.1e}{errors[-NEAR:].max():11.1e}"
            click.echo(line)


if __name__ == "__main__":
    main()
