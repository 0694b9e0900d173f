"""Where labels, splits or groups came from, as a store remembers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

Kind = Literal["", "folder", "source", "table", "lists", "pattern"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where labels came from.

    Attributes
    ----------
    kind : str
        ``"folder"``, ``"source"`` (a list's or archive's own), ``"table"`` (given by hand), of
        splits ``"lists"``, of groups ``"pattern"``, or empty where that is not known.
    detail : str
        Which folder of a path is the name, 1 for the first; the name of the source, table or lists;
        or the regular expression.
    """

    kind: Kind = ""
    detail: str = ""

    def __str__(self) -> str:
        """Return the text that a store keeps; :meth:`parse` reads it."""
        return f"{self.kind}:{self.detail}" if self.kind else ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a store keeps; kinds of later versions count as not known."""
        kind, _, detail = text.partition(":")
        if kind == "folder" and detail.isdecimal() and int(detail) > 0:
            return cls("folder", detail)
        if kind == "source":
            return cls("source", detail)
        if kind in ("table", "lists", "pattern"):
            return cls(kind, detail)  # type: ignore[arg-type]
        return cls()

    @property
    def level(self) -> int:
        """Which folder of a path is the class."""
        return int(self.detail)
