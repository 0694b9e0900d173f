"""How a dataset is measured, and what the VGG paper reports on it.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv 1409.1556, appendix B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vggfeat.datasets.splits import SplitRule

Metric = Literal["mean average precision", "mean class recall"]
AveragePrecision = Literal["11-point", "all-point"]
Combine = Literal["mean", "stack"]

MEAN_AP: Metric = "mean average precision"
MEAN_RECALL: Metric = "mean class recall"

D, E, D_AND_E = ("vgg16",), ("vgg19",), ("vgg16", "vgg19")
"""The paper's networks, and both stacked."""

FIVE_SCALES = (256, 384, 512, 640, 768)
THREE_SCALES = (256, 384, 512)


@dataclass(frozen=True, slots=True)
class Published:
    """A number of the paper.

    Attributes
    ----------
    networks : tuple of str
        Whose features were stacked: ``("vgg16",)``, ``("vgg19",)`` or both (the paper's D and E).
    percent : float
        The metric, in 0..100.
    deviation : float or None
        Its standard deviation over the splits.
    boxes : bool
        Whether features of the person's box were stacked with those of the image.
    """

    networks: tuple[str, ...]
    percent: float
    deviation: float | None = None
    boxes: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "networks": list(self.networks),
            "percent": self.percent,
            "deviation": self.deviation,
            "boxes": self.boxes,
        }


@dataclass(frozen=True, slots=True)
class Protocol:
    """What to compute on a dataset, and what to set it beside.

    Attributes
    ----------
    metric : str
        ``"mean average precision"`` or ``"mean class recall"``.
    ap : str or None
        ``"11-point"`` or ``"all-point"``: the average precision of the dataset's own devkit.
    scales : tuple of int
        Lengths Q of an image's smallest side, in pixels.
    combine : str
        ``"mean"`` or ``"stack"``: how descriptors of several scales become one.
    train, test : str
        Names of the official sets; empty where splits follow a rule.
    val : str
        The set that chooses the classifier's parameter and then trains, too; empty where images
        drawn from `train` choose it.
    rule : SplitRule or None
        How splits are drawn where there are no official sets.
    validation : float or None
        Share of the training images that chooses the classifier's parameter; None where the
        paper names none.
    unscored : tuple of str
        Classes that are left out of the metric's mean.
    published : tuple of Published
        The paper's numbers.
    caveat : str
        In what a run on these files must differ from the paper; empty where in nothing.
    """

    metric: Metric
    scales: tuple[int, ...]
    combine: Combine
    ap: AveragePrecision | None = None
    train: str = ""
    test: str = ""
    val: str = ""
    rule: SplitRule | None = None
    validation: float | None = None
    unscored: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()
    caveat: str = ""

    def scales_for(self, input_size: int) -> tuple[int, ...]:
        """Return the scales for a network whose input is not 224 pixels, in proportion to it."""
        return tuple(round(side * input_size / 224) for side in self.scales)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, without the splits' rule, which is the dataset's."""
        return {
            "metric": self.metric,
            "ap": self.ap,
            "scales": list(self.scales),
            "combine": self.combine,
            "train": self.train,
            "val": self.val,
            "test": self.test,
            "validation": self.validation,
            "unscored": list(self.unscored),
            "published": [number.to_json() for number in self.published],
            "caveat": self.caveat,
        }
