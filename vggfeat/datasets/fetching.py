"""Fetching datasets with torchvision's classes, which know where each is and check its digest."""

from __future__ import annotations

import http.client
import logging
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vggfeat.datasets.layout import absolute, how_to_fetch
from vggfeat.errors import SourceError

_log = logging.getLogger(__name__)

_STEPS: dict[str, tuple[tuple[str, dict[str, str]], ...]] = {
    "voc2007": (
        ("VOCDetection", {"year": "2007", "image_set": "trainval"}),
        ("VOCDetection", {"year": "2007", "image_set": "test"}),
    ),
    "voc2012": (("VOCDetection", {"year": "2012", "image_set": "trainval"}),),
    "voc2012-action": (("VOCDetection", {"year": "2012", "image_set": "trainval"}),),
    "caltech101": (("Caltech101", {}),),
    "caltech256": (("Caltech256", {}),),
}
"""torchvision's class and its arguments, for each archive."""

DOWNLOADABLE = tuple(_STEPS)
"""Names of datasets that :func:`fetch` can get."""

_TROUBLE = (
    OSError, RuntimeError, ValueError, EOFError,
    http.client.HTTPException, tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip


def fetch(
    name: str, root: str | os.PathLike[str], is_there: Callable[[], object] | None = None
) -> None:
    """Fetch a dataset and unpack it, unless it is there.

    torchvision does the work, with a progress bar on stderr; it checks each archive's digest and
    keeps the archive, so that a second attempt fetches only what is missing.

    Parameters
    ----------
    name : str
        One of :data:`DOWNLOADABLE`.
    root : path
        The folder to unpack into; it is made if need be.
    is_there : callable, optional
        Raises :class:`SourceError` where the dataset is not complete.

    Raises
    ------
    SourceError
        torchvision does not offer the dataset; the network, the server or the disk failed.
    """
    if name not in _STEPS:
        raise SourceError(
            f"{name!r} cannot be downloaded; {', '.join(DOWNLOADABLE)} can. Give the place of "
            "your images."
        )
    folder = absolute(root)
    if is_there is not None:
        try:
            is_there()
        except SourceError as error:
            _log.debug("%s is fetched: %s", name, error)
        else:
            _log.info("%s is in %s; nothing is downloaded.", name, folder)
            return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, options in _STEPS[name]:
            _fetch(kind, folder, options)
    except _TROUBLE as error:
        reason = " ".join(str(getattr(error, "reason", None) or error).split())
        raise SourceError(
            f"{name} could not be downloaded: {reason or type(error).__name__}. Without a "
            f"connection: {how_to_fetch(name, folder).removesuffix('; --download does both.')}."
        ) from error


def _fetch(kind: str, folder: Path, options: dict[str, Any]) -> None:
    import torchvision.datasets

    getattr(torchvision.datasets, kind)(str(folder), download=True, **options)
