"""Archives of images, tar or zip, read in place: nothing is unpacked beforehand."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, BinaryIO

from vggfeat.errors import ImageError, SourceError
from vggfeat.files import as_key, extension
from vggfeat.labels import RawLabels, from_folders
from vggfeat.sources.base import Entry, Source
from vggfeat.sources.members import Location, Members
from vggfeat.sources.tar import TarMembers
from vggfeat.sources.zip import ZipMembers
from vggfeat.storage.places import (
    LocalPlace,
    Place,
    as_posix,
    check_unchanged,
    each_listed,
    relative_names,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)


class ShardSource(Source):
    """Images inside one or several archives: uncompressed tar files, or zip files.

    Entry paths are member names; with several shards, behind the shard's own name. Class names
    come from webdataset's ``.cls`` members; with several shards and no such member, from the
    folders inside the shards.

    Parameters
    ----------
    shards : sequence of str or Place
        Absolute paths, or files elsewhere; at least one.
    spec : str
        What they were named by.

    Raises
    ------
    SourceError
        A file is no archive, is a compressed tar, cannot be read; or no image is in any.
    """

    def __init__(self, shards: Sequence[str | Place], spec: str) -> None:
        several = len(shards) > 1
        places = [LocalPlace(one) if isinstance(one, str) else one for one in shards]
        self._distant = any(place.distant for place in places)
        prefixes = [
            as_key(name) + "/" if several else ""
            for name in relative_names([as_posix(place.name) for place in places])
        ]
        self._locations: dict[str, Location] = {}
        members: dict[str, str] = {}
        labels: RawLabels = {}
        left_out = count = 0
        for prefix, listing in zip(prefixes, each_listed(members_of, places), strict=True):
            for member, location in listing.images.items():
                self._locations[prefix + member] = location
                members[prefix + member] = member
            labels |= {prefix + member: names for member, names in listing.labels().items()}
            left_out += listing.left_out
            count += listing.count
        if not self._locations:
            others = f" ({left_out} other files)" if left_out else ""
            raise SourceError(
                f"No images in {spec!r}{others}. Name an archive that holds JPEG, PNG or others."
            )
        if repeated := count - len(self._locations):
            _log.warning("%s: %d names repeat; the last of each counts.", spec, repeated)
        if several and not labels:
            # Here rather than by whoever labels entries: a shard's name is no class.
            inner = from_folders(list(members.values()))
            labels = {path: inner[m] for path, m in members.items() if m in inner}
        entries = [
            Entry(path, p.size, p.mtime_ns, p.state.ctime_ns) for path, p in self._locations.items()
        ]
        super().__init__(spec, spec, entries, labels or ({} if several else None), left_out)

    @property
    def distant(self) -> bool:
        """Whether the archives are."""
        return self._distant

    def open(self, entry: Entry) -> BinaryIO:
        """Open a member; see :meth:`Source.open`."""
        try:
            location = self._locations[entry.path]
        except KeyError:
            raise ImageError("no such member in the archive") from None
        return location.open()

    def seen(self, entry: Entry, file: BinaryIO) -> Entry:
        """Check that the archive is as it was listed; see :meth:`Source.seen`."""
        check_unchanged(file)
        return entry


def members_of(place: Place) -> Members:
    """List an archive: a zip by its name, any other is a tar.

    Raises
    ------
    SourceError
        It cannot be read, or is neither.
    """
    return ZipMembers(place) if extension(place.name) == ".zip" else TarMembers(place)
