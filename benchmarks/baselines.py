"""What a network's features must beat: pixels, and histograms of oriented gradients.

Each baseline sees the very view that the network sees, resampled to a side of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggfeat.images import decode
from vggfeat.preprocessing import Preprocessing
from vggfeat.views import View

Pixels = NDArray[np.uint8]
Vector = NDArray[np.float32]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


def pixels(view: Pixels) -> Vector:
    """Return an image (S, S, 3) as its 3 * S * S values in 0..1."""
    return (view / 255).astype(np.float32).reshape(-1)


def hog(view: Pixels, cell: int) -> Vector:
    """Return histograms of oriented gradients of an image in grey.

    Parameters are those that Dalal and Triggs found best for pedestrians ("Histograms of Oriented
    Gradients for Human Detection", CVPR 2005): 9 unsigned orientations, blocks of 2 x 2 cells one
    cell apart, clipped L2 norm (L2-Hys).

    Parameters
    ----------
    view : ndarray of uint8, (S, S, 3)
        RGB.
    cell : int
        Side of a cell in pixels; theirs has 8.

    Returns
    -------
    ndarray of float32, (36 * (S // cell - 1) ** 2,)
    """
    from skimage.feature import hog as histograms

    grey = view @ np.array(LUMA) / 255
    return np.float32(
        histograms(
            grey,
            orientations=9,
            pixels_per_cell=(cell, cell),
            cells_per_block=(2, 2),
            block_norm="L2-Hys",
        )
    )


@dataclass(frozen=True, slots=True)
class Baseline:
    """A description of images that nobody had to train.

    Attributes
    ----------
    family, name : str
        ``"pixels"`` or ``"HOG"``; and which of them, for tables.
    side : int
        Side in pixels that the view is resampled to.
    describe : callable
        (side, side, 3) uint8 to (d,) float32.
    """

    family: str
    name: str
    side: int
    describe: Callable[[Pixels], Vector]

    def features(
        self, folder: Path, paths: Iterable[str], preprocessing: Preprocessing
    ) -> NDArray[np.float32]:
        """Describe images.

        Parameters
        ----------
        folder : Path
            Where they are.
        paths : iterable of str
            Which ones, relative to it.
        preprocessing : Preprocessing
            The network's. Its crop becomes `side`, its resize grows or shrinks with that.

        Returns
        -------
        ndarray of float32, (n, d)
        """
        resize = round(preprocessing.resize * self.side / preprocessing.crop)
        spec = replace(preprocessing, resize=resize, crop=self.side)
        views = (View("center").inputs(decode(folder / path), spec)[0] for path in paths)
        return np.stack([self.describe(view) for view in views])


BASELINES = (
    Baseline("pixels", "pixels 32", 32, pixels),
    Baseline("pixels", "pixels 64", 64, pixels),
    Baseline("HOG", "HOG 64/8", 64, partial(hog, cell=8)),
    Baseline("HOG", "HOG 128/8", 128, partial(hog, cell=8)),
    Baseline("HOG", "HOG 128/16", 128, partial(hog, cell=16)),
)
"""Pixels by side; HOG by side and cell. The best of a family counts, by its test score: where
that flatters anyone, it flatters the baseline."""
