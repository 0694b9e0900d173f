"""Several sources as one, each under its name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from vggfeat.errors import SourceError
from vggfeat.files import encode_path
from vggfeat.labels import NamesByPath, RawLabels, folder_level, from_folders
from vggfeat.sources.base import Entry, Source
from vggfeat.sources.parquet_columns import split_choice
from vggfeat.storage.urls import is_remote, parse, shown

_NAMED = re.compile(r"([^/\\=:]+)=(.+)", re.DOTALL)
_ENDING = re.compile(r"(?:[-_.]?\{.*\})?\.[A-Za-z0-9]+$")


class SeveralSources(Source):
    """Images of several sources; each path begins with the name of its source.

    Class names are what each source says itself, or its folders: never the source's name.

    Parameters
    ----------
    parts : dict of str to Source
        By name; a name has no ``/``, ``=`` or ``:``.
    """

    def __init__(self, parts: Mapping[str, Source]) -> None:
        self.parts = dict(parts)
        self._inner: dict[str, tuple[Source, Entry]] = {}
        labels: RawLabels = {}
        plain = [part for part in self.parts.values() if part.given_labels is None]
        # One level for all: a source with a single class must not lose it.
        level = folder_level([entry.path for part in plain for entry in part.entries] or [""])
        for name, part in self.parts.items():
            given = part.given_labels
            if given is None:
                given = from_folders([entry.path for entry in part.entries], level)
            labels |= {f"{name}/{path}": names for path, names in given.items()}
            for entry in part.entries:
                self._inner[f"{name}/{entry.path}"] = part, entry
        text = ", ".join(f"{name}={part.spec}" for name, part in self.parts.items())
        left_out = sum(part.left_out for part in self.parts.values())
        super().__init__(text, text, (), labels, left_out)
        # By path, but for sources that have an order of their own, such as tables.
        self.entries = [
            replace(entry, path=f"{name}/{entry.path}")
            for name in sorted(self.parts, key=lambda name: f"{name}/")
            for entry in self.parts[name].entries
        ]
        self.given_splits = self._united({n: p.given_splits for n, p in self.parts.items()})
        self.given_groups = self._united({n: p.given_groups for n, p in self.parts.items()})

    @staticmethod
    def _united(names: Mapping[str, NamesByPath | None]) -> NamesByPath | None:
        both = {
            f"{part}/{path}": name
            for part, given in names.items()
            for path, name in (given or {}).items()
        }
        return both or None

    @property
    def distant(self) -> bool:
        """Whether one of the sources is."""
        return any(part.distant for part in self.parts.values())

    def open(self, entry: Entry) -> BinaryIO:
        """Open an image of one of the sources; see :meth:`Source.open`."""
        part, inner = self._inner[entry.path]
        return part.open(inner)

    def seen(self, entry: Entry, file: BinaryIO) -> Entry:
        """Ask the image's own source; see :meth:`Source.seen`."""
        part, inner = self._inner[entry.path]
        return replace(part.seen(inner, file), path=entry.path)


def named(text: str) -> tuple[str, str]:
    """Split ``NAME=PATH``; the name is empty where `text` is a path alone."""
    match = _NAMED.fullmatch(text)
    return (match[1], match[2]) if match else ("", text)


def within(source: str, path: str) -> tuple[str, str]:
    """Split where an image is, as a store or an index keeps it, into its source and its path there.

    Parameters
    ----------
    source : str
        A folder or archive; of several sources ``NAME=root``.
    path : str
        The image; of several sources it begins with ``NAME/``.

    Returns
    -------
    root, path : str
        Without the name.
    """
    name, root = named(source)
    return root, path.removeprefix(f"{name}/") if name else path


def names_of(specs: Sequence[str | os.PathLike[str]]) -> dict[str, str]:
    """Return the path of each of several sources by its name, which is given or the path's own.

    Raises
    ------
    SourceError
        Two have one name, or one has none.
    """
    paths: dict[str, str] = {}
    for spec in specs:
        text = os.fsdecode(spec)
        name, path = ("", text) if os.path.lexists(text) else named(text)
        if is_remote(path):
            place = parse(split_choice(path)[0]).text
            name = name or _ENDING.sub("", place.rstrip("/").rpartition("/")[2])
            text = f"{name}={place}" if text != path else place
        elif Path(path).is_dir() and "=" not in text:
            name = Path(path).absolute().name
        name = name or _ENDING.sub("", Path(path).absolute().name)
        name = encode_path(name)
        if not name or re.search(r"[/\\=:]", name):
            raise SourceError(f"{text!r} gives no name. Name the source: NAME={shown(path)}.")
        if name in paths:
            raise SourceError(
                f"{shown(paths[name])!r} and {shown(path)!r} would both be called {name!r}. Name "
                f"one of them: OTHER={shown(path)}."
            )
        paths[name] = path
    return paths
