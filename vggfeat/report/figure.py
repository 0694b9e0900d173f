"""A figure of matplotlib that a notebook shows, without pyplot and its state.

Imported where something is drawn, for matplotlib takes its time.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vggfeat.report.confusion import DENSITY

INCH = 100
"""Of the page's pixels."""


class PageFigure(Figure):
    """A figure whose inch is :data:`INCH` of the page's pixels, on a ground of its own.

    Parameters
    ----------
    width, height : float
        In inches.
    paper : str
        Colour of the ground.
    """

    def __init__(self, width: float, height: float, paper: str) -> None:
        # Not pyplot: it would touch the state of a program that draws figures of its own.
        super().__init__(figsize=(width, height), facecolor=paper)
        FigureCanvasAgg(self)

    def png(self) -> bytes:
        """Return the picture as a PNG file."""
        file = io.BytesIO()
        with warnings.catch_warnings():  # a name in a script that the font lacks
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            self.savefig(
                file, format="png", dpi=INCH * DENSITY, bbox_inches="tight", pad_inches=0.12,
                facecolor=self.get_facecolor(), metadata={"Software": None},
            )  # fmt: skip
        return file.getvalue()

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        """Return the picture for a notebook, and its size in pixels of the page."""
        made = self.png()
        # A PNG's size stands in its header: big-endian, 4 bytes each.
        width, height = (int.from_bytes(made[at : at + 4]) // DENSITY for at in (16, 20))
        return made, {"width": width, "height": height}
