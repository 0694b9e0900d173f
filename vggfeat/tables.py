"""Tables of text, as spreadsheets, scripts and people write them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet may take for a formula."""


def csv_line(cells: Iterable[object], *, spreadsheet: bool = False) -> str:
    r"""Return one record of a CSV file, which a CSV reader takes apart into the same cells.

    Parameters
    ----------
    cells : iterable
        Text and numbers; text with commas, quotes or line ends is quoted.
    spreadsheet : bool
        Put an apostrophe before text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a
        carriage return, so that no spreadsheet takes it for a formula (the advice of OWASP,
        "CSV Injection"). Such cells no longer say exactly what they said.

    Returns
    -------
    str
        Ending in ``\n``.
    """
    shown = [_harmless(cell) for cell in cells] if spreadsheet else list(cells)
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(shown)  # quotes both line ends
    return text.getvalue()[:-2] + "\n"


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell
