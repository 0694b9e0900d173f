"""What the HTML of objects is put together of: headings, tables, small photographs."""

from __future__ import annotations

import html as markup
import math
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vggfeat.report.text import percent, shortened, shown
from vggfeat.report.thumbnails import picture

if TYPE_CHECKING:
    from vggfeat.report import ImageSource

PHOTOS = 12
"""At most so many of one store, index or query."""

ROWS = 24
"""Most rows of a table."""

SIDE = 96
"""Longest side of a photograph, in pixels."""

SECONDS = 3.0
"""After this no further photograph is read."""

_FAINT = "opacity:.7"
_LINE = "1px solid rgba(128,128,128,.35)"

Photo = tuple["ImageSource", str, str]  # the original, not yet opened, its caption, its path


class Bold(str):
    """A cell that stands out."""


def best_marked(value: float, best: float, behind: str = "") -> str:
    """Return a share as percent, bold where it is the best."""
    text = percent(value) + behind if math.isfinite(value) else "-"
    return Bold(text) if value == best else text


def name_of(path: object) -> str:
    """Return the last part of a path or URL, which is what a person knows it by."""
    return str(path).rstrip("/").rpartition("/")[2] or str(path)


def head(title: str, told: Sequence[str], hint: str = "") -> str:
    """Return a line with a title, whose `hint` shows under the mouse."""
    whole = markup.escape(shown(hint), quote=True)
    bold = f'<b title="{whole}">{text_of(title, 60)}</b>' if title else ""
    rest = f'<span style="{_FAINT}">{markup.escape(" · ".join(map(shown, told)))}</span>'
    return f'<div style="margin:.4em 0">{bold}{" · " if title and told else ""}{rest}</div>'


def rows_table(heads: Sequence[str], rows: Iterable[Sequence[object]], total: int = 0) -> str:
    """Return a table; names lie at the left, numbers at the right."""
    every = list(rows)
    left = max(total, len(every)) - min(len(every), ROWS)
    cell = f"text-align:left;padding:.15em .8em .15em 0;border-bottom:{_LINE};background:none"
    lines = ["".join(f'<th style="{cell}">{markup.escape(head)}</th>' for head in heads)]
    for row in every[:ROWS]:
        cells = (
            f"<b>{text_of(one, 60)}</b>" if isinstance(one, Bold) else text_of(one) for one in row
        )
        lines.append("".join(f'<td style="{cell}">{one}</td>' for one in cells))
    table = "".join(f'<tr style="background:none">{line}</tr>' for line in lines)
    rest = head("", [f"{left:,} more rows"]) if left else ""
    return f'<table style="border-collapse:collapse;margin:.4em 0">{table}</table>{rest}'


def photo_row(photos: Iterable[Photo]) -> str:
    """Return photographs side by side, with a tile for each that cannot be read."""
    end, tiles, late = time.monotonic() + SECONDS, [], 0
    for image, caption, path in photos:
        if time.monotonic() > end:
            late += 1
            continue
        found = picture(image, SIDE)
        name = markup.escape(shown(path), quote=True)
        tiles.append(
            f'<figure style="margin:0;max-width:{SIDE}px" title="{name}">'
            f'<img src="{found.uri}" alt="{name}" width="{found.width}" height="{found.height}"'
            ' style="display:block;margin:0">'
            f'<figcaption style="font-size:80%;overflow-wrap:anywhere">{text_of(caption, 40)}'
            "</figcaption></figure>"
        )
    row = "display:flex;flex-wrap:wrap;gap:.5em;align-items:flex-end;margin:.4em 0"
    told = head("", [f"{late} more photos, which took too long to read"]) if late else ""
    return (f'<div style="{row}">{"".join(tiles)}</div>' if tiles else "") + told


def text_of(value: object, length: int = 60) -> str:
    """Return a value as text, shortened and escaped."""
    return markup.escape(shortened(str(value), length))
