"""What a catalogue must be for anything to be read by it.

Its checksum has no key, so that whoever changes it can compute the checksum anew: each number that
is an offset, a size or a position is compared here with what it points into.
"""

from __future__ import annotations

import math
import reprlib
from typing import TYPE_CHECKING, Any

import numpy as np

from vggfeat.index.named_files import check_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vggfeat.index.catalogue import Catalogue
    from vggfeat.index.rows import Texts
    from vggfeat.index.settings import Files, Tuning

_KINDS = {"path_bytes": "u1", "path_ends": "i8", "row": "i8", "origin": "u2", "checksum": "u4",
          "label": "i4", "removed": "u1"}  # fmt: skip
_ROWS = 1 << 40  # in a store: the bits that the order of results leaves them


def check_arrays(arrays: Mapping[str, Any]) -> None:
    """Refuse columns of other types or lengths than the format gives them; ValueError."""
    for name, kind in _KINDS.items():
        array = arrays[name]
        if array.dtype != np.dtype(kind) or array.ndim != 1:
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
        if name != "path_bytes" and len(array) != len(arrays["row"]):
            raise ValueError(f"{name} has {len(array)} entries of {len(arrays['row'])}")


def check(catalogue: Catalogue) -> None:
    """Refuse a catalogue whose parts do not fit one another.

    Raises
    ------
    ValueError
        What does not fit.
    """
    rows, settings = catalogue.rows, catalogue.settings
    _check_files(catalogue.files)
    if catalogue.files.count != len(rows):
        raise ValueError(f"it names {len(rows)} vectors of {catalogue.files.count}")
    _check_texts(rows.paths)
    _check_range("row", rows.row, 0, _ROWS)
    _check_range("origin", rows.origin, 0, len(catalogue.sources))
    _check_range("label", rows.label, -1, len(rows.names))
    if not all(isinstance(name, str) for name in (*rows.names, *catalogue.stores, catalogue.layer)):
        raise ValueError("a name is no text")
    if not math.isfinite(catalogue.longest) or catalogue.longest < 0:
        raise ValueError(f"its longest vector has the length {catalogue.longest}")
    numbers = {"effort": settings.effort, "candidates": settings.candidates}
    numbers |= {name: getattr(catalogue.left_out, name) for name in catalogue.left_out.__slots__}
    for name, number in numbers.items():
        _check_count(name, number)
    if not isinstance(settings.factory, str) or not isinstance(settings.augmented, str):
        raise ValueError("its settings are no text")
    _check_number("seconds", settings.seconds)
    if settings.tuning is not None:
        _check_tuning(settings.tuning)
    if (settings.factory == "Flat") == bool(catalogue.files.faiss):
        raise ValueError(f"a structure {settings.factory!r} has the file {catalogue.files.faiss!r}")
    _check_whitening(catalogue)


def _check_tuning(tuning: Tuning) -> None:
    _check_number("asked", tuning.asked)
    for name, number in (("k", tuning.k), ("queries", tuning.queries), ("chosen", tuning.chosen)):
        _check_count(name, number)
    if tuning.chosen >= len(tuning.tried):
        raise ValueError(f"chosen is {tuning.chosen} of {len(tuning.tried)} settings")
    for one in tuning.tried:
        for name in ("recall", "error", "seconds"):
            _check_number(name, getattr(one, name))
        for name in ("effort", "candidates"):
            _check_count(name, getattr(one, name))


def _check_files(files: Files) -> None:
    if not isinstance(files.vectors, str) or not isinstance(files.faiss, str):
        raise ValueError("its names of files are no text")
    check_names(files.vectors, files.faiss)
    counts = [number for part in files.parts for number in part]
    for number in (files.dimension, files.faiss_size, files.faiss_crc32, *counts):
        _check_count("a number of files", number)
    if not files.dimension:
        raise ValueError("its vectors have no numbers")


def _check_texts(paths: Texts) -> None:
    """Check that each text begins where the one before ends, is not empty, and is UTF-8."""
    ends, data = paths.ends, paths.bytes
    starts = np.concatenate([[0], ends[:-1]])
    if len(ends) and (ends[-1] != len(data) or (ends <= starts).any()):
        raise ValueError("its paths are empty, or do not end one after the other")
    if ((data[starts] & 0xC0) == 0x80).any():
        raise ValueError("a path begins within a character")
    data.tobytes().decode()


def _check_range(name: str, array: Any, low: int, end: int) -> None:
    if len(array) and not (low <= int(array.min()) and int(array.max()) < end):
        raise ValueError(f"{name} has values outside {low} to {end - 1}")


def _check_count(name: str, number: Any) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 62:
        raise ValueError(f"{name} is {reprlib.repr(number)}")


def _check_number(name: str, number: Any) -> None:
    right = isinstance(number, int | float) and not isinstance(number, bool)
    if not right or not 0 <= number < 1e300:  # NaN is neither
        raise ValueError(f"{name} is {reprlib.repr(number)}")


def _check_whitening(catalogue: Catalogue) -> None:
    learnt = catalogue.whitening
    if learnt is None:
        return
    _check_count("count of images learnt from", learnt.count)
    learnt.check()
    if learnt.dimension != catalogue.files.dimension:
        raise ValueError(
            f"it whitens to {learnt.dimension} numbers, and has {catalogue.files.dimension}"
        )
