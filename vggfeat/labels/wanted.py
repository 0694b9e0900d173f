"""How a run asks for labels, and how a store remembers where its labels came from."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from vggfeat.errors import SourceError
from vggfeat.files import as_key
from vggfeat.labels.files import LabelFile, read_label_file
from vggfeat.labels.names import RawLabels, class_name

Kind = Literal["", "folder", "source", "table"]
ALLOWED = "auto, none, folder, folder:N, source, or a CSV file or list"
_FOLDER = re.compile(r"folders?(?::([1-9][0-9]*))?")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where labels came from.

    Attributes
    ----------
    kind : str
        ``"folder"``, ``"source"`` (a list's or archive's own), ``"table"`` (given by hand), or
        empty where that is not known.
    detail : str
        Which folder of a path is the class, 1 for the first; or the name of the source or table.
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
        return cls("table", detail) if kind == "table" else cls()

    @property
    def level(self) -> int:
        """Which folder of a path is the class."""
        return int(self.detail)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The labels that a run asks for; a store decides what that means for its rows.

    Attributes
    ----------
    kind : str
        ``"auto"``, ``"none"``, ``"folder"``, ``"source"`` or ``"table"``.
    level : int or None
        Of folders: which one of a path is the class.
    own : dict or None
        Labels that the source says itself.
    own_name : str
        What the source is called.
    own_file : LabelFile or None
        The list that the source is.
    table : LabelFile or None
        The file that was given.
    root : str
        Absolute path that entries' paths are relative to.
    several_sources : bool
        Paths begin with the names of several sources, which are no classes; `own` says those.
    """

    kind: Literal["auto", "none", "folder", "source", "table"] = "auto"
    level: int | None = None
    own: RawLabels | None = None
    own_name: str = ""
    own_file: LabelFile | None = None
    table: LabelFile | None = None
    root: str = ""
    several_sources: bool = False

    @classmethod
    def of(
        cls,
        asked: str | os.PathLike[str],
        *,
        paths: Sequence[str] = (),
        own: RawLabels | None = None,
        own_name: str = "",
        own_file: LabelFile | None = None,
        root: str = "",
    ) -> Self:
        """Understand what a person asks for.

        Parameters
        ----------
        asked : str or path
            ``auto``, ``none``, ``folder``, ``folder:N``, ``source``, or a file.
        paths : sequence of str
            Entry paths of the source.
        own, own_name, own_file, root
            As the attributes.

        Raises
        ------
        SourceError
            There is no such file, or it cannot be read.
        """
        kind: Literal["auto", "none", "folder", "source", "table"]
        level = table = None
        if asked in ("auto", "none", "source"):
            kind = asked  # type: ignore[assignment]
        elif isinstance(asked, str) and (match := _FOLDER.fullmatch(asked)):
            kind, level = "folder", int(match[1]) if match[1] else None
        elif Path(asked).is_file():
            known = set(paths)
            kind = "table"
            table = read_label_file(asked, need_labels=True, is_image=lambda p: as_key(p) in known)
        else:
            raise SourceError(
                f"No label file {os.fspath(asked)!r}. Allowed for --labels are {ALLOWED}."
            )
        return cls(kind, level, own, own_name, own_file, table, root)

    @property
    def table_origin(self) -> Origin:
        """What a store remembers of the file that was given."""
        assert self.table is not None
        return Origin("table", class_name(Path(self.table.file).name))
