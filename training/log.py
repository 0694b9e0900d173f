"""The log of a run: one row an epoch, in ``log.csv``."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from pathlib import Path

import click

LOG = "log.csv"


@dataclass(frozen=True)
class Row:
    """One epoch.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    side : int
        Of the input, in pixels.
    rate : float
        Learning rate at the epoch's end.
    loss : float
        Mean training loss, smoothing and augmentation included.
    val_loss, top1, top5 : float
        Of the averaged weights on the validation images at the same side; accuracies in percent.
    raw_top1 : float
        Top-1 of the weights as they are: ahead of the average while the learning rate is high.
    images_per_second : float
        Training speed.
    seconds : float
        The epoch with its validation.
    """

    epoch: int
    side: int
    rate: float
    loss: float
    val_loss: float
    top1: float
    top5: float
    raw_top1: float
    images_per_second: float
    seconds: float


NAMES = [field.name for field in fields(Row)]


def write(folder: Path, row: Row) -> None:
    """Put an epoch's row after those of the epochs before it.

    Rows of this and later epochs, left by a run that was stopped before it had saved them, go.
    """
    path = folder / LOG
    rows = [*(r for r in read(folder) if r.epoch < row.epoch), row] if path.exists() else [row]
    fresh = path.with_name(f"{LOG}.new")
    with fresh.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(NAMES)
        for each in rows:
            values = (getattr(each, name) for name in NAMES)
            writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in values)
    fresh.replace(path)


def read(folder: Path) -> list[Row]:
    """Return the rows of a run's log, in order.

    Raises
    ------
    click.ClickException
        There is no log, or it is not one.
    """
    path = folder / LOG
    try:
        with path.open(newline="") as file:
            return [_row(told) for told in csv.DictReader(file)]
    except FileNotFoundError as error:
        raise click.ClickException(
            f"{folder} holds no {LOG}. Give the folder of a run that `python -m training fit` "
            "has trained for an epoch at least."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise click.ClickException(
            f"{path} is not the log of a run ({type(error).__name__}: {error}). "
            f"Its columns must be {', '.join(NAMES)}."
        ) from error


def _row(told: dict[str, str]) -> Row:
    whole = ("epoch", "side")
    numbers = {name: int(told[name]) if name in whole else float(told[name]) for name in NAMES}
    return Row(**numbers)  # type: ignore[arg-type]
