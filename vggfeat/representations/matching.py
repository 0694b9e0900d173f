"""The images that stores and RDMs share, in one order: never by their position alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.errors import RepresentationError
from vggfeat.representations.conditions import By, Conditions, conditions
from vggfeat.representations.rdms import RDMs

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

    Item = FeatureTable | RDMs

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """Conditions that all items have.

    Attributes
    ----------
    names : tuple of str, or None
        Of the n conditions; None where no item says them.
    classes : tuple of str
        Of each, empty where unknown.
    orders : tuple of ndarray of int64, shape (n,)
        Of each item, which of its conditions these are.
    conditions : tuple of Conditions or None
        Of each store.
    left_out : tuple of int
        How many conditions of each item are left out, since others lack them.
    """

    names: tuple[str, ...] | None
    classes: tuple[str, ...]
    orders: tuple[Positions, ...]
    conditions: tuple[Conditions | None, ...]
    left_out: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.orders[0])

    def sampled(self, most: int, seed: int) -> Matched:
        """Return a random sample of at most so many conditions, in the same order."""
        if len(self) <= most:
            return self
        kept = np.sort(np.random.default_rng(seed).choice(len(self), most, replace=False))
        return self._taken(kept, self.left_out)

    def _taken(self, kept: Positions, left_out: tuple[int, ...]) -> Matched:
        chosen = kept.tolist()
        return Matched(
            None if self.names is None else tuple(self.names[k] for k in chosen),
            tuple(self.classes[k] for k in chosen),
            tuple(order[kept] for order in self.orders),
            self.conditions,
            left_out,
        )


def matched(
    items: Sequence[Item], by: By = "image", *, common: bool = False, same_order: bool = False
) -> Matched:
    """Match the conditions of stores and RDMs by their names: paths of images, or classes.

    Parameters
    ----------
    items : sequence of FeatureTable or RDMs
        The first that has names gives the order.
    by : {"image", "class"}
        What conditions of stores are.
    common : bool
        Take those that all have, where items have different ones.
    same_order : bool
        Believe that RDMs without names have the conditions of the first item with names, in its
        order; they must be as many.

    Raises
    ------
    RepresentationError
        Conditions differ, and `common` was not given; an RDM has no names, and `same_order` was
        not given; it has another number of conditions; two stores have different images under one
        path; or RDMs are by class, and stores by image.
    """
    found = [None if isinstance(one, RDMs) else conditions(one, by) for one in items]
    named: list[tuple[str, ...] | None] = []
    for one, what in zip(items, found, strict=True):
        if isinstance(one, RDMs):
            _check_kind(one, by, any(other is not None for other in found))
            named.append(one.names)
        else:
            assert what is not None
            named.append(what.names)
    first = next((k for k, names in enumerate(named) if names is not None), 0)
    names = named[first]
    counts = [
        one.count if isinstance(one, RDMs) else len(what or ())
        for one, what in zip(items, found, strict=True)
    ]
    for number, (one, own) in enumerate(zip(items, named, strict=True)):
        if own is None and not (number == first and len(items) == 1):
            _check_nameless(one, items[first], counts[number], counts[first], same_order)
    orders = [np.arange(count) for count in counts]
    classes = _classes(items[first], found[first], counts[first])
    if names is None:
        return Matched(None, classes, tuple(orders), tuple(found), (0,) * len(items))
    # A nameless RDM has the names of the first item.
    complete = [names if own is None else own for own in named]
    shared = set(names).intersection(*map(set, complete))
    kept = np.array([k for k, name in enumerate(names) if name in shared], np.int64)
    if len(kept) < max(counts) and not common:
        raise _different(items, complete, shared, by)
    if len(kept) < 3:
        raise RepresentationError(
            f"{len(kept)} {by}s are in all of {', '.join(_name(one) for one in items)}; three or "
            f"more are compared.{_examples(items, complete)}"
        )
    for number, own in enumerate(complete):
        places = {name: k for k, name in enumerate(own)}
        orders[number] = np.array([places[names[k]] for k in kept.tolist()], np.int64)
    result = Matched(
        tuple(names[k] for k in kept.tolist()),
        tuple(classes[k] for k in kept.tolist()),
        tuple(orders),
        tuple(found),
        tuple(count - len(kept) for count in counts),
    )
    if by == "image":
        _check_digests(items, result)
    return result


def _check_kind(rdms: RDMs, by: By, stores: bool) -> None:
    if stores and rdms.by and rdms.by != by:
        raise RepresentationError(
            f"The RDMs of {rdms.source} are by {rdms.by}, and the stores are compared by {by}. "
            f"Add --by {rdms.by}."
        )


def _check_nameless(one: Item, first: Item, count: int, expected: int, same_order: bool) -> None:
    if count != expected:
        raise RepresentationError(
            f"{_name(one)} has {count:,} conditions without names, and {_name(first)} has "
            f"{expected:,}, so that nobody knows which are which. Give RDMs of the same images, or "
            "with names: a .csv with a first line of paths, or FILE.npy.paths.csv beside a .npy."
        )
    if not same_order:
        raise RepresentationError(
            f"{_name(one)} does not name its conditions, so that its rows cannot be matched with "
            f"the {count:,} of {_name(first)}. If they are in the same order, say --same-order; "
            "else give names: a .csv with a first line of paths, or FILE.npy.paths.csv beside a "
            ".npy (columns path and label)."
        )


def _classes(first: Item, what: Conditions | None, count: int) -> tuple[str, ...]:
    if what is not None:
        return what.classes
    assert isinstance(first, RDMs)
    return first.classes if len(first.classes) == count else ("",) * count


def _different(
    items: Sequence[Item], names: Sequence[tuple[str, ...]], shared: set[str], by: By
) -> RepresentationError:
    told = [
        f"{_name(one)} has {len(own):,}, {len(own) - len(shared):,} of them not in all"
        for one, own in zip(items, names, strict=True)
    ]
    plural = "classes" if by == "class" else "images"
    return RepresentationError(
        f"The {plural} differ: {'; '.join(told)}.{_examples(items, names)} Add --common to compare "
        f"the {len(shared):,} that all have."
    )


def _examples(items: Sequence[Item], names: Sequence[tuple[str, ...]]) -> str:
    sets = [set(own) for own in names]
    for number, own in enumerate(names):
        lacking = [
            (other, next(name for name in own if name not in sets[other]))
            for other in range(len(names))
            if sets[number] - sets[other]
        ]
        if lacking:
            other, name = lacking[0]
            return f" {name!r} of {_name(items[number])} is not in {_name(items[other])}."
    return ""


def _check_digests(items: Sequence[Item], found: Matched) -> None:
    """Refuse stores that have different images under one path."""
    first: tuple[Item, npt.NDArray[np.uint8]] | None = None
    for one, what, order in zip(items, found.conditions, found.orders, strict=True):
        if what is None or isinstance(one, RDMs):
            continue
        digests = one.digests[what.rows[order]]
        if first is None:
            first = one, digests
            continue
        known = digests.any(axis=1) & first[1].any(axis=1)
        other = known & (digests != first[1]).any(axis=1)
        if other.any():
            path = (found.names or ())[int(np.flatnonzero(other)[0])]
            raise RepresentationError(
                f"{_name(first[0])} and {_name(one)} have different images under one path, "
                f"{int(other.sum()):,} of them (as {path!r}). Extract both from the same images."
            )


def _name(one: Item) -> str:
    return one.source if isinstance(one, RDMs) else str(one.path)
