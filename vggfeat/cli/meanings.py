"""What printed scores mean: one sentence each, below the tables that have them."""

from __future__ import annotations

_MEANINGS = {
    "accuracy": "the share of test images whose class is named rightly.",
    "mean class recall": "the share of each class's test images that are named rightly, then the "
    "mean over classes: small classes count as much as large ones.",
    "mean average precision": "for each class, how far images that show it come before others when "
    "all are sorted by its score (100 % is perfect), then the mean over classes.",
    "kNN": "the first of these scores, by a vote of the most similar training images in place of "
    "training.",
    "C": "how closely the classifier follows its training images; chosen, unless given, on images "
    "that were held out of training.",
    "margin": "by how much the class's score exceeds that of the next one; near 0 it was close.",
}


def meaning_of(metric: str) -> list[str]:
    """Return a line on the score that a text begins with, or none."""
    return meanings(*[name for name in _MEANINGS if metric.startswith(name)])


def meanings(*names: str) -> list[str]:
    """Return a line on each of some scores, by the names under which they are printed.

    ``recall`` is short for mean class recall, ``mAP`` for mean average precision.
    """
    full = {"recall": "mean class recall", "mAP": "mean average precision"}
    return [f"{name}: {_MEANINGS[full.get(name, name)]}" for name in names]
