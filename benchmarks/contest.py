"""Features of one set of images judged side by side, in the same way and on the same splits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggfeat import LinearProbe
from vggfeat.cli.output import table
from vggfeat.evaluation import LayerScore, knn_accuracy
from vggfeat.metrics import mean_class_recall

TRAINED, RANDOM = "trained", "random"
MEASURES = {
    "mean_class_recall": "mean class recall",
    "accuracy": "probe accuracy",
    "knn_accuracy": "k-NN accuracy",
}
COLOURS = {TRAINED: "#2b6d8c", RANDOM: "#c2571a", "pixels": "#7a4fa0", "HOG": "#3d8043"}

Features = NDArray[np.float32]
Rows = NDArray[np.int64]
Split = Callable[[Rows, int], tuple[Rows, Rows]]


@dataclass(frozen=True, slots=True)
class Result:
    """One contestant's scores.

    Attributes
    ----------
    family : str
        ``"trained"`` or ``"random"`` (layers of a network), or a kind of baseline.
    name : str
        Which layer or baseline.
    scores : tuple of LayerScore
        One a seed.
    """

    family: str
    name: str
    scores: tuple[LayerScore, ...]

    @property
    def title(self) -> str:
        """Name for a reader; a layer's tells whose weights."""
        return f"{self.family} {self.name}" if self.family in (TRAINED, RANDOM) else self.name

    def values(self, measure: str) -> NDArray[np.float64]:
        """Return a measure for each seed, in percent."""
        return np.array([100 * getattr(score, measure) for score in self.scores])

    def mean(self, measure: str) -> float:
        """Return the measure's mean over the seeds, in percent."""
        return float(self.values(measure).mean())

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, shares in 0..1."""
        dimension = self.scores[0].dimension
        scores = [asdict(score) for score in self.scores]
        return {
            "family": self.family, "name": self.name, "dimension": dimension, "scores": scores
        }  # fmt: skip


@dataclass
class Contest:
    """Labelled images, how they are divided, and the results so far.

    Attributes
    ----------
    y : ndarray of int64, shape (n,)
        Classes of the images.
    split : callable
        (y, seed) to training and test positions.
    seeds : sequence of int
        Of the splits, and of the classifier.
    results : list of Result
        One for each contestant that was entered.
    """

    y: Rows
    split: Split
    seeds: Sequence[int]
    results: list[Result] = field(default_factory=list)

    def enter(self, family: str, name: str, X: Features) -> Result:
        """Judge features (n, d) of all images on each split."""
        scores = tuple(self._judged(name, X, seed) for seed in self.seeds)
        self.results.append(Result(family, name, scores))
        return self.results[-1]

    def _judged(self, name: str, X: Features, seed: int) -> LayerScore:
        """Score features on a split, as `vggfeat.evaluation.sweep` does a layer of a store."""
        began = time.perf_counter()
        train, test = self.split(self.y, seed)
        probe = LinearProbe(random_state=seed).fit(X[train], self.y[train])
        named, true = probe.predict(X[test]), self.y[test]
        return LayerScore(
            layer=name,
            dimension=X.shape[1],
            accuracy=float(np.mean(named == true)),
            mean_class_recall=mean_class_recall(true, named),
            knn_accuracy=knn_accuracy(X[train], self.y[train], X[test], true),
            n_train=len(train),
            n_test=len(test),
            C=probe.C_,
            seconds=time.perf_counter() - began,
        )


def best(results: Iterable[Result], measure: str) -> Result:
    """Return the contestant of the highest mean."""
    return max(results, key=lambda result: result.mean(measure))


def spread(values: NDArray[np.float64]) -> str:
    """Write a mean and, of two values or more, their standard deviation (of a sample)."""
    told = f"{values.mean():.1f}"
    return f"{told} +- {values.std(ddof=1):.1f}" if len(values) > 1 else told


def margin(results: Sequence[Result], measure: str) -> dict[str, Any]:
    """Compare the best trained layer with the best of all others, split by split."""
    ours = best((r for r in results if r.family == TRAINED), measure)
    other = best((r for r in results if r.family != TRAINED), measure)
    points = ours.values(measure) - other.values(measure)
    return {
        "measure": measure,
        "trained": ours.name,
        "other": other.title,
        "points": points.tolist(),
        "told": f"{MEASURES[measure]}: {ours.title} {spread(ours.values(measure))}, best of the "
        f"others ({other.title}) {spread(other.values(measure))}, margin {spread(points)} points",
    }


def tables(results: Sequence[Result], measures: Sequence[str]) -> str:
    """Lay out layers, trained beside random, and the baselines below; in percent."""
    by_family: dict[str, dict[str, Result]] = {}
    for result in results:
        by_family.setdefault(result.family, {})[result.name] = result

    def cell(family: str, name: str, measure: str) -> str:
        own = by_family[family]
        star = "*" if own[name] is best(own.values(), measure) else " "
        return spread(own[name].values(measure)) + star

    short = {measure: MEASURES[measure].replace("mean class ", "") for measure in measures}
    titles = {(m, f): f"{short[m]}, {f}" for m in measures for f in (TRAINED, RANDOM)}
    rows = [
        [name, f"{result.scores[0].dimension:,}", *(cell(f, name, m) for m, f in titles)]
        for name, result in by_family[TRAINED].items()
    ]
    header = ["layer", "values", *titles.values()]
    layers = _aligned(rows, header)
    rows = [
        [r.name, f"{r.scores[0].dimension:,}", *(cell(r.family, r.name, m) for m in measures)]
        for r in results
        if r.family not in (TRAINED, RANDOM)
    ]
    header = ["baseline", "values", *short.values()]
    return f"{layers}\n\n{_aligned(rows, header)}\n\n* the best of its kind"


def _aligned(rows: list[list[str]], header: list[str]) -> str:
    # table() separates the titles of right-aligned columns by spaces
    titles = [title.replace(" ", "_") for title in header]
    lines = table(rows, titles, right=" ".join(titles[1:])).split("\n")
    return "\n".join([lines[0].replace("_", " "), *lines[1:]])


def draw(
    results: Sequence[Result], measures: Sequence[str], chance: float, title: str, path: Path
) -> None:
    """Draw scores by layer; the best baseline of each family and guessing are level lines.

    Where all scores are above 50 % the axis begins near the lowest.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4 * len(measures)), layout="constrained")
    panels = np.ravel(figure.subplots(len(measures), sharex=True))
    for axes, measure in zip(panels, measures, strict=True):
        for family, colour in COLOURS.items():
            own = [result for result in results if result.family == family]
            if family in (TRAINED, RANDOM):
                _line(axes, own, measure, colour)
            elif own:
                _level(axes, best(own, measure).mean(measure), best(own, measure).name, colour)
        lowest = min(result.values(measure).min() for result in results)
        bottom = 10 * (lowest // 10) if lowest > 50 else 0
        if 100 * chance > bottom:
            _level(axes, 100 * chance, "guessing", "#8a8f94")
        axes.set_ylabel(f"{MEASURES[measure]}, %")
        axes.set_ylim(bottom, 100)
        axes.grid(axis="y", color="#e4e2dc")
        axes.spines[["top", "right"]].set_visible(False)
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, frameon=False, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.savefig(path, dpi=150)


def _line(axes: Any, layers: list[Result], measure: str, colour: str) -> None:
    names, means = [r.name for r in layers], [r.mean(measure) for r in layers]
    axes.plot(names, means, color=colour, marker="o", label=f"{layers[0].family} weights")
    if len(layers[0].scores) > 1:
        deviations = [r.values(measure).std(ddof=1) for r in layers]
        axes.errorbar(names, means, deviations, color=colour, fmt="none", capsize=3)


def _level(axes: Any, percent: float, name: str, colour: str) -> None:
    axes.axhline(percent, color=colour, linestyle="--", label=f"{name}: {percent:.1f} %")
