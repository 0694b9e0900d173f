"""Stores that evaluations keep for the next run."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TypedDict

from vggfeat.extract import FeatureExtractor
from vggfeat.preprocessing import ByHand, Preprocessing
from vggfeat.progress import Progress
from vggfeat.sources import Source

STORES = "vggfeat-stores"
"""Folder in which evaluations keep their stores."""

_log = logging.getLogger(__name__)


class RunOptions(TypedDict, total=False):
    """How a network is run, as :class:`~vggfeat.extract.FeatureExtractor` takes it."""

    preprocessing: str | Preprocessing | ByHand
    batch_size: int | None
    workers: int | None
    device: str
    precision: str
    engine: str


def kept_store(
    source: Source,
    extractor: FeatureExtractor,
    folder: str | os.PathLike[str],
    name: str,
    progress: Progress | bool | None = None,
) -> Path:
    """Extract what is not there yet.

    Other settings have a store of their own, named by what decides their numbers.

    Parameters
    ----------
    source : Source
        The images.
    extractor : FeatureExtractor
        What makes their features.
    folder : path
        Where stores are kept; it is made if need be.
    name : str
        The beginning of the store's name.
    progress : bool or Progress, optional
        As :meth:`vggfeat.FeatureExtractor.extract` takes it.

    Returns
    -------
    Path
        The store.

    Raises
    ------
    WeightsError, DeviceError, SourceError, StoreError
        As :meth:`vggfeat.FeatureExtractor.extract`.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    config = json.dumps(extractor.config.to_json(), sort_keys=True).encode()
    path = Path(folder) / f"{name}-{hashlib.sha256(config).hexdigest()[:8]}.h5"
    _log.info("%s: %s images into %s", extractor.model, f"{len(source.entries):,}", path)
    try:
        extractor.extract(source, path, progress=progress)
    except KeyboardInterrupt:
        _log.warning(
            "Stopped. What was done is in %s; the same command continues from there.", path
        )
        raise
    return path
