"""What probes, sweeps, neighbours, protocols and fine-tuning scored, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vggfeat.notebook.parts import Bold, best_marked, head, name_of, rows_table
from vggfeat.probe.results import HeldOut
from vggfeat.report.confusion import confused_pairs
from vggfeat.report.text import counted, percent

if TYPE_CHECKING:
    from vggfeat.evaluation import Comparison, Evaluation, LowShot, Neighbourhoods
    from vggfeat.finetuning.results import FinetuneResult, Result
    from vggfeat.probe import MultiLabelResult, ProbeResult, RegressionResult, RepeatedResult


def probe(result: ProbeResult | MultiLabelResult) -> str:
    """Show the score of a probe, and its commonest confusions."""
    heading = head(f"{result.classifier} on {result.layer}", _learnt(result))
    names = [name.replace("_", " ") for name in result.measures]
    rows = [*zip(names, map(percent, result.measures.values()), strict=True)]
    rows.append(("guessing", percent(result.chance)))
    pairs: list[tuple[str, ...]] = []
    if hasattr(result, "confusion"):
        pairs = [
            (one.true, one.named, f"{one.count} of {one.of}")
            for one in confused_pairs(result.confusion, result.classes, 5)
        ]
    confused = rows_table(("class", "taken for", "test images"), pairs) if pairs else ""
    return heading + rows_table(("measure", "score"), rows) + confused


def _learnt(result: Any) -> list[str]:
    told = [f"{counted(len(result.classes), 'class', 'classes')}"] if hasattr(result, "C") else []
    told += [f"{result.n_train:,} images to learn from", f"{result.n_test:,} to test on"]
    if result.leak is not None and result.leak.found:
        told.append(
            f"{result.leak.near_identical:,} of {result.leak.looked_at:,} test images are nearly "
            "the same as one learnt from"
        )
    return told


def repeated(result: RepeatedResult) -> str:
    """Show the mean over several splits."""
    first = result.splits[0]
    rows = []
    for name in first.measures:
        span = result.mean(name)
        rows.append((name.replace("_", " "), f"{percent(span.mean)} ± {100 * span.sd:.1f}"))
    heading = head(f"{first.classifier} on {first.layer}", [f"{len(result.splits)} splits"])
    return heading + rows_table(("measure", "mean ± standard deviation"), rows)


def numbers(result: RegressionResult) -> str:
    """Show how well each target is predicted."""
    told = _learnt(result)
    rows = [
        (name, f"{r2:.3f}", f"{r:.3f}")
        for name, r2, r in zip(result.names, result.scores.r2, result.scores.r, strict=True)
    ]
    return head(f"ridge on {result.layer}", told) + rows_table(
        ("target", "R2", "Pearson's r"), rows
    )


def sweep(found: Comparison) -> str:
    """Show the score of each layer."""
    kind = "mean average precision" if found.multi_label else "accuracy"
    parts = []
    for store, scores in zip(found.stores, found.scores, strict=True):
        best = {by: max(one.by(by) for one in scores) for by in ("probe", "kNN")}
        rows = [
            (
                one.layer,
                f"{one.dimension:,}",
                best_marked(one.by("probe"), best["probe"]),
                best_marked(one.by("kNN"), best["kNN"]),
            )
            for one in scores
        ]
        heads = ("layer", "numbers", f"probe, {kind}", f"kNN, {kind}")
        parts.append(
            head(f"{name_of(store.path)}, {store.model}", [], store.path) + rows_table(heads, rows)
        )
    return "".join(parts) + head("", _shared(found))


def lowshot(found: LowShot) -> str:
    """Show scores by the number of images a class."""
    kind = "mean average precision" if found.multi_label else "mean class recall"
    parts = []
    for store, scores in zip(found.stores, found.scores, strict=True):
        rows: dict[tuple[str, str], list[str]] = {}
        best = {
            shots: max(one.score.mean for one in scores if one.shots == shots)
            for shots in found.shots
        }
        for one in scores:
            cells = rows.setdefault((one.layer, one.classifier), [one.layer, one.classifier])
            cells.append(
                best_marked(one.score.mean, best[one.shots], f" ± {100 * one.score.sd:.1f}")
            )
        heads = ("layer", "classifier", *(counted(k, "image") + " a class" for k in found.shots))
        parts.append(
            head(f"{name_of(store.path)}, {store.model}", [kind], store.path)
            + rows_table(heads, rows.values())
        )
    told = [f"{found.n_test:,} images to test on", f"{found.repeats} draws"]
    return "".join(parts) + head("", [*told, f"guessing {percent(found.chance)}"])


def knn(found: Neighbourhoods) -> str:
    """Show the votes of neighbours."""
    parts = []
    for store, scores in zip(found.stores, found.scores, strict=True):
        best = max(one.score.value for one in scores)
        rows: dict[str, list[str]] = {}
        for one in scores:
            rows.setdefault(one.layer, [one.layer]).append(best_marked(one.score.value, best))
        heads = ("layer", *(f"k = {k}" for k in found.k))
        parts.append(
            head(f"{name_of(store.path)}, {store.model}", [], store.path)
            + rows_table(heads, rows.values())
        )
    return "".join(parts) + head("", _shared(found))


def _shared(found: Comparison | Neighbourhoods) -> list[str]:
    return [
        f"{found.n_train:,} images to learn from",
        f"{found.n_test:,} to test on",
        f"guessing {percent(found.chance)}",
    ]


def finetune(result: FinetuneResult) -> str:
    """Show fine-tuned layers beside the probe."""
    told = [f"{result.model}, from {result.recipe.first} on", f"kept epoch {result.best}"]
    told += [
        f"{result.tuned.n_train:,} images to learn from",
        f"{result.tuned.n_test:,} to test on",
    ]
    rows = [
        (kind, *(percent(value) for value in _measures(one).values()))
        for kind, one in (("linear probe", result.probe), ("fine-tuned", result.tuned))
    ]
    heads = ("", *(name.replace("_", " ") for name in _measures(result.tuned)))
    return head(result.path.name, told, str(result.path)) + rows_table(heads, rows)


def _measures(result: Result) -> dict[str, float]:
    return result.measures if isinstance(result, HeldOut) else {"mean R2": result.mean_r2}


def evaluation(result: Evaluation) -> str:
    """Show our numbers beside the paper's."""
    several = len(result.rows[0].splits) > 1
    rows = []
    for row in result.rows:
        ours = f"{100 * row.score:.1f}"
        if several and row.deviation is not None:
            ours += f" ± {100 * row.deviation:.1f}"
        paper, difference = "-", "-"
        if row.published is not None and row.difference is not None:
            paper, difference = f"{row.published.percent:.1f}", f"{row.difference:+.1f}"
        rows.append((row.name, Bold(ours), paper, difference))
    dataset, first = result.dataset, result.rows[0].splits[0]
    told = [counted(dataset["images"], "image"), f"{first.n_train:,} examples to train"]
    told += [f"{first.n_test:,} to test", counted(len(result.rows[0].splits), "split")]
    heads = ("descriptor", f"ours, {result.metric} in percent", "the paper", "difference")
    return head(str(dataset["name"]), told) + rows_table(heads, rows)
