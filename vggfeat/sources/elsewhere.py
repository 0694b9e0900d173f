"""Folders, images, lists, archives and tables at remote storage, by their URLs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TypeVar

from vggfeat.errors import ImageError, SourceError
from vggfeat.files import IMAGE_EXTENSIONS, decode_path, encode_path, extension
from vggfeat.labels import read_label_file
from vggfeat.pipeline import prefetch
from vggfeat.signatures import SIGNATURE_BYTES, sniff
from vggfeat.sources.base import Entry, FileSource, Source
from vggfeat.sources.braces import expand
from vggfeat.sources.distant import Distant
from vggfeat.sources.lists import ListSource
from vggfeat.sources.members import hidden
from vggfeat.sources.parquet import SUFFIX, ParquetSource
from vggfeat.sources.parquet_columns import Choice, split_choice
from vggfeat.sources.shards import ShardSource
from vggfeat.storage.places import Place, State, relative_names
from vggfeat.storage.remote import Remote, RemotePlace
from vggfeat.storage.transports import Found
from vggfeat.storage.urls import Url, joined, parent, parse, scheme_of, server

Item = TypeVar("Item")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)

LISTS, ARCHIVES = (".txt", ".csv", ".tsv"), (".tar", ".zip")
_COMPRESSED = (".gz", ".tgz", ".bz2", ".tbz", ".xz", ".txz", ".zst", ".7z", ".rar")
_LIST_BYTES = 1 << 30
_ASKED = 1000  # images of a list that are looked at one by one; of more their folder is listed
_THREADS = 16


def open_remote(spec: str) -> Source:
    """List the images at a URL.

    Parameters
    ----------
    spec : str
        ``s3://bucket/folder/``, ``gs://...``, ``hf://datasets/...``, or with ``https://`` as well
        a ``.tar``, ``.zip``, ``.parquet``, several of them by braces, a list or an image.

    Raises
    ------
    SourceError
        There is no such thing, it cannot be read, or no image is in it.
    """
    spec, choice = split_choice(spec)
    url = parse(spec)
    remote = Remote(url)
    try:
        names = expand(url.text) or [url.text]
        kinds = {extension(name) for name in names}
        if kinds <= {SUFFIX} or kinds <= {*ARCHIVES}:
            return _archives(remote, url, names, choice)
        if len(names) > 1:
            raise SourceError(f"{url.text!r} must name archives or Parquet files alone.")
        return _one(remote, url, kinds.pop(), choice)
    except ImageError as error:
        raise SourceError(f"Cannot read {url.text!r}: {error}.") from None


def open_unlisted(url: str, table: str = "") -> Source:
    """Return a source of what lies below a URL, which is not listed: it opens what is named.

    Parameters
    ----------
    url : str
        Of a folder, perhaps with columns behind ``#``.
    table : str
        A Parquet file in it, of which images are rows, as a store spells its name.
    """
    place, choice = split_choice(url)
    remote = Remote(parse(place))
    if table:
        name = decode_path(table)
        return _tables(remote, [joined(place, name)], [name], place, choice, several=True)
    source = FileSource(place, place, ())
    source.storage = Distant(remote)
    return source


def is_listed(name: str) -> bool:
    """Whether a name is of an archive or a table, which must be listed to be read."""
    return extension(split_choice(name)[0]) in (*ARCHIVES, SUFFIX)


def _one(remote: Remote, url: Url, kind: str, choice: Choice) -> Source:
    if url.text.lower().endswith(_COMPRESSED):
        raise SourceError(
            f"{url.text!r} is a compressed archive, in which images cannot be found by their "
            "place. Unpack it, or pack it again as a plain .tar or a .zip."
        )
    if kind in LISTS:
        _check_plain(url, choice)
        return _list(remote, url)
    if kind in IMAGE_EXTENSIONS:
        _check_plain(url, choice)
        folder = parent(url.text)
        found = _looked(remote.info, url.text)
        return _files(remote, folder, url.text, [found])
    return _folder(remote, url, choice)


def _folder(remote: Remote, url: Url, choice: Choice) -> Source:
    root = url.text.rstrip("/")
    images, tables, left_out = [], [], 0
    unnamed: list[Found] = []
    for found in remote.find(root):
        path = found.url[len(root) + 1 :]
        if hidden(path):
            continue
        kind = extension(path.rpartition("/")[2])
        if kind in IMAGE_EXTENSIONS:
            images.append(found)
        elif not kind:
            unnamed.append(found)
        else:
            left_out += 1
            if kind == SUFFIX:
                tables.append(found)
    # Each of these is a request: of all else the name decides.
    looked = _each(lambda found: _is_image(remote, found), unnamed)
    images += [found for found, is_image in zip(unnamed, looked, strict=True) if is_image]
    left_out += len(unnamed) - sum(looked)
    chosen = choice != Choice()
    if tables and (chosen or not images):
        tables.sort()
        names = [found.url[len(root) + 1 :] for found in tables]
        urls = [found.url for found in tables]
        return _tables(remote, urls, names, root, choice, several=True)
    if chosen:
        raise SourceError(f"No Parquet files at {root!r}, which # names columns of.")
    if not images:
        others = f" ({left_out} other files)" if left_out else ""
        raise SourceError(
            f"No images at {root!r}{others}. Name a folder there that holds, at any depth, JPEG, "
            "PNG or other images, or a .tar, .zip, .parquet or list by its name."
        )
    return _files(remote, root, root, images, left_out)


def _files(
    remote: Remote, root: str, spec: str, images: Sequence[Found], left_out: int = 0
) -> Source:
    entries = [Entry(encode_path(one.url[len(root) + 1 :]), *one.state) for one in images]
    source = FileSource(root, spec, entries, left_out=left_out)
    source.storage = Distant(remote)
    return source


def _archives(remote: Remote, url: Url, names: Sequence[str], choice: Choice) -> Source:
    for name in names:
        remote.sign(name, url.query)
    if extension(names[0]) == SUFFIX:
        inner = relative_names(names)
        return _tables(remote, names, inner, url.text, choice, several=len(names) > 1)
    _check_plain(url, choice)
    return ShardSource(_places(remote, names), url.text)


def _tables(
    remote: Remote, urls: Sequence[str], names: Sequence[str], spec: str, choice: Choice,
    *, several: bool,
) -> Source:  # fmt: skip
    places = _places(remote, urls)
    return ParquetSource(places, names, spec, spec, choice, several=several)


def _places(remote: Remote, urls: Sequence[str]) -> list[Place]:
    def place(url: str) -> Place:
        try:
            return RemotePlace(remote, remote.info(url))
        except ImageError as error:
            raise SourceError(f"Cannot read {url!r}: {error}.") from None

    return _each(place, urls)


def _list(remote: Remote, url: Url) -> Source:
    folder = parent(url.text)
    found = remote.info(url.text)
    if found.state.size > _LIST_BYTES:
        raise SourceError(f"The list {url.text!r} has {found.state.size:,} bytes.")
    with remote.fetch(url.text, max(found.state.size, 0), found.state) as file:
        label_file = read_label_file(url.text, data=file.read())
    if not label_file.paths:
        raise SourceError(f"The list {url.text!r} names no images. Write one path a line into it.")
    keys = [_key(path, folder) for path in label_file.paths]
    once = list(dict.fromkeys(keys))
    urls = {key: joined(folder, decode_path(key)) for key in once}
    strange = [key for key, one in urls.items() if server(one) != server(url.text)]
    if strange:
        raise SourceError(
            f"The list {url.text!r} names {strange[0]!r}, which lies elsewhere than the list: only "
            f"what begins with {server(url.text)} is fetched for it."
        )
    states = _states(remote, list(urls.values()))
    lost = [key for key, one in urls.items() if states[one] is None]
    if len(lost) == len(once):
        raise SourceError(
            f"Not one of the {len(once):,} images of {url.text!r} is there, for example "
            f"{lost[0]!r}. Paths are relative to the list's folder, {folder!r}, or URLs."
        )
    if lost:
        _log.warning(
            "%s: %d of its %d images cannot be found, for example %r.",
            *(url.text, len(lost), len(once), lost[0]),
        )
    entries = [Entry(key, *(states[one] or State(0))) for key, one in urls.items()]
    labels = label_file.by_key(keys) if label_file.used else None
    source = ListSource(folder, url.text, entries, labels, label_file, keys)
    source.storage = Distant(remote)
    return source


def _key(path: str, folder: str) -> str:
    """Return the key of a listed path: relative to the list's folder, if it is there."""
    plain = path.removeprefix("./")
    if not scheme_of(plain):
        plain = plain.replace("\\", "/")
    return encode_path(plain.removeprefix(f"{folder}/"))


