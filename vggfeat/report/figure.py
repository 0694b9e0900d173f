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
    tight : bool
        Whether a picture goes as far as what is drawn, whatever the figure's size.
    """

    def __init__(self, width: float, height: float, paper: str, *, tight: bool = True) -> None:
        # Not pyplot: it would touch the state of a program that draws figures of its own.
        dpi = None if tight else INCH * DENSITY
        super().__init__(figsize=(width, height), facecolor=paper, dpi=dpi)
        FigureCanvasAgg(self)
        self.tight = tight

    def savefig(self, fname: Any, **kwargs: Any) -> None:
        """Write the picture, whole, on its own ground; parameters are those of matplotlib."""
        given: dict[str, Any] = {"facecolor": self.get_facecolor()}
        if self.tight:
            given |= {"bbox_inches": "tight", "pad_inches": 0.12}
        super().savefig(fname, **(given | kwargs))

    def png(self) -> bytes:
        """Return the picture as a PNG file."""
        file = io.BytesIO()
        with warnings.catch_warnings():  # a name in a script that the font lacks
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            self.savefig(
                file, format="png", dpi=INCH * DENSITY, metadata={"Software": None},
            )  # fmt: skip
        return file.getvalue()

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        """Return the picture for a notebook, and its size in pixels of the page."""
        made = self.png()
        # A PNG's size stands in its header: big-endian, 4 bytes each.
        width, height = (int.from_bytes(made[at : at + 4]) // DENSITY for at in (16, 20))
        return made, {"width": width, "height": height}
