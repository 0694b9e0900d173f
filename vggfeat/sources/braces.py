"""Brace ranges in the names of shards, as a shell would expand them."""

from __future__ import annotations

import itertools
import re

from vggfeat.errors import SourceError

MAX_NAMES = 100_000
"""Most names that one pattern may stand for."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expand(pattern: str) -> list[str]:
    """Return the names that a pattern stands for.

    Parameters
    ----------
    pattern : str
        With ranges such as ``{000..012}``, which keep their zeros, and lists such as ``{a,b}``.

    Returns
    -------
    list of str
        In the pattern's order, none twice; empty where the pattern has no braces.

    Raises
    ------
    SourceError
        What is in the braces is neither, or stands for too many names.
    """
    parts = _BRACES.split(pattern)  # text, inside of braces, text, ..., text
    if len(parts) == 1:
        return []
    choices = [_choices(part, pattern) if i % 2 else [part] for i, part in enumerate(parts)]
    count = 1
    for choice in choices:
        count *= len(choice)
    _check(count, pattern)
    return list(dict.fromkeys(map("".join, itertools.product(*choices))))


def _choices(inside: str, pattern: str) -> list[str]:
    if ends := _RANGE.fullmatch(inside):
        first, last = int(ends[1]), int(ends[2])
        _check(abs(last - first) + 1, pattern)
        padded = any(len(end) > 1 and end.startswith("0") for end in ends.groups())
        width = max(map(len, ends.groups())) if padded else 0
        step = 1 if last >= first else -1
        return [f"{number:0{width}d}" for number in range(first, last + step, step)]
    if "," in inside:
        return inside.split(",")
    raise SourceError(
        f"The braces {{{inside}}} in {pattern!r} mean nothing here. "
        "Give a range as {000..012} or a list as {a,b}."
    )


def _check(count: int, pattern: str) -> None:
    if count > MAX_NAMES:
        raise SourceError(
            f"{pattern!r} stands for {count:,} names; at most {MAX_NAMES:,} are allowed."
        )
