"""Names of tensors in files that torch users write: torchvision's, timm's, and wrapped ones.

timm's VGG computes the first fully connected layers by convolutions, ``pre_logits.fc1`` (7 x 7)
and ``pre_logits.fc2`` (1 x 1), and calls the last one ``head.fc``. Their kernels are laid out as
the rows of torchvision's matrices: (outputs, channel, row, column).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from vggfeat.weights.tensor_file import TensorFile

if TYPE_CHECKING:
    from torch import Tensor

_TIMM = {"pre_logits.fc1": "fc6", "pre_logits.fc2": "fc7", "head.fc": "fc8"}
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")
"""What DataParallel, torch.compile and training programs put before every name."""

_COUNTERS = ".num_batches_tracked"


class Translated:
    """A file seen under names that :mod:`vggfeat.weights.state` knows.

    Parameters
    ----------
    file : TensorFile
        The file under its own names.
    """

    def __init__(self, file: TensorFile) -> None:
        self._file = file
        self._own = translated(file.shapes)
        self.shapes = {name: _flat(name, file.shapes[own]) for name, own in self._own.items()}

    def read(self, name: str) -> NDArray[Any] | Tensor:
        """Return one tensor; a convolution that stands for a matrix becomes one."""
        return self._file.read(self._own[name]).reshape(self.shapes[name])


def translated(names: Iterable[str]) -> dict[str, str]:
    """Return our name of each tensor, with the file's own.

    Parameters
    ----------
    names : iterable of str
        All names in a file. The counters of batch normalisation are left out.

    Returns
    -------
    dict of str to str
        Names that are not known stay as they are.
    """
    own = [name for name in names if not name.endswith(_COUNTERS)]
    prefix = _common_prefix(own)
    found = {}
    for name in own:
        module, _, kind = name.removeprefix(prefix).rpartition(".")
        found[f"{_TIMM.get(module, module)}.{kind}" if module else kind] = name
    return found


def _common_prefix(names: list[str]) -> str:
    prefix = ""
    while names:
        longer = [p for p in _WRAPPERS if all(n.startswith(prefix + p) for n in names)]
        if not longer:
            break
        prefix += longer[0]
    return prefix


def _flat(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    dense = name.startswith(("fc", "classifier."))
    return (shape[0], math.prod(shape[1:])) if dense and len(shape) == 4 else shape


def unwrapped(state: Any, kind: type) -> Mapping[str, Any]:
    """Return the dictionary of tensors in what a checkpoint holds.

    Parameters
    ----------
    state : Any
        A flat dictionary of tensors, or one that has it under a usual key, as training programs
        write it beside the epoch and the optimiser's state.
    kind : type
        What a tensor is an instance of.

    Raises
    ------
    ValueError
        There is none.
    """
    if isinstance(state, Mapping):
        if state and all(isinstance(value, kind) for value in state.values()):
            return state
        for key in ("state_dict", "model_state_dict", "model", "net", "network", "weights"):
            inner = state.get(key)
            if isinstance(inner, Mapping) and inner:
                return unwrapped(inner, kind)
    raise ValueError("it holds no dictionary of tensors by name.")
