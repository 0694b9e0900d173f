"""What features look like: the data of pictures, no scores.

:func:`image_map` lays images out in a plane by :func:`project`; :func:`unit_responses` finds what
excites single units; a :class:`HeatMap` says what each place of an image adds to a score
(:mod:`vggfeat.explain` computes them). ``vggfeat.report`` draws all of them. Nothing here imports
torch.
"""

from __future__ import annotations

from vggfeat.analysis.heat_map import Cells, HeatMap, rank_correlation
from vggfeat.analysis.image_map import ImageMap, image_map
from vggfeat.analysis.projection import Projection, project
from vggfeat.analysis.units import UnitsReport, unit_responses

__all__ = [
    "Cells",
    "HeatMap",
    "ImageMap",
    "Projection",
    "UnitsReport",
    "image_map",
    "project",
    "rank_correlation",
    "unit_responses",
]
