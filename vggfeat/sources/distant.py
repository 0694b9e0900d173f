"""Images that are files of their own, far away."""

from __future__ import annotations

from typing import BinaryIO, cast

from vggfeat.errors import ImageError
from vggfeat.files import decode_path
from vggfeat.sources.base import Entry, Storage
from vggfeat.storage.places import State
from vggfeat.storage.remote import Fetched, Remote, same
from vggfeat.storage.urls import joined, scheme_of


class Distant(Storage):
    """Files in storage far away, each fetched as a whole.

    Parameters
    ----------
    remote : Remote
        The storage.
    """

    distant = True

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def open(self, root: str, entry: Entry) -> BinaryIO:
        """Fetch an image; see :meth:`Storage.open`."""
        listed = State(entry.size, entry.mtime_ns, entry.ctime_ns)
        url = joined(root, decode_path(entry.path))
        if scheme_of(url) != scheme_of(root):
            raise ImageError("it lies in storage of another kind than its source")
        if not entry.size:  # not listed, or really empty
            listed = self.remote.info(url).state
        return cast("BinaryIO", self.remote.fetch(url, listed.size, listed))

    def seen(self, entry: Entry, file: BinaryIO) -> Entry:
        """Return what was fetched; see :meth:`Storage.seen`."""
        state = cast("Fetched", file).state
        listed = State(entry.size, entry.mtime_ns, entry.ctime_ns)
        return entry if same(state, listed) else Entry(entry.path, *state)
