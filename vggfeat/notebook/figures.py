"""Results as figures of matplotlib, which is imported when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggfeat.report.text import short_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vggfeat.encoding import Encoding
    from vggfeat.evaluation import Comparison, LowShot
    from vggfeat.finetuning.results import FinetuneResult
    from vggfeat.probe import ProbeResult, RegressionResult
    from vggfeat.representations import Comparison as Similarities
    from vggfeat.representations import Fits, RDMs


def of_probe(result: ProbeResult, dark: bool) -> Figure:
    """Draw which classes were taken for which."""
    from vggfeat.report.confusion import draw_confusion

    return draw_confusion(result.confusion, result.classes, dark=dark)


def of_finetune(result: FinetuneResult, dark: bool) -> Figure:
    """Draw the losses and scores of the epochs."""
    from vggfeat.report.finetune import draw_finetune

    return draw_finetune(result, dark=dark)


def of_numbers(result: RegressionResult, dark: bool) -> Figure:
    """Draw predictions against truth."""
    from vggfeat.report.numbers import draw_numbers

    return draw_numbers(result, dark=dark)


def of_sweep(found: Comparison, dark: bool) -> Figure:
    """Draw the score of each layer."""
    from vggfeat.report.sweep import draw_sweep

    names = short_names([store.path for store in found.stores])
    return draw_sweep(dict(zip(names, found.scores, strict=True)), found.chance, dark=dark)


def of_lowshot(found: LowShot, dark: bool) -> Figure:
    """Draw scores over the number of images a class."""
    from vggfeat.report.lowshot import draw_lowshot

    names = short_names([store.path for store in found.stores])
    return draw_lowshot(dict(zip(names, found.scores, strict=True)), found.chance, dark=dark)


def of_similarities(found: Similarities, dark: bool) -> Figure:
    """Draw a matrix of similarities."""
    from vggfeat.report.comparison import draw_comparison

    return draw_comparison(found, dark=dark).figure


def of_fits(found: Fits, dark: bool) -> Figure:
    """Draw how well representations account for targets."""
    from vggfeat.report.comparison import draw_fits

    return draw_fits(found, dark=dark).figure


def of_rdms(found: RDMs, dark: bool) -> Figure:
    """Draw RDMs; of very many conditions a random sample."""
    from vggfeat.report.rdm import draw_rdms
    from vggfeat.representations.picturing import pictured_rdms

    return draw_rdms(pictured_rdms(found), dark=dark).figure


def of_encoding(found: Encoding, dark: bool) -> Figure:
    """Draw how well layers predict responses."""
    from vggfeat.report.encoding import draw_encoding

    return draw_encoding(found, dark=dark).figure
