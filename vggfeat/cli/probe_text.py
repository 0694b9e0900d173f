"""Scores of ``vggfeat probe`` as lines and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vggfeat.cli.meanings import meanings
from vggfeat.cli.output import printable, table

if TYPE_CHECKING:
    from vggfeat.evaluation.layers.scored import ClassScores
    from vggfeat.metrics import Difference, Disagreement
    from vggfeat.probe import MultiLabelResult, ProbeResult, RepeatedResult
    from vggfeat.probe.division import Division
    from vggfeat.probe.leaks import Leak

_WIDEST = 20  # classes up to which the confusion matrix is printed
_PAIRS = 10  # pairs of classes named where there are more
_NAMES = {
    "mean_class_recall": "mean class recall",
    "accuracy": "accuracy",
    "mean_average_precision": "mean average precision",
}


def describe(result: ProbeResult | MultiLabelResult) -> str:
    """Return a score as a few lines and a table of the classes."""
    from vggfeat.probe import ProbeResult
    from vggfeat.probe.numbers import look_like_numbers

    about = f"{result.layer}, {result.classifier}, C = {result.C_text}, seed {result.seed}: "
    if isinstance(result, ProbeResult):
        score, classes = _one_label(result), _confusion(result)
    else:
        score, classes = _several(result), _precisions(result)
    about += _numbers(result)
    if look_like_numbers(result.classes, result.n_train + result.n_test):
        score.append(
            f"note: the {len(result.classes):,} classes are numbers, with few images each. "
            "--classifier ridge predicts numbers."
        )
    return "\n".join(
        [
            about,
            *divided_text(result.division),
            *score,
            *_probabilities(result),
            *_left_out(result),
            *leak_text(result.leak),
            *classes,
            "",
            *meanings(*(_NAMES[name] for name in result.measures), "C"),
        ]
    )


def describe_splits(result: RepeatedResult) -> str:
    """Return the scores of several splits as a table, with their means."""
    from vggfeat.probe import ProbeResult

    first = result.splits[0]
    names = list(first.measures)
    rows = [
        [str(one.seed), *(f"{one.measures[name]:.2%}" for name in names), one.C_text]
        for one in result.splits
    ]
    titles = [_NAMES[name] for name in names]
    lines = [f"{first.layer}, {first.classifier}: {_numbers(first)}, {len(result.splits)} splits"]
    lines += ["", table(rows, ["seed", *titles, "C"]), ""]
    worst = max(
        (one.leak for one in result.splits if one.leak is not None),
        key=lambda leak: (leak.near_identical, leak.same_bytes),
        default=None,
    )
    lines += leak_text(worst)
    for name, title in zip(names, titles, strict=True):
        interval = result.mean(name)
        lines.append(
            f"{title}: {interval.mean:.2%} +- {interval.sd:.2%}, "
            f"{interval.level:.0%} interval of the mean {interval.low:.2%} to {interval.high:.2%} "
            "(Nadeau and Bengio: splits share images)"
        )
    majorities = [one.majority for one in result.splits if isinstance(one, ProbeResult)]
    if majorities:
        mean = sum(majorities) / len(majorities)
        lines.append(f"always the commonest class: {mean:.2%} of accuracy")
    return "\n".join([*lines, *_left_out(first), "", *meanings(*titles, "C")])


def describe_against(
    first: ProbeResult | MultiLabelResult,
    second: ProbeResult | MultiLabelResult,
    compared: Disagreement | Difference,
    store: str,
) -> str:
    """Return a paired comparison as two lines."""
    from vggfeat.metrics import Difference

    scores = ", ".join(f"{_NAMES[name]} {value:.2%}" for name, value in second.measures.items())
    other = printable(f"{store}:{second.layer}" if store else second.layer)
    points = f"{100 * compared.difference:+.2f} points"
    if isinstance(compared, Difference):
        difference = (
            f"{points} of mean average precision, {compared.level:.0%} interval "
            f"{100 * compared.low:+.2f} to {100 * compared.high:+.2f}, p = {compared.p:.2g} "
            f"(paired bootstrap, {compared.samples:,} samples of the test images)"
        )
    else:
        difference = (
            f"{points} of accuracy, p = {compared.p:.2g} (McNemar's exact test: "
            f"{compared.only_first:,} images are named rightly by {first.layer} alone, "
            f"{compared.only_second:,} by {other} alone)"
        )
    return f"\nagainst {other}, C = {second.C_text}: {scores}\ndifference: {difference}"


def _numbers(result: ProbeResult | MultiLabelResult) -> str:
    return (
        f"{result.n_train:,} images to train, {result.n_test:,} to test, "
        f"{len(result.classes)} classes"
    )


def _one_label(result: ProbeResult) -> list[str]:
    return [
        f"accuracy           {result.accuracy:7.2%}   (always the commonest class: "
        f"{result.majority:.2%})",
        f"mean class recall  {result.mean_class_recall:7.2%}   (guessing: {result.chance:.2%})",
        f"mean class F1      {result.macro_f1:7.2%}",
    ]


def _several(result: MultiLabelResult) -> list[str]:

    return [
        f"mean average precision  {result.mean_average_precision:7.2%}   "
        f"({result.kind}; scores that tell nothing: {result.chance:.2%})",
        f"F1 of its decisions     {result.macro_f1:7.2%}   "
        f"(mean of classes; all together {result.micro_f1:.2%})",
    ]


def _probabilities(result: ProbeResult | MultiLabelResult) -> list[str]:
    """Say how far probabilities can be believed; nothing where there are none."""
    if (found := result.reliability) is None:
        return []
    width = 22 if found.several else 17
    lines = [
        f"{'calibration error':{width}}  {found.ece:7.2%}   (expected, {len(found.counts)} bins; "
        f"right probabilities would have {found.by_chance:.2%} by chance)",
        f"{'log-loss':{width}}  {found.log_loss:7.3f}   (Brier score {found.brier:.3f})",
    ]
    if result.calibration is not None:
        lines.append(f"probabilities: {result.calibration.describe()}")
    return lines


def divided_text(division: Division | None) -> list[str]:
    """Say how images were divided, where that is not by lot image by image."""
    if division is None or not (told := division.describe()):
        return []
    hint = " (--test-size draws instead)" if division.splits else ""
    return [printable(told) + hint]


def guessing_text(scored: ClassScores) -> str:
    """Say what scores without any knowledge."""
    if scored.multi_label or scored.majority is None:
        kind = scored.settings["ap"]
        return f"average precision: {kind}; scores that tell nothing: {scored.chance:.2%}"
    return f"guessing: {scored.chance:.2%}, always the commonest class: {scored.majority:.2%}"


def values_text(C: float | tuple[float, ...]) -> str:
    """Write the value of C, or the range of several classes' own."""
    values = C if isinstance(C, tuple) else (C,)
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def leak_text(leak: Leak | None) -> list[str]:
    """Warn of test images that training has, too."""
    if leak is None or not leak.found:
        return []
    pairs = [f"  {printable(test)} and {printable(train)}" for test, train in leak.pairs]
    some = f" (some of {leak.tested:,})" if leak.looked_at < leak.tested else ""
    return [
        f"warning: {leak.near_identical:,} of {leak.looked_at:,} test images{some} have a "
        f"near-identical one in training (cosine {leak.cosine:.4f} or more); {leak.same_bytes:,} "
        f"of all {leak.tested:,} are the very same file. What they score says little of new "
        "images; keep such images together with --group-by or --groups of `vggfeat extract`, or "
        "remove them (`vggfeat duplicates`).",
        *pairs,
    ]


