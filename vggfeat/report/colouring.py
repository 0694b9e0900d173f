"""Which class gets which colour, where there are more classes than colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_COLOURS = (
    # Chosen by search for the largest least difference of any two, and to both greys, to normal
    # sight and to three kinds of colour blindness; a test in tests/test_plot.py measures it. A
    # class has one colour on light and dark grounds, so none is nearly white or black (L* 38..86).
    *("#2e6444", "#d8d110", "#5e1ff7", "#ed8261", "#854695"),
    *("#1be7a3", "#98420d", "#f995ff", "#bb8800", "#cf31e5"),
)
_SHAPES = ("o", "s", "^", "D", "v", "P", "p", "X", "<", "h")
_GREY = {False: "#9aa2a9", True: "#7d868e"}

MOST = len(_SHAPES)
"""Classes with a colour of their own."""


@dataclass(frozen=True, slots=True)
class Group:
    """Images that share a colour.

    Attributes
    ----------
    name : str
        A class, or what the others are.
    colour : str
        As ``"#rrggbb"``.
    shape : str
        matplotlib's marker: colours are never the only difference.
    members : tuple of int
        Positions of the images, ascending.
    is_class : bool
        Whether `name` is a class's.
    """

    name: str
    colour: str
    shape: str
    members: tuple[int, ...]
    is_class: bool


def groups(
    labels: Sequence[Sequence[str]],
    *,
    multi_label: bool = False,
    dark: bool = False,
    what: str = "class",
) -> list[Group]:
    """Share images out among colours.

    The :data:`MOST` commonest classes have colours, the others are grey together. An image of
    several classes has the colour of the rarest of its coloured ones, which says most about it.

    Parameters
    ----------
    labels : sequence of sequence of str
        Class names of each image.
    multi_label : bool
        Whether images may have several: then one without is known, or not, to show none.
    dark : bool
        For a dark ground, which changes the grey alone.
    what : str
        What the names are of: ``"class"``, ``"split"`` or ``"group"``.

    Returns
    -------
    list of Group
        Commonest first, then "others", then images without a class; no group is empty.
    """
    sizes = Counter(name for names in labels for name in names)
    order = sorted(sizes, key=lambda name: (-sizes[name], name))
    coloured = order[:MOST]
    plural = "classes" if what == "class" else f"{what}s"
    rest = f"{len(order) - MOST} other {plural if len(order) > MOST + 1 else what}"
    members: dict[str | int, list[int]] = {1: [], 0: []}
    members |= {name: [] for name in coloured}
    for position, names in enumerate(labels):
        own = [name for name in coloured if name in names]  # commonest first
        members[own[-1] if own else min(len(names), 1)].append(position)
    groups = [
        Group(name, colour, shape, tuple(members[name]), True)
        for name, colour, shape in zip(coloured, _COLOURS, _SHAPES, strict=False)
    ]
    groups.append(Group(rest, _GREY[dark], "o", tuple(members[1]), False))
    none = "no class" if multi_label else "no label" if what == "class" else f"no {what}"
    none = none if sizes or multi_label else "images"
    # Without any labels all images are of one kind, and deserve a colour.
    colour = _GREY[dark] if sizes else _COLOURS[0]
    groups.append(Group(none, colour, "o", tuple(members[0]), False))
    return [group for group in groups if group.members]
