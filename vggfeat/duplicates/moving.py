"""Moving spare copies out of an archive, so that it can be undone: nothing is deleted.

Paths come from a store that anybody may have made, and folders may change while files are moved.
So each path is decoded, checked part by part, and walked folder by folder from its source without
following a link; a file is moved only if its bytes are still those that were compared; and what
was moved is looked at once more, and given back where it is another file.
"""

from __future__ import annotations

import csv
import errno
import os
import shutil
import stat
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggfeat.duplicates.beneath import (
    beside_nothing,
    descended,
    opened_folder,
    parts_of,
    renamed,
    sha256_of,
)
from vggfeat.errors import SourceError
from vggfeat.files import decode_path, encode_path, open_plain, system_reason
from vggfeat.progress import Progress, silent
from vggfeat.sources import within

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from vggfeat.duplicates.finding import Copies, Copy

LIST = "moved.csv"
"""Name of the list, in the folder that images are moved to, of where each was."""

_Identity = tuple[int, int]


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


class _Stays(Exception):
    """An image is not moved; the message says why."""


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
        A source is no folder, or the target is one of them or below one; or this system cannot
        walk folders without following links (Windows).
    """
    if not {os.open, os.mkdir, os.stat, os.link, os.unlink} <= os.supports_dir_fd:
        raise SourceError(
            "--move-to is not for this system, which cannot open folders without following links. "
            "Use --json and move the files yourself."
        )
    folder = Path(os.path.realpath(target))
    if folder.exists() and not folder.is_dir():
        raise SourceError(f"{target} is a file. Give a folder to move to, which need not exist.")
    for source in dict.fromkeys(sources):
        root = _folder_of(source)
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
    progress: Progress = silent,
) -> Moved:
    """Move the spare images of groups into a folder, and keep the best of each where it is.

    A file keeps its path as the store knows it: below its source, or below the name of its source
    where there are several; where that is taken in `target`, a number is added.
    Each move is written to :data:`LIST` there before it is made, as a line of where from and
    where to. After a kill at any moment the last line of a file is one of two: `from` is there
    and whole, and the move was not made (a file at `to`, if any, is an unfinished copy to another
    disk); or `from` is gone and `to` is whole. A run after a kill writes a second line of the
    same file, so :func:`move_back` goes from the last line to the first.

    Parameters
    ----------
    groups : sequence of Copies
        See :func:`~vggfeat.duplicates.finding.find_duplicates`.
    target : path
        Made if need be.
    progress : Progress
        Told of images.

    Raises
    ------
    SourceError
        See :func:`check_target`; or the folder cannot be written.
    """
    folder = check_target(target, [one.source for group in groups for one in group.spare])
    spare = sum(len(group.spare) for group in groups)
    moved: list[tuple[str, str]] = []
    left: list[tuple[str, str]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            move = _Mover(stack, folder, groups)
            for group in groups:
                for one in group.spare:
                    try:
                        moved.append(move(one, group.images[0]))
                    except _Stays as reason:
                        left.append((one.path, str(reason)))
                    progress("moving", 1, spare)
    except OSError as error:
        raise SourceError(
            f"Moving to {target} ended after {len(moved):,} images: {system_reason(error)}. "
            f"{folder / LIST} says where each was."
        ) from error
    return Moved(tuple(moved), tuple(left))


def move_back(target: str | os.PathLike[str]) -> Moved:
    """Undo :func:`move_spare`: put every image back to where it was, unless something is there.

    Parameters
    ----------
    target : path
        The folder that images were moved to, with its :data:`LIST`, which stays.

    Returns
    -------
    Moved
        Where each is again; as left, what has gone from `target`, or could not be moved.

    Raises
    ------
    SourceError
        The folder holds no list that can be read, or the list names files outside the folder.
    """
    folder = Path(os.path.realpath(target))
    try:
        with (folder / LIST).open(encoding="utf-8", newline="") as file:
            lines = [(line["from"], line["to"]) for line in csv.DictReader(file)]
        pairs = [(Path(decode_path(old)), Path(decode_path(new))) for old, new in lines]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise SourceError(
            f"{folder / LIST} cannot be read as a list of moved images: {error}. Give the folder "
            "that they were moved to."
        ) from None
    for _old, new in pairs:
        inside = Path(os.path.realpath(new.parent)).is_relative_to(folder)
        if not inside or new.name == "..":
            raise SourceError(f"{folder / LIST} names {new}, which is not in {folder}.")
    moved: list[tuple[str, str]] = []
    left: list[tuple[str, str]] = []
    for (line_from, line_to), (old, new) in reversed(list(zip(lines, pairs, strict=True))):
        if os.path.lexists(old):
            continue  # the move was not made, or is undone
        try:
            old.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(new, old)
            moved.append((line_to, line_from))
        except OSError as error:
            left.append((line_from, system_reason(error)))
    return Moved(tuple(moved), tuple(left))


class _Mover:
    """Moves one file after another into a folder, and keeps its list."""

    def __init__(self, stack: ExitStack, folder: Path, groups: Sequence[Copies]) -> None:
        self._folder = folder
        self._target = stack.enter_context(opened_folder(folder))
        list_ = open_plain(LIST, os.O_RDWR | os.O_APPEND | os.O_CREAT, folder=self._target)
        self._list = stack.enter_context(os.fdopen(list_, "a", encoding="utf-8", newline=""))
        self._written = csv.writer(self._list)
        if not os.fstat(list_).st_size:
            self._note("from", "to")
        best = {id(group.images[0]): group.images[0] for group in groups if group.spare}
        self._kept = {key: self._identity(one) for key, one in best.items()}

    def __call__(self, one: Copy, best: Copy) -> tuple[str, str]:
        """Move an image; return where it was and where it is."""
        if self._kept[id(best)] is None or self._identity(best) != self._kept[id(best)]:
            raise _Stays("the image to keep instead is no longer there, or has changed")
        try:
            parts, shelves = parts_of(within(one.source, one.path)[1]), parts_of(one.path)[:-1]
        except ValueError as error:
            raise _Stays(f"it is not below its source's folder: {error}") from None
        root = _folder_of(one.source)
        with ExitStack() as stack:
            try:
                parent = stack.enter_context(descended(root, parts[:-1]))
                file = stack.enter_context(os.fdopen(open_plain(parts[-1], folder=parent), "rb"))
            except FileNotFoundError:
                raise _Stays("it is no longer there") from None
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.EINVAL):
                    raise _Stays("it is a link or reached by one, or no plain file") from None
                raise _Stays(f"it cannot be read: {system_reason(error)}") from None
            state = self._unchanged(one, file)
            shelf = stack.enter_context(descended(self._folder, shelves, make=True))
            name = beside_nothing(parts[-1], shelf)
            old = encode_path(str(root.joinpath(*parts)))
            new = encode_path(str(self._folder.joinpath(*shelves, name)))
            self._note(old, new)
            self._move(file, state, (parts[-1], parent), (name, shelf), one.file.digest)
        return old, new

    def _note(self, old: str, new: str) -> None:
        self._written.writerow([old, new])
        self._list.flush()
        os.fsync(self._list.fileno())

    def _identity(self, one: Copy) -> _Identity | None:
        """Return which file an image to keep is, or None where its bytes are others by now."""
        try:
            root, path = within(one.source, one.path)
            with Path(decode_path(root), decode_path(path)).open("rb") as file:
                state = os.fstat(file.fileno())
                same = (state.st_size, state.st_mtime_ns) == (one.file.bytes, one.file.mtime_ns)
                return (state.st_dev, state.st_ino) if same else None
        except (OSError, ValueError):
            return None

    def _unchanged(self, one: Copy, file: BinaryIO) -> os.stat_result:
        state = os.fstat(file.fileno())
        if (state.st_dev, state.st_ino) in self._kept.values():
            raise _Stays("it is the very file to keep, under another name")
        if (state.st_size, state.st_mtime_ns) != (one.file.bytes, one.file.mtime_ns) or (
            sha256_of(file) != one.file.digest
        ):
            raise _Stays("it has changed meanwhile")
        return state

    def _move(
        self,
        file: BinaryIO,
        state: os.stat_result,
        old: tuple[str, int],
        new: tuple[str, int],
        digest: str,
    ) -> None:
        """Move what `old` names to `new`, where nothing is, if it still is `file`.

        Both are a name and the descriptor of its folder.
        """
        try:
            renamed(old, new)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copied(file, state, new, digest)
            if not _same(os.stat(old[0], dir_fd=old[1], follow_symlinks=False), state):
                os.unlink(new[0], dir_fd=new[1])
                raise _Stays("it has changed meanwhile") from None
            os.unlink(old[0], dir_fd=old[1])
            return
        if not _same(os.stat(new[0], dir_fd=new[1], follow_symlinks=False), state):
            renamed(new, old)  # another file had come there meanwhile
            raise _Stays("it has changed meanwhile")


def _folder_of(source: str) -> Path:
    """Return the folder of a source, with links resolved, whatever its name."""
    return Path(os.path.realpath(decode_path(within(source, "")[0])))


def _same(actual: os.stat_result, expected: os.stat_result) -> bool:
    def key(state: os.stat_result) -> tuple[int, ...]:
        return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns

    return stat.S_ISREG(actual.st_mode) and key(actual) == key(expected)


def _copied(file: BinaryIO, state: os.stat_result, new: tuple[str, int], digest: str) -> None:
    """Copy a file to another disk, with its times, and read the copy again from there."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    with os.fdopen(
        open_plain(new[0], flags, stat.S_IMODE(state.st_mode), folder=new[1]), "w+b"
    ) as copy:
        try:
            file.seek(0)
            while block := file.read(1 << 20):
                copy.write(block)
            copy.flush()
            os.fsync(copy.fileno())
            if sha256_of(copy) != digest:
                raise _Stays("it has changed meanwhile, or the other disk does not keep it")
            os.utime(copy.fileno(), ns=(state.st_atime_ns, state.st_mtime_ns))
        except BaseException:
            os.unlink(new[0], dir_fd=new[1])
            raise
