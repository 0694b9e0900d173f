"""Parts of images, such as the people that annotations mark with boxes."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, BinaryIO

from vggfeat.errors import ImageError
from vggfeat.files import open_regular
from vggfeat.images import decoded
from vggfeat.sources.base import Entry, Source, entry_from, entry_of, file_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vggfeat.labels import RawLabels

Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge in pixels of the upright image, counted from 0; the right and
lower edges lie outside."""


class CropSource(Source):
    """Rectangles cut out of image files, each an entry of its own.

    An entry has its file's size and time, so a store notices a changed file. A crop is handed out
    as an uncompressed image with exactly the pixels of the decoded file (whole files, and the value
    range ``full``).

    Parameters
    ----------
    root : str
        Absolute path of the folder that the files lie in.
    crops : dict of str to (str, Box)
        Entry path to the path of a file below `root`, and what to cut out of it. A box may reach
        beyond the image; what lies inside is taken.
    given_labels : dict, optional
        See :class:`Source`.
    """

    def __init__(
        self,
        root: str,
        crops: Mapping[str, tuple[str, Box]],
        given_labels: RawLabels | None = None,
    ) -> None:
        entry_of_file = cache(lambda path: entry_of(root, path))
        files = {key: entry_of_file(path) for key, (path, _) in crops.items()}
        entries = [replace(file, path=key) for key, file in files.items()]
        super().__init__(root, root, entries, given_labels)
        self._crops = dict(crops)

    def open(self, entry: Entry) -> BinaryIO:
        """Decode the file and give the crop; see :meth:`Source.open`."""
        try:
            path, box = self._crops[entry.path]
        except KeyError:
            raise ImageError("no such crop in the source") from None
        with open_regular(file_path(self.root, path)) as file, decoded(file) as image:
            if entry_from(entry.path, os.fstat(file.fileno())) != entry:
                raise ImageError("the file has changed since it was listed")
            width, height = image.size
            left, upper, right, lower = box
            inside = (max(left, 0), max(upper, 0), min(right, width), min(lower, height))
            if inside[0] >= inside[2] or inside[1] >= inside[3]:
                raise ImageError(f"the box {box} has no pixel of the {width} x {height} image")
            held = io.BytesIO()
            image.crop(inside).save(held, "PPM")
        held.seek(0)
        return held
