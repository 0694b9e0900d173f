"""Tiny ImageNet in its official layout, as arrays.

The layout: ``wnids.txt``, ``words.txt``, ``train/<wnid>/images/*.JPEG``, ``val/images/*.JPEG`` and
``val/val_annotations.txt``. All of it fits into memory: 110,000 x 64 x 64 x 3 bytes are 1.35 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from vggfeat.pipeline import prefetch
from vggfeat.processors import usable_cores

SIDE = 64
_BLOCK = 200  # images a thread reads at a time


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
    """Return the WordNet identifiers of the classes, in alphabetical order.

    Raises
    ------
    click.ClickException
        The folder is not Tiny ImageNet's.
    """
    for part in ("wnids.txt", "words.txt", "train", "val/images", "val/val_annotations.txt"):
        if not (root / part).exists():
            raise click.ClickException(
                f"{root} is not Tiny ImageNet's folder: it lacks {part}. Give the folder "
                "tiny-imagenet-200 that unpacking the archive makes."
            )
    return sorted((root / "wnids.txt").read_text().split())


def names(root: Path) -> list[tuple[str, str]]:
    """Return the WordNet identifier of each class and its first name, in the classes' order."""
    wanted = classes(root)
    rows = (row.split("\t") for row in (root / "words.txt").read_text().splitlines())
    first = {row[0]: row[1].split(",")[0].strip() for row in rows if len(row) == 2}
    unnamed = [name for name in wanted if name not in first]
    if unnamed:
        raise click.ClickException(
            f"{root / 'words.txt'} has no name for {', '.join(unnamed[:6])}. "
            "Unpack the archive again."
        )
    return [(name, first[name]) for name in wanted]


def training_set(root: Path, per_class: int | None = None) -> Pictures:
    """Read the training images: all 500 of a class, or the first `per_class`."""
    paths: list[Path] = []
    targets: list[int] = []
    for target, name in enumerate(classes(root)):
        found = sorted((root / "train" / name / "images").glob("*.JPEG"))[:per_class]
        if not found:
            raise click.ClickException(
                f"{root / 'train' / name / 'images'} holds no .JPEG files. "
                "Unpack the archive again."
            )
        paths += found
        targets += [target] * len(found)
    return _read(paths, targets, "training images")


def validation_set(root: Path) -> Pictures:
    """Read the 10,000 validation images."""
    return _read(*validation_files(root), "validation images")


def validation_files(root: Path) -> tuple[list[Path], list[int]]:
    """Return the validation images' files and, for each, the place of its class."""
    place = {name: target for target, name in enumerate(classes(root))}
    annotations = root / "val" / "val_annotations.txt"
    rows = [row.split("\t")[:2] for row in annotations.read_text().splitlines()]
    unknown = [row for row in rows if len(row) < 2 or row[1] not in place]
    if unknown or not rows:
        told = f"the line {unknown[0]}" if unknown else "no lines"
        raise click.ClickException(
            f"{annotations} holds {told}; each must be a file, a tab and a class of wnids.txt. "
            "Unpack the archive again."
        )
    return [root / "val" / "images" / file for file, _ in rows], [place[name] for _, name in rows]


def _read(paths: Sequence[Path], targets: Sequence[int], what: str) -> Pictures:
    pixels = np.empty((len(paths), SIDE, SIDE, 3), np.uint8)

    def read(block: range) -> int:
        for number in block:
            try:
                with Image.open(paths[number]) as image:
                    pixels[number] = np.asarray(image.convert("RGB"))
            except (OSError, ValueError) as error:
                raise click.ClickException(
                    f"{paths[number]} cannot be read as an image of {SIDE} x {SIDE} pixels "
                    f"({error}). Unpack the archive again."
                ) from error
        return len(block)

    starts = range(0, len(paths), _BLOCK)
    blocks = [range(start, min(start + _BLOCK, len(paths))) for start in starts]
    workers = usable_cores()
    # Closed at once when interrupted, instead of reading all that is left.
    with (
        closing(prefetch(read, blocks, workers=workers, ahead=2 * workers)) as steps,
        tqdm(total=len(paths), desc=what, unit="img", disable=None) as bar,
    ):
        for done in steps:
            bar.update(done)
    return Pictures(pixels, np.asarray(targets, np.int64))
