"""An RDM as a table of text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vggfeat.errors import RepresentationError
from vggfeat.representations.given_checks import checked_rdms
from vggfeat.representations.rdms import RDMs
from vggfeat.tables import legible, read_records

_MOST_TEXT = 1 << 26  # bytes of a table


def read_table(file: Path, _: str = "") -> RDMs:
    """Read a square table of text, with names in its first line, first column, or both."""
    if file.stat().st_size > _MOST_TEXT:
        raise RepresentationError(
            f"{file} has {file.stat().st_size / 2**20:,.0f} MiB of text, and at most "
            f"{_MOST_TEXT >> 20} are read. Give the RDM as .npy."
        )
    cells = read_records(file).cells
    if len(cells) < 2:
        raise RepresentationError(f"{file} has no table of two lines or more.")
    header = not _numeric(cells[0][1:])
    rows = cells[1:] if header else cells
    named = any(not _is_number(row[0]) for row in rows)
    first = 1 if named or (header and len(cells[0]) == len(rows) + 1) else 0
    count = len(rows)
    numbers = [row[first:] for row in rows]
    if any(len(row) != count for row in numbers):
        widths = sorted({len(row) for row in numbers})
        raise RepresentationError(
            f"{file} is no square table: {count} lines of {' or '.join(map(str, widths))} numbers."
        )
    names = None
    if header:
        names = tuple(legible(name) for name in cells[0][-count:])
    if first:
        beside = tuple(legible(row[0]) for row in rows)
        if names is not None and names != beside:
            raise RepresentationError(
                f"{file} names other conditions in its first line than in its first column, or in "
                f"another order, as {_first_other(names, beside)}."
            )
        names = beside
    if any(not _is_number(cell) for row in numbers for cell in row):
        raise RepresentationError(f"{file} has cells that are no numbers.")
    return checked_rdms(file, np.array(numbers, np.float64), names, ())


def _first_other(names: tuple[str, ...], others: tuple[str, ...]) -> str:
    pairs = zip(names, others, strict=False)
    one, other = next(((a, b) for a, b in pairs if a != b), ("", ""))
    return f"{one!r} and {other!r}"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numeric(cells: list[str]) -> bool:
    return len(cells) > 0 and all(_is_number(cell) for cell in cells)
