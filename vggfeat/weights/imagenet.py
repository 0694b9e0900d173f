"""torchvision's ``IMAGENET1K_V1`` files: their names, their cache and their download."""

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
}
"""torchvision's file names; the part after the hyphen begins the file's SHA-256."""


FEATURES_SHA256 = "88682ab5"
"""How the SHA-256 of torchvision's ``IMAGENET1K_FEATURES`` of vgg16 begins, by its file name
(not verified with the file at hand)."""


def cache_folder() -> Path:
    """Return the folder that torch keeps downloaded checkpoints in, without importing torch.

    The rule is torch.hub's: ``$TORCH_HOME``, else ``$XDG_CACHE_HOME/torch``, else
    ``~/.cache/torch``, each with ``hub/checkpoints`` below it.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", str(Path(cache) / "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def cached_or_downloaded(model: str) -> Path:
    """Return the path of a model's weight file, downloading it when the cache lacks it.

    Raises
    ------
    WeightsError
        torchvision has no such weights, or the download failed; the message says where to put
        which file by hand.
    """
    if model not in FILES:
        raise WeightsError(
            f"torchvision has no ImageNet weights for {model}. "
            f"It has them for {', '.join(FILES)}; for others give --weights PATH or random, and "
            "for vgg16-tiny --weights builtin."
        )
    path = cache_folder() / FILES[model]
    if not path.exists():
        from torchvision.models import get_model_weights

        download(get_model_weights(model)["IMAGENET1K_V1"].url, path, FILES[model])
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

    prefix = name.rpartition("-")[2].partition(".")[0]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), prefix, progress=sys.stderr.isatty())
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        raise WeightsError(
            f"The ImageNet weights could not be downloaded from {url}: {reason}. Without a "
            f"connection, put the file {name} into {path.parent}, or give its place with "
            "--weights PATH. `--weights random` needs no file, but its features mean little."
        ) from error


def check_digest(model: str, path: Path, sha256: str) -> None:
    """Raise :class:`WeightsError` unless a cached file's SHA-256 begins as its name says."""
    prefix = FILES[model].rpartition("-")[2].partition(".")[0]
    if not sha256.startswith(prefix):
        raise WeightsError(
            f"{path} is damaged: its SHA-256 begins with {sha256[:8]}, not {prefix}. "
            "Delete it, so that it is downloaded again, or replace it."
        )
