"""Tar archives of images, read in place: nothing is ever unpacked onto the disk."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from vggfeat.errors import ImageError, SourceError
from vggfeat.files import as_key, open_regular
from vggfeat.labels import RawLabels, from_folders
from vggfeat.sources.base import Entry, Source
from vggfeat.sources.tar import Listing, Location, check_unchanged, open_location

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)


class ShardSource(Source):
    """Images inside one or several uncompressed tar files.

    Entry paths are member names; with several shards, behind the shard's own name. Class names
    come from webdataset's ``.cls`` members; with several shards and no such member, from the
    folders inside the shards.

    Parameters
    ----------
    shards : sequence of str
        Absolute paths, at least one.
    spec : str
        What they were named by.

    Raises
    ------
    SourceError
        A file is no tar, is compressed, cannot be read; or no image is in any.
    """

    def __init__(self, shards: Sequence[str], spec: str) -> None:
        several = len(shards) > 1
        above = os.path.commonpath([Path(shard).parent for shard in shards])
        self._locations: dict[str, Location] = {}
        members: dict[str, str] = {}
        labels: RawLabels = {}
        left_out = count = 0
        for shard in shards:
            listing = Listing(shard)
            prefix = as_key(str(Path(shard).relative_to(above))) + "/" if several else ""
            for member, location in listing.images.items():
                self._locations[prefix + member] = location
                members[prefix + member] = member
            labels |= {prefix + member: names for member, names in listing.labels().items()}
            left_out += listing.left_out
            count += listing.count
        if not self._locations:
            others = f" ({left_out} other files)" if left_out else ""
            raise SourceError(
                f"No images in {spec!r}{others}. Name a tar that holds JPEG, PNG or other images."
            )
        if repeated := count - len(self._locations):
            _log.warning("%s: %d names repeat; the last of each counts, as in tar.", spec, repeated)
        if several and not labels:
            # Here rather than by whoever labels entries: a shard's name is no class.
            inner = from_folders(list(members.values()))
            labels = {path: inner[m] for path, m in members.items() if m in inner}
        entries = [
            Entry(path, p.size, p.mtime_ns, p.shard_ctime_ns) for path, p in self._locations.items()
        ]
        super().__init__(spec, spec, entries, labels or ({} if several else None), left_out)

    def open(self, entry: Entry) -> BinaryIO:
        """Open a member; see :meth:`Source.open`."""
        try:
            location = self._locations[entry.path]
        except KeyError:
            raise ImageError("no such member in the archive") from None
        return open_location(open_regular(location.shard), location)

    def seen(self, entry: Entry, file: BinaryIO) -> Entry:
        """Check that the archive is as it was listed; see :meth:`Source.seen`."""
        check_unchanged(file)
        return entry
