"""A progress bar for work that comes in stages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vggfeat.cli.output import show_progress

if TYPE_CHECKING:
    from vggfeat.index.building import Progress


@contextmanager
def stages(unit: str) -> Iterator[Progress]:
    """Give a function that shows, on a terminal, how far each stage has come.

    Parameters
    ----------
    unit : str
        What is counted, as ``"image"``.
    """
    from tqdm import tqdm

    disable = None if show_progress() is None else True
    bars: dict[str, Any] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars.clear()
            bars[stage] = tqdm(
                desc=stage, total=total, unit=unit, file=sys.stderr, disable=disable, leave=False
            )
        bars[stage].update(done)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()
