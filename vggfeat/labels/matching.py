"""Which image of a source a path in somebody's table means."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from vggfeat.files import IMAGE_EXTENSIONS, as_key, decode_path, extension
from vggfeat.tables import legible


@dataclass(frozen=True, slots=True)
class Matching:
    """Images by the paths of a table.

    Attributes
    ----------
    keys : list of (str or None)
        Entry path of each path that was given; None where the source has no such image.
    how : str
        What had to be done to the paths, in words; empty where nothing but their spelling differed.
    """

    keys: list[str | None]
    how: str = ""

    @property
    def count(self) -> int:
        """How many of the given paths are images of the source."""
        return sum(key is not None for key in self.keys)


def match(written: Sequence[str], keys: Sequence[str], root: str = "") -> Matching:
    r"""Find the image that each path means.

    First as it is written, whatever the slashes, ``./``, the way accents are composed, or the
    encoding of the file. Only where that finds none at all: without leading folders of the table
    (those of the source first), with leading folders of the source, by base names, and by names
    without extension. Of these, one that fits two images, or two lines to one image, is not used.

    Parameters
    ----------
    written : sequence of str
        Paths of the table; one may come several times.
    keys : sequence of str
        Entry paths of the source.
    root : str
        Absolute path of the source.
    """
    exact = set(keys)
    plain: dict[str, str | None] = {}
    for key in keys:
        name = spelling(decode_path(key))
        plain[name] = None if name in plain else key  # an NFC and an NFD name beside each other
    matched = {text: _as_written(text, exact, plain, root) for text in dict.fromkeys(written)}
    if any(matched.values()):
        return Matching([matched[text] for text in written])
    names = {text: spelling(legible(text).replace("\\", "/")) for text in matched}
    known = {name: key for name, key in plain.items() if key is not None}
    for rule in _RULES:
        by_name, how = rule(sorted(set(names.values())), known, root)
        if by_name:
            return Matching([by_name.get(names[text]) for text in written], how)
    return Matching([None] * len(written))


def spelling(path: str) -> str:
    """Return a path with ``/`` between parts, without ``./``, accents composed (NFC)."""
    return unicodedata.normalize("NFC", PurePath(path).as_posix())


def _as_written(text: str, exact: set[str], plain: dict[str, str | None], root: str) -> str | None:
    if as_key(text) in exact:
        return as_key(text)
    for form in dict.fromkeys((text, legible(text), legible(text).replace("\\", "/"))):
        name = spelling(form)
        if name not in plain and root and name.startswith("/"):
            name = posixpath.relpath(name, spelling(root)) if _below(name, root) else name
        if key := plain.get(name):
            return key
    return None


def _below(name: str, root: str) -> bool:
    return name.startswith(spelling(root).rstrip("/") + "/")


_Keys = tuple[dict[str, str], str]


def _without_folders(names: list[str], known: dict[str, str], root: str) -> _Keys:
    """Drop leading folders of the table's paths."""
    by_prefix: dict[str, dict[str, str]] = {}
    for name in names:
        for prefix, rest in _suffixes(name):
            if rest in known:
                by_prefix.setdefault(prefix, {})[name] = known[rest]
                break
    above = spelling(root)
    shared = [prefix for prefix in by_prefix if f"{above}/".endswith(f"/{prefix.strip('/')}/")]
    if shared:
        best = max(shared, key=lambda prefix: len(by_prefix[prefix]))
        return by_prefix[best], f"without the leading folder {best!r} of the table"
    if len(by_prefix) == 1:
        prefix, matched = next(iter(by_prefix.items()))
        return matched, f"without the leading folder {prefix!r} of the table"
    return {}, ""


def _with_folders(names: list[str], known: dict[str, str], _root: str) -> _Keys:
    """Drop leading folders of the source's paths."""
    given, hits = set(names), dict[str, list[tuple[str, str]]]()
    for path, key in known.items():
        for prefix, rest in _suffixes(path):
            if rest in given:
                hits.setdefault(rest, []).append((prefix, key))
                break
    if any(len(several) > 1 for several in hits.values()):
        return {}, ""
    prefixes = sorted({several[0][0] for several in hits.values()})
    if len(prefixes) > 1:
        return {}, ""  # by base name, perhaps
    how = f"with the folder {prefixes[0]!r} of the source before them" if prefixes else ""
    return {name: several[0][1] for name, several in hits.items()}, how


def _by(part: Callable[[str], str], how: str) -> Callable[[list[str], dict[str, str], str], _Keys]:
    def rule(names: list[str], known: dict[str, str], _root: str) -> _Keys:
        ours: dict[str, list[str]] = {}
        for name in names:
            ours.setdefault(part(name), []).append(name)
        theirs: dict[str, list[str]] = {}
        for path, key in known.items():
            if part(path) in ours:
                theirs.setdefault(part(path), []).append(key)
        if any(len(keys) > 1 or len(ours[name]) > 1 for name, keys in theirs.items()):
            return {}, ""
        return {ours[name][0]: keys[0] for name, keys in theirs.items()}, how

    return rule


def _suffixes(path: str) -> list[tuple[str, str]]:
    """Return each way to cut a path into leading folders and the rest, the longest rest first."""
    parts = path.split("/")
    return [("/".join(parts[:at]), "/".join(parts[at:])) for at in range(1, len(parts))]


def _stem(path: str) -> str:
    ending = extension(path)
    return path[: -len(ending)] if ending in IMAGE_EXTENSIONS else path


def _base_stem(path: str) -> str:
    return _stem(posixpath.basename(path))


_RULES = (
    _without_folders,
    _with_folders,
    _by(posixpath.basename, "by base names alone"),
    _by(_stem, "without their extensions"),
    _by(_base_stem, "by base names without their extensions"),
)
