"""Which reader a source has, by what it is and what it is called."""

from __future__ import annotations

import difflib
import os
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from vggfeat.array_files import is_array_file, parts_of
from vggfeat.errors import ImageError, SourceError
from vggfeat.files import IMAGE_EXTENSIONS, encode_path, extension, open_regular, system_reason
from vggfeat.signatures import SIGNATURE_BYTES, sniff
from vggfeat.sources.base import FileSource, Source, entry_of
from vggfeat.sources.braces import expand
from vggfeat.sources.elsewhere import ARCHIVES, LISTS, open_remote
from vggfeat.sources.folder import open_folder
from vggfeat.sources.lists import open_list
from vggfeat.sources.parquet import SUFFIX, open_tables
from vggfeat.sources.parquet_columns import Choice, split_choice
from vggfeat.sources.several import SeveralSources, named, names_of
from vggfeat.sources.shards import ShardSource
from vggfeat.sources.stacks import StackSource
from vggfeat.storage.urls import SCHEMES, is_remote, scheme_of, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|[^/]*\\")
_ALLOWED = (
    "a folder, an image, a .txt or .csv list, a .zip, a .parquet, .tar shards "
    "(name-{000..012}.tar), an array of images (.npy, .h5#NAME, .mat), or one of these as a URL "
    "(s3://, gs://, hf://, https://)"
)
_COMPRESSED = re.compile(r"\.(tar\.[a-z0-9]+|tgz|tbz2?|txz|tzst|7z|rar)$", re.IGNORECASE)
_COMPRESSED_HEAD = re.compile(rb"\x1f\x8b|BZh[1-9]|\xfd7zXZ|\x28\xb5\x2f\xfd|Rar!|7z\xbc")
_TAR_MAGIC = slice(257, 262)
_SIBLINGS = 10_000


def open_source(spec: str | os.PathLike[str] | Source) -> Source:
    """List the images of a source.

    Parameters
    ----------
    spec : path or Source
        A folder, with everything below it; one image; a ``.txt`` list (one path a line) or
        ``.csv`` list (column ``path``, perhaps ``label``); one ``.tar`` or ``.zip``, or several
        by braces as in ``shard-{000..012}.tar`` or ``{train,val}.zip``; one ``.parquet`` with a
        column of images, several by braces, or a folder of them and of no images, perhaps with
        columns behind ``#``, as in ``data.parquet#image:photo,label:breed``. All these also as
        URLs: ``s3://``, ``gs://``, ``hf://`` and ``https://`` (which has no folders). A
        :class:`Source`, such as a dataset's, is returned as it is.

    Raises
    ------
    SourceError
        There is no such thing, it cannot be read, or no image is in it.
    """
    if isinstance(spec, Source):
        return spec
    given = os.fsdecode(spec)
    if is_remote(given):
        return open_remote(given)
    try:
        given, choice = split_choice(given)
        # Not resolve(): links stay as the user named them, so that stored paths do.
        path = Path(given).absolute()
        if given and is_array_file(path) and os.path.isfile(parts_of(path)[0]):  # noqa: PTH113
            return StackSource(path)
        if given and os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises where it may not look)
            return open_folder(str(path), choice)
        if given and os.path.lexists(path):
            return _open_file(str(path), choice)
        if names := expand(str(path)):
            return _open_shards(names, str(path), choice)
    except ValueError as error:  # a NUL in the name
        raise SourceError(f"{given!r} is not a path: {error}. Give {_ALLOWED}.") from error
    raise SourceError(
        f"There is no {shown(given)!r}.{_foreign(given) or _near(path)} Give {_ALLOWED}."
    )


def open_sources(specs: Sequence[str | os.PathLike[str]]) -> Source:
    """List the images of one source, or of several, each under its name.

    Parameters
    ----------
    specs : sequence of path or ``NAME=PATH``
        What :func:`open_source` takes. Of several, or where a name is given, paths of images
        begin with the name, which by default is the last part of the path without its ending.

    Raises
    ------
    SourceError
        As for :func:`open_source`, or two sources have one name.
    """
    if len(specs) == 1 and is_remote(os.fsdecode(specs[0])):
        return open_source(specs[0])
    if len(specs) == 1 and (
        os.path.lexists(specs[0])
        or not named(os.fsdecode(specs[0]))[0]
        or expand(str(Path(os.fsdecode(specs[0])).absolute()))
    ):
        return open_source(specs[0])
    if not specs:
        raise SourceError(f"No source was given. Give {_ALLOWED}.")
    return SeveralSources({name: open_source(path) for name, path in names_of(specs).items()})


