"""8-bit images as a network's first layer takes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggfeat.errors import ImageError
from vggfeat.preprocessing import Preprocessing


def normalised(
    images: Sequence[NDArray[np.uint8]],
    spec: Preprocessing,
    device: torch.device,
    precision: torch.dtype,
) -> Tensor:
    """Return images in a weight file's scale and order of channels.

    Parameters
    ----------
    images : sequence of ndarray of uint8 (H, W, 3), or array (B, H, W, 3)
        RGB, 0..255, of one size.
    spec : Preprocessing
        Gives the channels' order, scale, mean and standard deviation.
    device, precision : torch.device, torch.dtype
        Where and of which type they are to be.

    Returns
    -------
    Tensor, (B, 3, H, W)

    Raises
    ------
    ImageError
        None, images of several sizes, or other values than uint8 (H, W, 3).
    """
    kinds = {(image.shape, str(image.dtype)) for image in images}
    if len(kinds) != 1 or any(len(s) != 3 or s[2] != 3 or d != "uint8" for s, d in kinds):
        raise ImageError(
            f"Images of {sorted(kinds)} cannot run together. Give uint8 arrays (H, W, 3) of "
            "one size at a time, RGB in 0..255."
        )
    pixels = _stacked(images, pinned=device.type == "cuda")
    # (B, H, W, 3) -> (B, 3, H, W): a view, and the memory is channels_last already
    x = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2)
    if spec.channels == "BGR":
        x = x.flip(1).contiguous(memory_format=torch.channels_last)
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device="cpu")
        .to(device, non_blocking=True)
        .view(1, 3, 1, 1)
        for values in (spec.mean, spec.std)
    )
    # Division, as torchvision divides by 255: a product with 1/255 rounds otherwise.
    x = x.to(torch.float32).div_(1 / spec.scale).sub_(mean).div_(std)
    return x.to(precision)


def _stacked(images: Sequence[NDArray[np.uint8]], *, pinned: bool) -> Tensor:
    """Return images as one tensor; a GPU fetches pinned memory by itself, while Python goes on."""
    shape = (len(images), *images[0].shape)
    pixels = torch.empty(shape, dtype=torch.uint8, device="cpu", pin_memory=pinned)
    np.stack(images, out=pixels.numpy())
    return pixels
