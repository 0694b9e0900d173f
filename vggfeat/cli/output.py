"""How commands print: results on stdout as a table or JSON, everything else on stderr."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from vggfeat.evaluation.layers.scored import ScoredStore
    from vggfeat.progress import Progress

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def show_progress() -> bool | None:
    """Return what shows progress bars: where somebody looks (None), and never when quiet."""
    return None if logging.getLogger("vggfeat").isEnabledFor(logging.INFO) else False


def store_lines(stores: Sequence[ScoredStore]) -> list[str]:
    """Return a line on each store that was scored, numbered where there are several."""
    return [
        f"{f'({number}) ' if len(stores) > 1 else ''}{printable(one.path)}: {one.model}, weights "
        f"{one.weights}"
        for number, one in enumerate(stores, start=1)
    ]


def bars(unit: str, **options: Any) -> AbstractContextManager[Progress]:
    """Give what shows how far each stage of some work has come, where somebody looks."""
    from vggfeat.progress import bars as shown

    return shown(unit, show_progress(), **options)


def share_bar() -> AbstractContextManager[Progress]:
    """Give what shows how much of some work is done, where it takes longer than a moment."""
    return bars("", bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}", delay=1)


def print_json(value: Any) -> None:
    """Print `value` as indented JSON on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def table(rows: Sequence[Sequence[str]], header: Sequence[str], right: str = "") -> str:
    """Lay out rows in aligned columns.

    Parameters
    ----------
    rows : sequence of sequence of str
        Cells; every row as long as `header`.
    header : sequence of str
        Column titles.
    right : str
        Titles, separated by spaces, of the columns to align to the right.

    Returns
    -------
    str
        Lines without trailing spaces, joined by newlines.
    """
    ends = set(right.split())
    shown = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in shown) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if title in ends else cell.ljust(width)
            for cell, width, title in zip(row, widths, header, strict=True)
        ).rstrip()
        for row in shown
    ]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def printable(text: str) -> str:
    """Escape what would break a line or steer the terminal: a file name may hold anything."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
