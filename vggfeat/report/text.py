"""How pages write names, numbers and times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

_JOINER = "\u200d"  # holds emoji of several parts together


def shown(text: object) -> str:
    """Make visible what would not show, or steer the text's direction: a name may hold anything."""
    raw = str(text)
    return "".join(
        c if c.isprintable() or c == _JOINER else c.encode("unicode_escape").decode() for c in raw
    )


def shortened(text: str, length: int) -> str:
    """Return at most `length` characters of :func:`shown`, the middle left out."""
    whole = shown(text)
    if len(whole) <= length:
        return whole
    head = (length - 1) // 2
    return f"{whole[:head]}…{whole[len(whole) - (length - 1 - head) :]}"


def short_names(paths: Sequence[str]) -> list[str]:
    """Return file names without folder and ending, or the paths where these are not unique."""
    stems = [Path(path).stem for path in paths]
    return stems if len(set(stems)) == len(stems) else list(paths)


def percent(share: float) -> str:
    """Write a share in 0..1 as percent with one decimal."""
    return f"{100 * share:.1f} %"


def number(value: float) -> str:
    """Write a number: whole ones with separators, others with three significant digits."""
    if isinstance(value, int) or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.3g}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Write a count with its noun: ``1 group``, ``2 groups``, ``1,234 copies``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Write a time in seconds, or minutes and seconds."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def decimals(scores: Sequence[float]) -> int:
    """Return how many decimals tell scores apart: 3, or up to 6 where they crowd."""
    ordered = sorted({float(score) for score in scores if math.isfinite(score)})
    gaps = [high - low for low, high in pairwise(ordered)]
    if not gaps:
        return 3
    typical = sorted(gaps)[len(gaps) // 2]
    return min(6, max(3, math.ceil(-math.log10(typical)))) if typical > 0 else 6
