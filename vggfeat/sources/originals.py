"""Where the originals of a store or an index are now, as far as the user says: ``--root``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from vggfeat.errors import ImageError, SourceError
from vggfeat.files import decode_path, encode_path
from vggfeat.sources.braces import expand
from vggfeat.sources.parquet_columns import Choice, split_choice
from vggfeat.sources.reading import digest_of
from vggfeat.sources.several import named, within
from vggfeat.sources.stored import is_named, open_stored, why_not_shown
from vggfeat.storage.urls import is_remote, parse


class Known(NamedTuple):
    """What a store knows of an image's bytes.

    Attributes
    ----------
    size : int
        How many there are; 0 where unknown.
    digest : bytes
        See :func:`vggfeat.sources.reading.digest_of`; empty where unknown.
    """

    size: int
    digest: bytes = b""


class OtherImageError(ImageError):
    """Where a source is said to be now, another image has the path of the one extracted."""


class Originals:
    """Opens the images of a store or an index again, wherever they are now.

    Parameters
    ----------
    sources : sequence of str
        All sources of the store or index, as it keeps them: ``root``, or ``NAME=root``.
    roots : sequence of path or ``NAME=PATH``
        What the user says. With a name, or the whole old place, before ``=``, that source is
        looked for at PATH, and nowhere else. A PATH alone stands for a source's old place if there
        is only one source and nothing is left there. Besides, links and absolute paths may lead
        into each PATH. PATH is a folder or an archive; or a folder with the archive in it.
    known : mapping of str to Known, optional
        By the path of an image. Where its source is looked for elsewhere, a file with other bytes
        is refused.
    strict : bool
        Whether to refuse names that no source has.

    Raises
    ------
    SourceError
        A PATH does not exist, or no source has that name.

    Notes
    -----
    Sources and paths may come from a stranger: what is opened lies beneath what was said, by the
    rules of :func:`~vggfeat.sources.open_stored`.
    """

    def __init__(
        self,
        sources: Sequence[str],
        roots: Sequence[str | os.PathLike[str]] = (),
        known: Mapping[str, Known] | None = None,
        *,
        strict: bool = True,
    ) -> None:
        self.sources = tuple(dict.fromkeys(sources))
        given = [split_root(root) for root in roots]
        self.folders = tuple(place for _, place in given)
        self._known = known or {}
        self._now: dict[str, str] = {}
        for name, place in given:
            meant = [one for one in self.sources if name and name in (one, *named(one))]
            only = self.sources[0] if len(self.sources) == 1 and not name else ""
            if only and _gone(only) and not is_named(named(only)[1], [place]):
                meant = [self.sources[0]]
            elif name and not meant and strict:
                raise SourceError(
                    f"--root {name}={place}: there is no source {name!r}. Sources are "
                    f"{', '.join(map(repr, self.sources))}; give a name, or where one was, before "
                    "'='."
                )
            for source in meant:
                self._now[source] = _located(source, place)

    def place(self, source: str) -> str:
        """Return where a source is now, as :func:`~vggfeat.sources.open_stored` takes it."""
        return self._now.get(source, source)

    def file_of(self, source: str, path: str) -> str:
        """Return the path by which other programs open an image.

        Parameters
        ----------
        source, path : str
            As for :meth:`open`.

        Returns
        -------
        str
            Its absolute path; empty where it is no file of its own, as in an archive or far away,
            or is no longer there.
        """
        root, inside = within(self.place(source), path)
        if is_remote(root):
            return ""
        name, _ = split_choice(decode_path(root))
        file = os.path.join(name, decode_path(inside))  # noqa: PTH118 (no part is resolved)
        return file if os.path.isfile(file) else ""  # noqa: PTH113

    def open(self, source: str, path: str) -> BinaryIO:
        """Open an image; the caller closes it.

        Parameters
        ----------
        source : str
            One of the sources.
        path : str
            As the store or index keeps it.

        Raises
        ------
        OtherImageError
            The source is looked for elsewhere, and this is another image.
        OutsideSourceError, ImageError, SourceError
            See :func:`~vggfeat.sources.open_stored`.
        """
        file = open_stored(self.place(source), path, self.folders)
        try:
            if source in self._now:
                self._check(file, path, self._now[source])
        except BaseException:
            file.close()
            raise
        return file

    def why_not_shown(self, source: str) -> str:
        """Say why images of a source are not opened, with the remedy; empty where they are."""
        reason = why_not_shown(self.place(source), self.folders)
        return f"{reason}. {self._remedy(source)}" if reason else ""

    def _remedy(self, source: str) -> str:
        name, root = named(source)
        key = "" if len(self.sources) == 1 else f"{name or root}="
        return f"Say with --root {key}DIR where they are, or that they may be shown."

    def _check(self, file: BinaryIO, path: str, now: str) -> None:
        known = self._known.get(path)
        if known is None:
            return
        # Tables do not say how large an image is.
        same = known.size in (0, file.seek(0, os.SEEK_END))
        if same and known.digest:
            file.seek(0)
            same = digest_of(file) == known.digest
        file.seek(0)
        if not same:
            raise OtherImageError(
                f"{path!r} in {named(now)[1]!r} is another image than the one that was extracted: "
                "its bytes differ"
            )


def split_root(given: str | os.PathLike[str]) -> tuple[str, str]:
    """Split what ``--root`` takes into the name of a source, which may be empty, and a place.

    Raises
    ------
    SourceError
        There is no such folder or archive.
    """
    text = os.fsdecode(given)
    ends = [-1, *(at for at, sign in enumerate(text) if sign == "=" and at)]
    for end in ends:
        if is_remote(text[end + 1 :]):
            return encode_path(text[: max(end, 0)]), _plain(text[end + 1 :])
        if _exists(text[end + 1 :]):
            return encode_path(text[: max(end, 0)]), str(Path(text[end + 1 :]).absolute())
    raise SourceError(
        f"--root {text}: there is no such folder or archive. Give DIR, or NAME=DIR where there are "
        "several sources."
    )


def _plain(url: str) -> str:
    """Return a URL, which messages and pages will show: one with a signature is refused."""
    found = parse(url)
    if found.query:
        raise SourceError(
            f"--root {found.text}: what stands behind '?' would be shown. Download it, and give "
            "the folder or file."
        )
    return url


def _exists(name: str) -> bool:
    try:
        if os.path.exists(name):  # noqa: PTH110
            return True
        shards = expand(name) if name else []
        return bool(shards) and all(os.path.isfile(shard) for shard in shards)  # noqa: PTH113
    except (SourceError, ValueError):  # braces of another kind; a NUL in the name
        return False


def _gone(source: str) -> bool:
    """Whether nothing is at a source's place; an empty folder is nothing: an unmounted drive."""
    name, _ = split_choice(decode_path(named(source)[1]))
    if is_remote(name):
        return True  # or as good as: it is not asked for unless it is named
    if not _exists(name):
        return True
    try:
        with os.scandir(name) as items:
            return next(items, None) is None
    except OSError:
        return False


def _located(source: str, place: str) -> str:
    """Return a source at the place that was said: there, or the archive of its name therein."""
    name, root = named(source)
    old, choice = split_choice(decode_path(root))
    if is_remote(place):
        place += "" if split_choice(place)[1] != Choice() else choice.text()
        return f"{name}={place}" if name else place
    archive = Path(place, Path(old).name)
    top = Path(place).resolve()
    try:
        # The name may come from a stranger: it must be of files that lie in this folder.
        inside = [Path(one).resolve() for one in expand(str(archive)) or [str(archive)]]
        if top.is_dir() and all(one.is_file() and one.is_relative_to(top) for one in inside):
            place = str(archive)
    except (SourceError, OSError, ValueError):
        pass
    place = encode_path(place + choice.text())
    return f"{name}={place}" if name else place
