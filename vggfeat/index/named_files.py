"""The files that a catalogue names: names of one form in the index's own folder, and no links.

Whoever made an index may have written any name into its catalogue, and have put a link where a file
should be. What is read and, worse, written by such a name would lie anywhere.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, BinaryIO

from vggfeat import files
from vggfeat.errors import SearchError

if TYPE_CHECKING:
    from pathlib import Path

VECTORS = re.compile(r"vectors-[0-9a-f]{8}\.f32")
FAISS = re.compile(r"faiss-[0-9a-f]{8}\.faiss")


def check_names(vectors: str, faiss: str) -> None:
    """Refuse names of any other form than the index format gives them.

    Raises
    ------
    ValueError
        A name is of another form.
    """
    for name, form in ((vectors, VECTORS), (faiss, FAISS)):
        if (name or form is VECTORS) and not form.fullmatch(name):
            raise ValueError(f"it names the file {name!r}, and such names are like {form.pattern}")


def open_plain(path: Path) -> BinaryIO:
    """Open a file of an index for reading.

    Raises
    ------
    SearchError
        It is a link, a FIFO, a device or a folder.
    FileNotFoundError
        There is none.
    """
    return os.fdopen(descriptor(path, os.O_RDONLY), "rb")


def descriptor(path: Path, flags: int) -> int:
    """Open a file of an index as ``os.open`` does, following no link."""
    try:
        return files.open_plain(path, flags)
    except files.NotPlainError as error:
        what = "a link" if stat.S_ISLNK(error.mode) else "no plain file"
        raise SearchError(
            f"{path} is {what}; files of an index lie in its own folder. Copy the whole folder "
            "again from where it came (links as files), or build the index anew."
        ) from error
