"""A progress bar for work that comes in stages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vggfeat.cli.output import progress_bar

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
    bars: dict[str, Any] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars.clear()
            bars[stage] = progress_bar(stage, unit, total)
        bars[stage].update(done)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()
