"""How objects show themselves in a notebook: they say so here, and what is above makes the HTML.

What holds features or scores stands below what makes pages, and imports nothing of it. The package
itself, above all floors, names who makes them (``vggfeat/__init__.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Maker = Callable[["Shown"], str]
    Drawer = Callable[["Drawn", bool], Figure]

_log = logging.getLogger(__name__)
_makers: list[tuple[Maker, Drawer]] = []


def shown_by(maker: Maker, drawer: Drawer) -> None:
    """Say who makes the HTML of a :class:`Shown`, and the figure of a :class:`Drawn`."""
    _makers[:] = [(maker, drawer)]


class Shown:
    """Something that a notebook shows as HTML.

    Attributes
    ----------
    shown_as : str
        Which kind of thing it is, among those that :mod:`vggfeat.notebook` knows.
    """

    __slots__ = ()
    shown_as: ClassVar[str]

    def _repr_html_(self) -> str | None:
        """Return HTML, or None where there is none to be had: the plain text stands then.

        Whatever became of files and photos, showing an object does not fail.
        """
        try:
            return _makers[0][0](self)
        except Exception as error:
            _log.debug("%s is shown as text: %s", type(self).__name__, error)
            return None


class Drawn(Shown):
    """Something that a notebook shows as HTML, and that can be drawn."""

    __slots__ = ()

    def figure(self, *, dark: bool = False) -> Figure:
        """Draw it.

        Parameters
        ----------
        dark : bool
            Light on dark instead of dark on light.

        Returns
        -------
        matplotlib.figure.Figure
            It belongs to no window; a notebook shows it, and ``savefig`` writes it.
        """
        return _makers[0][1](self, dark)
