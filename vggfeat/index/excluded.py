"""Images that a person removed from an index: it remembers them, and adding leaves them out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from vggfeat.feature_table import FeatureTable
    from vggfeat.index.preparing import Integers
    from vggfeat.index.rows import Rows

_LIMITS = {"row": 1 << 40, "checksum": 1 << 32}


@dataclass(frozen=True, slots=True)
class Excluded:
    """Images removed by hand, one entry each.

    An image is known by its path, whatever its bytes become; one that moves within its store keeps
    its row and checksum there, by which it is followed.

    Attributes
    ----------
    path : tuple of str
        Unique.
    row, checksum : tuple of int
        What :class:`~vggfeat.index.rows.Rows` had.
    """

    path: tuple[str, ...] = ()
    row: tuple[int, ...] = ()
    checksum: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.path)

    @classmethod
    def of(cls, rows: Rows, ids: Integers) -> Self:
        """Describe images at some ids of an index."""
        return cls(
            tuple(rows.paths.taken(ids)),
            tuple(rows.row[ids].tolist()),
            tuple(rows.checksum[ids].tolist()),
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Sequence[Any]]) -> Self:
        """Read what the catalogue holds.

        Raises
        ------
        ValueError
            It has other types, lengths or numbers than the format allows.
        """
        excluded = cls(*(tuple(data[field.name]) for field in fields(cls)))
        if not all(isinstance(path, str) and path for path in excluded.path):
            raise ValueError("the path of an excluded image is no text, or empty")
        if len(set(excluded.path)) < len(excluded):
            raise ValueError("it excludes an image twice")
        for name, end in _LIMITS.items():
            numbers = getattr(excluded, name)
            if len(numbers) != len(excluded) or not all(
                type(number) is int and 0 <= number < end for number in numbers
            ):
                raise ValueError(f"{name} of its excluded images has other values than it may")
        return excluded

    def to_json(self) -> dict[str, list[Any]]:
        """Return JSON-ready columns."""
        return {name: list(column) for name, column in asdict(self).items()}

    def followed_by(self, other: Excluded) -> Self:
        """Return these and then those not among them."""
        new = other.without(self.path)
        columns = (
            [*ours, *theirs] for ours, theirs in zip(_columns(self), _columns(new), strict=True)
        )
        return type(self)(*map(tuple, columns))

    def without(self, paths: Collection[str]) -> Self:
        """Return those of other paths."""
        dropped = frozenset(paths)
        kept = [at for at, path in enumerate(self.path) if path not in dropped]
        return type(self)(*(tuple(column[at] for at in kept) for column in _columns(self)))

    def synced(self, store: FeatureTable, layer: str) -> Self:
        """Return them under the paths that they have in a store now.

        Parameters
        ----------
        store : FeatureTable
        layer : str
            Whose checksums :attr:`checksum` holds.
        """
        if not len(self):
            return self
        here, known, ours = store.paths, set(store.paths), set(self.path)
        sums = store.checksums(layer)
        paths: dict[str, None] = {}
        for path, row, checksum in zip(*_columns(self), strict=True):
            moved = (
                path not in known
                and row < len(sums)
                and int(sums[row]) == checksum
                and here[row] not in ours
            )
            paths[str(here[row]) if moved else path] = None
        return replace(self, path=tuple(paths)) if len(paths) == len(self) else self


def _columns(excluded: Excluded) -> tuple[tuple[Any, ...], ...]:
    return excluded.path, excluded.row, excluded.checksum
