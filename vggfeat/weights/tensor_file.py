"""An open weight file, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from vggfeat.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Where a file's network stops being one that is understood.

    Attributes
    ----------
    before : str
        Canonical name of the first layer that cannot be computed as the file's network does.
    reason : str
        What is in the way, named as the file names it, and the remedy: for people, with a full
        stop.
    """

    before: str
    reason: str


@dataclass(frozen=True, slots=True)
class Understanding:
    """What a reader found out beside the tensors.

    Attributes
    ----------
    obstacle : Obstacle or None
        What must not be computed from the file; None where all that it has is understood.
    elsewhere : tuple of str
        Tensors, by the file's names, that certainly are not on the way to any layer it serves.
    notes : tuple of str
        What was made of tensors that VGG does not have: a clause each, for the log.
    parts : tuple of str
        Names of the networks in the file, where it has several: ``FILE#NAME`` chooses one.
    preprocessing : Preprocessing or None
        What pixels must go through, where the file says it.
    any_size : bool
        Whether that is so whatever the size of the images.
    where : str
        What of the file says it.
    unclear : str
        What it says of pixels that is not understood: a clause for people.
    origin : str
        Name of the format that the file was converted from, where that can be told.
    """

    obstacle: Obstacle | None = None
    elsewhere: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    any_size: bool = True
    where: str = ""
    unclear: str = ""
    origin: str = ""


class Tensors(Protocol):
    """Names and shapes now, tensors when asked, each read from its place in the file.

    Names are torchvision's (``features.0.weight``) or canonical (``conv1_1.weight``), whichever
    is nearer to the format; :mod:`vggfeat.weights.state` knows both. Shapes are torch's: kernels
    (outputs, inputs, height, width), matrices (outputs, inputs), with the map that ``fc6`` sees
    flattened as (channel, row, column).
    """

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor by name."""

    def read(self, name: str) -> NDArray[Any] | Tensor:
        """Return one tensor, in memory of its own; an array where numpy has its type."""


class TensorFile(Tensors, Protocol):
    """An open file's tensors, and what its reader found out beside them."""

    understanding: Understanding
