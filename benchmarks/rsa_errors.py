"""Count how often tests of layers are wrong, and right, on simulated layers and subjects.

Two layers and a target (or several subjects) are a common signal of `--images` images and noise of
their own. Where both layers have as much noise, a difference that is found is false; of the others
the second has twice the noise. Layers without the signal are tested against 0.

    python benchmarks/rsa_errors.py
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist

from vggfeat.representations.cka import linear_kernel
from vggfeat.representations.inference import contrast, permutation_p, uncertainty
from vggfeat.representations.kernel_statistics import DebiasedCKA
from vggfeat.representations.statistics import Correlated, Statistic, TauA

Matrix = npt.NDArray[Any]


def rows(seed: int, images: int, subjects: int, noise: float, signal: float = 1) -> list[Matrix]:
    rng = np.random.default_rng(seed)
    common = signal * rng.standard_normal((images, 10))
    return [
        common + scale * rng.standard_normal((images, 10)) for scale in (1, noise, *[1] * subjects)
    ]


def statistic(found: list[Matrix], kind: str) -> Statistic:
    if kind == "cka":
        return DebiasedCKA([linear_kernel(one) for one in found])
    V = np.stack([pdist(one, "correlation") for one in found])
    return TauA(V) if kind == "tau-a" else Correlated(V, ranked=kind == "spearman")


def difference(
    kind: str, over: Any, images: int, subjects: int, noise: float, samples: int, seed: int
) -> float:
    what = statistic(rows(seed, images, subjects, noise), kind)
    spread = uncertainty(what, 2, over=over, samples=samples, seed=seed)
    values = spread.observed.values
    return contrast(spread, np.array([1.0, -1, 0]), float(values[0] - values[1])).p


def unrelated(kind: str, images: int, seed: int) -> float:
    what = statistic(rows(seed, images, 1, 1, signal=0), kind)
    return float(permutation_p(what, 2, permutations=199, seed=seed)[0])


@click.command()
@click.option("--runs", default=400, show_default=True)
@click.option("--images", default=40, show_default=True)
@click.option("--samples", default=200, show_default=True)
@click.option("--only", default="", help="Lines that hold this.")
def main(runs: int, images: int, samples: int, only: str) -> None:
    """Simulate."""
    lines = [("pearson", "images", 1), ("spearman", "images", 1), ("cka", "images", 1),
             ("pearson", "both", 8), ("spearman", "both", 8)]  # fmt: skip
    error = np.sqrt(0.05 * 0.95 / runs)
    click.echo(f"{runs} runs of {images} images; a rate of 5 % has a standard error of {error:.1%}")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for kind, over, subjects in lines:
            name = f"{kind}, over {over}, {subjects} subject{'s' * (subjects > 1)}"
            if only not in name:
                continue
            shares = []
            for noise in (1.0, 2.0):
                one = partial(difference, kind, over, images, subjects, noise, samples)
                shares.append(np.mean(np.array(list(pool.map(one, range(runs)))) < 0.05))
            click.echo(f"  {name:36} false {shares[0]:6.1%}   true {shares[1]:6.1%}")
        for kind in ("pearson", "spearman", "cka"):
            if only in f"{kind}, against 0":
                p = np.array(list(pool.map(partial(unrelated, kind, images), range(runs))))
                click.echo(f"  {kind + ', against 0':36} false {np.mean(p <= 0.05):6.1%}")


if __name__ == "__main__":
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    main()
