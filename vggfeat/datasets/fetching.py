"""Fetching datasets with torchvision's classes, which know where each is and check its digest."""

from __future__ import annotations

import http.client
import logging
import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from vggfeat.datasets.layout import absolute
from vggfeat.datasets.record import DatasetRecord
from vggfeat.errors import SourceError

_log = logging.getLogger(__name__)

_TROUBLE = (
    OSError, RuntimeError, ValueError, EOFError,
    http.client.HTTPException, tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip


def fetch(record: DatasetRecord, root: str | os.PathLike[str]) -> None:
    """Fetch a dataset and unpack it, unless it is there.

    torchvision does the work, with a progress bar on stderr; it checks each archive's digest and
    keeps the archive, so that a second attempt fetches only what is missing.

    Parameters
    ----------
    record : DatasetRecord
        One that torchvision offers.
    root : path
        The folder to unpack into; it is made if need be.

    Raises
    ------
    SourceError
        The network, the server or the disk failed.
    """
    folder = absolute(root)
    try:
        record.open(root)
    except SourceError as error:
        _log.debug("%s is fetched: %s", record.name, error)
    else:
        _log.info("%s is in %s; nothing is downloaded.", record.name, folder)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, options in record.download:
            _fetch(kind, folder, options)
    except _TROUBLE as error:
        reason = " ".join(str(getattr(error, "reason", None) or error).split())
        by_hand = record.how_to_fetch(folder).removesuffix("; --download does both.")
        raise SourceError(
            f"{record.name} could not be downloaded: {reason or type(error).__name__}. Without a "
            f"connection: {by_hand}."
        ) from error


def _fetch(kind: str, folder: Path, options: Mapping[str, str]) -> None:
    import torchvision.datasets

    getattr(torchvision.datasets, kind)(str(folder), download=True, **options)
