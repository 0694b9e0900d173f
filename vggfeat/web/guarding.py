"""What every answer carries, and whom the server answers."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from vggfeat.web.limits import App, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)


_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Hosts:
    """Names that a server may be called by.

    Any other site can give its own name to this machine's address, and then its pages could read
    the images here. An address as a number is nobody's name.

    Attributes
    ----------
    names : frozenset of str
        In lower case.
    addresses : bool
        Whether it may be called by any address of numbers, since it listens beyond this machine.
    """

    names: frozenset[str]
    addresses: bool = False

    @classmethod
    def of(cls, host: str, others: Sequence[str] = ()) -> Hosts:
        """Return the names of a server that listens at `host`, and `others` that it has."""
        names = _LOCAL | {host.lower(), *(one.lower().rstrip(".") for one in others)}
        if is_local(host):
            return cls(names)
        hostname = socket.gethostname().lower()
        return cls(names | {hostname, hostname.partition(".")[0] + ".local"}, addresses=True)

    def allow(self, host: str) -> bool:
        """Return whether a request may call the server so."""
        return host in self.names or (self.addresses and _is_address(host))


def is_local(host: str) -> bool:
    """Return whether an address is reached from this machine only."""
    if host.lower() == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Guard:
    """Adds headers of safety, and refuses what other sites' pages send (ASGI middleware).

    Parameters
    ----------
    app : ASGI application
    hosts : Hosts, optional
        Names that the server may be called by; by default any.
    """

    def __init__(self, app: App, hosts: Hosts | None = None) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        if reason := self._refusal(scope):
            from starlette.responses import JSONResponse

            answer = JSONResponse({"error": reason}, 403, {"connection": "close"})
            await answer(scope, receive, guarded)
            return
        await self.app(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> str:
        headers = dict(scope["headers"])
        called = headers.get(b"host", b"").decode("latin-1")
        host = host_of(called)
        if self.hosts is not None and not self.hosts.allow(host):
            return (
                f"{host!r} is not a name of this server; allowed are "
                f"{', '.join(sorted(self.hosts.names))}"
                f"{' and its addresses' if self.hosts.addresses else ''}. Start it with "
                "--allow-host and that name to be called so."
            )
        if scope["method"] in ("GET", "HEAD"):
            return ""
        # Browsers tell where a request comes from in one way or the other; programs need not.
        origin = headers.get(b"origin")
        foreign = origin is not None and _netloc(origin.decode("latin-1")) != _plain(called)
        if foreign or headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
            return "Pages of other sites may not search here."
        return ""


def host_of(header: str) -> str:
    """Return the name in a Host header, without the port."""
    name, _, port = header.rpartition(":")
    return (name if name and port.isdigit() else header).strip("[]").lower().rstrip(".")


def _netloc(origin: str) -> str:
    """Return the host and port of an origin; ``null``, of pages without one, has none."""
    try:
        return _plain(urlsplit(origin).netloc)
    except ValueError:
        return ""


def _plain(netloc: str) -> str:
    return netloc.lower().removesuffix(":80").removesuffix(":443")
