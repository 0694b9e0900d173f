"""How a run asks for labels."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from vggfeat.errors import SourceError
from vggfeat.files import as_key
from vggfeat.labels.files import LabelFile, read_label_file
from vggfeat.labels.names import RawLabels, class_name
from vggfeat.labels.origin import Origin
from vggfeat.labels.splits import NamesRequest

ALLOWED = "auto, none, folder, folder:N, source, or a CSV file or list"
_FOLDER = re.compile(r"folders?(?::([1-9][0-9]*))?")


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """The labels that a run asks for; a store decides what that means for its rows.

    Attributes
    ----------
    kind : str
        ``"auto"``, ``"none"``, ``"folder"``, ``"source"`` or ``"table"``.
    level : int or None
        Of folders: which one of a path is the class.
    from_source : dict or None
        Labels that the source says itself.
    source_name : str
        What the source is called.
    source_list : LabelFile or None
        The list that the source is.
    table : LabelFile or None
        The file that was given.
    root : str
        Absolute path that entries' paths are relative to.
    several_sources : bool
        Paths begin with the names of several sources, which are no classes; `from_source` says
        those.
    splits, groups : NamesRequest
        What is requested of them.
    """

    kind: Literal["auto", "none", "folder", "source", "table"] = "auto"
    level: int | None = None
    from_source: RawLabels | None = None
    source_name: str = ""
    source_list: LabelFile | None = None
    table: LabelFile | None = None
    root: str = ""
    several_sources: bool = False
    splits: NamesRequest = field(default_factory=lambda: NamesRequest(of_splits=True))
    groups: NamesRequest = field(default_factory=NamesRequest)

    @classmethod
    def of(
        cls,
        requested: str | os.PathLike[str],
        *,
        paths: Sequence[str] = (),
        from_source: RawLabels | None = None,
        source_name: str = "",
        source_list: LabelFile | None = None,
        root: str = "",
    ) -> Self:
        """Understand what a person asks for.

        Parameters
        ----------
        requested : str or path
            ``auto``, ``none``, ``folder``, ``folder:N``, ``source``, or a file.
        paths : sequence of str
            Entry paths of the source.
        from_source, source_name, source_list, root
            As the attributes.

        Raises
        ------
        SourceError
            There is no such file, or it cannot be read.
        """
        kind: Literal["auto", "none", "folder", "source", "table"]
        level = table = None
        if requested in ("auto", "none", "source"):
            kind = requested  # type: ignore[assignment]
        elif isinstance(requested, str) and (match := _FOLDER.fullmatch(requested)):
            kind, level = "folder", int(match[1]) if match[1] else None
        elif Path(requested).is_file():
            known = set(paths)
            kind = "table"
            table = read_label_file(
                requested, need_labels=True, is_image=lambda p: as_key(p) in known
            )
        else:
            raise SourceError(
                f"No label file {os.fspath(requested)!r}. Allowed for --labels are {ALLOWED}."
            )
        return cls(kind, level, from_source, source_name, source_list, table, root)

    @property
    def table_origin(self) -> Origin:
        """What a store remembers of the file that was given."""
        assert self.table is not None
        return Origin("table", class_name(Path(self.table.file).name))
