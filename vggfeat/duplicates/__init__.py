"""Copies among the images of an index: found by features, verified by pixels, moved aside.

:mod:`~vggfeat.duplicates.candidates` says which images are near enough by features,
:mod:`~vggfeat.duplicates.aligning` lays one picture over another,
:mod:`~vggfeat.duplicates.verifying` compares them, :mod:`~vggfeat.duplicates.originality` says
which to keep, and :mod:`~vggfeat.duplicates.finding` makes groups of it all.
:mod:`~vggfeat.duplicates.moving` moves what may go and brings it back, by paths that
:mod:`~vggfeat.duplicates.beneath` walks without following links.
"""

from __future__ import annotations

from vggfeat.duplicates.finding import Copies, Copy, Duplicates, find_duplicates
from vggfeat.duplicates.moving import Moved, check_target, move_back, move_spare

__all__ = [
    "Copies",
    "Copy",
    "Duplicates",
    "Moved",
    "check_target",
    "find_duplicates",
    "move_back",
    "move_spare",
]
