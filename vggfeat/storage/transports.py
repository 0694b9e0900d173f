"""How each kind of remote storage is asked, through fsspec's file systems: one request each."""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, BinaryIO, NamedTuple

from vggfeat.errors import SourceError
from vggfeat.storage.places import State

CONNECT_SECONDS, READ_SECONDS = 10, 30
_PIECE = 1 << 20


class Found(NamedTuple):
    """A file far away.

    Attributes
    ----------
    url : str
        Without anything secret.
    state : State
        What it is now.
    ranges : bool
        Whether parts of it can be asked for.
    """

    url: str
    state: State
    ranges: bool = True


class StatusError(OSError):
    """A server refuses a request."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answers with status {status}")
        self.status = status


class NoRangesError(OSError):
    """A server sends the whole of a file where a part was asked for."""


class ReadOnlyError(OSError):
    """A kind of storage that is only read."""


class Transport(ABC):
    """A kind of storage; its methods raise whatever goes wrong, and do not try again.

    Attributes
    ----------
    attempts : int
        How often a request is worth trying: fewer where the library below tries again itself.
    """

    attempts = 5

    @abstractmethod
    def info(self, url: str) -> Found:
        """Look at a file."""

    @abstractmethod
    def page(self, url: str, cursor: str) -> tuple[list[Found], str]:
        """List files below a folder, at any depth.

        Parameters
        ----------
        url : str
        cursor : str
            Empty for the first page, then what the one before gave.

        Returns
        -------
        files : list of Found
        cursor : str
            Of the next page; empty after the last.
        """

    @abstractmethod
    def read(self, url: str, start: int, size: int, whole: bool) -> tuple[bytes, State | None]:
        """Read a part of a file, or all of it.

        Returns
        -------
        data : bytes
            No more than `size`.
        state : State or None
            Of the version that was read; None where it cannot be another one.

        Raises
        ------
        OverflowError
            The whole is larger; or it comes with a byte more than `size`.
        """

    def download(self, url: str, file: BinaryIO, most: int) -> State:
        """Write all of a file into another one; raises OverflowError beyond so many bytes."""
        raise NotImplementedError

    def upload(self, path: str, url: str) -> None:
        """Put a file of this machine in the place of what is there, whole or not at all."""
        del path, url
        raise ReadOnlyError

    def remove(self, url: str) -> None:
        """Remove a file, where it is there."""
        del url
        raise ReadOnlyError


def state_of(size: int, modified: Any, tag: str) -> State:
    """Return a state: the time in whole seconds, as all answers of a server have it.

    The tag becomes a number below 0, which no time is: see :attr:`Entry.ctime_ns`.
    """
    seconds = 0
    if isinstance(modified, str) and modified:
        try:
            modified = parsedate_to_datetime(modified)
        except ValueError:
            modified = datetime.fromisoformat(modified) if "T" in modified else None
    if isinstance(modified, datetime):
        seconds = int(modified.timestamp())
    number = 0
    if tag:
        number = -1 - (int.from_bytes(blake2b(tag.encode(), digest_size=8).digest()) >> 2)
    return State(size, seconds * 1_000_000_000, number)


def transport(scheme: str, secrets: dict[str, str]) -> Transport:
    """Return what asks a kind of storage.

    Parameters
    ----------
    scheme : str
        See :data:`vggfeat.storage.urls.SCHEMES`.
    secrets : dict of str to str
        Queries that go with URLs.

    Raises
    ------
    SourceError
        The extra is not installed.
    """
    if scheme == "s3":
        return S3()
    if scheme in ("gs", "gcs"):
        return GoogleCloud()
    return HuggingFace() if scheme == "hf" else Http(secrets)


class S3(Transport):
    """S3 and what speaks its language, through s3fs; credentials are botocore's to find.

    Without any, requests are not signed, as public buckets want it.
    """

    def __init__(self) -> None:
        told = [f"{name}={value}" for name, value in os.environ.items() if name[:4] == "AWS_"]
        self._fs = _s3_files(blake2b("\0".join(sorted(told)).encode()).digest())

    def info(self, url: str) -> Found:
        """Ask with HEAD; see :meth:`Transport.info`."""
        bucket, key = _bucket(url)
        told = _sync(self._fs, self._fs._call_s3, "head_object", Bucket=bucket, Key=key)
        return Found(url, _s3_state(told["ContentLength"], told))

    def page(self, url: str, cursor: str) -> tuple[list[Found], str]:
        """List a thousand; see :meth:`Transport.page`."""
        bucket, key = _bucket(url)
        asked = {"Bucket": bucket, "Prefix": key.rstrip("/") + "/" if key.strip("/") else ""}
        asked |= {"ContinuationToken": cursor} if cursor else {}
        page = _sync(self._fs, self._fs._call_s3, "list_objects_v2", **asked)
        files = [
            Found(f"s3://{bucket}/{one['Key']}", _s3_state(one["Size"], one))
            for one in page.get("Contents", ())
            if not one["Key"].endswith("/")
        ]
        return files, page["NextContinuationToken"] if page.get("IsTruncated") else ""

    def read(self, url: str, start: int, size: int, whole: bool) -> tuple[bytes, State | None]:
        """Ask with GET; see :meth:`Transport.read`."""
        data, state = _sync(self._fs, self._get, url, start, size, whole)
        return data, state

    async def _get(self, url: str, start: int, size: int, whole: bool) -> tuple[bytes, State]:
        bucket, key = _bucket(url)
        part = {} if whole else {"Range": f"bytes={start}-{start + size - 1}"}
        told = await self._fs._call_s3("get_object", Bucket=bucket, Key=key, **part)
        async with told["Body"] as body:
            if told["ContentLength"] > size:
                raise OverflowError
            data = await body.read()
        total = told.get("ContentRange", "").rpartition("/")[2] or told["ContentLength"]
        return data, _s3_state(int(total), told)

    def upload(self, path: str, url: str) -> None:
        """Put a file there, in parts where it is large; see :meth:`Transport.upload`."""
        self._fs.put_file(path, "/".join(_bucket(url)))

    def remove(self, url: str) -> None:
        """Remove an object, which S3 does also where there is none."""
        bucket, key = _bucket(url)
        _sync(self._fs, self._fs._call_s3, "delete_object", Bucket=bucket, Key=key)


class Http(Transport):
    """Web servers, through the session of fsspec's file system.

    Parameters
    ----------
    secrets : dict of str to str
        The query of a URL, by the URL without it.
    """

    def __init__(self, secrets: dict[str, str]) -> None:
        http, aiohttp = _library("fsspec.implementations.http"), _library("aiohttp")
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS
        )
        # trust_env: proxies and ~/.netrc.
        self._fs = http.HTTPFileSystem(
            skip_instance_cache=True, client_kwargs={"timeout": timeout, "trust_env": True}
        )
        self._secrets = secrets

    def info(self, url: str) -> Found:
        """Ask for the first byte, which also tells whether there are ranges."""
        _, state, ranges = _sync(self._fs, self._get, url, 0, 1, False, None)
        return Found(url, state, ranges)

    def page(self, url: str, cursor: str) -> tuple[list[Found], str]:
        """Refuse: web servers do not list."""
        del cursor
        raise SourceError(
            f"{url!r} cannot be listed: http has no folders. Name a file there: a .tar, .zip, "
            ".parquet, a .txt or .csv list, or an image."
        )

    def read(self, url: str, start: int, size: int, whole: bool) -> tuple[bytes, State | None]:
        """Ask with GET; see :meth:`Transport.read`."""
        data, state, _ = _sync(self._fs, self._get, url, start, size, whole, size)
        return data, state

    def download(self, url: str, file: BinaryIO, most: int) -> State:
        """Stream; see :meth:`Transport.download`."""
        state: State = _sync(self._fs, self._download, url, file, most)
        return state

    def _asked(self, session: Any, url: str, headers: dict[str, str]) -> Any:
        query = self._secrets.get(url)
        whole = f"{url}?{query}" if query else url
        # What would be compressed on the way has neither its size nor its parts.
        headers = {"Accept-Encoding": "identity"} | headers
        return session.get(self._fs.encode_url(whole), headers=headers)

    async def _get(
        self, url: str, start: int, size: int, whole: bool, most: int | None
    ) -> tuple[bytes, State, bool]:
        session = await self._fs.set_session()
        part = {} if whole else {"Range": f"bytes={start}-{start + size - 1}"}
        async with self._asked(session, url, part) as answer:
            told = answer.headers
            total = told.get("Content-Range", "").rpartition("/")[2]
            if answer.status == 416 and total == "0" and most is None:
                return b"", state_of(0, told.get("Last-Modified"), told.get("ETag", "")), True
            if answer.status not in (200, 206):
                raise StatusError(answer.status)
            ranges = answer.status == 206 and total.isdigit()
            if not ranges:
                total = told.get("Content-Length", "-1")
            state = state_of(int(total), told.get("Last-Modified"), told.get("ETag", ""))
            if most is None:
                return b"", state, ranges
            if not ranges and start:
                raise NoRangesError
            pieces, left = [], most + (1 if whole else 0)
            while left > 0 and (piece := await answer.content.read(min(left, _PIECE))):
                pieces.append(piece)
                left -= len(piece)
            return b"".join(pieces), state, ranges

    async def _download(self, url: str, file: BinaryIO, most: int) -> State:
        session = await self._fs.set_session()
        async with self._asked(session, url, {}) as answer:
            if answer.status != 200:
                raise StatusError(answer.status)
            async for piece in answer.content.iter_chunked(_PIECE):
                if file.tell() + len(piece) > most:
                    raise OverflowError
                file.write(piece)
            told = answer.headers
            return state_of(file.tell(), told.get("Last-Modified"), told.get("ETag", ""))


class GoogleCloud(Transport):
    """Google Cloud Storage, through gcsfs; an object's generation is its tag."""

    attempts = 2

    def __init__(self) -> None:
        gcsfs = _library("gcsfs.core")  # without gRPC, which the package prefers
        self._fs = gcsfs.GCSFileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            **({} if _google_credentials() else {"token": "anon"}),
        )

    def info(self, url: str) -> Found:
        """Ask for the metadata; see :meth:`Transport.info`."""
        return _google_found(url, self._fs.info("/".join(_bucket(url))))

    def page(self, url: str, cursor: str) -> tuple[list[Found], str]:
        """List all; see :meth:`Transport.page`."""
        del cursor
        top = "/".join(_bucket(url)).rstrip("/")
        scheme = url.partition("://")[0]
        found = self._fs.find(top, detail=True, withdirs=False)
        return [
            _google_found(f"{scheme}://{name}", one)
            for name, one in found.items()
            if one["type"] == "file" and not name.endswith("/") and name.startswith(f"{top}/")
        ], ""

    def read(self, url: str, start: int, size: int, whole: bool) -> tuple[bytes, State | None]:
        """Ask with GET; see :meth:`Transport.read`."""
        part = {} if whole else {"Range": f"bytes={start}-{start + size - 1}"}
        path = self._fs.url("/".join(_bucket(url)))
        told, data = _sync(self._fs, self._fs._call, "GET", path, headers=part)
        told = {str(name).lower(): value for name, value in told.items()}
        total = told.get("content-range", "").rpartition("/")[2] or len(data)
        tag = told.get("x-goog-generation", "")
        if not tag:  # asked in another way then
            return data, self.info(url).state
        return data, state_of(int(total), told.get("last-modified"), tag)

    def upload(self, path: str, url: str) -> None:
        """Put a file there; see :meth:`Transport.upload`."""
        self._fs.put_file(path, "/".join(_bucket(url)))

    def remove(self, url: str) -> None:
        """Remove an object; see :meth:`Transport.remove`."""
        with suppress(FileNotFoundError):
            self._fs.rm_file("/".join(_bucket(url)))


