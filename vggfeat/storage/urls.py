"""URLs of sources: what is kept and shown of them never holds anything secret."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from vggfeat.errors import SourceError

SCHEMES = ("s3", "gs", "gcs", "http", "https", "hf")
"""What is read, by fsspec."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://", re.ASCII)
_SIGNATURES = frozenset({
    "signature", "expires", "awsaccesskeyid", "googleaccessid", "key-pair-id", "policy",  # AWS, GCS
    "sig", "se", "sp", "sv", "sr", "st", "spr", "sip", "skoid", "sktid", "skt", "ske", "sks", "skv",
    "token", "access_token",
})  # fmt: skip
"""Parameters by which URLs carry the right to read them; the second line is Azure's."""

_SIGNED = ("x-amz-", "x-goog-", "x-ms-")


@dataclass(frozen=True, slots=True)
class Url:
    """Where a remote source is.

    Attributes
    ----------
    text : str
        Without what is secret: what is kept and shown.
    query : str
        A signature that goes with it to the server, and nowhere else.
    """

    text: str
    query: str = field(default="", repr=False)

    @property
    def scheme(self) -> str:
        """How it is read: a name of :data:`SCHEMES`."""
        return scheme_of(self.text)


def scheme_of(text: str) -> str:
    """Return a URL's scheme in lower case; empty where the text is none."""
    match = _URL.match(text)
    return match[1].lower() if match else ""


def is_remote(text: str) -> bool:
    """Whether a text is a URL of a kind that is read."""
    return scheme_of(text) in SCHEMES


def parse(text: str) -> Url:
    """Take a URL apart into what may be shown and what may not.

    Raises
    ------
    SourceError
        It holds a password, or a query that is no signature; neither is in the message.
    """
    scheme = scheme_of(text)
    rest = text[len(scheme) + len("://") :]
    place, _, path = rest.partition("/")
    if "@" in place:
        raise SourceError(
            f"The {scheme}:// URL holds a user or password before '@'. Leave it out: credentials "
            "come from the environment alone, and are never kept (docs/sources.md)."
        )
    if not place or "?" in place:
        raise SourceError(f"The {scheme}:// URL names no server or bucket before its path.")
    path, _, query = path.partition("?")
    names = [name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)]
    signed = [name for name in names if name in _SIGNATURES or name.startswith(_SIGNED)]
    if scheme not in ("http", "https"):
        if signed:
            raise SourceError(
                f"The {scheme}:// URL holds a signature or key behind '?'. Leave it out: "
                "credentials come from the environment alone (docs/sources.md)."
            )
        return Url(f"{scheme}://{rest}")
    if query and len(signed) < max(len(names), 1):
        raise SourceError(
            f"The URL {_joined(scheme, place, path)!r} has a query behind '?', which vggfeat does "
            "not keep, since it may be secret, and without which it is another file. Download it, "
            "or give a URL without one; signatures alone are sent and forgotten."
        )
    return Url(_joined(scheme, place, path), query)


def shown(text: str) -> str:
    """Return a text for a message: of a URL only what is not secret."""
    if not scheme_of(text):
        return text
    scheme, rest = text.split("://", 1)
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2].partition('?')[0]}{slash}{path.partition('?')[0]}"


def joined(root: str, path: str) -> str:
    """Return the URL of what lies below another one.

    Parameters
    ----------
    root : str
        A URL of a folder.
    path : str
        Relative to it; or a URL of its own.
    """
    return path if scheme_of(path) else f"{root.rstrip('/')}/{path}"


def parent(url: str) -> str:
    """Return the folder that a URL's last part lies in."""
    return url.rpartition("/")[0]


def server(url: str) -> str:
    """Return the beginning of a URL up to its server or bucket."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/"


def _joined(scheme: str, place: str, path: str) -> str:
    return f"{scheme}://{place}/{path}" if path else f"{scheme}://{place}"
