"""How the parts of a store stand: by their files and markers, without opening them."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from vggfeat.errors import StoreError
from vggfeat.feature_table import DONE, FAILED
from vggfeat.store.parts.folder import PartsFolder, parts_folder
from vggfeat.store.parts.manifest import Manifest, Part
from vggfeat.store.parts.markers import Marker


@dataclass(frozen=True, slots=True)
class Standing:
    """What lies in the folder of a store of parts.

    Attributes
    ----------
    folder : PartsFolder
        The folder.
    manifest : Manifest
        Its manifest.
    sizes : dict of str to int
        Bytes by name of file.
    markers : dict of int to Marker
        By number of part.
    """

    folder: PartsFolder
    manifest: Manifest
    sizes: dict[str, int]
    markers: dict[int, Marker]
    _times: dict[str, int] = field(default_factory=dict)

    def begun(self, part: Part) -> bool:
        """Whether a part has a file."""
        return part.file in self.sizes

    def finished(self, part: Part) -> bool:
        """Whether a part's marker says that it is done."""
        marker = self.markers.get(part.number)
        return marker is not None and marker.finished

    def whole(self, part: Part) -> bool:
        """Whether all rows of a part hold features, as its marker says."""
        return self.finished(part) and self.markers[part.number].done == part.rows

    def problem(self, part: Part) -> str:
        """Say what is wrong with a finished part's file; empty where nothing is."""
        if not self.finished(part):
            return ""
        size = self.sizes.get(part.file)
        if size is None:
            return f"{part.file} is not there, although its part was finished"
        if size != self.markers[part.number].bytes:
            wanted = self.markers[part.number].bytes
            return f"{part.file} has {size:,} bytes, and had {wanted:,} when it was finished"
        return ""

    def checked(self) -> Standing:
        """Return it, unless something is wrong with a finished part; then raise StoreError."""
        for part in self.manifest.parts:
            if problem := self.problem(part):
                where = self.folder.place
                raise StoreError(
                    f"{where}: {problem}. Put the right file in its place; or delete it and its "
                    f"marker {part.marker} and run `vggfeat extract` again, which computes the "
                    f"part anew. `vggfeat parts {where}` lists all parts."
                )
        return self


def standing(folder: PartsFolder, manifest: Manifest, before: Standing | None = None) -> Standing:
    """Look how the parts of a store stand.

    Parameters
    ----------
    folder : PartsFolder
        The folder.
    manifest : Manifest
        Its manifest.
    before : Standing, optional
        An earlier look: markers that have not changed since are not read again.

    Raises
    ------
    StoreError
        The folder cannot be read, or a marker is damaged.
    """
    files = folder.listing()
    earlier = before._times if before is not None else {}
    markers: dict[int, Marker] = {}
    unread: dict[str, int] = {}
    for part in manifest.parts:
        if part.marker in files:
            size, time = files[part.marker]
            if before is not None and earlier.get(part.marker) == time:
                known = before.markers.get(part.number)
                markers |= {part.number: known} if known is not None else {}
            else:
                unread[part.marker] = size
    numbers = {part.marker: part.number for part in manifest.parts}
    for name, marker in folder.markers(unread).items():
        if marker.id == manifest.id:
            markers[numbers[name]] = marker
    sizes = {name: size for name, (size, _) in files.items()}
    times = {name: time for name, (_, time) in files.items()}
    return Standing(folder, manifest, sizes, markers, times)


@dataclass(frozen=True, slots=True)
class PartState:
    """How one part stands.

    Attributes
    ----------
    part : int
        Its number.
    file : str
        Name of its file.
    state : str
        ``done``; ``begun`` (some rows are there); ``missing`` (nothing is there yet); ``failed``
        (the last attempt ended in an error, which `note` tells); ``damaged`` (it was finished,
        and its file is not there or not as it was).
    rows : int
        Images in it.
    done, failed, pending : int
        Its images by how they stand.
    bytes : int
        Size of its file.
    note : str
        What else is to be said.
    """

    part: int
    file: str
    state: str
    rows: int
    done: int
    failed: int
    pending: int
    bytes: int
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


def part_states(path: str | os.PathLike[str]) -> list[PartState]:
    """Tell how each part of a store stands.

    Parts that are finished are taken at their markers' word, and others are opened.

    Raises
    ------
    StoreError
        There is no store of parts at `path`, or its manifest or a marker is damaged.
    """
    from vggfeat.store.parts.reader import open_of

    folder = parts_folder(path)
    manifest = folder.manifest()
    now = standing(folder, manifest)
    states = []
    for part in manifest.parts:
        marker, size = now.markers.get(part.number), now.sizes.get(part.file, 0)
        state, note, counts = "missing", "", {DONE: 0, FAILED: 0}
        if problem := now.problem(part):
            state, note = "damaged", problem
        elif marker is not None and marker.finished:
            state, counts = "done", {DONE: marker.done, FAILED: marker.failed}
        elif now.begun(part):
            try:
                with open_of(part, folder, manifest) as file:
                    status = file["images/status"][:]
            except StoreError as error:
                state, note = "damaged", str(error)
            else:
                counts = {code: int((status == code).sum()) for code in (DONE, FAILED)}
                state = "begun"
        if marker is not None and marker.reason and state != "damaged":
            state, note = "failed", marker.reason
        pending = part.rows - sum(counts.values()) if state != "done" else 0
        states.append(
            PartState(
                part.number, part.file, state, part.rows, counts[DONE], counts[FAILED], pending,
                size, note,
            )
        )  # fmt: skip
    return states
