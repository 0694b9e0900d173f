"""Files far away: asked for again where a connection breaks, and noticed where they change."""

from __future__ import annotations

import io
import logging
import random
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, TypeVar, cast

from vggfeat.errors import ImageError, VggfeatError
from vggfeat.storage.blocks import BLOCK_BYTES, BlockReader, Blocks, Readers
from vggfeat.storage.places import CHANGED, HELD_BYTES, Place, State
from vggfeat.storage.transports import (
    Found,
    NoRangesError,
    ReadOnlyError,
    StatusError,
    Transport,
    transport,
)
from vggfeat.storage.urls import Url

_log = logging.getLogger(__name__)

Result = TypeVar("Result")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds before a broken request is made again; twice as many before each further time."""

LARGEST_DOWNLOAD = 16 << 30
"""Bytes of an archive that is fetched as a whole where its server gives no parts."""

_WHOLE = 8 << 20  # bytes up to which a file is one request
_LARGEST = 2 << 30  # bytes of an image
_READERS = 8  # threads that read ahead
_NETWORK = frozenset({
    "aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "http", "httpcore", "httpx",
    "huggingface_hub", "requests", "s3fs", "urllib3",
})  # fmt: skip
"""Libraries whose errors tell of broken connections, unless they are one of the next."""

_FINAL = frozenset({"InvalidURL", "ParamValidationError", "ProfileNotFound"})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that may be others next time


class Fetched(tempfile.SpooledTemporaryFile[bytes]):
    """What was fetched, in memory or in a temporary file where it is much.

    Attributes
    ----------
    state : State
        Of the version that it is of.
    """

    state: State


class Remote:
    """Storage of one kind, for any thread.

    Parameters
    ----------
    url : Url
        What is read of it; its signature goes with requests for just that URL.

    Raises
    ------
    SourceError
        What reads it is not installed.
    """

    def __init__(self, url: Url) -> None:
        self._secrets = {url.text: url.query} if url.query else {}
        self._transport: Transport = transport(url.scheme, self._secrets)
        self.readers = Readers(_READERS)

    def sign(self, url: str, query: str) -> None:
        """Let a signature go with requests for a URL."""
        if query:
            self._secrets[url] = query

    def info(self, url: str) -> Found:
        """Look at a file.

        Raises
        ------
        ImageError
            The reason in one line.
        """
        return self._patiently(self._transport.info, url)

    def look(self, url: str) -> Found | None:
        """Look at a file that need not be there; raises as :meth:`info` does."""

        def asked() -> Found | None:
            try:
                return self._transport.info(url)
            except Exception as error:
                if isinstance(error, FileNotFoundError) or _status(error) in (404, 410):
                    return None
                raise

        return self._patiently(asked)

    def find(self, url: str) -> Iterator[Found]:
        """List all files below a folder, at any depth, a page at a time.

        Raises
        ------
        ImageError, SourceError
            The reason in one line; or nothing there can be listed.
        """
        cursor = ""
        while True:
            files, cursor = self._patiently(self._transport.page, url, cursor)
            yield from files
            if not cursor:
                return

    def read(self, url: str, start: int, size: int, state: State | None = None) -> bytes:
        """Read a part of a file, just so many bytes.

        Parameters
        ----------
        url : str
        start, size : int
            In bytes.
        state : State, optional
            What it must be.

        Raises
        ------
        ImageError
            It cannot be read, or is another one by now.
        """
        if not size:
            return b""
        data, seen = self._patiently(self._exactly, url, start, size, state)
        if state is not None and seen is not None and not same(seen, state):
            raise ImageError(CHANGED)
        return data

    def fetch(self, url: str, size: int, listed: State) -> Fetched:
        """Fetch a whole file, of whatever version is there now.

        Parameters
        ----------
        url : str
        size : int
            In bytes, as it was listed.
        listed : State
            What it was then.

        Raises
        ------
        ImageError
            It cannot be read, or changes meanwhile.
        """
        if size > _LARGEST:
            raise ImageError(f"it has {size:,} bytes, more than an image has")
        if size <= _WHOLE:
            with suppress(OverflowError):  # it has grown
                data, state = self._patiently(self._all, url, listed)
                return _held([data], state)
        state = self.info(url).state
        if state.size > _LARGEST:
            raise ImageError(f"it has {state.size:,} bytes, more than an image has")
        parts = (
            self.read(url, at, min(_WHOLE, state.size - at), state)
            for at in range(0, state.size, _WHOLE)
        )
        return _held(parts, state)

    def download(self, url: str, file: BinaryIO, state: State) -> None:
        """Write all of a file into another one; raises ImageError, as for :meth:`read`."""

        def whole() -> State:
            file.seek(0)
            file.truncate()
            return self._transport.download(url, file, LARGEST_DOWNLOAD)

        try:
            if not same(self._patiently(whole), state) and state.size >= 0:
                raise ImageError(CHANGED)
        except OverflowError:
            raise ImageError(
                f"the server gives no parts of it, and it has more than "
                f"{LARGEST_DOWNLOAD >> 30} GiB: download it, and give the file"
            ) from None

    def upload(self, path: str, url: str) -> None:
        """Put a file of this machine in the place of what is there, whole or not at all.

        Raises
        ------
        ImageError
            The reason in one line.
        """
        self._patiently(self._transport.upload, path, url)

    def remove(self, url: str) -> None:
        """Remove a file, where it is there; raises as :meth:`upload` does."""
        self._patiently(self._transport.remove, url)

    def _all(self, url: str, listed: State) -> tuple[bytes, State]:
        data, seen = self._transport.read(url, 0, _WHOLE, True)
        state = seen or listed
        if len(data) > _WHOLE:
            raise OverflowError
        if len(data) != state.size and state.size >= 0:
            raise ConnectionError("it ended early")
        return data, state

    def _exactly(
        self, url: str, start: int, size: int, state: State | None
    ) -> tuple[bytes, State | None]:
        data, seen = self._transport.read(url, start, size, False)
        changed = seen is not None and state is not None and not same(seen, state)
        if len(data) != size and not changed:
            raise ConnectionError("it ended early")
        return data, seen

    def _patiently(self, call: Callable[..., Result], *args: Any) -> Result:
        """Make a request, again and again where the connection breaks."""
        pause = FIRST_PAUSE
        for left in reversed(range(self._transport.attempts)):
            try:
                return call(*args)
            except (VggfeatError, OverflowError):
                raise
            except Exception as error:  # libraries have kinds of their own
                reason, passing = explained(error)
                if not passing:
                    raise ImageError(reason) from None
                if not left:
                    tries = self._transport.attempts
                    raise ImageError(f"{reason} (tried {tries} times)") from None
                _log.debug("Asked again in %.1f s: %s.", pause, reason)
                time.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE)
        raise AssertionError("there is an attempt at least")


class RemotePlace(Place):
    """An archive or table far away.

    Parameters
    ----------
    remote : Remote
        Its storage.
    found : Found
        What it is.
    """

    def __init__(self, remote: Remote, found: Found) -> None:
        self.name, self._state, self._ranges = found
        self._remote = remote
        self._blocks = Blocks(self._read, self._state.size, remote.readers)
        self._copy: BinaryIO | None = None
        self._turn = threading.Lock()

    @property
    def distant(self) -> bool:
        """Return True."""
        return True

    def open(self) -> BinaryIO:
        """Open it; see :meth:`Place.open`."""
        if not self._ranges:
            return open(self._downloaded(), "rb")  # noqa: PTH123 (the caller closes it)
        return io.BufferedReader(BlockReader(self._blocks), 1 << 16)

    def state(self, file: BinaryIO) -> State:
        """Return what it was when it was found: each request compares; see :meth:`Place.state`."""
        del file
        return self._state

    def part(self, start: int, size: int, state: State) -> BinaryIO:
        """Fetch a part, with what follows it where parts are asked for in order."""
        if state != self._state:
            raise ImageError(CHANGED)
        if not self._ranges:
            with self.open() as file:
                file.seek(start)
                return cast("BinaryIO", _held(_pieces(file, size), state))
        if size <= BLOCK_BYTES and self._blocks.follows(start):
            parts = iter([self._blocks.read(start, size, ahead=True)])
        else:
            parts = (
                self._read(at, min(_WHOLE, start + size - at))
                for at in range(start, start + size, _WHOLE)
            )
        return cast("BinaryIO", _held(parts, state))

    def _read(self, start: int, size: int) -> bytes:
        return self._remote.read(self.name, start, size, self._state)

    def _downloaded(self) -> str:
        with self._turn:
            if self._copy is None:
                _log.warning(
                    "The server of %s gives no parts of files: it is fetched as a whole, into a "
                    "temporary file (%s bytes).",
                    *(self.name, f"{self._state.size:,}" if self._state.size >= 0 else "unknown"),
                )
                copy = tempfile.NamedTemporaryFile(prefix="vggfeat-")  # noqa: SIM115
                try:
                    self._remote.download(self.name, cast("BinaryIO", copy), self._state)
                    copy.flush()
                except OSError as error:
                    copy.close()
                    raise ImageError(f"no room to fetch it: {error.strerror}") from error
                except BaseException:
                    copy.close()
                    raise
                self._copy = cast("BinaryIO", copy)
            return str(self._copy.name)


def same(one: State, other: State) -> bool:
    """Whether two states are of one version: by tags, or else by size and time."""
    if one.ctime_ns and other.ctime_ns:
        return (one.size, one.ctime_ns) == (other.size, other.ctime_ns)
    return (one.size, one.mtime_ns) == (other.size, other.mtime_ns)


def explained(error: BaseException) -> tuple[str, bool]:
    """Return why a request failed, and whether another try may succeed.

    Never the library's own words: they may hold URLs with signatures.
    """
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return "there is no such file or bucket, or nobody may see it", False
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return "the environment has no credentials for it", False
    if isinstance(error, PermissionError) or status in (401, 403):
        return "access is denied: credentials come from the environment (docs/sources.md)", False
    if isinstance(error, ReadOnlyError):
        return "storage of this kind is only read; write to s3:// or gs://", False
    if isinstance(error, NoRangesError):
        return "the server gives no parts of files", False
    if status:
        return f"the server answers with status {status}", status in _PASSING
    if isinstance(error, ConnectionRefusedError):
        return "the connection is refused", True
    if "DNS" in type(error).__name__ or isinstance(error, socket.gaierror):
        return "no server of this name is found", True
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "the server does not answer in time", True
    kind = type(error)
    known = kind.__module__.partition(".")[0] in _NETWORK and kind.__name__ not in _FINAL
    if known or isinstance(error, OSError | EOFError):
        return f"the connection broke: {kind.__name__}", True
    return f"its storage gives no sense of it: {kind.__name__}", False


def _status(error: BaseException) -> int:
    """Return the status by which a server refused a request; 0 where it did not."""
    if isinstance(error, StatusError):
        return error.status
    told = getattr(error, "response", None)  # of botocore's errors, and of the hub's
    if isinstance(told, dict):
        return int(told.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    status = getattr(told, "status_code", None) or getattr(error, "code", 0)  # gcsfs's
    if isinstance(status, int) and 400 <= status < 600:
        return status
    cause = error.__cause__  # s3fs turns botocore's errors into the system's
    return _status(cause) if hasattr(cause, "response") else 0  # type: ignore[arg-type]


def _held(parts: Any, state: State) -> Fetched:
    file = Fetched(HELD_BYTES)
    try:
        for part in parts:
            file.write(part)
        file.seek(0)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise ImageError(f"no room to fetch it: {error.strerror}") from error
        raise
    file.state = state
    return file


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (piece := file.read(min(size, 1 << 20))):
        size -= len(piece)
        yield piece
