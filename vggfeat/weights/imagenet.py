"""torchvision's weight files: their names, their cache and their download."""

from __future__ import annotations

import os
import sys
import urllib.error
from pathlib import Path

from vggfeat.errors import WeightsError

FILES = {
    "vgg11": "vgg11-8a719046.pth",
    "vgg13": "vgg13-19584684.pth",
    "vgg16": "vgg16-397923af.pth",
    "vgg19": "vgg19-dcbb9e9d.pth",
    "vgg11_bn": "vgg11_bn-6002323d.pth",
    "vgg13_bn": "vgg13_bn-abd245e5.pth",
    "vgg16_bn": "vgg16_bn-6c64b313.pth",
    "vgg19_bn": "vgg19_bn-c79401a0.pth",
}
"""torchvision's file names of ``IMAGENET1K_V1``; the part after the last hyphen begins the file's
SHA-256."""

FEATURES = {"vgg16": "vgg16_features-amdegroot-88682ab5.pth"}
"""The same of ``IMAGENET1K_FEATURES``: the authors' Caffe convolutions, and fully connected layers
that hold nothing but NaN."""

SPECS = {
    "imagenet": ("IMAGENET1K_V1", FILES),
    "imagenet-features": ("IMAGENET1K_FEATURES", FEATURES),
}
"""What `--weights` takes, with torchvision's name of it and the files."""


def digest_of(file: str) -> str:
    """Return how a file's SHA-256 begins, by its name."""
    return file.rpartition("-")[2].partition(".")[0]


def cache_folder() -> Path:
    """Return the folder that torch keeps downloaded checkpoints in, without importing torch.

    The rule is torch.hub's: ``$TORCH_HOME``, else ``$XDG_CACHE_HOME/torch``, else
    ``~/.cache/torch``, each with ``hub/checkpoints`` below it.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", str(Path(cache) / "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def cached_or_downloaded(model: str, spec: str = "imagenet") -> Path:
    """Return the path of a model's weight file, downloading it when the cache lacks it.

    Parameters
    ----------
    model : str
        Canonical name of the network.
    spec : str
        One of :data:`SPECS`.

    Raises
    ------
    WeightsError
        torchvision has no such weights, or the download failed; the message says where to put
        which file by hand.
    """
    name, files = SPECS[spec]
    if model not in files:
        raise WeightsError(
            f"torchvision has no weights {name} for {model}. "
            f"It has them for {', '.join(files)}; for others give --weights PATH or random, and "
            "for vgg16-tiny --weights builtin."
        )
    path = cache_folder() / files[model]
    if not path.exists():
        from torchvision.models import get_model_weights

        download(get_model_weights(model)[name].url, path, files[model])
    return path


def download(url: str, path: Path, name: str) -> None:
    """Fetch a file, check that its SHA-256 begins as its name says, and put it in place.

    torch's own downloader does the work: a progress bar on a terminal, a temporary file, the
    digest, a rename.

    Raises
    ------
    WeightsError
        The network, the server or the disk failed, or the digest is another.
    """
    import torch

    prefix = digest_of(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), prefix, progress=sys.stderr.isatty())
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        raise WeightsError(
            f"The ImageNet weights could not be downloaded: {reason}. Without a connection, "
            "--model vgg16-tiny works at once: its small trained weights travel with the package. "
            f"For this network bring the file {name} (from {url}) into {path.parent}, or give its "
            "place with --weights PATH."
        ) from error


def check_digest(path: Path, sha256: str) -> None:
    """Raise :class:`WeightsError` unless a cached file's SHA-256 begins as its name says."""
    prefix = digest_of(path.name)
    if not sha256.startswith(prefix):
        raise WeightsError(
            f"{path} is damaged: its SHA-256 begins with {sha256[:8]}, not {prefix}. "
            "Delete it, so that it is downloaded again, or replace it."
        )
