"""How the VGG paper measures on each dataset, and what it reports.

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
            "test": self.test,
            "validation": self.validation,
            "unscored": list(self.unscored),
            "published": [number.to_json() for number in self.published],
            "caveat": self.caveat,
        }


_D, _E, _BOTH = ("vgg16",), ("vgg19",), ("vgg16", "vgg19")
_FIVE = (256, 384, 512, 640, 768)
_THREE = (256, 384, 512)

PROTOCOLS: dict[str, Protocol] = {
    "voc2007": Protocol(
        MEAN_AP,
        _FIVE,
        "mean",
        ap="11-point",
        train="trainval",
        test="test",
        published=(Published(_D, 89.3), Published(_E, 89.3), Published(_BOTH, 89.7)),
    ),
    "voc2012": Protocol(
        MEAN_AP,
        _FIVE,
        "mean",
        ap="all-point",
        train="train",
        test="val",
        published=(Published(_D, 89.0), Published(_E, 89.0), Published(_BOTH, 89.3)),
        caveat="Trained on train and tested on val, since only the official server knows the "
        "test labels; the paper trained on trainval and was scored there on test.",
    ),
    "voc2012-action": Protocol(
        MEAN_AP,
        _FIVE,
        "mean",
        ap="all-point",
        train="train",
        test="val",
        unscored=("other",),
        published=(Published(_BOTH, 79.2), Published(_BOTH, 84.0, boxes=True)),
        caveat="Trained on train and tested on val, since only the official server knows the "
        "test labels; the paper trained on trainval and was scored there on test. The scales are "
        "those of VOC classification.",
    ),
    "caltech101": Protocol(
        MEAN_RECALL,
        _THREE,
        "stack",
        rule=SplitRule(3, 30, 50),
        validation=0.2,
        published=(
            Published(_D, 91.8, 1.0),
            Published(_E, 92.3, 0.5),
            Published(_BOTH, 92.7, 0.5),
        ),
        caveat="The paper drew three random splits of its own.",
    ),
    "caltech256": Protocol(
        MEAN_RECALL,
        _THREE,
        "stack",
        rule=SplitRule(3, 60),
        validation=0.2,
        published=(
            Published(_D, 85.0, 0.2),
            Published(_E, 85.1, 0.3),
            Published(_BOTH, 86.2, 0.3),
        ),
        caveat="The paper drew three random splits of its own.",
    ),
    "folder": Protocol(MEAN_RECALL, _THREE, "stack", validation=0.2),
}
"""By dataset. A folder of one's own is measured as Caltech-101 is; its rule depends on it."""
