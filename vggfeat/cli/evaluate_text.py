"""What ``vggfeat evaluate`` prints: the table, and everything that decides its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggfeat.cli.meanings import meaning_of
from vggfeat.cli.output import table
from vggfeat.report.evaluation import evaluation_facts, folders_text, pair_text

if TYPE_CHECKING:
    from vggfeat.evaluation import Evaluation, Outcome


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
        *_folders(result),
        f"{result.metric}, in percent:",
        "",
        table(rows, header, right=right),
        *_accuracies(result),
        *(["", *told] if (told := meaning_of(result.metric)) else []),
        *_pairs(result),
        "",
        "Settings that change these numbers:",
        *(f"  {name}: {value}" for name, value in evaluation_facts(result).items()),
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


def _folders(result: Evaluation) -> list[str]:
    """Say which folders of one's own train and test."""
    protocol = result.dataset["protocol"]
    if result.dataset["rule"] is not None or protocol["published"]:
        return []
    return [f"{folders_text(protocol)} (--splits draws instead)"]


def _accuracies(result: Evaluation) -> list[str]:
    """Return the accuracies, beside what always naming the commonest class gives."""
    if result.rows[0].confusion is None:
        return []

    def mean(row: Outcome, name: str) -> str:
        return f"{100 * sum(one.others[name] for one in row.splits) / len(row.splits):.1f}"

    each = ", ".join(f"{row.name} {mean(row, 'accuracy')}" for row in result.rows)
    commonest = mean(result.rows[0], "majority")
    return ["", f"accuracy: {each} (always the commonest class: {commonest})"]


def _pairs(result: Evaluation) -> list[str]:
    return ["", "On the same test images:"] * bool(result.paired) + [
        f"  {pair_text(result, pair)}" for pair in result.paired
    ]
