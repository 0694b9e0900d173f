"""An image that every copy of vggfeat makes alike, to try networks on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SEED, _MEAN, _DEVIATION = 6, 118.0, 62.0  # the latter two as of photographs


def synthetic(side: int) -> NDArray[np.uint8]:
    """Make an image whose spectrum falls off as photographs' do: as one over the frequency.

    Parameters
    ----------
    side : int
        In pixels.

    Returns
    -------
    ndarray of uint8, (side, side, 3)
        Mostly grey structure, with some colour.
    """
    rng = np.random.default_rng(_SEED)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = np.inf  # no mean
    noise = rng.standard_normal((4, side, side))
    waves = np.fft.ifft2(np.fft.fft2(noise) / frequency).real
    waves /= waves.std(axis=(1, 2), keepdims=True)
    pixels = _MEAN + _DEVIATION * (0.9 * waves[:1] + 0.4 * waves[1:]).transpose(1, 2, 0)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
