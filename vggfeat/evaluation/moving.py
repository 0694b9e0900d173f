"""Moving spare copies out of an archive, so that it can be undone: nothing is deleted."""

from __future__ import annotations

import csv
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vggfeat.errors import SourceError
from vggfeat.files import decode_path, encode_path, system_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vggfeat.evaluation.duplicates import Copies, Copy

LIST = "moved.csv"
"""Name of the list, in the folder that images are moved to, of where each was."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of the spare images.

    Attributes
    ----------
    moved : tuple of (str, str)
        Where each was and where it is, absolute.
    left : tuple of (str, str)
        The path of each image that stayed, and why.
    """

    moved: tuple[tuple[str, str], ...]
    left: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, list[dict[str, str]]]:
        """Return JSON-ready values."""
        return {
            "moved": [{"from": old, "to": new} for old, new in self.moved],
            "left": [{"path": path, "reason": reason} for path, reason in self.left],
        }


def check_target(target: str | os.PathLike[str], sources: Sequence[str]) -> Path:
    """Return the folder to move to, made absolute, if images of `sources` can be moved there.

    Parameters
    ----------
    target : path
        Need not exist yet.
    sources : sequence of str
        As :meth:`vggfeat.index.SimilarityIndex.source` gives them.

    Raises
    ------
    SourceError
        A source is no folder, or the target is one of them or below one.
    """
    folder = Path(os.path.realpath(target))
    if folder.exists() and not folder.is_dir():
        raise SourceError(f"{target} is a file. Give a folder to move to, which need not exist.")
    for source in dict.fromkeys(sources):
        root = Path(os.path.realpath(decode_path(source)))
        if not root.is_dir():
            raise SourceError(
                f"Images of {source} cannot be moved: it is no folder here. Only images of plain "
                "folders can be; leave out --move-to."
            )
        if folder.is_relative_to(root):
            raise SourceError(
                f"{target} is in {source}, where its images would be found again. Give a folder "
                "elsewhere."
            )
    return folder


def move_spare(
    groups: Sequence[Copies],
    target: str | os.PathLike[str],
    progress: Callable[[int], None] = lambda _done: None,
) -> Moved:
    """Move the spare images of groups into a folder, and keep the best of each where it is.

    A file keeps its path below its source; where that is taken in `target`, a number is added.
    Each move is written to :data:`LIST` there before it is made, as a line of where from and
    where to, so that a kill leaves no file that the list does not have.

    Parameters
    ----------
    groups : sequence of Copies
        See :func:`~vggfeat.evaluation.duplicates.find_duplicates`.
    target : path
        Made if need be.
    progress : callable
        Told how many more images are done.

    Raises
    ------
    SourceError
        See :func:`check_target`; or the folder cannot be written.
    """
    folder = check_target(target, [one.source for group in groups for one in group.spare])
    moved: list[tuple[str, str]] = []
    left: list[tuple[str, str]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LIST).open("a", encoding="utf-8", newline="") as file:
            written = csv.writer(file)
            if not file.tell():
                written.writerow(["from", "to"])
            for group in groups:
                for one in group.spare:
                    old = _place(one)
                    reason = _refusal(old, one, _place(group.images[0]))
                    if reason:
                        left.append((one.path, reason))
                    else:
                        new = _free(folder / decode_path(one.path))
                        written.writerow([encode_path(str(old)), encode_path(str(new))])
                        file.flush()
                        os.fsync(file.fileno())
                        _move(old, new)
                        moved.append((encode_path(str(old)), encode_path(str(new))))
                    progress(1)
    except OSError as error:
        raise SourceError(
            f"Moving to {target} ended after {len(moved):,} images: {system_reason(error)}. "
            f"{folder / LIST} says where each was."
        ) from error
    return Moved(tuple(moved), tuple(left))


def _place(one: Copy) -> Path:
    return Path(decode_path(one.source), decode_path(one.path))


def _refusal(old: Path, one: Copy, kept: Path) -> str:
    """Say why an image has to stay, or nothing."""
    if PurePosixPath(one.path).is_absolute() or ".." in PurePosixPath(one.path).parts:
        return "it is not below its source's folder"
    if old.is_symlink():
        return "it is a link, not a file"
    if not old.is_file():
        return "it is no longer there"
    if not kept.is_file():
        return "the image to keep instead is no longer there"
    if old.samefile(kept):
        return "it is the very file to keep, under another name"
    if old.stat().st_size != one.bytes:
        return "it has changed meanwhile"
    return ""


def _free(place: Path) -> Path:
    """Return the place, or one beside it with a number, where nothing is."""
    found, number = place, 1
    while os.path.lexists(found):
        found = place.with_name(f"{place.stem}-{number}{place.suffix}")
        number += 1
    return found


def _move(old: Path, new: Path) -> None:
    """Move a file to where nothing is; what has come there meanwhile is not overwritten."""
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(old, new)  # unlike renaming, refuses where something is
    except FileExistsError:
        raise
    except OSError:  # another disk, or one without links
        _copy(old, new)
    old.unlink()


def _copy(old: Path, new: Path) -> None:
    with new.open("xb") as copy:
        try:
            with old.open("rb") as file:
                shutil.copyfileobj(file, copy)
            copy.flush()
            os.fsync(copy.fileno())
        except BaseException:
            with suppress(OSError):
                new.unlink()
            raise
    shutil.copystat(old, new)
