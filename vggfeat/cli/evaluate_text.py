"""What ``vggfeat evaluate`` prints: the table, and everything that decides its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggfeat.cli.output import printable, table

if TYPE_CHECKING:
    from vggfeat.evaluation import Evaluation, Outcome, Paired

_HOW = {"mean": "averaged", "stack": "stacked"}


def describe(result: Evaluation) -> str:
    """Return an evaluation as a table and what decides its numbers."""
    dataset = result.dataset
    first = result.rows[0].splits[0]
    several = len(result.rows[0].splits) > 1
    header = ["descriptor", "ours", "paper", "difference"]
    right = "ours paper difference"
    if several:
        header.insert(2, "95 % interval")
    rows = [_line(row, several) for row in result.rows]
    lines = [
        f"{dataset['name']}: {dataset['images']:,} images, {len(dataset['classes'])} classes; "
        f"{first.n_train:,} examples to train, {first.n_test:,} to test"
        + (f", {len(result.rows[0].splits)} splits" if several else ""),
        f"{result.metric}, in percent:",
        "",
        table(rows, header, right=right),
        *_pairs(result),
        "",
        "What decides these numbers:",
        *(f"  {name}: {value}" for name, value in facts(result).items()),
    ]
    if result.departures:
        lines += ["", "How this differs from the paper:"]
        lines += [f"  - {phrase}" for phrase in result.departures]
    return "\n".join(lines)


def _line(row: Outcome, several: bool) -> list[str]:
    ours = f"{100 * row.score:.1f}"
    if row.deviation is not None:
        ours += f" ± {100 * row.deviation:.1f}"
    paper, difference = "-", "-"
    if row.published is not None and row.difference is not None:
        paper = f"{row.published.percent:.1f}"
        if row.published.deviation is not None:
            paper += f" ± {row.published.deviation:.1f}"
        difference = f"{row.difference:+.1f}"
    line = [row.name, ours, paper, difference]
    if several and (interval := row.interval):
        line.insert(2, f"{100 * interval.low:.1f} to {100 * interval.high:.1f}")
    return line


def _pairs(result: Evaluation) -> list[str]:
    return ["", "On the same test images:"] * bool(result.paired) + [
        f"  {pair_text(result, pair)}" for pair in result.paired
    ]


def pair_text(result: Evaluation, pair: Paired) -> str:
    """Say how two rows compare."""
    first, second = result.rows[pair.first].name, result.rows[pair.second].name
    found = f"{first} against {second}: {100 * pair.difference:+.1f}"
    if pair.low is not None and pair.high is not None:
        found += f" (95 % interval {100 * pair.low:+.1f} to {100 * pair.high:+.1f})"
    if pair.p is not None:
        found += f", p = {pair.p:.2g}"
    return f"{found}; {pair.method}"


def facts(result: Evaluation) -> dict[str, str]:
    """Name everything that decides the numbers."""
    settings, dataset = result.settings, result.dataset
    rule, protocol = dataset["rule"], dataset["protocol"]
    found = {}
    for store in settings["stores"]:
        scales = ", ".join(map(str, store["scales"]))
        how = f" {_HOW[store['combine']]}" if len(store["scales"]) > 1 else ""
        pooling = store["layers"][store["layer"]]
        spec = store["preprocessing"]
        found[f"{store['model']}{', box' if store['boxes'] else ''}"] = (
            f"{store['layer']}{f' ({pooling})' if pooling else ''}, {store['view']} at scales "
            f"{scales}{how}{', with mirror images' if store['flip'] else ''}; weights "
            f"{printable(store['weights'])}, SHA-256 {store['weights_sha256'][:16]}; "
            f"{spec['channels']} x {spec['scale']:.4g}, mean {spec['mean']}, std {spec['std']}, "
            f"{spec['interpolation']}; {printable(store['path'])}"
        )
    held_out = settings["validation"]
    chosen = f"{held_out:.0%} of the training images" if held_out < 1 else f"{held_out:g} folds"
    classifier = {"svm": "linear SVMs, one against the rest", "logreg": "logistic regression"}
    found["classifier"] = (
        f"{classifier[settings['classifier']]}, on L2-normalised descriptors; C chosen on "
        f"{chosen}, then all train"
    )
    found["C"] = "; ".join(f"{row.name}: {_values(row)}" for row in result.rows)
    if rule is None:
        found["splits"] = f"the official sets, {protocol['train']} and {protocol['test']}"
    else:
        most = rule["max_test_per_class"]
        found["splits"] = (
            f"{settings['splits']} random ones of {rule['train_per_class']} training images a "
            f"class, {'all others' if most is None else f'at most {most}'} for the test; seed "
            f"{settings['seed']}"
        )
    if protocol["unscored"]:
        found["not scored"] = ", ".join(protocol["unscored"])
    found["dataset's SHA-256"] = dataset["sha256"]
    return found


def _values(row: Outcome) -> str:
    values = [value for split in row.splits for value in split.C]
    if len(values) <= 3:
        return ", ".join(f"{value:.3g}" for value in values)
    return f"{min(values):.3g} to {max(values):.3g}, one a class"