def _left_out(result: ProbeResult | MultiLabelResult) -> list[str]:
    counts = {
        "not done": result.left_out.not_done,
        "without a label": result.left_out.unlabelled,
        "alone in their class": result.left_out.alone,
        "in no split that counts": result.left_out.other_split,
        "of classes that are never learnt from": result.left_out.unseen,
    }
    reasons = [f"{count:,} {why}" for why, count in counts.items() if count]
    if result.left_out.classes:
        reasons.append("the classes " + ", ".join(map(printable, result.left_out.classes)))
    return [f"left out: {', '.join(reasons)}"] if reasons else []


def _confusion(result: ProbeResult) -> list[str]:
    if len(result.classes) > _WIDEST:
        from vggfeat.report.confusion import confused_pairs

        pairs = confused_pairs(result.confusion, result.classes, _PAIRS)
        rows = [[pair.true, pair.named, f"{pair.count} of {pair.of}"] for pair in pairs]
        lines = table(rows, ["class", "taken for", "images"], right="images")
        return ["", "Most often confused:", lines] if rows else []
    numbers = [str(i) for i in range(len(result.classes))]
    rows = [
        [number, name, *(_percent(share) for share in shares), *map(str, counts)]
        for number, name, *shares, counts in zip(
            numbers,
            result.classes,
            result.recall,
            result.precision,
            result.f1,
            result.confusion.tolist(),
            strict=True,
        )
    ]
    header = ["", "class", "recall", "precision", "F1", *numbers]
    shown = table(rows, header, right=" ".join(header[2:]))
    return ["", "Confusion matrix (rows: true class, numbered columns: predicted class):", shown]


def _percent(share: float) -> str:
    return "-" if share != share else f"{share:.1%}"


def _precisions(result: MultiLabelResult) -> list[str]:
    rows: list[list[Any]] = []
    for name, precision, present, C in zip(
        result.classes, result.average_precision, result.present, result.C, strict=True
    ):
        both = (result.mistakes_of(name, present=shown)[:1] for shown in (True, False))
        worst = [images[0].path if images else "-" for images in both]
        rows.append([name, f"{precision:.1%}", str(present), f"{C:.3g}", *worst])
    header = ["class", "AP", "images", "C", "worst miss", "worst false alarm"]
    return ["", table(rows, header, right="AP images C")]