def _states(remote: Remote, urls: Sequence[str]) -> dict[str, State | None]:
    """Look at the files of a list; None for those that are not there."""
    if len(urls) > _ASKED and scheme_of(urls[0]) not in ("http", "https"):
        # The folder that all of them lie in: one request a thousand, rather than one each.
        first, last = min(urls), max(urls)
        same = next((n for n, pair in enumerate(zip(first, last, strict=False))
                     if pair[0] != pair[1]), len(first))  # fmt: skip
        states: dict[str, State | None] = dict.fromkeys(urls)
        for found in remote.find(parent(first[:same])):
            if found.url in states:
                states[found.url] = found.state
        return states

    def look(url: str) -> State | None:
        try:
            return remote.info(url).state
        except ImageError:
            return None

    return dict(zip(urls, _each(look, urls), strict=True))


def _is_image(remote: Remote, found: Found) -> bool:
    size = min(found.state.size, SIGNATURE_BYTES)
    try:
        return bool(sniff(remote.read(found.url, 0, size, found.state)))
    except ImageError:
        return False


def _looked(info: Callable[[str], Found], url: str) -> Found:
    try:
        return info(url)
    except ImageError as error:
        raise SourceError(f"Cannot read {url!r}: {error}.") from None


def _each(call: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    workers = min(_THREADS, max(len(items), 1))
    with closing(prefetch(call, items, workers=workers, ahead=4 * workers)) as results:
        return list(results)


def _check_plain(url: Url, choice: Choice) -> None:
    if choice != Choice():
        raise SourceError(
            f"{url.text!r} has no columns: {choice.text()} is for .parquet files alone."
        )
