"""The manifest of a store of parts: which image is in which part, and what decides the numbers."""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from vggfeat._version import __version__
from vggfeat.provenance import FeatureConfig, RunInfo

MANIFEST = "manifest.json"
PARTS_FORMAT = "vggfeat-parts"
PARTS_VERSION = 1
_PART = re.compile(r"part-(\d{5,9})\.h5")
_IMAGES = re.compile(r"images-\d{1,9}\.h5")
_ID = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_PARTS = 1_000_000
_MOST_ROWS = 1 << 40


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of a store, which are a file of their own.

    Attributes
    ----------
    number : int
        From 0 on, in the order of the rows.
    first, rows : int
        Its first row in the whole store, and how many it has.
    digest : str
        :func:`digest_of_paths` of its images as they were when it was cut.
    """

    number: int
    first: int
    rows: int
    digest: str

    @property
    def file(self) -> str:
        """Name of its store."""
        return f"part-{self.number:05d}.h5"

    @property
    def marker(self) -> str:
        """Name of the file that says that it is done, or why it failed."""
        return f"part-{self.number:05d}.json"

    @property
    def end(self) -> int:
        """The row behind its last one."""
        return self.first + self.rows


@dataclass(frozen=True)
class Manifest:
    """What a store of parts is, without what has been computed.

    Attributes
    ----------
    id : str
        32 hexadecimal digits by which parts know their store.
    images : str
        Name of the file that lists the images: an HDF5 store without features.
    digest : str
        :func:`digest_of_paths` of the whole list.
    part_rows : int
        Most rows of a part that is cut from now on.
    config : FeatureConfig
        What decides the numbers.
    shapes : dict of str to tuple of int
        One row's shape by layer.
    planned : RunInfo
        Of the run that made the store.
    parts : tuple of Part
        In the order of their rows.
    """

    id: str
    images: str
    digest: str
    part_rows: int
    config: FeatureConfig
    shapes: dict[str, tuple[int, ...]]
    planned: RunInfo
    parts: tuple[Part, ...] = field(default=())

    @property
    def rows(self) -> int:
        """Number of rows of the whole store."""
        return self.parts[-1].end if self.parts else 0

    @cached_property
    def _firsts(self) -> list[int]:
        return [part.first for part in self.parts]

    def part_of(self, row: int) -> Part:
        """Return the part that a row is in."""
        return self.parts[bisect_right(self._firsts, row) - 1]

    def dumps(self) -> str:
        """Return the JSON text of ``manifest.json``."""
        return json.dumps(
            {
                "format": PARTS_FORMAT,
                "format_version": PARTS_VERSION,
                "id": self.id,
                "images": self.images,
                "digest": self.digest,
                "part_rows": self.part_rows,
                "deciding": self.config.to_json(),
                "shapes": {layer: list(shape) for layer, shape in self.shapes.items()},
                "planned": self.planned.to_json(),
                "parts": [
                    {"file": part.file, "rows": part.rows, "digest": part.digest}
                    for part in self.parts
                ],
            },
            indent=1,
        )

    @classmethod
    def loads(cls, text: str) -> Self:
        """Read what :meth:`dumps` wrote, which may come from a stranger.

        Raises
        ------
        ValueError
            It is anything else; the message says what.
        """
        try:
            data = json.loads(text)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        if not isinstance(data, dict) or data.get("format") != PARTS_FORMAT:
            raise ValueError(f"its 'format' is not {PARTS_FORMAT!r}")
        if (version := _count(data, "format_version", 1, 1 << 30)) > PARTS_VERSION:
            raise ValueError(
                f"it was made by a newer vggfeat: its format is {version}, and vggfeat "
                f"{__version__} reads up to {PARTS_VERSION}; `pip install --upgrade vggfeat`"
            )
        try:
            config = FeatureConfig.from_json(data["deciding"])
            planned = RunInfo.from_json(data["planned"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"what decides the numbers is incomplete: {error}") from error
        return cls(
            id=_text(data, "id", _ID),
            images=_text(data, "images", _IMAGES),
            digest=_text(data, "digest", _DIGEST),
            part_rows=_count(data, "part_rows", 1, _MOST_ROWS),
            config=config,
            shapes=_shapes(data, config),
            planned=planned,
            parts=_parts(data),
        )


def digest_of_paths(paths: Iterable[str]) -> str:
    """Return the SHA-256, in hexadecimal, of paths in UTF-8, each followed by a NUL."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def cut(paths: list[str], first: int, number: int, part_rows: int) -> list[Part]:
    """Cut images into parts.

    Parameters
    ----------
    paths : list of str
        The images that are in no part yet.
    first, number : int
        Row of the first one, and number of the first part.
    part_rows : int
        Most rows in a part.
    """
    starts = range(0, len(paths), part_rows)
    pieces = [paths[start : start + part_rows] for start in starts]
    return [
        Part(number + i, first + start, len(piece), digest_of_paths(piece))
        for i, (start, piece) in enumerate(zip(starts, pieces, strict=True))
    ]


def _parts(data: dict[str, Any]) -> tuple[Part, ...]:
    listed = data.get("parts")
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST_PARTS:
        raise ValueError(f"'parts' is no list of 1 to {_MOST_PARTS:,} parts")
    parts: list[Part] = []
    first = 0
    for number, one in enumerate(listed):
        if not isinstance(one, dict):
            raise ValueError(f"part {number} is no object")
        part = Part(
            number, first, _count(one, "rows", 1, _MOST_ROWS), _text(one, "digest", _DIGEST)
        )
        if _text(one, "file", _PART) != part.file:
            raise ValueError(f"part {number} is called {one['file']!r}, not {part.file!r}")
        parts.append(part)
        first = part.end
    return tuple(parts)


def _shapes(data: dict[str, Any], config: FeatureConfig) -> dict[str, tuple[int, ...]]:
    shapes = data.get("shapes")
    if not isinstance(shapes, dict) or set(shapes) != set(config.layers) or not shapes:
        raise ValueError("'shapes' does not fit the layers")
    for layer, shape in shapes.items():
        right = isinstance(shape, list) and len(shape) in (1, 3)
        if not right or any(type(size) is not int or not 0 < size < 1 << 31 for size in shape):
            raise ValueError(f"the shape of {layer} is {str(shape)[:80]}")
    return {layer: tuple(shapes[layer]) for layer in config.layers}


def _text(data: dict[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{key!r} is {str(value)[:80]!r}")
    return value


def _count(data: dict[str, Any], key: str, low: int, high: int) -> int:
    value = data.get(key)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{key!r} is {str(value)[:80]!r}")
    return value
