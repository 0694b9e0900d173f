"""Digests of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vggfeat.errors import WeightsError


def digest(path: Path, kind: str = "sha256") -> str:
    """Return a file's digest in hexadecimal.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        As :mod:`hashlib` names it.

    Raises
    ------
    WeightsError
        The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, kind).hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from error
