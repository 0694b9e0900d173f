"""Which images may be found: chosen by their paths or labels before the search, not after it."""

from __future__ import annotations

import difflib
import fnmatch
import re
import unicodedata
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError
from vggfeat.index.preparing import Integers
from vggfeat.labels import class_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vggfeat.index.rows import Rows

_MOST_COMPARED = 20_000  # paths that are looked through for a near name


class Selection:
    """Vectors that may be found.

    Parameters
    ----------
    mask : ndarray of bool, shape (n,)
        One entry for each vector of the index.
    """

    def __init__(self, mask: npt.NDArray[np.bool_]) -> None:
        self.mask = mask
        self.ids: Integers = np.flatnonzero(mask).astype(np.int64)

    def __len__(self) -> int:
        return len(self.ids)

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
        Names of images, or of folders with all that is below them; or patterns of such names as
        of a shell, case-sensitive: ``*`` any characters, ``/`` among them, ``?`` one, ``[ab]``
        one of these. Empty: all paths.
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
        fits = _fitting(paths)
        chosen &= np.fromiter(map(fits, rows.paths), np.bool_, len(rows))
    return chosen


def nothing_fits(rows: Rows, path: str) -> str:
    """Return a message that no image of `rows` fits a name or pattern, with names that are near."""
    parents = {path[: at.start()] for path in rows.paths for at in re.finditer("/", path)}
    folders = sorted(parents - {""})
    name = path.strip("/")
    last = name.rpartition("/")[2]
    below = [one for one in folders if one.rpartition("/")[2] == last]
    alike = difflib.get_close_matches(name, folders, n=3)
    if not below and not alike:
        alike = difflib.get_close_matches(name, list(rows.paths)[:_MOST_COMPARED], n=3)
    near = list(dict.fromkeys([*below, *alike]))[:3]
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else _top(folders)
    return f"No image is {path!r} or below it. {hint}".rstrip()


def _top(folders: list[str]) -> str:
    top = [one for one in folders if "/" not in one]
    return f"Folders: {', '.join(top[:10])}{', ...' if len(top) > 10 else ''}." if top else ""


def _fitting(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return what says whether a path is, or is below, what one of the patterns names."""
    names = [_one_form(one).removeprefix("./").rstrip("/") for one in patterns]
    exact = set(names)
    below = tuple(f"{name}/" for name in names)
    # Names with brackets are also taken as they are.
    wild = [name for name in names if re.search(r"[*?\[]", name)]
    either = [fnmatch.translate(form) for name in wild for form in (name, f"{name}/*")]
    pattern = re.compile("|".join(either) if either else "(?!)")
    plain = all(name.isascii() for name in names)

    def fits(path: str) -> bool:
        path = path if plain else _one_form(path)
        return path in exact or path.startswith(below) or pattern.match(path) is not None

    return fits


def _one_form(text: str) -> str:
    """Return a text with each letter with an accent as one character, however it was written."""
    return unicodedata.normalize("NFC", text)


def _labelled(rows: Rows, labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    labels = [class_name(label) for label in labels]
    classes = [{class_name(part) for part in (name, *name.split("|"))} for name in rows.names]
    known = set().union(*classes)
    if unknown := [label for label in labels if label not in known]:
        some = ", ".join(sorted(known)[:10]) + (", ..." if len(known) > 10 else "")
        near = difflib.get_close_matches(unknown[0], sorted(known), n=3)
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise SearchError(
            f"No image has the label {unknown[0]!r}. {hint}"
            + (f"Known labels: {some}." if known else "The index has no labels.")
        )
    wanted = set(labels)
    hit = [bool(wanted & parts) for parts in classes]
    return np.array([*hit, False])[rows.label]  # -1, unknown, is the last
