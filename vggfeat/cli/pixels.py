"""Options that say what pixels go through before the network: a name, or numbers by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from vggfeat.extract import FeatureExtractor
from vggfeat.preprocessing import ByHand, Triple
from vggfeat.weights import AUTO, CHOICES

Function = TypeVar("Function", bound=Callable[..., Any])

PIXELS = ("preprocessing", "scale", "mean", "std", "channel_order")
"""Names of the options of `pixels_options`."""


def _number(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    """Read a number, which may be written as a fraction."""
    if text is None:
        return None
    above, slash, below = text.partition("/")
    try:
        return float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(f"{text!r} is no number and no fraction such as 1/255.") from None


def _triple(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[float, ...] | None:
    """Read three numbers with commas between, or one that stands for all three."""
    if text is None:
        return None
    values = [_number(context, option, one) or 0.0 for one in text.split(",")]
    if len(values) not in (1, 3):
        raise click.BadParameter(f"{text!r}: give one number for each channel, or one for all.")
    return tuple(values * 3 if len(values) == 1 else values)


def pixels_options(
    *, of: str = "", order: str = "--channels"
) -> Callable[[Function], Function]:  # fmt: skip
    """Make a decorator that adds the options; `pixels_of` reads them.

    Parameters
    ----------
    of : str
        What they belong to, as the beginning of their help.
    order : str
        Name of the option for the channels' order, where the usual one is taken.
    """
    options = (
        click.option(
            "--preprocessing", type=click.Choice(CHOICES), default=FeatureExtractor.preprocessing,
            show_default=True,
            help=f"{of}How pixels are prepared. auto: as the weights were trained; strict: the "
            "same, and files of which that is only assumed are refused; else as named, with a "
            "warning where the file contradicts it.",
        ),
        click.option(
            "--scale", callback=_number, metavar="S",
            help=f"{of}Preprocessing by hand, for networks trained in another way: the network "
            "sees (x * S - mean) / std of each pixel x in 0..255. 1/255 makes 0..1 of it, 1/127.5 "
            "with --mean 1 makes -1..1. Sizes and interpolation stay those of the weights.",
        ),
        click.option(
            "--mean", callback=_triple, metavar="A,B,C",
            help=f"{of}With --scale, in its units: for each channel in the order of {order}, or "
            "one number for all.  [default: 0]",
        ),
        click.option(
            "--std", callback=_triple, metavar="A,B,C", help=f"{of}As --mean.  [default: 1]",
        ),
        click.option(
            order, "channel_order", type=click.Choice(["RGB", "BGR"]),
            help=f"{of}With --scale: order of the channels.  [default: RGB]",
        ),
    )  # fmt: skip

    def added(command: Function) -> Function:
        for option in reversed(options):
            command = option(command)
        return command

    return added


def pixels_of(options: dict[str, Any], order: str = "--channels") -> str | ByHand:
    """Take the options of `pixels_options` out of all options.

    Returns
    -------
    str or ByHand
        What `FeatureExtractor` takes as its preprocessing.

    Raises
    ------
    click.UsageError
        They say two things, or not in which units numbers are.
    WeightsError
        The numbers contradict one another.
    """
    name, scale, mean, std, channels = (options.pop(option) for option in PIXELS)
    options = {"--scale": scale, "--mean": mean, "--std": std, order: channels}
    given = [option for option, value in options.items() if value is not None]
    if not given:
        return str(name)
    if name != AUTO:
        raise click.UsageError(
            f"--preprocessing {name} and {', '.join(given)} say two things. Give one of them."
        )
    if scale is None:
        raise click.UsageError(
            f"{', '.join(given)} without --scale: give --scale 1/255 if the network saw pixels in "
            "0..1 before mean and std, --scale 1 if in 0..255."
        )
    black: Triple = (0.0, 0.0, 0.0)
    return ByHand(scale, mean or black, std or (1.0, 1.0, 1.0), channels or "RGB")
