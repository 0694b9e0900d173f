"""Where in an image a network input lies."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Placement:
    """The part of an upright image that a network input shows, in pixels of that image.

    Attributes
    ----------
    left, upper : float
        Its upper left corner.
    width, height : float
        Its size, above 0.
    mirrored : bool
        Whether the input shows it mirrored, left to right.
    """

    left: float
    upper: float
    width: float
    height: float
    mirrored: bool = False

    def mirror(self) -> Placement:
        """Return where the input's mirror image lies."""
        return replace(self, mirrored=not self.mirrored)

    def moved(self, left: float, upper: float) -> Placement:
        """Return where it lies in an image of which this one was cut, at that corner."""
        return replace(self, left=self.left + left, upper=self.upper + upper)
