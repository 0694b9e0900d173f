"""Opening the sources of a store again to read images that it lists, without listing files anew."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from vggfeat.files import decode_path
from vggfeat.provenance import SourcePlace
from vggfeat.sources.base import Entry, FileSource, Source, file_path
from vggfeat.sources.elsewhere import is_listed, open_unlisted
from vggfeat.sources.several import SeveralSources
from vggfeat.storage.urls import is_remote


def reopen(places: Sequence[SourcePlace], entries: Sequence[Entry]) -> Source:
    """Return the sources of a store as one source, with images as the store lists them.

    A folder with a million files is not looked through again: images are opened by their paths.
    Archives are listed, since only that says where in them an image is.

    Parameters
    ----------
    places : sequence of SourcePlace
        The sources.
    entries : sequence of Entry
        Images, by the paths that the store has. The source may have others, too.

    Raises
    ------
    SourceError
        A source is no longer there.
    """
    if len(places) == 1 and not places[0].name:
        return _reopened(places[0], entries)
    parts: dict[str, list[Entry]] = {place.name: [] for place in places}
    for entry in entries:
        name, _, inner = entry.path.partition("/")
        if name in parts:
            parts[name].append(replace(entry, path=inner))
    return SeveralSources({place.name: _reopened(place, parts[place.name]) for place in places})


def _reopened(place: SourcePlace, entries: Sequence[Entry]) -> Source:
    from vggfeat.sources import open_source

    root = decode_path(place.root)
    if is_remote(root) and place.spec == place.root and not is_listed(root):
        first = next(iter(entries), None)
        if first is None or not any(map(is_listed, first.path.split("/")[:-1])):
            source = open_unlisted(root)
            source.entries = list(entries)
            return source
    if os.path.isdir(decode_path(place.root)):  # noqa: PTH112 (Path.is_dir raises where it may not look)
        first = next(iter(entries), None)
        if first is None or os.path.lexists(file_path(place.root, first.path)):
            return FileSource(place.root, place.spec, entries)
    return open_source(decode_path(place.spec))
