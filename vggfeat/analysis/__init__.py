"""What a store's features look like: the data of pictures, no scores.

:func:`image_map` lays images out in a plane by :func:`project`; :func:`unit_responses` finds what
excites single units. ``vggfeat.report`` draws both. Nothing here imports torch.
"""

from __future__ import annotations

from vggfeat.analysis.image_map import ImageMap, image_map
from vggfeat.analysis.projection import Projection, project
from vggfeat.analysis.units import UnitsReport, unit_responses

__all__ = ["ImageMap", "Projection", "UnitsReport", "image_map", "project", "unit_responses"]
