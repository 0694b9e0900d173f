"""Which images may be found: chosen by their paths or labels before the search, not after it."""

from __future__ import annotations

import fnmatch
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError
from vggfeat.labels import class_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vggfeat.index.rows import Rows

Integers = npt.NDArray[np.int64]


class Selection:
    """Vectors that may be found.

    Parameters
    ----------
    mask : ndarray of bool, shape (n,)
        One entry for each vector of the index.
    """

    def __init__(self, mask: npt.NDArray[np.bool_]) -> None:
        self.mask = mask
        self.places: Integers = np.flatnonzero(mask).astype(np.int64)

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def selector(self) -> Any:
        """The same as FAISS takes it."""
        import faiss

        # The array is kept alive by the selector, which only points to it.
        bits = np.packbits(self.mask, bitorder="little")
        return faiss.IDSelectorBitmap(bits)


def matching(rows: Rows, paths: Sequence[str], labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return which images are of one of `paths` and of one of `labels`.

    Parameters
    ----------
    rows : Rows
    paths : sequence of str
        Patterns as of a shell, case-sensitive: ``*`` any characters, ``/`` among them, ``?`` one,
        ``[ab]`` one of these. Empty: all paths.
    labels : sequence of str
        Names of classes; an image of several classes is of each. Empty: all labels.

    Raises
    ------
    SearchError
        A label is unknown; the message names some that are known.
    """
    chosen = ~rows.removed
    if labels:
        chosen &= _labelled(rows, labels)
    if paths:
        pattern = re.compile("|".join(fnmatch.translate(one) for one in paths))
        found = (pattern.match(path) is not None for path in rows.paths)
        chosen &= np.fromiter(found, np.bool_, len(rows))
    return chosen


def _labelled(rows: Rows, labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    labels = [class_name(label) for label in labels]
    own = [{class_name(part) for part in (name, *name.split("|"))} for name in rows.names]
    known = set().union(*own)
    if unknown := [label for label in labels if label not in known]:
        some = ", ".join(sorted(known)[:10]) + (", ..." if len(known) > 10 else "")
        raise SearchError(
            f"No image has the label {unknown[0]!r}. "
            + (f"Known labels: {some}." if known else "The index has no labels.")
        )
    wanted = set(labels)
    hit = [bool(wanted & parts) for parts in own]
    return np.array([*hit, False])[rows.label]  # -1, unknown, is the last
