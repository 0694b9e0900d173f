"""What is in a folder of exported parts: ``_manifest.json``, replaced in one step.

A part is named there once its files are in their places. So a part is right where the manifest
says what it was made of (a digest of its rows) and what was written (sizes and checksums).
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from vggfeat.atomic import atomic_file, left_of
from vggfeat.errors import StoreError
from vggfeat.files import open_plain

NAME = "_manifest.json"
FORMAT, FORMAT_VERSION = "vggfeat-export", 1
ENDINGS = {"parquet": (".parquet",), "npy": (".paths.csv", ".npy")}
"""Files of a part by the kind of export, in the order in which they get their places."""

_PART = re.compile(r"part-\d{5,}(?:\.parquet|\.npy|\.paths\.csv)")


def part_name(number: int, ending: str) -> str:
    """Return the name of a file of a part."""
    return f"part-{number:05d}{ending}"


def is_part(name: str) -> bool:
    """Return whether a file of that name is of a part, of either kind."""
    return _PART.fullmatch(name) is not None


def is_leftover(name: str) -> bool:
    """Return whether a killed run left a file of that name, as :mod:`vggfeat.atomic` makes them."""
    left = left_of(name)
    return left == NAME or is_part(left)


@dataclass(frozen=True, slots=True)
class Part:
    """A part that is there.

    Attributes
    ----------
    rows : int
        Number of images.
    digest : str
        SHA-256 of what they are: paths, labels and checksums of features.
    files : dict of str to (int, int)
        Size in bytes and CRC-32 of each file.
    """

    rows: int
    digest: str
    files: dict[str, tuple[int, int]]

    def is_right(self, folder: Path) -> bool:
        """Return whether all files are there as they were written; reads them."""
        return all(measured(folder / name) == told for name, told in self.files.items())


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in the folder.

    Attributes
    ----------
    settings : dict
        What decides how parts look, JSON-ready.
    parts : dict of int to Part
        By number.
    rows : int
        Images of the whole export.
    complete : bool
        Whether all parts are there.
    """

    settings: Mapping[str, Any]
    parts: dict[int, Part] = field(default_factory=dict)
    rows: int = 0
    complete: bool = False

    def write(self, folder: Path) -> None:
        """Put it in the place of the one that is there."""
        parts = [
            {
                "number": number,
                "rows": part.rows,
                "digest": part.digest,
                "files": {name: {"bytes": a, "crc32": b} for name, (a, b) in part.files.items()},
            }
            for number, part in sorted(self.parts.items())
        ]
        told = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **self.settings,
            "rows": self.rows,
            "complete": self.complete,
            "parts": parts,
        }
        with atomic_file(folder / NAME) as temporary:
            temporary.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read that of a folder; None where there is none.

        Raises
        ------
        StoreError
            It is damaged, of another program, or of a newer version.
        """
        path = folder / NAME
        try:
            with os.fdopen(open_plain(path), encoding="utf-8") as file:
                told = json.load(file)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"{path} cannot be read ({error}). {_ELSEWHERE}") from error
        if not isinstance(told, dict) or told.pop("format", None) != FORMAT:
            raise StoreError(f"{path} is of no export of vggfeat. {_ELSEWHERE}")
        version = told.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise StoreError(
                f"{path} has format version {version!r}; this vggfeat writes {FORMAT_VERSION}. "
                f"{_ELSEWHERE}"
            )
        try:
            parts = {
                int(part["number"]): Part(
                    int(part["rows"]),
                    str(part["digest"]),
                    {
                        str(name): (int(one["bytes"]), int(one["crc32"]))
                        for name, one in part["files"].items()
                        if is_part(name)  # nothing outside the folder is ever looked at
                    },
                )
                for part in told.pop("parts")
            }
            return cls(told, parts, int(told.pop("rows")), bool(told.pop("complete")))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{path} is damaged ({error!r}). {_ELSEWHERE}") from error


_ELSEWHERE = "Name another folder, or remove this one."


def measured(path: Path) -> tuple[int, int] | None:
    """Return the size in bytes and CRC-32 of a plain file; None where there is none."""
    size = crc32 = 0
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            while block := file.read(1 << 20):
                size, crc32 = size + len(block), zlib.crc32(block, crc32)
    except OSError:
        return None
    return size, crc32
