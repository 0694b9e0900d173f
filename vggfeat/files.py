"""Files: how a store spells their names, which of them are images, and opening them safely."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from vggfeat.errors import ImageError

if TYPE_CHECKING:
    import io
    from collections.abc import Sequence

RAW_EXTENSIONS = frozenset({
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mrw",
    ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
})  # fmt: skip
"""Extensions of cameras' raw files."""

IMAGE_EXTENSIONS = RAW_EXTENSIONS | {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".bmp", ".dib",
    ".tif", ".tiff", ".avif", ".avifs", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".j2c", ".jpc",
    ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".ico", ".pcx", ".sgi", ".tga",
}  # fmt: skip
"""File extensions taken as images without a look inside, compared in lower case."""

LARGEST_RATIO = 1100
"""Most bytes that one byte of a file may become, where a file says how large it will be: deflate
makes 1,032 of it at most. What is not compressed is never more than the bytes of the file."""

_ESCAPED = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4})")
_TO_ESCAPE = re.compile("[\\\\\0\ud800-\udfff]")


def encode_path(name: str) -> str:
    r"""Return the text a store keeps for a file name that may hold anything.

    Parameters
    ----------
    name : str
        As the operating system gives it to Python: bytes that are not valid UTF-8 are lone
        surrogates (``surrogateescape``).

    Returns
    -------
    str
        Valid UTF-8 without NUL, unequal for unequal names: an undecodable byte becomes ``\xNN``,
        a backslash two. Most names are returned as they are.
    """
    return _TO_ESCAPE.sub(_escape, name)


def decode_path(key: str) -> str:
    """Return the file name that :func:`encode_path` made `key` of."""
    return _ESCAPED.sub(_unescape, key) if "\\" in key else key


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] == "\\":
        return "\\\\"
    if code == 0 or 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code & 0xFF:02x}"
    return f"\\u{code:04x}"


def _unescape(match: re.Match[str]) -> str:
    text = match[1]
    if text == "\\":
        return "\\"
    code = int(text[1:], 16)
    return chr(code + 0xDC00 if text[0] == "x" and code >= 0x80 else code)


def as_key(name: str) -> str:
    """Return the key of a path written by a person: ``/`` between parts, no ``./``, no ``//``."""
    return encode_path(PurePath(name).as_posix())


def extension(name: str) -> str:
    """Return a name's extension in lower case with its dot, empty where it has none."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


class NotPlainError(OSError):
    """What has a file's name is a folder, a link, a FIFO or a device; :attr:`mode` says which."""

    def __init__(self, mode: int) -> None:
        kinds = {
            stat.S_IFDIR: "folder",
            stat.S_IFIFO: "FIFO",
            stat.S_IFSOCK: "socket",
            stat.S_IFCHR: "device",
            stat.S_IFBLK: "device",
            stat.S_IFLNK: "symbolic link",
        }
        kind = kinds.get(stat.S_IFMT(mode), "special file")
        super().__init__(
            errno.ELOOP if stat.S_ISLNK(mode) else errno.EINVAL, f"not a file but a {kind}"
        )
        self.mode = mode


def open_plain(
    path: str | os.PathLike[str],
    flags: int = os.O_RDONLY,
    mode: int = 0o666,
    *,
    folder: int | None = None,
    follow: bool = False,
) -> int:
    """Open a plain file as ``os.open`` does, without ever waiting for one that is none.

    Parameters
    ----------
    folder : int, optional
        Descriptor of the folder that `path` is relative to.
    follow : bool
        Whether `path` may be a link.

    Raises
    ------
    NotPlainError, OSError
    """
    flags |= 0 if follow else getattr(os, "O_NOFOLLOW", 0)
    for name in ("O_BINARY", "O_CLOEXEC", "O_NONBLOCK"):
        flags |= getattr(os, name, 0)
    try:
        # Looked at before opening as well: opening a device may already do something.
        before = os.stat(path, dir_fd=folder, follow_symlinks=follow).st_mode
        if not stat.S_ISREG(before):
            raise NotPlainError(before)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    try:
        file = os.open(path, flags, mode, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK) and not follow:
            raise NotPlainError(stat.S_IFLNK) from error
        raise
    opened = os.fstat(file).st_mode
    if not stat.S_ISREG(opened):
        os.close(file)
        raise NotPlainError(opened)
    return file


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a file for reading without ever waiting for one that is not a plain file.

    Raises
    ------
    ImageError
        The reason in one line: missing, not allowed, a folder, a FIFO, a device.
    """
    try:
        return os.fdopen(open_plain(path, follow=True), "rb")
    except FileNotFoundError:
        what = "symbolic link to a missing file" if Path(path).is_symlink() else "no such file"
        raise ImageError(what) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ImageError(system_reason(error)) from error


def open_beneath(folder: str | os.PathLike[str], parts: Sequence[str]) -> io.BufferedReader:
    """Open a file below a folder as :func:`open_regular` does, following no link on the way.

    Each step starts from the folder that the one before has opened, so nobody can put a link in
    the way between a check of the path and its opening.

    Parameters
    ----------
    folder : path
        Itself no link.
    parts : sequence of str
        Names of folders, and of the file at the end.

    Raises
    ------
    ImageError
        The reason in one line; a link on the way is one.
    """
    path = Path(folder, *parts)
    if not parts:
        raise ImageError("not a file but a folder")
    if os.open not in os.supports_dir_fd:  # Windows
        file = open_regular(path)
        if Path(os.path.realpath(path)) != path or not _is_open(file, path):
            file.close()
            raise ImageError("a link lies on the way to it")
        return file
    look = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        at = os.open(folder, look)
        try:
            for part in parts[:-1]:
                below = os.open(part, look, dir_fd=at)
                os.close(at)
                at = below
            return os.fdopen(open_plain(parts[-1], folder=at), "rb")
        finally:
            os.close(at)
    except NotPlainError as error:
        raise ImageError(system_reason(error)) from None
    except (OSError, ValueError) as error:
        links = isinstance(error, OSError) and error.errno in (errno.ELOOP, errno.ENOTDIR)
        reason = "a link lies on the way to it" if links else system_reason(error)
        raise ImageError(
            "no such file" if isinstance(error, FileNotFoundError) else reason
        ) from error


def _is_open(file: io.BufferedReader, path: Path) -> bool:
    return os.path.samestat(os.fstat(file.fileno()), path.stat(follow_symlinks=False))


def system_reason(error: BaseException) -> str:
    """Return what the operating system objected to, without numbers and paths."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:] if text else type(error).__name__
