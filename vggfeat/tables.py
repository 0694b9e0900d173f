"""Tables of text, as spreadsheets, scripts and people write them."""

from __future__ import annotations

import csv
import io
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vggfeat.errors import SourceError

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet may take for a formula."""

_SEPARATORS = ",;\t"
_TOLD = re.compile(r"sep=([,;\t])\r?\n", re.IGNORECASE)
_HEAD = 512


@dataclass(frozen=True, slots=True)
class Records:
    """The records of a CSV file, as they stand there.

    Attributes
    ----------
    file : str
        Its name.
    cells : list of list of str
        Records without those that are blank; bytes that are not UTF-8 are lone surrogates, which
        :func:`legible` reads.
    lines : list of int
        The line on which each record ends, from 1 on.
    """

    file: str
    cells: list[list[str]]
    lines: list[int]


def read_records(file: str | os.PathLike[str], text: str | None = None) -> Records:
    """Read a CSV file with commas, semicolons or tabs, whichever its first line has most of.

    Parameters
    ----------
    file : path
        Its name.
    text : str, optional
        What is in it, where that has been read.

    Raises
    ------
    SourceError
        The file cannot be read, or is no CSV file.
    """
    text = read_text(file) if text is None else text
    told = _TOLD.match(text)
    if told is not None:  # a line for Excel alone
        text = "\n" + text[told.end() :]
    heading = text.lstrip("\r\n").partition("\n")[0]
    # Spreadsheets write ; where , is the decimal mark.
    delimiter = told[1] if told else max(_SEPARATORS, key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    cells, lines = [], []
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                cells.append(record)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise SourceError(f"{os.fspath(file)!r} is not a CSV file: {error}.") from error
    return Records(os.fspath(file), cells, lines)


def read_text(file: str | os.PathLike[str]) -> str:
    """Read a text file that any editor may have written.

    Returns
    -------
    str
        Without byte order mark; bytes that are not UTF-8 become lone surrogates, as in file names.

    Raises
    ------
    SourceError
        The file cannot be read, or is none.
    """
    try:
        if not stat.S_ISREG(Path(file).stat().st_mode):  # a FIFO or device would be waited for
            raise SourceError(f"{os.fspath(file)!r} is not a plain file. Give a list or table.")
        data = Path(file).read_bytes()
    except OSError as error:
        raise SourceError(f"Cannot read {os.fspath(file)!r}: {error.strerror}.") from error
    return text_of(data)


def text_of(data: bytes) -> str:
    """Return the text that any editor may have written; see :func:`read_text`."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # Excel's "Unicode text", PowerShell
        return data.decode("utf-16", "replace")
    head = data[:_HEAD]
    if head[1::2].count(0) > len(head) // 4:  # the same without a mark
        return data.decode("utf-16-le", "replace")
    if head[::2].count(0) > len(head) // 4:
        return data.decode("utf-16-be", "replace")
    return data.decode("utf-8-sig", "surrogateescape")


def legible(text: str) -> str:
    """Return text of which some bytes are not UTF-8 as Windows-1252, which Excel writes."""
    if text.isascii() or not any("\udc80" <= c <= "\udcff" for c in text):
        return text
    data = text.encode("utf-8", "surrogateescape")
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:  # five bytes mean nothing there
        return data.decode("latin-1")


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
