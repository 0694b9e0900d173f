"""How a network is trained: every number that decides what is learnt."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from vggfeat.errors import TrainingError
from vggfeat.layers import Architecture

HEAD = "head"
"""What :attr:`Recipe.first` is called where the head alone is trained."""

OPTIMISERS = ("adamw", "sgd")
SCHEDULES = ("onecycle", "cosine", "constant")
PRECISIONS = ("float32", "bfloat16", "float16")

FEW = 8
"""Training images a class below which the head alone is trained (docs/finetune.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of a training run.

    The defaults are those of a linear probe followed by fine-tuning with a rate that is small for
    what the features know and large for the head (Kumar et al., "Fine-Tuning can Distort Pretrained
    Features and Underperform Out-of-Distribution", ICLR 2022, section 4), in one cycle (Smith,
    arXiv 1803.09820), with smoothed labels (Szegedy et al., arXiv 1512.00567, section 7).

    Attributes
    ----------
    first : str
        Canonical name of the first layer that is trained, or ``"head"``.
    layer : str
        Layer whose features the head reads, with its pooling.
    epochs : int
        Times that every training image is seen, as one of its views.
    batch_size : int
        Images a step.
    rate, head_rate : float
        Largest learning rate of the network's layers and of the head.
    decay : float
        Decoupled weight decay, of weights and not of biases.
    smoothing : float
        Label smoothing, of one label an image.
    optimiser : str
        Of :data:`OPTIMISERS`; SGD has Nesterov's momentum of 0.9.
    schedule : str
        Of :data:`SCHEDULES`.
    augment : int
        Views that are drawn of each training image, beside the plain one.
    crop, colour, mirror :
        See :class:`~vggfeat.views.drawn.DrawnView`.
    average : float
        Decay a step of the moving average of the weights, which is then what is scored and kept;
        0 for none.
    validation : float
        Share of the training images that choose the best epoch, where there is no split ``val``;
        0 for none: the last epoch is kept.
    patience : int
        Epochs without a better validation score after which training stops; 0 for never.
    class_weight : str or None
        ``"balanced"`` lets every class count the same.
    precision : str
        Of :data:`PRECISIONS`: mixed precision, in which products are rounded and weights are not.
    seed : int
        Of splits, views and order.

    Raises
    ------
    TrainingError
        A value is out of its range.
    """

    first: str = ""
    layer: str = ""
    epochs: int = 8
    batch_size: int = 32
    rate: float = 1e-4
    head_rate: float = 1e-2
    decay: float = 0.01
    smoothing: float = 0.1
    optimiser: str = "adamw"
    schedule: str = "onecycle"
    augment: int = 2
    crop: float = 0.5
    colour: float = 0.2
    mirror: bool = True
    average: float = 0.0
    validation: float = 0.0
    patience: int = 0
    class_weight: Literal["balanced"] | None = None
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("batch_size", 1), ("augment", 0), ("patience", 0)):
            if getattr(self, name) < low:
                raise TrainingError(f"{name} is {getattr(self, name)}; give at least {low}.")
        for name in ("rate", "head_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise TrainingError(f"{name} is {getattr(self, name)}; give a number above 0.")
        for name in ("smoothing", "average", "validation"):
            if not 0 <= getattr(self, name) < 1:
                raise TrainingError(
                    f"{name} is {getattr(self, name)}; give a share from 0 to below 1."
                )
        if not 0 <= self.decay < float("inf"):
            raise TrainingError(f"decay is {self.decay}; give a number from 0 on.")
        for name, allowed in (
            ("optimiser", OPTIMISERS), ("schedule", SCHEDULES), ("precision", PRECISIONS),
            ("class_weight", ("balanced", None)),
        ):  # fmt: skip
            if getattr(self, name) not in allowed:
                known = ", ".join(str(one) for one in allowed)
                raise TrainingError(f"{name} is {getattr(self, name)!r}; known are {known}.")

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


def first_layer(network: Architecture, images: int, classes: int) -> tuple[str, str]:
    """Choose the first layer to train by the size of the training set.

    Parameters
    ----------
    network : Architecture
    images : int
        Training images.
    classes : int
        Classes, or 1 of numbers.

    Returns
    -------
    first : str
        Canonical name, or ``"head"``.
    why : str
        One clause for people.
    """
    each = images / classes
    about = f"{each:.3g} training images a class"
    if each < FEW:
        return HEAD, f"with {about} training convolutions gains nothing that is sure"
    return network.layer("conv5_1").name, f"{about} suffice for the last block"


def last_map(network: Architecture) -> str:
    """Return the layer that the head reads by default: the last rectified convolution, averaged."""
    return f"relu5_{network.convolutions[-1]}:avg"
