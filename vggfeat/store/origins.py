"""Which of a store's sources those are that images are brought from now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreError
from vggfeat.feature_table import DONE, PENDING
from vggfeat.provenance import SourcePlace
from vggfeat.store.contents import Contents

Rows = npt.NDArray[np.int64]
_log = logging.getLogger(__name__)

_SAMPLE = 64  # images whose bytes are compared before two places count as one source


class EntryLike(Protocol):
    """An image of a source: its path there, and its file's size (bytes) and time (ns).

    It may have `ctime_ns` as well, see :func:`changed_at`.
    """

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def mtime_ns(self) -> int: ...  # noqa: D102


class SeenLike(EntryLike, Protocol):
    """An image that was read: with the time of its file's last change, and its bytes' digest."""

    @property
    def ctime_ns(self) -> int: ...  # noqa: D102
    @property
    def digest(self) -> bytes: ...  # noqa: D102


Look = Callable[[Sequence[Any]], Sequence[SeenLike | None]]
"""Reads images' bytes and gives the entries with their digests; None where one is unreadable."""


@dataclass(frozen=True, slots=True)
class MatchedSources:
    """The sources of a store, with those given now among them.

    Attributes
    ----------
    sources : list of SourcePlace
        Those that the store had keep their numbers.
    numbers : list of int
        Of each given source.
    touched : set of int
        Numbers of sources whose images were listed now: who is not among them has left.
    """

    sources: list[SourcePlace]
    numbers: list[int]
    touched: set[int]


def changed_at(entry: EntryLike) -> int:
    """Return when the operating system last saw a file change, ns since 1970; 0 where unknown."""
    return int(getattr(entry, "ctime_ns", 0))


def match_sources(
    stored: Contents,
    given: Sequence[SourcePlace],
    entries: Mapping[str, EntryLike],
    name: str,
    look: Look | None,
) -> MatchedSources:
    """Find the given sources among those of a store.

    A source is known by its place. One at another place is the same if most of its images that
    the store knows by name have the same bytes (up to 64 are compared); it is a further one if
    the store knows none of its names.

    Parameters
    ----------
    stored : Contents
        The store.
    given : sequence of SourcePlace
        Sources listed now.
    entries : mapping of str to entry
        Their images by path.
    name : str
        Of the store, for messages.
    look : callable, optional
        Reads digests.

    Raises
    ------
    StoreError
        A source has other images under names that the store knows from elsewhere, or is known
        under a name that was not given.
    """
    sources, numbers, touched = list(stored.sources), [], set[int]()
    for origin in given:
        listed = _listed(origin, given, entries)
        number = _known(stored, origin)
        if number is None:
            number = _moved(stored, origin, listed, name, look)
        if number is None:
            number = len(sources)
            sources.append(origin)
        elif stored.sources[number].name and not origin.name:
            before = stored.sources[number]
            raise StoreError(
                f"{name} knows {before.root} by the name {before.name!r}. Give it as "
                f"{before.text!r}, alone or with other sources."
            )
        elif stored.sources[number].place != origin.place:
            if stored.sources[number].root != origin.root:
                _log.warning(
                    "The images of %s came from %s so far, and come from %s now.",
                    name, stored.sources[number].root, origin.root,
                )  # fmt: skip
            sources[number] = origin
        else:
            sources[number] = origin
        numbers.append(number)
        touched.add(number)
    return MatchedSources(sources, numbers, touched)


def numbers_of(
    paths: Sequence[str], given: Sequence[SourcePlace], numbers: Sequence[int]
) -> npt.NDArray[np.int32]:
    """Return the number of each image's source, by the name that its path begins with.

    Parameters
    ----------
    paths : sequence of str
        Images of `given`.
    given : sequence of SourcePlace
        Sources listed now; several have names.
    numbers : sequence of int
        Theirs.
    """
    if len(given) == 1:
        return np.full(len(paths), numbers[0], np.int32)
    named = {origin.name: number for origin, number in zip(given, numbers, strict=True)}
    return np.array([named[path.partition("/")[0]] for path in paths], np.int32)


def _listed(
    origin: SourcePlace, given: Sequence[SourcePlace], entries: Mapping[str, EntryLike]
) -> dict[str, EntryLike]:
    if len(given) == 1:
        return dict(entries)
    return {path: one for path, one in entries.items() if path.partition("/")[0] == origin.name}


def _known(stored: Contents, origin: SourcePlace) -> int | None:
    for number, one in enumerate(stored.sources):
        # Format 1 kept the folder of a list, and not which list it was.
        if one.place == origin.place or (stored.version < 2 and one.root == origin.root):
            return number
    return None


def _moved(
    stored: Contents,
    origin: SourcePlace,
    listed: Mapping[str, EntryLike],
    name: str,
    look: Look | None,
) -> int | None:
    """Return the number of the source that has moved to where `origin` is; None for a new one."""
    roots = np.array([one.root for one in stored.sources], object)
    rows = np.array([row for row, path in enumerate(stored.paths) if path in listed], np.int64)
    elsewhere = rows[roots[stored.source[rows]] != origin.root]
    if not len(elsewhere):
        return None
    number = int(np.bincount(stored.source[elsewhere]).argmax())
    if not _alike(stored, elsewhere, listed, look):
        before = stored.sources[number]
        named = before.text if before.name else f"NAME={before.root}"
        example = stored.paths[int(elsewhere[0])]
        raise StoreError(
            f"{name} holds images of {before.root}, and {origin.root} has others under "
            f"{len(elsewhere)} of their names, such as {example!r}. Give another STORE, or name "
            f"both sources to keep them in one: `vggfeat extract {named} OTHER={origin.root} "
            f"{name}`."
        )
    moved = int((stored.source == number).sum())
    return number if 2 * len(elsewhere) >= min(moved, len(listed)) else None


def _alike(
    stored: Contents, rows: Rows, listed: Mapping[str, EntryLike], look: Look | None
) -> bool:
    """Whether most images have the bytes that the store's features were made of."""
    rows = rows[stored.status[rows] != PENDING]
    if not (stored.status[rows] == DONE).any():
        return True  # nothing is lost
    digested = rows[stored.digests[rows].any(axis=1)]
    if not len(digested) or look is None:
        sizes = np.array([listed[stored.paths[row]].size for row in rows.tolist()])
        times = np.array([listed[stored.paths[row]].mtime_ns for row in rows.tolist()])
        same = (stored.sizes[rows] == sizes) & (stored.mtimes[rows] == times)
        return bool(2 * same.sum() >= len(rows))
    some = digested[np.linspace(0, len(digested) - 1, min(_SAMPLE, len(digested))).astype(int)]
    seen = look([listed[stored.paths[row]] for row in some.tolist()])
    equal = sum(
        one is not None and one.digest == stored.digests[row].tobytes()
        for row, one in zip(some.tolist(), seen, strict=True)
    )
    return bool(2 * equal >= len(some))