class HuggingFace(Transport):
    """The Hugging Face hub, by the commit that a name means when it is first asked."""

    attempts = 2

    def __init__(self) -> None:
        hub = _library("huggingface_hub")
        self._fs = hub.HfFileSystem(
            endpoint=os.environ.get("HF_ENDPOINT") or None, skip_instance_cache=True
        )
        self._commits: dict[tuple[str, str, str], str] = {}

    def info(self, url: str) -> Found:
        """Ask for a file's entry; see :meth:`Transport.info`."""
        return self._found(url, self._fs.info(self._pinned(url)))

    def page(self, url: str, cursor: str) -> tuple[list[Found], str]:
        """List all; see :meth:`Transport.page`."""
        del cursor
        top = self._pinned(url).rstrip("/")
        found = self._fs.find(top, detail=True, withdirs=False)
        return [
            self._found(f"{url.rstrip('/')}{name[len(top) :]}", one)
            for name, one in found.items()
            if name.startswith(f"{top}/")
        ], ""

    def read(self, url: str, start: int, size: int, whole: bool) -> tuple[bytes, State | None]:
        """Read from the commit; see :meth:`Transport.read`."""
        end = None if whole else start + size
        data: bytes = self._fs.cat_file(self._pinned(url), start, end, cache_type="none")
        return data, None

    def _pinned(self, url: str) -> str:
        place = self._fs.resolve_path(url.removeprefix("hf://"))
        if not hasattr(place, "repo_id"):
            return url.removeprefix("hf://")  # a bucket, which has no commits
        key = place.repo_type, place.repo_id, place.revision
        if key not in self._commits:
            info = self._fs._api.repo_info(
                place.repo_id, repo_type=place.repo_type, revision=place.revision
            )
            self._commits[key] = info.sha
        kind = "" if place.repo_type == "model" else f"{place.repo_type}s/"
        path = f"/{place.path_in_repo}" if place.path_in_repo else ""
        return f"{kind}{place.repo_id}@{self._commits[key]}{path}"

    def _found(self, url: str, told: dict[str, Any]) -> Found:
        if told.get("type") != "file":
            raise FileNotFoundError
        return Found(url, state_of(int(told["size"]), None, str(told.get("blob_id") or "")))


