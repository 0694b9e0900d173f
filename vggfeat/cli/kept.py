"""Stores that evaluations keep for the next run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vggfeat.cli.output import show_progress

if TYPE_CHECKING:
    from vggfeat.extract import FeatureExtractor
    from vggfeat.sources import Source


def kept_store(source: Source, extractor: FeatureExtractor, folder: str, what: str) -> Path:
    """Extract what is not there yet.

    Other settings have a store of their own, named by what decides their numbers.

    Parameters
    ----------
    source : Source
        The images.
    extractor : FeatureExtractor
        What makes their features.
    folder : str
        Where stores are kept; it is made if need be.
    what : str
        The beginning of the store's name.

    Returns
    -------
    Path
        The store.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    deciding = json.dumps(extractor.deciding.to_json(), sort_keys=True).encode()
    path = Path(folder) / f"{what}-{hashlib.sha256(deciding).hexdigest()[:8]}.h5"
    click.echo(f"{extractor.model}: {len(source.entries):,} images into {path}", err=True)
    try:
        extractor.extract(source, path, progress=show_progress())
    except KeyboardInterrupt:
        click.echo(f"Stopped. What was done is in {path}; the same command goes on.", err=True)
        raise
    return path
