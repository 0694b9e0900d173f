"""Progress bars: on a terminal and in a notebook, where nobody said otherwise."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def progress_bar(shown: bool | None = None, **options: Any) -> Any:
    """Return a tqdm bar on stderr, or in the cell of a notebook.

    Parameters
    ----------
    shown : bool, optional
        Whether it shows; by default on a terminal and in a notebook only.
    **options
        As tqdm takes them.
    """
    if shown is not False and in_notebook():
        from tqdm import TqdmWarning

        with warnings.catch_warnings():  # without ipywidgets it is a bar of text, and tqdm says so
            warnings.simplefilter("ignore", TqdmWarning)
            from tqdm.auto import tqdm as notebook_bar
        return notebook_bar(disable=False, **options)
    from tqdm import tqdm

    return tqdm(file=sys.stderr, disable=None if shown is None else not shown, **options)


def in_notebook() -> bool:
    """Return whether the program runs in a kernel of Jupyter, whose stderr is no terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def stages(unit: str, shown: bool | None = None) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that shows how far each stage of some work has come, a bar a stage.

    Parameters
    ----------
    unit : str
        What is counted, as ``"image"``.
    shown : bool, optional
        As :func:`progress_bar` takes it.

    Yields
    ------
    callable
        Takes the stage, how many more of it are done, and how many there are.
    """
    bars: dict[str, Any] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars.clear()
            bars[stage] = progress_bar(shown, desc=stage, unit=unit, total=total, leave=False)
        bars[stage].update(done)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()