def _open_file(path: str, choice: Choice) -> Source:
    kind = extension(path)
    if kind == SUFFIX:
        return open_tables([path], path, choice)
    _check_plain(path, choice)
    if kind in LISTS:
        return open_list(path)
    if _COMPRESSED.search(path):
        raise _compressed(path)
    if kind in ARCHIVES:
        return _open_shards([path], path, choice)
    if kind not in IMAGE_EXTENSIONS:
        try:
            with open_regular(path) as file:
                head = file.read(512)
        except ImageError as error:
            raise SourceError(f"Cannot read {path!r}: {error}. Give {_ALLOWED}.") from error
        if head[_TAR_MAGIC] == b"ustar":
            return _open_shards([path], path, choice)
        if head.startswith(b"PK\x03\x04"):
            raise SourceError(
                f"{path!r} begins like a zip archive. If it is one of images, give it a name that "
                "ends in .zip."
            )
        if not sniff(head[:SIGNATURE_BYTES]):
            raise SourceError(f"{path!r} is not a source of images. Give {_ALLOWED}.")
    folder = Path(path).parent
    return FileSource(str(folder), path, [entry_of(str(folder), encode_path(Path(path).name))])


def _check_plain(path: str, choice: Choice) -> None:
    if choice != Choice():
        raise SourceError(f"{path!r} has no columns: {choice.text()} is for .parquet files alone.")


def _open_shards(shards: list[str], spec: str, choice: Choice) -> Source:
    missing = [shard for shard in shards if not os.path.isfile(shard)]  # noqa: PTH113
    if missing:
        raise SourceError(
            f"{len(missing)} of the {len(shards)} shards of {spec!r} are missing, the first is "
            f"{missing[0]!r}. Name only shards that exist."
        )
    tables = [extension(shard) == SUFFIX for shard in shards]
    if all(tables):
        return open_tables(shards, spec, choice)
    if any(tables):
        raise SourceError(f"{spec!r} names archives and tables. Give them as two sources.")
    _check_plain(spec, choice)
    for shard in shards:
        try:
            with open_regular(shard) as file:
                head = file.read(8)
        except ImageError as error:
            raise SourceError(f"Cannot read {shard!r}: {error}.") from error
        if _COMPRESSED.search(shard) or _COMPRESSED_HEAD.match(head):
            raise _compressed(shard)
        if head.startswith(b"PK\x03\x04") and extension(shard) != ".zip":
            raise SourceError(
                f"{shard!r} is a zip archive by its first bytes. Give it a name that ends in .zip."
            )
    return ShardSource(shards, spec)


def _compressed(path: str) -> SourceError:
    return SourceError(
        f"{path!r} is a compressed archive, in which images cannot be found by their place. "
        "Unpack it and give the folder, or pack it again as a plain .tar or a .zip."
    )


def _foreign(given: str) -> str:
    """Say what is wrong with what is a name elsewhere: on the web, or in Windows."""
    if scheme := scheme_of(given):
        return (
            f" That is a URL, and {scheme}:// is not read, other than "
            f"{', '.join(f'{one}://' for one in SCHEMES)}: download what it names."
        )
    if os.sep != "\\" and _WINDOWS.match(given):
        here = given.replace("\\", "/")
        if os.path.lexists(here):
            return f" With the slashes of this system it is {here!r}."
        drive = re.sub(r"^([A-Za-z]):/", lambda m: f"/mnt/{m[1].lower()}/", here)
        there = f", where drives are below /mnt (as in {drive!r})" if drive != here else ""
        return f" That is a path of Windows, and this is another system{there}."
    return ""


def _near(path: Path) -> str:
    """Suggest names beside the one that is missing."""
    try:
        with os.scandir(path.parent) as items:
            names = [item.name for item in islice(items, _SIBLINGS)]
    except OSError as error:
        return f" Its folder {str(path.parent)!r} cannot be read: {system_reason(error)}."
    near = difflib.get_close_matches(path.name, names, n=3)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
