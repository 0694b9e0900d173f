"""How long work says how far it has come, and bars that show it.

All long work takes a :class:`Progress`, a function: a server passes its own, the command line and
notebooks that of :func:`bars`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Progress(Protocol):
    """Told how far long work has come, by the thread that asked for it."""

    def __call__(self, stage: str, more: float, total: float, /) -> object:
        """Take note.

        Parameters
        ----------
        stage : str
            What is being done, for people to read; stages follow one another.
        more : float
            How much more of the stage is done than at the last call; 0 at its start, perhaps.
        total : float
            How much there is in all, as far as is known by now: rows, images, or 1 where shares of
            the work are told.
        """


def silent(_stage: str, _more: float, _total: float, /) -> None:
    """Tell nobody."""


def part_of(progress: Progress, share: float) -> Progress:
    """Return what a part of the work is to tell, which is such a share of the whole."""
    return lambda stage, more, total: progress(stage, more * share, total)


@contextmanager
def bars(
    unit: str, shown: Progress | bool | None = None, *, leave: bool = False, **options: Any
) -> Iterator[Progress]:
    """Give a progress that shows a bar a stage.

    Parameters
    ----------
    unit : str
        What is counted, as ``"image"``.
    shown : bool or Progress, optional
        As :func:`progress_bar` takes it; or what is to be told instead.
    leave : bool
        Whether a bar stays when its stage has ended.
    **options
        As tqdm takes them.

    Yields
    ------
    Progress

    Examples
    --------
    >>> with bars("row") as progress, FeatureStore("photos.h5") as store:   # doctest: +SKIP
    ...     store.verify(progress)
    """
    if callable(shown):
        yield shown
        return
    opened: dict[str, Any] = {}

    def show(stage: str, more: float, total: float, /) -> None:
        if stage not in opened:
            for bar in opened.values():
                bar.close()
            opened.clear()
            opened[stage] = progress_bar(
                shown, desc=stage or None, unit=unit, total=total, leave=leave, **options
            )
        opened[stage].total = total
        opened[stage].update(more)

    try:
        yield show
    finally:
        for bar in opened.values():
            bar.close()


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
