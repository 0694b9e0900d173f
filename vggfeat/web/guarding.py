"""What every answer carries, and whom the server answers."""

from __future__ import annotations

from collections.abc import Iterable

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


class Guard:
    """Adds headers of safety, and refuses what other sites' pages send (ASGI middleware).

    Parameters
    ----------
    app : ASGI application
    hosts : iterable of str, optional
        Names that the server may be called by, so that no other site can give its own name to
        this machine's address and read the images; by default any.
    """

    def __init__(self, app: App, hosts: Iterable[str] | None = None) -> None:
        self.app = app
        self.hosts = None if hosts is None else frozenset(hosts)

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
        host = host_of(headers.get(b"host", b"").decode("latin-1"))
        if self.hosts is not None and host not in self.hosts:
            return (
                f"{host!r} is not a name of this server; allowed are "
                f"{', '.join(sorted(self.hosts))}. Start it with --host to serve others."
            )
        if scope["method"] == "POST" and headers.get(b"sec-fetch-site") == b"cross-site":
            return "Pages of other sites may not search here."
        return ""


def host_of(header: str) -> str:
    """Return the name in a Host header, without the port."""
    name, _, port = header.rpartition(":")
    return (name if name and port.isdigit() else header).strip("[]").lower()
