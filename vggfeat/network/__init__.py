"""The network: built as deep as it is asked for, run, and listened to.

:mod:`~vggfeat.network.modules` builds it, :mod:`~vggfeat.network.activations` says what its layers
put out (the fully connected ones over whole maps by :mod:`~vggfeat.network.positions`), and
:mod:`~vggfeat.network.running` turns images into that, and into features.
:mod:`~vggfeat.network.tail` has the last layers as a module to train. Whole weight files are tried
by :mod:`~vggfeat.network.checking` and written anew by :mod:`~vggfeat.network.converting`.
"""

from __future__ import annotations

from vggfeat.network.checking import Check, LayerCheck, check
from vggfeat.network.converting import Converted, convert
from vggfeat.network.modules import build
from vggfeat.network.running import Network
from vggfeat.network.tail import Tail

__all__ = [
    "Check",
    "Converted",
    "LayerCheck",
    "Network",
    "Tail",
    "build",
    "check",
    "convert",
]
