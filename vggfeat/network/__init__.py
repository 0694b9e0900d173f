"""The network: built as deep as it is asked for, run, and listened to.

:mod:`~vggfeat.network.modules` builds it and hands over activations,
:mod:`~vggfeat.network.positions` runs the fully connected layers over whole maps, and
:mod:`~vggfeat.network.running` turns images into pooled features. Whole weight files are tried by
:mod:`~vggfeat.network.checking` and written anew by :mod:`~vggfeat.network.converting`.
"""

from __future__ import annotations

from vggfeat.network.checking import Check, LayerCheck, check
from vggfeat.network.converting import Converted, convert
from vggfeat.network.modules import build, walk
from vggfeat.network.running import Network

__all__ = [
    "Check",
    "Converted",
    "LayerCheck",
    "Network",
    "build",
    "check",
    "convert",
    "walk",
]
