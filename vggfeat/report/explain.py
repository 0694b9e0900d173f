"""The page of explanations: each image with a map of each class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggfeat.analysis.heat_map import SHARE
from vggfeat.report.colour_scale import written
from vggfeat.report.heat import heat, reach_of
from vggfeat.report.page import write_page
from vggfeat.report.thumbnails import ImageSource, picture

if TYPE_CHECKING:
    from vggfeat.analysis import HeatMap

_SIDE = 640

HOW = {
    "exact": "the share of each position of {layer}, exactly",
    "gradcam": "Grad-CAM at {layer}",
    "layercam": "LayerCAM at {layer}",
}
"""What a person calls the methods of maps."""


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedClass:
    """A class and its map.

    Attributes
    ----------
    name : str
    score : float
    map : HeatMap
    constant : float
        What is of no place.
    named : bool
        Whether the image was said to show the class.
    probability : float or None
    """

    name: str
    score: float
    map: HeatMap
    constant: float
    named: bool
    probability: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedImage:
    """An image with its classes, or why there are none.

    Attributes
    ----------
    path : str
        As the user named it.
    classes : sequence of ExplainedClass
    image : ImageSource
        The original.
    problem : str, optional
        Why the image could not be explained.
    """

    path: str
    classes: Sequence[ExplainedClass]
    image: ImageSource = None
    problem: str | None = None


def explain_page(
    path: str | os.PathLike[str],
    images: Sequence[ExplainedImage],
    *,
    subject: str,
    what: str,
    method: str,
    layer: str,
    facts: Mapping[str, str],
) -> Path:
    """Write the page of explanations.

    Parameters
    ----------
    path : path
        The HTML file to make or replace.
    images : sequence of ExplainedImage
    subject : str
        Name of the probe or of the weights.
    what : str
        What a score is.
    method : str
        A key of :data:`HOW`.
    layer : str
        Whose positions are mapped.
    facts : mapping of str to str
        What decides the numbers.

    Returns
    -------
    Path
        The file.
    """
    return write_page(
        path,
        "explain.html",
        subject=subject,
        what=what,
        how=HOW[method].format(layer=layer),
        exact=method == "exact",
        share=SHARE,
        images=[_view(one) for one in images],
        facts=facts,
    )


def _view(one: ExplainedImage) -> dict[str, Any]:
    if one.problem is not None or not one.classes:
        return {"path": one.path, "problem": one.problem or "There is no class to explain."}
    reach = reach_of(*(each.map for each in one.classes))
    maps = [
        {
            "name": each.name,
            "score": written(each.score),
            "probability": None if each.probability is None else f"{each.probability:.3f}",
            "named": each.named,
            "favour": written(each.map.favour),
            "against": written(each.map.against),
            "constant": written(each.constant),
            "heat": heat(each.map, one.image, f"Map of {each.name} on {one.path}", reach=reach),
        }
        for each in one.classes
    ]
    return {
        "path": one.path,
        "problem": None,
        "photo": picture(one.image, _SIDE),
        "partial": not one.classes[0].map.seen.all(),
        "maps": maps,
    }
