"""An open weight file, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


class TensorFile(Protocol):
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
