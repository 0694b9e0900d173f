"""Which of two copies is the more original, from their files and their pixels."""

from __future__ import annotations

import io
import os
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from vggfeat.duplicates.aligning import orientation
from vggfeat.duplicates.beneath import sha256_of
from vggfeat.errors import ImageError, SourceError
from vggfeat.images import decoded, size_of

if TYPE_CHECKING:
    from vggfeat.duplicates.verifying import Verification
    from vggfeat.sources import Originals

LOSSLESS = frozenset({"PNG", "BMP", "DIB", "TIFF", "GIF", "PPM", "TGA", "SGI", "PCX"})

_RESIZED = 0.02  # share by which the resolution of one size may be mistaken
_TONES = 4.0  # grey levels on the average by which tones were changed
_CUT_OFF = 0.01  # share of pixels that changing tones has cut off
_BACK = {
    Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
    Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
}
_SAVED_BEFORE = 0.6  # error of saving once more, of that with another grid of blocks


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file tells of how original its image is.

    Attributes
    ----------
    width, height : int
        In pixels, upright; 0 where the file cannot be read.
    bytes : int
        Of the file; 0 where it cannot be read.
    format : str
        ``"JPEG"``, ``"PNG"``, and so on.
    quality : int
        Of a JPEG, 1..100: that of libjpeg whose table for luma has the nearest mean; 0 for other
        formats.
    exif : bool
        Whether there is EXIF with a camera's make or a time.
    digest : str
        SHA-256 of the file's bytes in hexadecimal; empty where they cannot be read.
    mtime_ns : int
        Time of the file's last change, in nanoseconds since 1970; 0 in archives.
    problem : str
        Why the file cannot be read; empty where it can.
    """

    width: int = 0
    height: int = 0
    bytes: int = 0
    format: str = ""
    quality: int = 0
    exif: bool = False
    digest: str = ""
    mtime_ns: int = 0
    problem: str = ""

    @property
    def fidelity(self) -> int:
        """0..101: a JPEG's quality; 101 of lossless formats, 0 where nothing is known."""
        return 101 if self.format in LOSSLESS else self.quality

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


def facts_of(images: Originals, source: str, path: str) -> FileFacts:
    """Read a stored image's file, except for its pixels."""
    try:
        with images.open(source, path) as file:
            width, height = size_of(file)
            size = file.seek(0, os.SEEK_END)
            digest = sha256_of(file)
            kind, quality, exif = _header(file)
            time = _mtime_ns(file)
    except (ImageError, SourceError, OSError) as error:
        return FileFacts(problem=str(error))
    return FileFacts(width, height, size, kind, quality, exif, digest, time)


def rank(facts: FileFacts, path: str) -> tuple[Any, ...]:
    """Sort by this for the most original first, as far as files alone tell.

    Readable before unreadable; more pixels; less compressed; more bytes; with EXIF; by path.
    """
    return (
        bool(facts.problem), -facts.width * facts.height, -facts.fidelity, -facts.bytes,
        not facts.exif, path,
    )  # fmt: skip


def second_is_original(
    first: FileFacts,
    second: FileFacts,
    verification: Verification,
    images: Originals,
    pictures: tuple[tuple[str, str], tuple[str, str]],
) -> bool:
    """Say whether the second of two verified copies is the more original.

    In this order: finer resolution; what shows more, unless that is a border of one colour; what
    has no such border; of two of unlike tones the one with fewer pixels cut off at black or white;
    what was not made from the other by saving it once more; a lossless file or a JPEG of finer
    quantisation; more bytes; EXIF; the first path.

    Parameters
    ----------
    first, second : FileFacts
    found : Verification
        Of the second as a copy of the first.
    images : Originals
        Opens both, in case they have to be looked at once more.
    pictures : pair of (source, path)
        Where they are.
    """
    if abs(verification.finer - 1) > _RESIZED:
        return verification.finer > 1
    one, other = verification.beyond
    if one.more != other.more:
        return other.more
    bordered = [side.border and side.share > _RESIZED for side in verification.beyond]
    if bordered[0] != bordered[1]:
        return bordered[0]
    if abs(verification.lighter) > _TONES and abs(verification.cut_off) > _CUT_OFF:
        return verification.cut_off < 0
    order = second.fidelity - first.fidelity
    if order and sorted((first.width, first.height)) == sorted((second.width, second.height)):
        finer, coarser = pictures[::-1] if order > 0 else pictures
        turn = orientation(verification.placing.turn)
        turned_back = None if turn is None else _BACK.get(turn, turn)
        if _was_saved_as(images, finer, coarser, turn if order > 0 else turned_back):
            return order < 0
    if order:
        return order > 0
    return rank(second, pictures[1][1]) < rank(first, pictures[0][1])


def _was_saved_as(
    images: Originals,
    finer: tuple[str, str],
    coarser: tuple[str, str],
    turn: Image.Transpose | None,
) -> bool:
    """Say whether an image, turned, was once saved with the quantisation that a JPEG has.

    Such an image loses little by being saved so again, and much more where its blocks lie
    otherwise (Farid, "Exposing digital forgeries from JPEG ghosts", IEEE TIFS 2009).
    """
    try:
        with images.open(*coarser) as file, Image.open(file) as image:
            table = getattr(image, "quantization", {}).get(0)
        with images.open(*finer) as file, decoded(file) as image:
            upright = image.convert("L")
            grey = upright if turn is None else upright.transpose(turn)
            grey = grey.crop((0, 0, min(grey.width, 2048), min(grey.height, 2048)))
    except (ImageError, SourceError, OSError):
        return False
    if table is None:
        return False
    shifted = grey.crop((4, 4, *grey.size))
    return _loss(grey, table) < _SAVED_BEFORE * _loss(shifted, table)


def _loss(grey: Image.Image, table: list[int]) -> float:
    file = io.BytesIO()
    grey.save(file, "JPEG", qtables=[table])
    with Image.open(file) as again:
        rest = np.asarray(grey, np.float32) - np.asarray(again, np.float32)
    return float(np.sqrt((rest**2).mean()))


def _header(file: BinaryIO) -> tuple[str, int, bool]:
    file.seek(0)
    try:
        with Image.open(file) as image:
            table = getattr(image, "quantization", {}).get(0)
            exif = image.getexif()
            told = any(tag in exif for tag in (0x010F, 0x0132, 0x8769))  # make, time, EXIF itself
            return image.format or "", _quality(table) if table else 0, told
    except Exception:  # Pillow's plugins raise nearly anything; the image itself was recognised
        return "", 0, False


def _quality(table: list[int]) -> int:
    mean = float(np.mean(table))
    return 1 + int(np.abs(_means_by_quality() - mean).argmin())


@cache
def _means_by_quality() -> Any:
    means = []
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG", quality=quality)
        with Image.open(file) as image:
            means.append(float(np.mean(image.quantization[0])))  # type: ignore[attr-defined]
    return np.array(means)


def _mtime_ns(file: BinaryIO) -> int:
    try:
        return os.fstat(file.fileno()).st_mtime_ns
    except OSError:  # a part of an archive
        return 0