def _library(name: str) -> Any:
    """Import a library of the extra."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SourceError(
            f"Remote storage needs {name.partition('.')[0]}, which is not installed: "
            '`pip install "vggfeat[remote]"`.'
        ) from error


def _sync(fs: Any, call: Any, *args: Any, **options: Any) -> Any:
    from fsspec.asyn import sync

    return sync(fs.loop, call, *args, **options)


@lru_cache(maxsize=4)
def _s3_files(environment: bytes) -> Any:
    """Return s3fs's file system, which takes a second to make, for an environment's digest."""
    del environment
    s3fs, config = _library("s3fs"), _library("fsspec.config").conf.get("s3", {})
    known = {"anon", "key", "profile", "session"} & config.keys()
    anonymous = not known and _library("botocore.session").Session().get_credentials() is None
    files = s3fs.S3FileSystem(
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs={
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "max_pool_connections": 64,
        },
        **({"anon": True} if anonymous else {}),
    )
    files.retries = 1  # who asks tries again
    return files


def _bucket(url: str) -> tuple[str, str]:
    bucket, _, key = url.partition("://")[2].partition("/")
    return bucket, key


def _s3_state(size: int, told: dict[str, Any]) -> State:
    return state_of(size, told.get("LastModified"), told.get("ETag", ""))


def _google_found(url: str, told: dict[str, Any]) -> Found:
    if told.get("type") != "file":
        raise FileNotFoundError
    tag = str(told.get("generation") or told.get("etag") or "")
    return Found(url, state_of(int(told["size"]), told.get("updated"), tag))


def _google_credentials() -> bool:
    """Whether the environment has any, without asking the machine's metadata server for long."""
    if "STORAGE_EMULATOR_HOST" in os.environ:
        return False
    try:
        importlib.import_module("google.auth").default()
    except Exception:  # of a kind of its own; none are there
        return False
    return True
