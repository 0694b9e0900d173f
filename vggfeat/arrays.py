"""Images that are arrays or tensors already."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from vggfeat.errors import ImageError
from vggfeat.rgb import to_rgb

_Pixels = np.ndarray[Any, np.dtype[Any]]


def from_array(array: _Pixels, shape: tuple[int, ...]) -> Image.Image:
    """Return a uint8 array as 8-bit RGB; `shape` is what the message names.

    Raises
    ------
    ImageError
        Its dtype is not uint8, or its shape none of (H, W) and (H, W, 1|3|4).
    """
    if array.dtype != np.uint8:
        raise ImageError(
            f"Got an array of {array.dtype}; images are uint8 with values 0..255. "
            "Convert it, as by (x * 255).round().astype('uint8') for floats in 0..1."
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = " Move the channels to the end: x.transpose(1, 2, 0)."
        raise ImageError(
            f"Got an array of shape {shape}; allowed are (H, W) and (H, W, 1|3|4).{hint}"
        )
    if 0 in array.shape:
        raise ImageError(f"Got an array of shape {shape}, which has no pixels.")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]  # (H, W, 1) -> (H, W)
    return to_rgb(Image.fromarray(np.ascontiguousarray(array)))


def from_tensor(tensor: Any) -> Image.Image:
    """Return a uint8 tensor as 8-bit RGB.

    Raises
    ------
    ImageError
        Its dtype is not torch.uint8, or its shape neither (1, H, W) nor (3, H, W).
    """
    shape = tuple(tensor.shape)
    if str(tensor.dtype) != "torch.uint8":
        raise ImageError(
            f"Got a tensor of {tensor.dtype}; images are torch.uint8 with values 0..255. "
            "Convert it, as by (x * 255).round().to(torch.uint8) for floats in 0..1."
        )
    if len(shape) != 3 or shape[0] not in (1, 3):
        hint = ""
        if len(shape) == 3 and shape[2] in (1, 3):
            hint = " Move the channels to the front: x.permute(2, 0, 1)."
        elif len(shape) == 4:
            hint = " Give a batch as a list of its images: list(x)."
        raise ImageError(
            f"Got a tensor of shape {shape}; allowed are (1, H, W) and (3, H, W).{hint}"
        )
    array = tensor.detach().cpu().permute(1, 2, 0).numpy()  # (C, H, W) -> (H, W, C)
    return from_array(array, shape)
