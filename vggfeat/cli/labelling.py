"""Options that say what images show, which of them train, and which belong together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def labelling_options(command: Function) -> Function:
    """Add the options of commands that read a source and learn from its labels."""
    for option in (
        click.option(
            "--groups", type=click.Path(dir_okay=False), metavar="FILE",
            help="The same from a table with columns path and group.",
        ),
        click.option(
            "--group-by", metavar="REGEX|folder:N|none",
            help="Images that belong together, and are never on both sides of training and test, "
            "as for `vggfeat extract`.",
        ),
        click.option(
            "--split", "splits", multiple=True, metavar="auto|none|folder:N|NAME=LIST",
            help="Which images train, choose and test, as for `vggfeat extract`.",
        ),
        click.option(
            "--labels", "--labels-from", "labels", default="auto", show_default=True,
            metavar="auto|none|folder[:N]|source|FILE",
            help="Class names, as for `vggfeat extract`.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def splits_of(given: tuple[str, ...]) -> str | dict[str, str]:
    """Read --split: one word, or a list for each name."""
    lists = dict(text.split("=", 1) for text in given if "=" in text)
    if not given or (len(given) == 1 and not lists):
        return given[0] if given else "auto"
    if len(lists) < len(given):
        raise click.UsageError(
            "--split takes one of auto, none and folder:N; or NAME=LIST, once for each split."
        )
    return lists
