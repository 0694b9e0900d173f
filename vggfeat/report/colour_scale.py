"""Colours of values with a sign, and the scale that explains them."""

from __future__ import annotations

from typing import Any

import numpy as np

from vggfeat.report.canvas import Canvas

FROM_ZERO = {  # of values from 0 up: from the ground's own tone, told apart by lightness alone
    False: ("#f3f1ea", "#cfdfe6", "#78aac0", "#2b6d8c", "#0c2a3d"),
    True: ("#22272c", "#24414f", "#2d6f8d", "#67b2cf", "#e6f7ff"),
}
BELOW = {  # of values from 0 down
    False: ("#f3f1ea", "#f0d3c2", "#dd9670", "#b2541f", "#5c2404"),
    True: ("#22272c", "#4d3223", "#94532c", "#e08f5c", "#ffe9da"),
}
_BAR = 12  # width in pixels of the page


def written(value: float) -> str:
    """Write a value with three significant digits."""
    return f"{value:.3g}".replace("-", "−") if value else "0"


class ColourScale:
    """Colours of values between two numbers: 0 is the ground's tone, steps are equal both ways.

    Parameters
    ----------
    low, high : float
        The values' smallest and largest; the scale holds 0 in any case.
    dark : bool
        For a dark ground.

    Attributes
    ----------
    style : dict
        What :meth:`Canvas.image` takes to draw values in these colours.
    """

    def __init__(self, low: float, high: float, dark: bool) -> None:
        from matplotlib.colors import LinearSegmentedColormap, Normalize

        self.low, self.high = min(low, 0.0), max(high, 0.0)
        if self.low == self.high:
            self.high = 1.0
        reach = max(-self.low, self.high)
        both = [*reversed(BELOW[dark]), *FROM_ZERO[dark][1:]]
        whole = LinearSegmentedColormap.from_list("signed", both, N=1025)
        self.style: dict[str, Any] = {"cmap": whole, "norm": Normalize(-reach, reach)}

    def draw(self, canvas: Canvas, x: float, y: float, height: float) -> None:
        """Draw the scale of colours, from the smallest value to the largest, with 0 marked."""
        steps = np.linspace(self.high, self.low, 256)[:, None]
        canvas.image(steps, x, y, _BAR, height, **self.style)
        unit = height / (self.high - self.low)
        ends = {self.high: y, self.low: y + height}
        zero = y + self.high * unit
        for value, at in ends.items():
            if value and abs(at - zero) >= 14:
                self._tick(canvas, x, at, written(value))
        self._tick(canvas, x, zero, "0", weight="bold")

    @staticmethod
    def _tick(canvas: Canvas, x: float, y: float, text: str, **style: Any) -> None:
        canvas.box(x, y - 0.75, _BAR + 4, 1.5, facecolor=canvas.tones.ink, zorder=4)
        canvas.text(x + _BAR + 7, y, text, size=11, va="center", **style)
