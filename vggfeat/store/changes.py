"""The order in which bytes change, which is what makes a kill harmless.

Each change goes through a state in which the row counts for nothing: features, checksum and
reason are written while the status says pending, and the status is one byte.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreError
from vggfeat.feature_table import DONE, FAILED, PENDING
from vggfeat.provenance import NEVER, RunInfo, now
from vggfeat.store.building import blank
from vggfeat.store.contents import DIGEST_BYTES, ERROR_BYTES, Contents
from vggfeat.store.layout import end_of, locate, run_slot
from vggfeat.store.origins import SeenLike
from vggfeat.store.rows import RowFile, runs_of
from vggfeat.store.vectors import checksums

Rows = npt.NDArray[np.int64]


class Changes:
    """A store's rows and run times, changed in place.

    Parameters
    ----------
    path : Path
        The store; whoever makes this holds its lock.
    contents : Contents
        What the file holds now.

    Attributes
    ----------
    status : ndarray of uint8, shape (N,)
        What the file says.
    reasons : dict of int to str
        Why rows failed, by row.
    """

    def __init__(self, path: Path, contents: Contents) -> None:
        self.status = contents.status.copy()
        self.reasons = {
            int(row): contents.errors[row].decode(errors="replace")
            for row in np.flatnonzero(contents.status == FAILED)
        }
        self._contents = contents
        self._file = _row_file(path, contents)
        self._run: tuple[int, int] | None = None  # offset of the slot in /runs, of `end` in it

    def done(
        self,
        first: int,
        features: Mapping[str, npt.NDArray[Any]],
        seen: Mapping[int, SeenLike] | None = None,
    ) -> None:
        """Store consecutive rows, from `first` on, in the type of the store."""
        count = len(next(iter(features.values())))
        self.reopen(first + np.flatnonzero(self.status[first : first + count] != PENDING))
        for layer, values in features.items():
            self._file.write(f"features/{layer}", first, values)
            self._file.write(f"checksums/{layer}", first, checksums(values))
        for row in range(first, first + count):
            self._note(row, (seen or {}).get(row))
        self._set_status(first, np.full(count, DONE, dtype=np.uint8))

    def failed(self, row: int, reason: str, seen: SeenLike | None = None) -> None:
        """Mark a row failed."""
        if self.status[row] != PENDING:
            self.reopen(np.array([row], dtype=np.int64))
        line = " ".join(reason.replace("\0", " ").split()) or "no reason was given"
        cut = line.encode(errors="replace")[:ERROR_BYTES].decode(errors="ignore").encode()
        self._file.write("images/error", row, cut.ljust(ERROR_BYTES, b"\0"))
        self._note(row, seen)
        self._set_status(row, np.array([FAILED], dtype=np.uint8))
        self.reasons[int(row)] = cut.decode()

    def reopen(self, rows: Rows) -> None:
        """Make rows pending."""
        for row in rows.tolist():
            self.reasons.pop(row, None)
        for run in runs_of(rows):
            self._set_status(int(rows[run.start]), np.zeros(run.stop - run.start, np.uint8))
        self.clear(rows)

    def clear(self, rows: Rows) -> None:
        """Blank reasons and features of pending rows."""
        for run in runs_of(rows, 4096):
            nothing = bytes((run.stop - run.start) * ERROR_BYTES)
            self._file.write("images/error", int(rows[run.start]), nothing)
        for layer in self._contents.shapes:
            blank(self._file, layer, rows, self._contents.dtype)

    def column(self, name: str, values: npt.NDArray[Any]) -> None:
        """Write a column of ``/images``; rows of other images than before must be pending.

        A kill that leaves old times beside new ones makes the row's bytes be compared.
        """
        self._file.write(f"images/{name}", 0, values)

    def begin_run(self, run: RunInfo) -> None:
        """Note that a run is going on."""
        self.stamp(NEVER)
        region = self._file.regions["runs"]
        used = [self._file.read("runs", slot)[:1] != b"\0" for slot in range(region.rows)]
        slot = used.index(False) if False in used else region.rows - 1
        text = run_slot(run, region.row_bytes)
        # A slot counts from its first byte on, which is therefore written last.
        offset = region.offset + slot * region.row_bytes
        self._file.write_at(offset, b"\0")
        self._file.write_at(offset + 1, text[1:])
        self._file.write_at(offset, text[:1])
        self._run = offset, end_of(text)

    def end_run(self) -> None:
        """Note the end of the run, and that the store is complete."""
        moment = now()
        if self._run is not None and self._run[1] >= 0:
            self._file.write_at(sum(self._run), moment.encode())
        self.stamp(moment)

    def stamp(self, moment: str) -> None:
        """Write the end in the provenance: a time, or NEVER, which is as wide."""
        self._file.write("end", 0, moment.encode())

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _note(self, row: int, seen: SeenLike | None) -> None:
        """Note what file a row was made of; without it, what was listed stays."""
        if seen is None:
            return
        for name, value in (
            ("size", seen.size),
            ("mtime_ns", seen.mtime_ns),
            ("ctime_ns", seen.ctime_ns),
        ):
            self._file.write(f"images/{name}", row, np.array([value], "<i8"))
        self._file.write("images/digest", row, seen.digest.ljust(DIGEST_BYTES, b"\0"))

    def _set_status(self, first: int, values: npt.NDArray[np.uint8]) -> None:
        self._file.write("images/status", first, values)
        self.status[first : first + len(values)] = values


def _row_file(path: Path, contents: Contents) -> RowFile:
    regions = locate(path, contents)
    if regions is None or any(
        regions[f"features/{layer}"].row_bytes != math.prod(shape) * contents.dtype.itemsize
        for layer, shape in contents.shapes.items()
    ):
        raise StoreError(f"{path} cannot be written in place. Copy it, then try again.")
    file = RowFile(path, regions)
    try:
        file.share()
    except BaseException:
        file.close()
        raise
    return file
