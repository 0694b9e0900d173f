"""Tiny ImageNet in its official layout, as arrays.

The layout: ``wnids.txt``, ``words.txt``, ``train/<wnid>/images/*.JPEG``, ``val/images/*.JPEG`` and
``val/val_annotations.txt``. All of it fits into memory: 110,000 x 64 x 64 x 3 bytes are 1.35 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

SIDE = 64


@dataclass(frozen=True)
class Pictures:
    """Images with their classes.

    Attributes
    ----------
    pixels : ndarray of uint8, (N, 64, 64, 3)
        RGB.
    targets : ndarray of int64, (N,)
        Place of each image's class in ``wnids.txt`` in alphabetical order.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)


def classes(root: Path) -> list[str]:
    """Return the WordNet identifiers of the classes, in alphabetical order."""
    try:
        names = (root / "wnids.txt").read_text().split()
    except OSError as error:
        raise click.ClickException(
            f"{root} is not Tiny ImageNet's folder ({error}). Give the folder that holds "
            "wnids.txt, train/ and val/."
        ) from error
    return sorted(names)


def training_set(root: Path, per_class: int | None = None) -> Pictures:
    """Read the training images: all 500 of a class, or the first `per_class`."""
    names = classes(root)
    paths: list[Path] = []
    targets: list[int] = []
    for target, name in enumerate(names):
        found = sorted((root / "train" / name / "images").glob("*.JPEG"))[:per_class]
        if not found:
            raise click.ClickException(f"{root / 'train' / name / 'images'} holds no .JPEG files.")
        paths += found
        targets += [target] * len(found)
    return _read(paths, targets, "training images")


def validation_set(root: Path) -> Pictures:
    """Read the 10,000 validation images."""
    place = {name: target for target, name in enumerate(classes(root))}
    rows = (root / "val" / "val_annotations.txt").read_text().splitlines()
    fields = [row.split("\t")[:2] for row in rows]
    paths = [root / "val" / "images" / file for file, _ in fields]
    return _read(paths, [place[name] for _, name in fields], "validation images")


def _read(paths: Sequence[Path], targets: Sequence[int], what: str) -> Pictures:
    pixels = np.empty((len(paths), SIDE, SIDE, 3), np.uint8)

    def read(number: int) -> None:
        with Image.open(paths[number]) as image:
            pixels[number] = np.asarray(image.convert("RGB"))

    with ThreadPoolExecutor() as pool:
        steps = pool.map(read, range(len(paths)))
        for _ in tqdm(steps, what, len(paths), unit="img", disable=None):
            pass
    return Pictures(pixels, np.asarray(targets, np.int64))
