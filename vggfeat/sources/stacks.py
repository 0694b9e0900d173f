"""Stacks of images: one array of NumPy, HDF5 or MATLAB that holds them all, as experiments do."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from vggfeat.array_files import open_array
from vggfeat.errors import ImageError, SourceError
from vggfeat.files import system_reason
from vggfeat.sources.base import Entry, Source

if TYPE_CHECKING:
    from pathlib import Path

_CHANNELS = (1, 3)
_WHAT = (
    "images as uint8 (floats in 0..1: save np.uint8(np.round(255 * x))) of shape (N, H, W), "
    "(N, H, W, 3) or (N, 3, H, W), in MATLAB's files (H, W, N) or (H, W, 3, N)"
)


class StackSource(Source):
    """The images of one array, in its order.

    The paths of N images are their numbers from 0 on, with as many digits as N - 1 has: ``00000``
    to ``72999`` of NSD's ``nsd_stimuli.hdf5#imgBrick``. Images lie along the first axis, in files
    of MATLAB along the last. An image is handed out as an uncompressed file (PPM or PGM) with
    exactly the pixels of the array.

    Parameters
    ----------
    spec : path
        ``FILE`` or ``FILE#NAME``, absolute.

    Raises
    ------
    SourceError
        The file cannot be read, holds no such array or several, or it is of another type or shape.
    """

    def __init__(self, spec: str | os.PathLike[str]) -> None:
        self._array = open_array(spec, _fits, _WHAT, SourceError)
        self._lock = threading.Lock()
        path, shape = self._array.path, self._array.shape
        matlab = path.suffix.lower() == ".mat"
        self._read = self._array.along_last if matlab else self._first
        count = shape[-1] if matlab else shape[0]
        self._layout = _layout(shape[:-1] if matlab else shape[1:])
        if self._layout is None or _is_one_image(shape, matlab):
            self._array.close()
            raise SourceError(f"{self._array.spec} has the shape {shape}; {_WHAT}, are expected.")
        state = _state(path)
        digits = len(str(count - 1))
        each = int(np.prod(shape, dtype=np.int64)) // count
        entries = [
            Entry(f"{at:0{digits}d}", each, state.st_mtime_ns, state.st_ctime_ns)
            for at in range(count)
        ]
        super().__init__(self._array.spec, self._array.spec, entries)
        self._seen = state.st_mtime_ns, state.st_size

    def open(self, entry: Entry) -> BinaryIO:
        """Give an image of the stack as a file; see :meth:`Source.open`."""
        if not (entry.path.isascii() and entry.path.isdigit()):
            raise ImageError("no such image in the stack")
        number = int(entry.path)
        if number >= len(self.entries) or self.entries[number].path != entry.path:
            raise ImageError(f"the stack has the images 0 to {len(self.entries) - 1}")
        state = _state(self._array.path)
        if (state.st_mtime_ns, state.st_size) != self._seen:
            raise ImageError("the file has changed since it was listed")
        try:
            with self._lock:  # which stands for the place in a file of HDF5, too
                pixels = self._read(number)
        except (OSError, RuntimeError, ValueError) as error:
            raise ImageError(f"cannot be read: {' '.join(str(error).split())}") from error
        held = io.BytesIO()
        Image.fromarray(_upright(pixels, self._layout)).save(held, "PPM")
        held.seek(0)
        return held

    def _first(self, number: int) -> npt.NDArray[Any]:
        return np.asarray(self._array[number : number + 1][0])


def _fits(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return dtype == np.uint8 and len(shape) in (3, 4) and 0 not in shape


def _layout(shape: tuple[int, ...]) -> str | None:
    """Say how one image of this shape lies: ``HW``, ``HWC`` or ``CHW``; None for none of these."""
    if len(shape) == 2:
        return "HW"
    if shape[2] in _CHANNELS:
        return "HWC"
    return "CHW" if shape[0] in _CHANNELS else None


def _is_one_image(shape: tuple[int, ...], matlab: bool) -> bool:
    """Tell whether three axes are rather those of one image in colours than of grey ones."""
    return len(shape) == 3 and (shape[-1] in (3, 4) or (shape[0] in (3, 4) and not matlab))


def _upright(pixels: npt.NDArray[Any], layout: str | None) -> npt.NDArray[np.uint8]:
    if layout == "CHW":
        pixels = pixels.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]  # (H, W, 1) -> (H, W)
    return np.ascontiguousarray(pixels)


def _state(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise ImageError(system_reason(error)) from error
